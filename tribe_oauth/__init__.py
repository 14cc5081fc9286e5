"""OAuth 2.0 for Tribe CRM in asyncio: a token that works, always, and no customer locked out."""

from tribe_oauth._limit.rate_limit import RateLimit
from tribe_oauth._manager.manager import TokenManager
from tribe_oauth._manager.status import Status
from tribe_oauth._oauth.client import AuthorizationRequest, Client, ClientCredentialsGrant, RefreshTokenGrant
from tribe_oauth._oauth.values import STAGING, TRIBE, Endpoints, Secret, Token
from tribe_oauth.errors import (
    CallbackError,
    ReauthorizationRequired,
    StoreError,
    TokenEndpointError,
    TribeOAuthError,
    UnknownOrganizationError,
)
from tribe_oauth.stores import MemoryStore, TokenStore

__all__ = [
    "STAGING",
    "TRIBE",
    "AuthorizationRequest",
    "CallbackError",
    "Client",
    "ClientCredentialsGrant",
    "Endpoints",
    "MemoryStore",
    "RateLimit",
    "ReauthorizationRequired",
    "RefreshTokenGrant",
    "Secret",
    "Status",
    "StoreError",
    "Token",
    "TokenEndpointError",
    "TokenManager",
    "TokenStore",
    "TribeOAuthError",
    "UnknownOrganizationError",
]
