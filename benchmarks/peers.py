"""What a user might pick instead, each with a token in hand that is not due. For the rows.

A peer is a context manager that gives a session which authenticates, or a function that gives its token.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, ClientSession
from aiohttp_oauth2_client.grant.client_credentials import ClientCredentialsGrant as PeerGrant
from aiohttp_oauth2_client.middleware import OAuth2Middleware
from authlib.integrations.httpx_client import AsyncOAuth2Client
from azure.core.credentials import AccessToken
from azure.identity.aio import ClientSecretCredential
from google.auth.transport import _aiohttp_requests as google_transport
from google.oauth2 import _credentials_async as google_credentials

TOKEN: Final = "a" * 87
LIFETIME: Final = 86_400
GoogleCredentials: Any = google_credentials.Credentials  # these three have no types
GoogleRequest: Any = google_transport.Request
GoogleSession: Any = google_transport.AuthorizedSession

Fetch = Callable[[str], Awaitable[int]]
"""GET one URL; its status."""
Ask = Callable[[], Awaitable[object]]
"""Give a valid token, or make sure of one."""


def by_session(session: ClientSession) -> Fetch:
    """With aiohttp's own session."""

    async def fetch(url: str) -> int:
        async with session.get(url) as response:
            await response.read()
            return response.status

    return fetch


# What a user would write without a library


async def no_op(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """The least that a middleware costs."""
    return await handler(request)


class Lock:
    """A lock for each request, as most examples have it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """See aiohttp's `ClientMiddlewareType`."""
        async with self._lock:
            request.headers["Authorization"] = f"Bearer {TOKEN}"
        return await handler(request)


class Cookbook:
    """After aiohttp's client middleware cookbook: refresh when due, and once more after a 401, behind a lock."""

    def __init__(self, token_url: str) -> None:
        self._token_url = token_url
        self._token = TOKEN
        self._expires = time.time() + LIFETIME
        self._lock = asyncio.Lock()

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """See aiohttp's `ClientMiddlewareType`."""
        if str(request.url).endswith("/oauth2/token"):
            return await handler(request)
        if time.time() >= self._expires:
            await self._refresh(request.session)
        for attempt in range(2):
            request.headers["Authorization"] = f"Bearer {self._token}"
            response = await handler(request)
            if response.status != 401 or attempt:
                break
            await self._refresh(request.session)
        return response

    async def _refresh(self, session: ClientSession) -> None:
        async with self._lock, session.post(self._token_url, middlewares=()) as response:
            answer = await response.json()
            self._token, self._expires = answer["access_token"], time.time() + answer["expires_in"]


# Sessions


@asynccontextmanager
async def oauth2_client(url: str) -> AsyncIterator[Fetch]:
    """aiohttp-oauth2-client."""
    async with _grant(url) as grant, ClientSession(middlewares=[OAuth2Middleware(grant)]) as session:
        yield by_session(session)


def _grant(url: str) -> PeerGrant:
    token = {"access_token": TOKEN, "token_type": "bearer", "expires_in": LIFETIME}
    return PeerGrant(f"{url}/oauth2/token", "id", "secret", token=token)


@asynccontextmanager
async def azure(url: str) -> AsyncIterator[Fetch]:
    """azure-identity, in the middleware that its user writes."""
    credential = _azure()

    async def middleware(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        token = await credential.get_token("scope")
        request.headers["Authorization"] = f"Bearer {token.token}"
        return await handler(request)

    async with credential, ClientSession(middlewares=[middleware]) as session:
        yield by_session(session)


def _azure() -> ClientSecretCredential:
    """With a token in its cache: its authority has to be https, so that it cannot fetch one here."""
    credential = ClientSecretCredential("tenant", "id", "secret", disable_instance_discovery=True)
    token = AccessToken(TOKEN, int(time.time()) + LIFETIME)
    now = int(time.time())
    event: dict[str, Any] = {
        "client_id": "id",
        "scope": ["scope"],
        "token_endpoint": "https://login.microsoftonline.com/tenant/oauth2/v2.0/token",
        "response": {"token_type": "Bearer", "expires_in": LIFETIME, "access_token": token.token},
    }
    credential._client._get_cache().add(event, now=now)
    return credential


@asynccontextmanager
async def google(url: str) -> AsyncIterator[Fetch]:
    """google-auth's own session for aiohttp."""
    async with (
        ClientSession(auto_decompress=False) as inner,
        GoogleSession(_google(url), auth_request=GoogleRequest(inner)) as session,
    ):

        async def fetch(url: str) -> int:
            response = await session.request("GET", url)
            await response.read()
            return int(response.status)

        yield fetch


def _google(url: str) -> Any:
    expiry = datetime.utcnow() + timedelta(seconds=LIFETIME)  # it compares naive UTC
    return GoogleCredentials(
        TOKEN, refresh_token=TOKEN, token_uri=f"{url}/oauth2/token", client_id="id", client_secret=TOKEN, expiry=expiry
    )


@asynccontextmanager
async def authlib(url: str) -> AsyncIterator[Fetch]:
    """Authlib's client, which is httpx's."""
    async with _authlib(url) as client:

        async def fetch(url: str) -> int:
            return int((await client.get(url)).status_code)

        yield fetch


def _authlib(url: str) -> AsyncOAuth2Client:
    token = {"access_token": TOKEN, "token_type": "bearer", "expires_at": int(time.time()) + LIFETIME}
    return AsyncOAuth2Client("id", "secret", token_endpoint=f"{url}/oauth2/token", token=token, timeout=60)


SESSIONS: Final[dict[str, Callable[[str], AbstractAsyncContextManager[Fetch]]]] = {
    "aiohttp-oauth2-client": oauth2_client,
    "azure-identity": azure,
    "google-auth": google,
    "Authlib": authlib,
}


# "Give me a valid token"


async def oauth2_client_token() -> Ask:
    """aiohttp-oauth2-client."""
    grant = _grant("http://127.0.0.1")
    await grant.close()  # it opens a session at once, which a token in hand does not need

    async def ask() -> object:
        return await grant.prepare_headers()

    return ask


async def azure_token() -> Ask:
    """azure-identity."""
    credential = _azure()

    async def ask() -> object:
        return await credential.get_token("scope")

    return ask


async def google_token() -> Ask:
    """google-auth."""
    credentials, headers = _google("http://127.0.0.1"), dict[str, str]()

    async def ask() -> object:
        return await credentials.before_request(None, "GET", "http://127.0.0.1", headers)

    return ask


async def authlib_token() -> Ask:
    """Authlib."""
    client = _authlib("http://127.0.0.1")

    async def ask() -> object:
        return await client.ensure_active_token(client.token)

    return ask


TOKENS: Final[dict[str, Callable[[], Awaitable[Ask]]]] = {
    "aiohttp-oauth2-client": oauth2_client_token,
    "azure-identity": azure_token,
    "google-auth": google_token,
    "Authlib": authlib_token,
}
