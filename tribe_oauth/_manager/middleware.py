"""The aiohttp client middleware. Knows a source of tokens, not where they come from.

aiohttp runs the whole family of middlewares again for each hop of a redirect, so that every hop is looked at: the token
goes to one origin and to no other, not even where a caller's header would have carried it (RFC 6750 §5.3).
"""

from __future__ import annotations

import re
from typing import Final, Protocol

import attrs
from aiohttp import (
    ClientConnectorError,
    ClientHandlerType,
    ClientRequest,
    ClientResponse,
    ConnectionTimeoutError,
    hdrs,
)
from aiohttp.multipart import MultipartWriter
from aiohttp.payload import BytesPayload, IOBasePayload
from yarl import URL

from tribe_oauth._encoded import is_as_it_is
from tribe_oauth._limit.line import Lot
from tribe_oauth._limit.reservation import UNLIMITED, Calls
from tribe_oauth._oauth.values import Token
from tribe_oauth._redaction import Hidden
from tribe_oauth._refresh.rejections import Acceptance, Belief


class TokenSource(Protocol):
    """Gives tokens for one organization. A caller that leaves, by a time-out of its own, ends no refresh."""

    def cached(self) -> Token | None:
        """One that is not due and that no refresh under way is about to replace, if there is one: without waiting."""
        ...

    async def token(
        self, *, rejected: Token | None = None, belief: Belief = Belief.POSSIBLE, lasting: bool = False
    ) -> Token:
        """One that has not run out.

        `rejected`: another than this one, which the API refused; the same where it would be wrong to fetch another now,
        by how far the refusal is believed. `lasting`: one that no refresh under way is about to replace.
        """
        ...


@attrs.frozen(eq=False, repr=False)
class OneToken:
    """A source of one token, which nothing replaces: for a family that is not stored yet."""

    only: Token

    def cached(self) -> Token:
        """The token."""
        return self.only

    async def token(
        self, *, rejected: Token | None = None, belief: Belief = Belief.POSSIBLE, lasting: bool = False
    ) -> Token:
        """The token."""
        return self.only


class BearerMiddleware:
    """Adds ``Authorization: Bearer`` (RFC 6750 §2.1), and answers a 401 with another attempt.

    A blank in the query is sent as ``%20``.

    `origin`: the one that may see tokens. `acceptance`: what the organization's token was accepted for. `calls`: each
    request to that origin, each hop of one, and each further attempt, is one of them.

    Errors of the library come out of the request as they are. A request whose body cannot be sent again is not sent
    again: its 401 is returned, and the next request has the new token.
    """

    __slots__ = ("_acceptance", "_header", "_origin", "_source", "_token", "calls")

    def __init__(self, source: TokenSource, origin: URL, acceptance: Acceptance, calls: Calls = UNLIMITED) -> None:
        self._source = source
        self._origin = origin
        self._acceptance = acceptance
        self.calls = calls
        self._token: Token | None = None
        self._header = ""  # of the token used last

    async def __call__(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """See aiohttp's `ClientMiddlewareType`."""
        origin, url = self._origin, request.url
        usual = url.raw_authority == origin.raw_authority and url.scheme == origin.scheme
        if not usual and not _same_origin(url, origin):
            request.headers.popall(hdrs.AUTHORIZATION, None)
            return await handler(request)
        if "+" in url.raw_query_string:
            request.url = _with_blanks(url)
        token = self._source.cached() or await self._source.token(lasting=not _can_repeat(request.body))
        lot = self.calls.take()
        if lot is None:
            lot = await self.calls.turn()
            token = self._source.cached() or token  # it may have been replaced meanwhile
        response = await self._sent(request, handler, token, lot)
        if response.status == 401 and not _is_about_scope(response):
            return await self._refused(request, handler, token, response)
        return response

    async def _sent(self, request: ClientRequest, handler: ClientHandlerType, token: Token, lot: Lot) -> ClientResponse:
        """Send it with this token. What the API took the token for is noted, and what became of the slot."""
        request.headers[hdrs.AUTHORIZATION] = self._header if token is self._token else self._header_of(token)
        try:
            response = await handler(request)
        except (ClientConnectorError, ConnectionTimeoutError):
            lot.unused()  # there was no connection
            raise
        except BaseException:
            lot.lost()
            raise
        lot.answered(response.status, response.headers)
        if response.status < 300:
            self._acceptance.accepted(token, request.url.raw_path)
        return response

    async def _refused(
        self, request: ClientRequest, handler: ClientHandlerType, token: Token, response: ClientResponse
    ) -> ClientResponse:
        """After a 401: once more with the same token where it was good for this before, then with another one."""
        can_repeat, belief = _can_repeat(request.body), self._acceptance.belief(token)
        if can_repeat and self._acceptance.is_known(token, request.url.raw_path):
            response = await self._once_more(request, handler, token, response)
            if response.status != 401:
                return response
            belief = Belief.SURE
        try:
            newer = await self._source.token(rejected=token, belief=belief)
        except BaseException:
            response.release()
            raise
        if newer.access_token == token.access_token or not can_repeat:
            return response
        return await self._once_more(request, handler, newer, response)

    async def _once_more(
        self, request: ClientRequest, handler: ClientHandlerType, token: Token, response: ClientResponse
    ) -> ClientResponse:
        response.release()  # or its connection is held, and a pool of one waits for itself
        lot = self.calls.take() or await self.calls.turn()
        request.update_expect_continue()  # else a body held back until "100 Continue" would never leave
        return await self._sent(request, handler, token, lot)

    def _header_of(self, token: Token) -> str:
        """Made once for each token, not for each request."""
        self._token, self._header = token, Hidden(f"Bearer {token.access_token.reveal()}")
        return self._header


def _is_about_scope(response: ClientResponse) -> bool:
    """Whether the token is good and its scope is not enough (RFC 6750 §3.1): no other token has more."""
    return "insufficient_scope" in response.headers.get(hdrs.WWW_AUTHENTICATE, "")


_ENCODED: Final = re.compile("%20|(skip|delta)token", re.IGNORECASE)


def _with_blanks(url: URL) -> URL:
    """The URL with ``%20`` for ``+``, which the API takes for a plus: with status 200 and no rows.

    yarl writes a blank of `params` as ``+``, and a plus as ``%2B``. A URL that came encoded stays as it is: the API's
    own link to the next page, and one with a ``%20`` in it.
    """
    head, _, query = str(url).partition("?")
    if is_as_it_is() or _ENCODED.search(query):
        return url
    return URL(f"{head}?{query.replace('+', '%20')}", encoded=True)


_SCHEMES: Final = {"ws": "http", "wss": "https"}  # a WebSocket begins as a request to that origin (RFC 6455 §1.2)


def _same_origin(url: URL, origin: URL) -> bool:
    """Scheme, host and port (RFC 6454 §4); yarl's own `origin` tells ``https://host:443`` from ``https://host``."""
    return (
        url.raw_host == origin.raw_host
        and url.port == origin.port
        and _SCHEMES.get(url.scheme, url.scheme) == origin.scheme
    )


def _can_repeat(body: object) -> bool:
    """Whether aiohttp can write this body again. A drained generator would go out as an empty body, with success."""
    if isinstance(body, MultipartWriter):
        return not body.consumed and all(_can_repeat(part) for part, _encoding, _transfer_encoding in body)
    if isinstance(body, IOBasePayload):
        return not body.consumed and body._value.seekable()
    return isinstance(body, bytes | BytesPayload)  # no body is b""
