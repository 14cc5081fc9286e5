"""The only POST to the authorization server.

One request, one answer, no redirects, no retries. What matters afterwards is whether the secret in the body can have
reached the server, so an outcome is one of three: `NotSent`, `Lost` (sent, outcome unknown), `Answered`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
import zlib
from collections.abc import Callable, Mapping
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
    TCPConnector,
    hdrs,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesPayload

from tribe_oauth._oauth.messages import Granted, Refused, Unreadable, client_mark, read_answer
from tribe_oauth._oauth.proxy import Proxy
from tribe_oauth._remedies import is_about_a_certificate, reason, remedy
from tribe_oauth._retry_after import read_date, read_retry_after
from tribe_oauth.errors import ConfigurationError

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds: a server cannot put an organization to sleep for longer."""

MAX_READ_BYTES: Final = 1024 * 1024
"""What is read of an answer: one that is longer than is acceptable may still have a new token in it."""

# No token request shares a connection with another: on one that is kept alive, a stray second answer of a server or a
# proxy would be taken for the answer to the next request, and give one organization's token to another.
_HEADERS: Final = {hdrs.ACCEPT: "application/json", hdrs.ACCEPT_ENCODING: "identity", hdrs.CONNECTION: "close"}


@attrs.frozen
class NotSent:
    """No byte of the body left this process. `remedy`: what to do about the reason, where that is known."""

    reason: str
    remedy: str = ""


@attrs.frozen
class Lost:
    """The body may have arrived. `over`: the connection was reset, so nothing of it can arrive any more."""

    reason: str
    over: bool


@attrs.frozen(eq=False)
class Answered:
    """The server, or something in front of it, answered. `retry_after` is in seconds, `date` in Unix time.

    `date` is the server's own clock, where it tells it. `client_worked`: this server has taken the same client id and
    secret before, in this process.
    """

    reading: Granted | Refused | Unreadable
    status: int
    retry_after: float | None
    date: float | None = None
    client_worked: bool = False


Outcome = NotSent | Lost | Answered


@attrs.define(eq=False, repr=False)
class _Arrived:
    """What of an answer has arrived so far."""

    status: int = 0
    headers: Mapping[str, str] = attrs.Factory(dict)
    content: bytearray = attrs.Factory(bytearray)

    def take(self, chunk: bytes) -> bool:
        """Add what came; whether more of it is wanted."""
        self.content += chunk
        return bool(chunk) and len(self.content) <= MAX_READ_BYTES

    def answered(self, form: bytes) -> Answered:
        """All of it, read."""
        content = _decompressed(bytes(self.content), self.headers.get(hdrs.CONTENT_ENCODING, ""))
        reading = read_answer(self.status, self.headers.get(hdrs.CONTENT_TYPE, ""), content, sent=form)
        retry_after = read_retry_after(self.headers)
        return Answered(
            reading, self.status, retry_after and min(retry_after, MAX_RETRY_AFTER), read_date(self.headers)
        )

    def saved_from(self, failure: NotSent | Lost, form: bytes) -> Answered | None:
        """An answer that broke off, where a new refresh token had arrived by then: the old one is spent."""
        if not self.content or isinstance(failure, NotSent):
            return None
        answered = self.answered(form)
        if not isinstance(answered.reading, Granted) or answered.reading.refresh_token is None:
            return None
        reading = attrs.evolve(answered.reading, complaints=(*answered.reading.complaints, failure.reason))
        return attrs.evolve(answered, reading=reading)


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

    def __init__(
        self, *, connector: BaseConnector | None = None, proxy: Proxy | None = None, request_timeout: float = 30.0
    ) -> None:
        if connector is not None and not _checks_certificates(connector):
            raise ConfigurationError(
                "this connector does not check certificates, and client secrets would pass through it:"
                " pass a TCPConnector with ssl=True, or with a context that trusts your own authority"
            )
        self._connector = connector
        self._proxy = proxy
        self._request_timeout = request_timeout
        self._session: ClientSession | None = None
        self._worked: set[tuple[str, bytes]] = set()

    async def post(self, url: str, form: bytes, *, may_leave: Callable[[], bool] = _always) -> Outcome:
        """Send once, within `request_timeout` seconds in all. `may_leave` is asked right before the bytes go."""
        body, arrived = _Body(form, may_leave), _Arrived()
        try:
            async with asyncio.timeout(self._request_timeout):
                await self._exchange(url, body, arrived)
        except TimeoutError:
            failure = _failed(body, f"no answer within {self._request_timeout:g} s", over=False)
        except (ClientError, OSError) as error:
            failure = _failed(body, _told(error), over=_ended_by_peer(error), advice=remedy(error, ""))
        else:
            return self._known(url, form, arrived.answered(form))
        return arrived.saved_from(failure, form) or failure

    def _known(self, url: str, form: bytes, answered: Answered) -> Answered:
        """Remember a client whose credentials were taken, and tell of one that a refusal is for."""
        client = url, client_mark(form)
        if isinstance(answered.reading, Granted):
            self._worked.add(client)
        return attrs.evolve(answered, client_worked=client in self._worked)

    async def _exchange(self, url: str, body: _Body, arrived: _Arrived) -> None:
        async with self._open().post(
            url, data=body, headers=_HEADERS, allow_redirects=False, raise_for_status=False
        ) as response:
            arrived.status, arrived.headers = response.status, response.headers
            while arrived.take(await response.content.readany()):
                pass  # nothing of it stands in a variable here, which a crash reporter shows

    def _open(self) -> ClientSession:
        if self._session is None or self._session.closed:
            self._session = ClientSession(
                connector=self._connector if self._connector is not None else TCPConnector(force_close=True),
                connector_owner=self._connector is None,
                cookie_jar=DummyCookieJar(),
                timeout=ClientTimeout(total=None),  # the deadline above covers reading too
                trust_env=False,
                proxy=None if self._proxy is None else self._proxy.url,
                middlewares=() if self._proxy is None else (self._proxy,),
                auto_decompress=False,  # what arrived of a compressed answer counts too
                max_line_size=MAX_READ_BYTES,
                max_field_size=MAX_READ_BYTES,
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


def _failed(body: _Body, reason: str, *, over: bool, advice: str = "") -> NotSent | Lost:
    return Lost(reason, over) if body.left else NotSent(reason, advice)


def _told(error: Exception) -> str:
    kind = type(error).__name__
    return f"the connection failed ({f'{kind}: {reason(error)}' if is_about_a_certificate(error) else kind})"


def _ended_by_peer(error: Exception) -> bool:
    """Whether the other side closed or reset the connection. A route that broke may still deliver what is on it."""
    return isinstance(error, ServerDisconnectedError | ConnectionError) or (
        isinstance(error, ClientOSError) and error.errno in {errno.ECONNRESET, errno.EPIPE}
    )


def _decompressed(content: bytes, encoding: str) -> bytes:
    """As much as can be decompressed, to a bound; the content as it is where it is not compressed after all."""
    if encoding.strip().lower() not in {"gzip", "x-gzip", "deflate"}:
        return content
    for wbits in (32 + zlib.MAX_WBITS, -zlib.MAX_WBITS):  # with a header; what some take deflate for
        plain, stream = bytearray(), zlib.decompressobj(wbits)
        with contextlib.suppress(zlib.error):  # what came before it counts
            for at in range(0, len(content), 1024):
                plain += stream.decompress(content[at : at + 1024], MAX_READ_BYTES + 1 - len(plain))
                if len(plain) > MAX_READ_BYTES:
                    break
        if plain:
            return bytes(plain)
    return content


def _checks_certificates(connector: BaseConnector) -> bool:
    # aiohttp has no public way to ask a connector; without this attribute it is not one that speaks TLS by itself.
    setting = getattr(connector, "_ssl", True)
    if isinstance(setting, ssl.SSLContext):
        return setting.verify_mode == ssl.CERT_REQUIRED and setting.check_hostname
    return setting is not False
