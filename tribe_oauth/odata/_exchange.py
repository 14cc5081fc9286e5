"""One request about one entity, and its answer: a write, or the call of a function.

Imported by `_writes` and `_functions`.

How often the body was handed over tells a write that surely had no effect. It is counted where aiohttp takes the end of
it to write it to a connection: a server that has not got the whole body has no JSON to act on. Errors of the network
alone do not say it, and neither do those of middlewares; one that reads the body may send it in another form.
"""

from __future__ import annotations

import asyncio
import base64
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final

import attrs
from aiohttp import ClientError, ClientSession
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import StreamWriter
from aiohttp.payload import BytesPayload, IOBasePayload, Payload
from yarl import URL

from tribe_oauth import _encoded
from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._answer import (
    MAX_REFUSAL_BYTES,
    ODataError,
    content_of,
    no_answer,
    refusal,
    request_id,
    value_of,
)
from tribe_oauth.odata._body import File, pieces
from tribe_oauth.odata._json import EXACT, PLAIN, Parse
from tribe_oauth.odata._query import MAX_BYTES

_AT_ONCE: Final = 2**16
"""Bytes that are written in one piece; more of them, and files, are read in a thread, bit by bit."""
_JSON: Final = "application/json"
_NO_TYPE: Final = ("Content-Type",)  # of a body that is empty
_NO_HEADERS: Final[Mapping[str, str]] = {}


class Body:
    """The JSON of some fields, or nothing, for as many requests as it takes. Raises ConfigurationError.

    `handed_over`: how often aiohttp took the end of it to send it. `once`: by itself it may take it once. It would send
    a PUT or a DELETE a second time where a connection breaks that was kept, and hide that the first one may have had
    its effect.
    """

    def __init__(self, fields: Mapping[str, Any] | None = None, *, once: bool = False) -> None:
        self.once = once
        self.handed_over = 0
        self.fault: Exception | None = None
        """Why a file in it could not be read."""
        self._reading: asyncio.Future[bytes] | None = None
        self._pieces = [
            _Base64(piece, self) if isinstance(piece, File) else _Text(piece)
            for piece in ([b""] if fields is None else pieces(fields))
        ]

    def count(self, writer: AbstractStreamWriter) -> None:
        """Note that the end of it is handed over now. To a connection that is closed, aiohttp writes nothing."""
        if not isinstance(writer, StreamWriter) or (writer.transport and not writer.transport.is_closing()):
            self.handed_over += 1

    async def read(self, content: _Pieces, offset: int) -> bytes:
        """Some bytes of it, in a thread."""
        self._reading = asyncio.ensure_future(asyncio.to_thread(content.read_at, offset, _AT_ONCE))
        return await asyncio.shield(self._reading)

    async def settled(self) -> None:
        """Wait until nothing of it is read any more: a request may end before its body."""
        if self._reading is not None:
            await run_uninterrupted(asyncio.gather(self._reading, return_exceptions=True))

    def payload(self) -> Payload:
        """For one request, which may be repeated by the middleware."""
        (first, *others) = self._pieces
        if others or first.size > _AT_ONCE:
            return _Read(self, _Pieces(self._pieces))
        return _AtOnce(self, first.read_at(0, first.size))


@attrs.frozen
class _Text:
    text: bytes

    @property
    def size(self) -> int:
        return len(self.text)

    def read_at(self, offset: int, size: int) -> bytes:
        return self.text[offset : offset + size]


@attrs.frozen
class _Base64:
    """Four characters for three bytes (RFC 4648 §4); any of them can be had by themselves."""

    file: File
    body: Body

    @property
    def size(self) -> int:
        return (self.file.size + 2) // 3 * 4

    def read_at(self, offset: int, size: int) -> bytes:
        first, last = offset // 4, (offset + size + 3) // 4
        try:
            content = self.file.read_at(first * 3, (last - first) * 3)
        except Exception as error:
            self.body.fault = error
            raise
        return base64.b64encode(content)[offset - first * 4 :][:size]


class _Pieces:
    """The pieces one after the other; any part of them can be had by itself, and as often as it is needed."""

    def __init__(self, content: list[_Text | _Base64]) -> None:
        self._content = content
        self._ends = list(accumulate(piece.size for piece in content))

    @property
    def size(self) -> int:
        return self._ends[-1]

    def seekable(self) -> bool:
        """Whether it can be sent again: the middleware asks."""
        return True

    def read_at(self, offset: int, size: int) -> bytes:
        """Some of the bytes from there on, and not more than those of one piece."""
        number = bisect_right(self._ends, offset)
        piece = self._content[number]
        return piece.read_at(offset - self._ends[number] + piece.size, size)


class _AtOnce(BytesPayload):
    """A body of bytes that is counted. What is `consumed`, aiohttp does not send again by itself."""

    def __init__(self, body: Body, value: bytes) -> None:
        super().__init__(value, content_type=_JSON)
        self._body = body

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """See aiohttp's `Payload`."""
        self._body.count(writer)
        self._consumed = self._body.once
        await super().write_with_length(writer, content_length)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """For middlewares that want to see the body."""
        self._body.handed_over += 1
        return await super().as_bytes(encoding, errors)


class _Read(IOBasePayload):
    """A body that is read in a thread while it is sent, and counted. There is nothing to close."""

    _value: _Pieces  # type: ignore[assignment]
    _autoclose = True

    def __init__(self, body: Body, value: _Pieces) -> None:
        super().__init__(value, content_type=_JSON)  # type: ignore[arg-type]
        self._body = body

    @property
    def size(self) -> int:
        """Bytes: known, so that no server has to take a body in chunks."""
        return self._value.size

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """See aiohttp's `Payload`."""
        self._consumed = self._body.once
        at = 0
        while at < self.size:
            block = await self._body.read(self._value, at)
            at += len(block)
            if at == self.size:
                self._body.count(writer)
            await writer.write(block)

    def _read_all(self) -> bytes:
        """For middlewares that want to see the body."""
        self._body.handed_over += 1
        blocks, at = [], 0
        while at < self.size:
            blocks.append(self._value.read_at(at, _AT_ONCE))
            at += len(blocks[-1])
        return b"".join(blocks)

    def _close(self) -> None:
        """The files in it are the caller's."""


@attrs.frozen
class Reply:
    """A success. `entity`: the JSON object; None where there is no body."""

    headers: Mapping[str, str]
    entity: dict[str, Any] | None


async def exchange(
    session: ClientSession, method: str, url: URL, body: Body | None = None, *, exact: bool = False
) -> Reply:
    """Send one request and read its answer. Raises ODataError; its `status` is set as soon as one came.

    `exact`: numbers of the answer keep their digits.
    """
    status, headers, content, failure = 0, _NO_HEADERS, None, None
    try:
        with _encoded.as_it_is():
            async with session.request(
                method,
                url,
                data=None if body is None else body.payload(),
                headers={"Accept": _JSON},
                skip_auto_headers=_NO_TYPE if method == "DELETE" else (),
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                status, headers = response.status, response.headers
                content = await content_of(response, MAX_BYTES if _is_success(status) else MAX_REFUSAL_BYTES)
    except (ClientError, TimeoutError) as cause:
        failure = no_answer(cause)
    finally:
        if body is not None:
            await body.settled()
    # After the handler: aiohttp's errors carry the request's headers, and would travel in this one's context.
    if body is not None and body.fault is not None:
        raise ConfigurationError(f"a file could not be read while it was sent: {body.fault}")
    if failure is not None and not status:
        raise failure
    if not _is_success(status):
        raise refusal(status, headers, content)
    return Reply(headers, _entity(status, headers, None if failure else content, EXACT if exact else PLAIN))


def _is_success(status: int) -> bool:
    return 200 <= status < 300


def _entity(status: int, headers: Mapping[str, str], content: bytes | None, parse: Parse) -> dict[str, Any] | None:
    """The object in the body of a success. Raises ODataError where it is none, or not all of it came."""
    if content == b"" and (status == 204 or headers.keys() & {"Content-Length", "Transfer-Encoding"}):
        return None  # without either, an answer that was cut looks the same
    value = None if content is None else value_of(content, parse).value
    if not isinstance(value, dict) or "error" in value:
        raise ODataError(
            f"the API answered {status}, and its answer is not whole",
            status=status,
            request_id=request_id(headers),
            retryable=True,
        )
    return value
