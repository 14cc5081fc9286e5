"""One request and its answer: a collection, or the reason why it is none. Imported by `_pages` and `_rows`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import attrs
from aiohttp import ClientError, ClientPayloadError, ClientSession, InvalidURL
from yarl import URL

from tribe_oauth.errors import TribeOAuthError
from tribe_oauth.odata._json import decode

_SHOWN: Final = 300  # characters of the server's own words in an error
_REQUEST_IDS: Final = ("x-request-id", "request-id", "x-correlation-id", "x-amzn-requestid", "x-b3-traceid")


class ODataError(TribeOAuthError):
    """The API refused, or what it sent is not what OData promises.

    `status` is the HTTP status, where there was an answer. `code`, `message` and `target` are the server's own words
    (OData JSON Format 4.0 §19), and `request_id` its name for the request; all shortened and made printable, or None:
    the server may leave each of them out. `retry_after`: seconds that the server asked to wait (RFC 9110 §10.2.3).
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
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.request_id = request_id
        self.retry_after = retry_after
        self.retryable = retryable


@attrs.frozen
class Answer:
    """A whole collection. `asked`: the absolute URL that it came from. `next_link`, `context`: as they were sent."""

    asked: URL
    rows: list[dict[str, Any]]
    count: int | None
    next_link: object
    context: object


async def get(session: ClientSession, url: URL) -> Answer:
    """Read a collection; once more where the answer breaks off. Raises ODataError."""
    try:
        return await _get(session, url)
    except _Broken:
        pass
    try:
        return await _get(session, url)
    except _Broken as error:
        broken = error.args[0]
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    raise broken


class _Broken(Exception):  # noqa: N818 (a condition that never leaves this module)
    """A 200 whose body is no JSON, or ends before its end."""


async def _get(session: ClientSession, url: URL) -> Answer:
    status, asked, headers, content = await _fetch(session, url)
    if status == 204:
        return Answer(asked, [], None, None, None)  # a navigation property that leads to nothing
    body = _parsed(content)
    if status != 200:
        raise _refusal(status, headers, body)
    if isinstance(body, dict) and "error" not in body:
        context = body.get("@odata.context")
        rows: Any = body.get("value")
        if _are_rows(rows):
            count = body.get("@odata.count")
            return Answer(asked, rows, count if type(count) is int else None, body.get("@odata.nextLink"), context)
        if isinstance(context, str) and context.endswith("/$entity"):
            return Answer(asked, [body], None, None, None)
    error = ODataError(
        "the API's answer is not a whole OData collection",
        status=status,
        request_id=_request_id(headers),
        retryable=body is None,
    )
    raise _Broken(error) if body is None else error


async def _fetch(session: ClientSession, url: URL) -> tuple[int, URL, Mapping[str, str], bytes]:
    broken = False
    try:
        # A redirect could lead elsewhere; rows come from the API or not at all.
        async with session.get(
            url, headers={"Accept": "application/json"}, allow_redirects=False, raise_for_status=False
        ) as response:
            return response.status, response.url, response.headers, await response.read()
    except InvalidURL:
        error = ODataError("this session has no base URL: give it the API's origin, as in https://api.tribecrm.nl")
    except (ClientError, TimeoutError) as cause:
        broken = isinstance(cause, ClientPayloadError)
        error = ODataError(f"no whole answer came from the API ({type(cause).__name__})", retryable=True)
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    raise _Broken(error) if broken else error


def _parsed(content: bytes) -> Any:
    """The JSON value, or None: a proxy's HTML is nothing that OData says."""
    try:
        return decode(content)
    except (ValueError, RecursionError):
        return None


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {dict}


def _refusal(status: int, headers: Mapping[str, str], body: Any) -> ODataError:
    error = body.get("error") if isinstance(body, dict) else None
    words = error if isinstance(error, dict) else {}
    code, message, target = (printable(words.get(name)) for name in ("code", "message", "target"))
    told = ": ".join(word for word in (code, message) if word)
    return ODataError(
        f"the API answered {status}" + (f": {told}" if told else ""),
        status=status,
        code=code,
        message=message,
        target=target,
        request_id=_request_id(headers),
        retry_after=_retry_after(headers.get("Retry-After", "")),
        retryable=status in {408, 425, 429} or (status >= 500 and status != 501),
    )


def printable(value: object) -> str | None:
    """Words from outside, shortened, without what a terminal would obey."""
    if not isinstance(value, str):
        return None
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in value[:_SHOWN])


def _request_id(headers: Mapping[str, str]) -> str | None:
    return next((printable(headers[name]) for name in _REQUEST_IDS if name in headers), None)


def _retry_after(text: str) -> float | None:
    """Seconds from now, of a number or a date; None for anything else."""
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
