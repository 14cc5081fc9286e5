"""An Application as it is registered at Tribe, and how it is described to the library and to a shell."""

from __future__ import annotations

from typing import Final

from attrs import define

from tribe_oauth._oauth.client import Client
from tribe_oauth._oauth.values import Endpoints

REDIRECT_URI: Final = "https://app.example/callback"
SCOPE: Final = "read write offline"
GRANT_TYPES: Final = ("authorization_code", "refresh_token", "client_credentials")


@define
class Application:
    """What is registered under Configuration > Applications.

    `organization`: the one that its client credentials act for; empty: none. `redirect_uri` None: it cannot ask for
    consent. `grant_types`: those that it may use.
    """

    client_id: str
    client_secret: str
    redirect_uri: str | None
    scope: frozenset[str]
    organization: str
    grant_types: frozenset[str] = frozenset(GRANT_TYPES)


def endpoints(base: str) -> Endpoints:
    """The endpoints of a sandbox at this address, as the library has them."""
    return Endpoints(
        authorization_endpoint=f"{base}/oauth2/auth",
        token_endpoint=f"{base}/oauth2/token",
        revocation_endpoint=f"{base}/oauth2/revoke",
        api=base,
        allow_insecure_loopback=True,
    )


def client(base: str, application: Application) -> Client:
    """An Application of the sandbox at this address, as the library has it."""
    return Client(
        application.client_id,
        application.client_secret,
        redirect_uri=application.redirect_uri,
        scope=" ".join(scope for scope in SCOPE.split() if scope in application.scope),
        endpoints=endpoints(base),
    )


def environment(base: str, client: Client) -> dict[str, str]:
    """The environment variables that make the library and the command line use a sandbox at this address."""
    return {
        "TRIBE_AUTH_URL": base,
        "TRIBE_API_URL": base,
        "TRIBE_ALLOW_INSECURE_LOOPBACK": "1",
        "TRIBE_CLIENT_ID": client.client_id,
        "TRIBE_CLIENT_SECRET": client.client_secret.reveal(),  # a sandbox's, of no use anywhere else
        "TRIBE_REDIRECT_URI": client.redirect_uri or "",
    }
