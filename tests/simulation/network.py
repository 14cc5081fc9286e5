"""The network before the authorization server: what is lost, late, cut off or mangled on the way."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, Protocol
from urllib.parse import parse_qs

import attrs

from tribe_oauth._oauth.endpoint import Answered, Lost, NotSent, Outcome, _Arrived
from tribe_oauth._refresh.context import Timing

from .server import Process, Server

POLICY: Final = Timing()
FAULTS: Final = {
    "not sent": 3,
    "request lost": 2,
    "request late": 3,
    "answer lost": 2,
    "reset after the work": 2,
    "reset before the work": 2,
    "502 after the work": 2,
    "500 before the work": 2,
    "429": 3,
    "503 for an hour": 1,
    "half an answer": 1,
    "cut at a byte": 3,
    "not called JSON": 1,
    "status 201": 1,
    "a member twice": 1,
    "70 kB more": 1,
    "invalid_request of a proxy": 2,
    "none": 150,
}
LOST_BEFORE: Final = {"request lost": False, "reset before the work": True}
"""What is lost on the way there: whether it can be known to be over."""
LOST_AFTER: Final = {"answer lost": False, "reset after the work": True}
REFUSED_BEFORE: Final[dict[str, tuple[int, dict[str, str], bytes]]] = {
    "429": (429, {"Content-Type": "text/html", "Retry-After": "20"}, b"<p>"),
    "503 for an hour": (503, {"Content-Type": "text/html", "Retry-After": "3600"}, b"<p>"),
    "500 before the work": (500, {"Content-Type": "text/html"}, b"<p>"),
    "invalid_request of a proxy": (400, {"Content-Type": "application/json"}, b'{"error":"invalid_request"}'),
}
_DECISIVE: Final = re.compile(rb'"(access_token|refresh_token)": "(\w+)"')


class Sender(Process, Protocol):
    """A host that sends. `mangled_until`: a proxy of its own gets the token wrong."""

    mangled_until: float

    def date(self) -> str | None:
        """The server's Date header, where the server sends one."""
        ...

    def is_cancelled(self) -> bool:
        """Whether all that it does was cancelled from outside."""
        ...

    def sending(self, organization: str) -> None:
        """A request is on the wire from now on."""
        ...


@attrs.define(eq=False)
class Network:
    """What stands for `TokenEndpoint` in one host. Answers are read as that reads them."""

    server: Server
    host: Sender

    async def post(self, url: str, form: bytes, *, may_leave: Callable[[], bool] = lambda: True) -> Outcome:
        """One request, with at most one thing that goes wrong."""
        server, chance, began = self.server, self.server.chance, self.server.now()
        await self._wait(chance.choice((0.01, 0.05, 3.0)))
        faults = FAULTS if server.faulty else {"none": 1}
        fault = chance.choices(list(faults), list(faults.values()))[0]
        server.saw(fault)
        if fault == "not sent":
            return NotSent("refused")
        if not may_leave():
            server.saw("the lease ended while connecting")
            return NotSent("the lease ended while connecting")
        if form.startswith(b"token="):
            return await self._revoke(fault, form)
        if server.now() < max(server.mangled_until, self.host.mangled_until):
            fault = "invalid_request of a proxy"
            server.saw("mangled")
        token = parse_qs(form.decode())["refresh_token"][0]
        server.sent(token, self.host, began)
        self.host.sending(server.families[token].organization)
        try:
            outcome, content = await self._travel(fault, token, form)
            await self._wait(0.0)
        except asyncio.CancelledError:
            if not self.host.is_cancelled():
                raise server.violation(f"{token} was on the wire when its request was cut off") from None
            raise
        decisive = {name: value.decode() for name, value in _DECISIVE.findall(content)}
        if len(decisive) == 2:
            usable = b'"bearer"' in content
            server.arrived(decisive[b"access_token"], decisive[b"refresh_token"], self.host, usable=usable)
        return outcome

    async def _revoke(self, fault: str, form: bytes) -> Outcome:
        if fault in LOST_BEFORE:
            return await self._lost(over=LOST_BEFORE[fault])
        if fault in REFUSED_BEFORE:
            return self._read(form, *REFUSED_BEFORE[fault])
        self.server.revoke(parse_qs(form.decode())["token"][0])
        return self._read(form, 200, {}, b"{}")

    async def _travel(self, fault: str, token: str, form: bytes) -> tuple[Outcome, bytes]:
        """What comes of a request, and what of the answer reached the host."""
        server, chance = self.server, self.server.chance
        loop = asyncio.get_running_loop()
        if fault in LOST_BEFORE:
            server.lost(token)
            return await self._lost(over=LOST_BEFORE[fault]), b""
        if fault == "request late":
            loop.call_later(POLICY.request_timeout + chance.random() * 0.9 * POLICY.quiet, server.arrive, token)
            return await self._lost(over=False), b""
        if fault in REFUSED_BEFORE:
            server.lost(token)
            await asyncio.sleep(0.1)
            return self._read(form, *REFUSED_BEFORE[fault]), b""
        arrived: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        loop.call_later(chance.random(), lambda: _arrive(server, token, arrived))
        status, body = await asyncio.shield(arrived)
        await asyncio.sleep(0.05)
        if fault in LOST_AFTER:
            return await self._lost(over=LOST_AFTER[fault]), b""
        if fault == "cut at a byte":
            return await self._cut(form, status, body[: chance.randrange(len(body))])
        status, headers, body = _mangled(fault, status, body)
        return self._read(form, status, headers, body), body if status < 300 else b""

    def _read(self, form: bytes, status: int, headers: dict[str, str], body: bytes) -> Answered:
        date = self.host.date()
        dated = headers if date is None else {**headers, "Date": date}
        return _Arrived(status, dated, bytearray(body)).answered(form)

    async def _cut(self, form: bytes, status: int, part: bytes) -> tuple[Outcome, bytes]:
        """The connection breaks in the midst of the body."""
        lost = await self._lost(over=self.server.chance.random() < 0.5)
        arrived = _Arrived(status, {"Content-Type": "application/json"}, bytearray(part))
        return arrived.saved_from(lost, form) or lost, part if status < 300 else b""

    async def _lost(self, *, over: bool) -> Lost:
        await asyncio.sleep(0.2 if over else POLICY.request_timeout)
        return Lost("lost", over)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.host.go_on()

    async def close(self) -> None:
        """As `TokenEndpoint.close`."""

    def forget_loop(self) -> None:
        """As `TokenEndpoint.forget_loop`."""


def _arrive(server: Server, token: str, arrived: asyncio.Future[tuple[int, bytes]]) -> None:
    """The server works also for one that is gone."""
    answer = server.arrive(token)
    if not arrived.done():
        arrived.set_result(answer)


def _mangled(fault: str, status: int, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """What a gateway makes of an answer."""
    headers = {"Content-Type": "application/json"}
    match fault:
        case "502 after the work":
            return 502, {"Content-Type": "text/html"}, b"<p>"
        case "half an answer":
            return status, headers, body[: len(body) // 2]
        case "not called JSON":
            return status, {"Content-Type": "text/html"}, body
        case "status 201" if status == 200:
            return 201, headers, body
        case "a member twice":
            return status, headers, body[:-1] + b', "expires_in": 300, "expires_in": 300}'
        case "70 kB more":
            return status, headers, body[:-1] + b', "more": "' + b"x" * 70_000 + b'"}'
    return status, headers, body
