"""One request and its answer: a collection, or the error that says why not. Imported by `_pages` and `_rows`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
from aiohttp import ClientError, ClientPayloadError, ClientSession, InvalidURL
from yarl import URL

from tribe_oauth._printable import printable
from tribe_oauth._remedies import is_about_a_certificate, reason, remedy
from tribe_oauth._retry_after import read_retry_after
from tribe_oauth.errors import TribeOAuthError
from tribe_oauth.odata._json import decode

_SHOWN: Final = 300  # characters of each text from the server in an error
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
    """A complete answer. `asked`: the absolute URL of the request. `next_link`, `context`: as the server sent them."""

    asked: URL
    rows: list[dict[str, Any]]
    count: int | None
    next_link: object
    context: object


async def get(session: ClientSession, url: URL) -> Answer:
    """Read a collection; read it a second time where the answer is cut off. Raises ODataError."""
    try:
        return await _get(session, url)
    except _CutOff:
        pass
    try:
        return await _get(session, url)
    except _CutOff as error:
        broken = error.args[0]
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    raise broken


class _CutOff(Exception):  # noqa: N818 (a condition that never leaves this module)
    """A 200 whose body is not JSON, or shorter than announced. Carries the ODataError that says so."""


async def _get(session: ClientSession, url: URL) -> Answer:
    status, asked, headers, content = await _fetch(session, url)
    if status == 204:
        return Answer(asked, [], None, None, None)  # a navigation property that points to no entity
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
    raise _CutOff(error) if body is None else error


async def _fetch(session: ClientSession, url: URL) -> tuple[int, URL, Mapping[str, str], bytes]:
    broken = False
    try:
        # A redirect could lead to another server: rows come from the API or not at all.
        async with session.get(
            url, headers={"Accept": "application/json"}, allow_redirects=False, raise_for_status=False
        ) as response:
            return response.status, response.url, response.headers, await response.read()
    except InvalidURL:
        error = ODataError("this session has no base URL: give it the API's origin, as in https://api.tribecrm.nl")
    except (ClientError, TimeoutError) as cause:
        broken = isinstance(cause, ClientPayloadError)
        error = _no_answer(cause)
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    raise _CutOff(error) if broken else error


def _no_answer(cause: Exception) -> ODataError:
    told = f"no whole answer came from the API ({type(cause).__name__}"
    if is_about_a_certificate(cause):
        return ODataError(f"{told}: {reason(cause)}): {remedy(cause, '')}")
    advice = remedy(cause, "")
    return ODataError(f"{told}){advice and f': {advice}'}", retryable=True)


def _parsed(content: bytes) -> Any:
    """The JSON value; None where the body is not JSON, as with a proxy's HTML."""
    try:
        return decode(content)
    except (ValueError, RecursionError):
        return None


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {dict}


def _refusal(status: int, headers: Mapping[str, str], body: Any) -> ODataError:
    error = body.get("error") if isinstance(body, dict) else None
    words = error if isinstance(error, dict) else {}
    code, message, target = (shown(words.get(name)) for name in ("code", "message", "target"))
    return ODataError(
        ": ".join(text for text in (f"the API answered {status}", code, message) if text),
        status=status,
        code=code,
        message=message,
        target=target,
        request_id=_request_id(headers),
        retry_after=read_retry_after(headers),
        retryable=status in {408, 425, 429} or (status >= 500 and status != 501),
    )


def shown(value: object) -> str | None:
    """A text from the server, fit for an error; None for anything else."""
    return printable(value, _SHOWN) if isinstance(value, str) else None


def _request_id(headers: Mapping[str, str]) -> str | None:
    return next((shown(headers[name]) for name in _REQUEST_IDS if name in headers), None)
