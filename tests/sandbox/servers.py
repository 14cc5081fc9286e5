"""The servers that the contract runs on: each profile, and a real one where its address is given."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
from aiohttp import ClientSession

from tribe_oauth.sandbox import PROFILES, Sandbox

REAL = {
    name: os.environ.get(f"TRIBE_TEST_{name}", "")
    for name in ("AUTH_URL", "API_URL", "CLIENT_ID", "CLIENT_SECRET", "REFRESH_TOKEN")
}
_IS_REAL = all(address for name, address in REAL.items() if name != "API_URL")
NAMES = [*PROFILES, *(["real"] if _IS_REAL else [])]
NAMES_WITH_API = [*PROFILES, *(["real"] if _IS_REAL and REAL["API_URL"] else [])]
FORM = "application/x-www-form-urlencoded"


@attrs.frozen
class Said:
    """An answer."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def error(self) -> str:
        """The error code in it."""
        return str(json.loads(self.text)["error"])


@attrs.define
class Server:
    """A server as it is seen from outside."""

    session: ClientSession
    auth: str
    api: str
    client_id: str
    client_secret: str
    refresh_token: str
    sandbox: Sandbox | None
    rotated: Callable[[str], Awaitable[None]]

    async def token(self, **form: str) -> tuple[int, dict[str, Any]]:
        """A token request with the client's credentials; the status and the JSON."""
        body = {**self.credentials, **form}
        async with self.session.post(f"{self.auth}/oauth2/token", data=body) as response:
            return response.status, await response.json()

    @property
    def credentials(self) -> dict[str, str]:
        """The client's, for a form."""
        return {"client_id": self.client_id, "client_secret": self.client_secret}

    async def post(self, path: str, body: Any, **headers: str) -> Said:
        """A POST to the authorization server with this body and no more."""
        return await self.ask("POST", path, data=body, headers=headers)

    async def ask(self, method: str, path: str, **options: Any) -> Said:
        """Any request to the authorization server; redirects are not followed."""
        url = f"{self.auth}{path}"
        async with self.session.request(method, url, allow_redirects=False, **options) as response:
            return Said(response.status, dict(response.headers), await response.text())

    async def refresh(self, refresh_token: str | None = None) -> tuple[int, dict[str, Any]]:
        """A refresh of a pasted token; the first, unless another is given. A successor is remembered."""
        spent = refresh_token or self.refresh_token
        status, answer = await self.token(grant_type="refresh_token", refresh_token=spent)
        if status == 200 and "refresh_token" in answer:
            await self.rotated(answer["refresh_token"])
        return status, answer

    async def get(self, path: str, token: str) -> tuple[int, dict[str, Any], Any]:
        """An API call; status, headers, JSON."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.session.get(f"{self.api}{path}", headers=headers) as response:
            text = response.content_type == "application/json"
            return response.status, dict(response.headers), await response.json() if text else None


_latest = dict(REAL)  # a real refresh token works once: its successor is the next test's


@asynccontextmanager
async def serve(name: str, **options: Any) -> AsyncIterator[Server]:
    """The server of this name."""

    async def remember(successor: str) -> None:
        if name == "real":
            _latest["REFRESH_TOKEN"] = successor

    async with ClientSession() as session:
        if name == "real":
            yield Server(
                session, REAL["AUTH_URL"], REAL["API_URL"], REAL["CLIENT_ID"], REAL["CLIENT_SECRET"],
                _latest["REFRESH_TOKEN"], None, remember,
            )  # fmt: skip
            return
        async with Sandbox(profile=name, **options) as sandbox:
            client = sandbox.client()
            secret, pasted = client.client_secret.reveal(), sandbox.paste_token("Acme")
            yield Server(session, sandbox.base, sandbox.base, client.client_id, secret, pasted, sandbox, remember)
