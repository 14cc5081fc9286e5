"""One request and its answer: a collection, or the error that says why not. For the rooms of `odata`."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import attrs
from aiohttp import ClientError, ClientPayloadError, ClientResponse, ClientSession, InvalidURL
from yarl import URL

from tribe_oauth import _encoded
from tribe_oauth._printable import printable
from tribe_oauth._remedies import is_about_a_certificate, reason, remedy
from tribe_oauth._retry_after import read_retry_after
from tribe_oauth.errors import Remedy, TribeOAuthError
from tribe_oauth.odata._json import EXACT, PLAIN, Parse, Parsed, RawRow
from tribe_oauth.odata._query import Query

Result = TypeVar("Result")

REFUSALS: Final = frozenset({400, 404, 405, 501})
"""What a service answers to a way of reading that it does not know."""
_SHOWN: Final = 300  # characters of each text from the server in an error
MAX_REFUSAL_BYTES: Final = 64 * 2**10
_WHOLE: Final = re.compile(r"\d{1,18}", re.ASCII)
_REQUEST_IDS: Final = ("x-request-id", "request-id", "x-correlation-id", "x-amzn-requestid", "x-b3-traceid")


class ODataError(TribeOAuthError):
    """The API refused a request, or its answer is not valid OData.

    `status`: the HTTP status; None where no answer came. `code`, `message`, `target`: from the server's error (OData
    JSON Format 4.0 §19); `request_id`: from the answer's headers. Each of these four is shortened and printable, or
    None where the server left it out. `retry_after`: seconds that the server asked to wait (RFC 9110 §10.2.3).
    `retryable`: whether the same request may succeed later.
    """

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        code: str | None = None,
        message: str | None = None,
        target: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        remedy: Remedy | None = None,
    ) -> None:
        super().__init__(text, remedy=remedy)
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.request_id = request_id
        self.retry_after = retry_after
        self.retryable = retryable


@attrs.define
class Answer:
    """A complete answer. `asked`: the absolute URL of the request. `next_link`, `context`: as the server sent them.

    `rows`: dicts, or what `RAW` leaves of them.
    `content`: all of it, as bytes. `odd`: see `Parsed`. `is_one`: what was asked for is one entity or none.
    """

    asked: URL
    rows: list[Any]
    count: int | None = None
    next_link: object = None
    context: object = None
    content: bytes = b""
    odd: bool = False
    is_one: bool = False


async def get(
    session: ClientSession, query: Query, url: URL, *, first: bool = False, parse: Parse | None = None
) -> Answer:
    """Read a collection; read it a second time where the answer is cut off. Raises ODataError.

    `first`: it is the first request of a read. Only to that one the API may answer with one entity, or with none.
    `parse`: how; by default as the query says.
    """
    parse = parse or (EXACT if query.exact else PLAIN)
    return await _again_if_cut_off(lambda: _get(session, query, url, first, parse))


async def get_text(session: ClientSession, query: Query, url: URL, kind: str) -> str:
    """Read a text of a media type, in UTF-8. Raises ODataError."""
    status, _, headers, content = await _again_if_cut_off(lambda: _fetch(session, url, query.max_bytes, kind))
    if status != 200:
        raise refusal(status, headers, content)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    raise ODataError("the API's answer is not text in UTF-8", status=status, request_id=request_id(headers))


class _CutOff(Exception):  # noqa: N818 (a condition that never leaves this module)
    """A success whose body is not JSON, or shorter than announced. Carries the ODataError that says so."""


async def _again_if_cut_off(read: Callable[[], Awaitable[Result]]) -> Result:
    try:
        return await read()
    except _CutOff:
        pass
    try:
        return await read()
    except _CutOff as error:
        broken = error.args[0]
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    assert isinstance(broken, ODataError)
    raise broken


async def _get(session: ClientSession, query: Query, url: URL, first: bool, parse: Parse) -> Answer:
    status, asked, headers, content = await _fetch(session, url, query.max_bytes)
    may_be_one = first and "(" in query.path
    if status == 204 and may_be_one:
        return Answer(asked, [], is_one=True)  # a navigation property that points to no entity
    if status not in {200, 204}:
        raise refusal(status, headers, content)
    parsed = value_of(content, parse if status == 200 else PLAIN)
    body = parsed.value
    if isinstance(body, dict) and "error" not in body:
        control, rows = _control(body), body.get("value")
        context = control.get("context")
        if isinstance(rows, list) and _are_rows(rows):
            count, link = _count(control.get("count")), control.get("nextlink")
            return Answer(asked, rows, count, link, context, content, parsed.odd)
        if may_be_one and isinstance(context, str) and context.endswith("/$entity"):
            return Answer(asked, [body], None, None, context, content, parsed.odd, is_one=True)
    error = ODataError(
        "the API's answer is not a whole OData collection",
        status=status,
        request_id=request_id(headers),
        retryable=body is None,
    )
    raise _CutOff(error) if body is None else error


async def _fetch(
    session: ClientSession, url: URL, most: int, kind: str = "application/json"
) -> tuple[int, URL, Mapping[str, str], bytes]:
    broken = False
    try:
        # A redirect could lead to another server: rows come from the API or not at all.
        with _encoded.as_it_is():
            async with session.get(
                url, headers={"Accept": kind}, allow_redirects=False, raise_for_status=False
            ) as response:
                status, headers = response.status, response.headers
                content = await content_of(response, most if status == 200 else MAX_REFUSAL_BYTES)
        if content is not None or status != 200:
            return status, response.url, headers, content or b""
        error = ODataError(
            f"the API's answer has more than {most} bytes, decompressed, and was not read further",
            status=status,
            remedy=Remedy.SMALLER_PAGES,
            request_id=request_id(headers),
        )
    except (ClientError, TimeoutError) as cause:
        broken = isinstance(cause, ClientPayloadError)
        error = no_answer(cause)
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    raise _CutOff(error) if broken else error


async def content_of(response: ClientResponse, most: int) -> bytes | None:
    """The body, decompressed bit by bit; None where it has more bytes than that: the rest is not read."""
    if response.content.at_eof():
        return await response.read()  # empty, or read already by a middleware, and kept
    blocks, size = [], 0
    while block := await response.content.readany():
        size += len(block)
        if size > most:
            return None
        blocks.append(block)
    return b"".join(blocks)


def no_answer(cause: Exception) -> ODataError:
    """What an error of aiohttp's says, without the request's headers, which it carries."""
    if isinstance(cause, InvalidURL):
        return ODataError("this session has no base URL: give it the API's origin, as in https://api.tribecrm.nl")
    told = f"no whole answer came from the API ({type(cause).__name__}"
    if is_about_a_certificate(cause):
        return ODataError(f"{told}: {reason(cause)}): {remedy(cause, '')}")
    advice = remedy(cause, "")
    return ODataError(f"{told}){advice and f': {advice}'}", retryable=True)


def value_of(content: bytes, parse: Parse) -> Parsed:
    """The JSON value; None where the body is not JSON, as with a proxy's HTML."""
    try:
        return parse(content)
    except (ValueError, RecursionError):
        return Parsed(None)


def _control(body: dict[str, Any]) -> dict[str, object]:
    """Control information by name: in OData ``@odata.count``, in 4.01 ``@count`` too, in 3.0 ``odata.count``."""
    return {
        name.lower().removeprefix("@").removeprefix("odata."): value
        for name, value in body.items()
        if name.startswith(("@", "odata.")) and value is not None
    }


def _count(value: object) -> int | None:
    """The number of all rows; None where there is none. A promise that cannot be read cannot be checked either."""
    count = whole(value)
    if count is None and value is not None:
        raise ODataError("the API's count of the rows is no whole number: whether all of them came is not known")
    return count


def whole(value: object) -> int | None:
    """A whole number that is not negative, also one in quotes (IEEE754Compatible) or with a zero fraction."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return int(value) if 0 <= value < 10**18 else None
    return None


def _are_rows(values: list[Any]) -> bool:
    kinds = set(map(type, values))
    return kinds <= {dict} or kinds == {RawRow}


def refusal(status: int, headers: Mapping[str, str], content: bytes | None) -> ODataError:
    """The error that an answer with this status is, and its body, where that has come."""
    body = value_of(content or b"", PLAIN).value
    error = body.get("error") if isinstance(body, dict) else None
    words = error if isinstance(error, dict) else {}
    code, message, target = (shown(words.get(name)) for name in ("code", "message", "target"))
    return ODataError(
        ": ".join(text for text in (f"the API answered {status}", code, message) if text),
        status=status,
        code=code,
        message=message,
        target=target,
        request_id=request_id(headers),
        retry_after=read_retry_after(headers),
        retryable=status in {408, 425, 429} or (status >= 500 and status != 501),
    )


def shown(value: object) -> str | None:
    """A text from the server, fit for an error; None for anything else."""
    return printable(value, _SHOWN) if isinstance(value, str) else None


def request_id(headers: Mapping[str, str]) -> str | None:
    """By which the API's people find the request."""
    return next((shown(headers[name]) for name in _REQUEST_IDS if name in headers), None)
