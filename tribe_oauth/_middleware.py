"""The aiohttp client middleware. Knows a source of tokens, not where they come from.

aiohttp runs the whole chain of middlewares again for each hop of a redirect, so that every hop is looked at: the token
goes to one origin and to no other, not even where a caller's header would have carried it (RFC 6750 §5.3).
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs
from aiohttp.multipart import MultipartWriter
from aiohttp.payload import AsyncIterablePayload
from yarl import URL

from tribe_oauth._token import Token


class TokenSource(Protocol):
    """Gives tokens for one organization."""

    def origin(self) -> URL:
        """The one origin that may see them."""
        ...

    async def token(self, *, settled: bool = False) -> Token:
        """One that has not run out. `settled`: and that no refresh under way is about to replace."""
        ...

    async def refresh(self, *, rejected: Token) -> Token:
        """Another than this one, which the API refused; the same when it would be wrong to ask for another now."""
        ...

    def accepted(self) -> None:
        """The API took a token."""
        ...


class BearerMiddleware:
    """Adds ``Authorization: Bearer`` (RFC 6750 §2.1), and answers a 401 with one more attempt.

    Errors of the library come out of the request as they are. A request whose body cannot be sent again is not sent
    again: its 401 is returned, and the next request has the new token.
    """

    __slots__ = ("_source",)

    def __init__(self, source: TokenSource) -> None:
        self._source = source

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """See aiohttp's `ClientMiddlewareType`."""
        source = self._source
        if request.url.origin() != source.origin():
            request.headers.pop(hdrs.AUTHORIZATION, None)
            return await handler(request)
        once = bool(request.body) and not _can_repeat(request.body)
        token = await source.token(settled=once)
        request.headers[hdrs.AUTHORIZATION] = f"Bearer {token.access_token.reveal()}"
        response = await handler(request)
        if response.status != 401:
            source.accepted()
            return response
        return await self._rejected(request, handler, response, token)

    async def _rejected(
        self, request: ClientRequest, handler: ClientHandlerType, response: ClientResponse, token: Token
    ) -> ClientResponse:
        try:
            newer = await self._source.refresh(rejected=token)
        except BaseException:
            response.release()
            raise
        if newer.access_token == token.access_token or not _can_repeat(request.body):
            return response
        response.release()  # or its connection is held, and a pool of one waits for itself
        request.headers[hdrs.AUTHORIZATION] = f"Bearer {newer.access_token.reveal()}"
        response = await handler(request)
        if response.status != 401:
            self._source.accepted()
        return response


def _can_repeat(body: object) -> bool:
    """Whether aiohttp can write this body (again). A drained generator would go out as an empty body, with success."""
    if isinstance(body, MultipartWriter):
        return not body.consumed and all(_can_repeat(part) for part, _encoding, _transfer_encoding in body)
    return not isinstance(body, AsyncIterablePayload) and not getattr(body, "consumed", False)
