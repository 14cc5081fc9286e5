"""The only POST to the authorization server.

One request, one answer, no redirects, no retries. What matters afterwards is whether the secret in the body can have
reached the server, so an outcome is one of three: `NotSent`, `Lost` (sent, outcome unknown), `Answered`.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Callable
from typing import Final

import attrs
from aiohttp import (
    BaseConnector,
    ClientError,
    ClientOSError,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerDisconnectedError,
    StreamReader,
    TCPConnector,
    hdrs,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from tribe_oauth._oauth.messages import MAX_ANSWER_BYTES, Granted, Refused, Unreadable, read_answer
from tribe_oauth._retry_after import read_retry_after
from tribe_oauth.errors import ConfigurationError

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds: a server cannot put an organization to sleep for longer."""

_HEADERS: Final = {hdrs.ACCEPT: "application/json", hdrs.ACCEPT_ENCODING: "identity"}


@attrs.frozen
class NotSent:
    """No byte of the body left this process."""

    reason: str


@attrs.frozen
class Lost:
    """The body may have arrived. `over`: the connection was reset, so nothing of it can arrive any more."""

    reason: str
    over: bool


@attrs.frozen(eq=False)
class Answered:
    """The server, or something in front of it, answered. `retry_after` is in seconds."""

    reading: Granted | Refused | Unreadable
    status: int
    retry_after: float | None


Outcome = NotSent | Lost | Answered


class _Body(BytesPayload):
    """A form that knows whether it left, and asks for leave in the last moment: after connecting, before writing."""

    def __init__(self, form: bytes, may_leave: Callable[[], bool]) -> None:
        super().__init__(form, content_type="application/x-www-form-urlencoded")
        self._may_leave = may_leave
        self.left = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        if not self._may_leave():
            raise ConnectionAbortedError("the lease ended while connecting")
        self.left = True
        await super().write_with_length(writer, content_length)


def _always() -> bool:
    return True


class TokenEndpoint:
    """Posts forms to one authorization server, on a session of its own.

    A connector that the caller gave is used and never closed; it has to check certificates.
    """

    def __init__(self, *, connector: BaseConnector | None = None, request_timeout: float = 30.0) -> None:
        if connector is not None and not _checks_certificates(connector):
            raise ConfigurationError(
                "this connector does not check certificates, and client secrets would pass through it:"
                " pass a TCPConnector with ssl=True, or with a context that trusts your own authority"
            )
        self._connector = connector
        self._request_timeout = request_timeout
        self._session: ClientSession | None = None

    async def post(self, url: str, form: bytes, *, may_leave: Callable[[], bool] = _always) -> Outcome:
        """Send once, within `request_timeout` seconds in all. `may_leave` is asked right before the bytes go."""
        body = _Body(form, may_leave)
        try:
            async with asyncio.timeout(self._request_timeout):
                return await self._exchange(url, form, body)
        except TimeoutError:
            return _failed(body, f"no answer within {self._request_timeout:g} s", over=False)
        except (ClientError, OSError) as error:
            return _failed(body, f"the connection failed ({type(error).__name__})", over=_ended_by_peer(error))

    async def _exchange(self, url: str, form: bytes, body: _Body) -> Answered:
        async with self._open().post(
            url, data=body, headers=_HEADERS, allow_redirects=False, raise_for_status=False, middlewares=()
        ) as response:
            answer = await _read(response.content)
            reading = read_answer(response.status, response.headers.get(hdrs.CONTENT_TYPE, ""), answer, sent=form)
            retry_after = read_retry_after(response.headers)
            return Answered(reading, response.status, retry_after and min(retry_after, MAX_RETRY_AFTER))

    def _open(self) -> ClientSession:
        if self._session is None or self._session.closed:
            self._session = ClientSession(
                connector=self._connector if self._connector is not None else TCPConnector(),
                connector_owner=self._connector is None,
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None),  # the deadline above covers reading too
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        """Close the session. A later post opens a new one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def forget_loop(self) -> None:
        """Drop a session whose event loop is gone."""
        self._session = None


def _failed(body: _Body, reason: str, *, over: bool) -> NotSent | Lost:
    return Lost(reason, over) if body.left else NotSent(reason)


def _ended_by_peer(error: Exception) -> bool:
    """Whether the other side closed or reset the connection. A route that broke may still deliver what is on it."""
    return isinstance(error, ServerDisconnectedError | ConnectionError) or (
        isinstance(error, ClientOSError) and error.errno in {errno.ECONNRESET, errno.EPIPE}
    )


async def _read(content: StreamReader) -> bytes:
    """At most one byte more than is acceptable, already decompressed, so that too much can be told from enough."""
    answer = bytearray()
    while len(answer) <= MAX_ANSWER_BYTES and (chunk := await content.read(MAX_ANSWER_BYTES + 1)):
        answer += chunk
    return bytes(answer)


def _checks_certificates(connector: BaseConnector) -> bool:
    # aiohttp has no public way to ask a connector; without this attribute it is not one that speaks TLS by itself.
    setting = getattr(connector, "_ssl", True)
    if isinstance(setting, ssl.SSLContext):
        return setting.verify_mode == ssl.CERT_REQUIRED and setting.check_hostname
    return setting is not False
