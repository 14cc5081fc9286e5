"""Three middlewares as they are often written, each with one fault. The checks have to find it.

Each is otherwise as careful as the real one, so that what a check finds is the fault that it looks for.
"""

from __future__ import annotations

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from multidict import CIMultiDict

from .world import Source


class FollowsRedirects:
    """Puts the token on every request, wherever it goes: aiohttp took it off for a reason."""

    def __init__(self, source: Source) -> None:
        self.source = source

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        token = await self.source.token()
        request.headers["Authorization"] = f"Bearer {token.access_token.reveal()}"
        return await handler(request)


class ReplaysEverything:
    """Sends the request again whatever its body: what was drained goes out empty."""

    def __init__(self, source: Source) -> None:
        self.source = source

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if request.url.origin() != self.source.api.origin():
            request.headers.popall("Authorization", None)
            return await handler(request)
        token = await self.source.token()
        request.headers["Authorization"] = f"Bearer {token.access_token.reveal()}"
        response = await handler(request)
        if response.status == 401:
            token = await self.source.token(rejected=token)
            response.release()
            request.headers["Authorization"] = f"Bearer {token.access_token.reveal()}"
            response = await handler(request)
        return response


class ReentersItself:
    """Refreshes through the session that it is a middleware of, as aiohttp's cookbook does."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.cached: str | None = None

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if request.url.origin() != self.source.api.origin():
            request.headers.popall("Authorization", None)
            return await handler(request)
        if self.cached is None:
            self.cached = (await self.source.token()).access_token.reveal()
        request.headers["Authorization"] = f"Bearer {self.cached}"
        response = await handler(request)
        if response.status == 401:
            response.release()
            async with request.session.post(self.source.token_url, headers=CIMultiDict()) as answer:
                self.cached = (await answer.json())["access_token"]
            request.headers["Authorization"] = f"Bearer {self.cached}"
            response = await handler(request)
        return response
