"""The authorization server as a ledger, and the network before it. It rotates strictly: reuse revokes the family."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol
from urllib.parse import parse_qs

import attrs

from tribe_oauth._oauth.endpoint import Answered, Lost, NotSent, Outcome
from tribe_oauth._oauth.messages import Granted, read_answer
from tribe_oauth._refresh.context import Timing

LIFETIME: Final = 300
POLICY: Final = Timing()
SAVED_WITHIN: Final = 100.0
"""Seconds in which a host that has an answer saves it, once the store can write."""


class ViolationError(Exception):
    """A promise was broken."""


@attrs.define(eq=False)
class Family:
    """All that came from one connection."""

    organization: str
    current: str
    revoked: bool = False


class Process(Protocol):
    """A host, as the network knows it. `disturbed` counts what was done to it."""

    alive: bool
    disturbed: int

    async def go_on(self) -> None:
        """Returns when it is alive and not frozen."""
        ...


class Server:
    """Issues, spends, revokes. The store tells what reached it.

    `under_way`: refresh tokens that will arrive. `stored`: every one that ever was. `records`: the one of each
    organization that is connected. `delivered`: to whom the answer with a refresh token came, and how disturbed that
    host was then.
    """

    def __init__(self, chance: random.Random, now: Callable[[], float]) -> None:
        self.chance = chance
        self.now = now
        self.families: dict[str, Family] = {}  # by each refresh token that it ever had
        self.expires: dict[str, float] = {}  # of access tokens
        self.stored: set[str] = set()
        self.records: dict[str, str] = {}
        self.successors: dict[str, str] = {}
        self.delivered: dict[str, tuple[Process, int]] = {}
        self.store_down_until = 0.0
        self.under_way: set[str] = set()
        self.faulty = False
        self.unwell: tuple[str, float] = ("", 0.0)  # an error for everybody, until then
        self.seen: dict[str, int] = {}
        self._numbers = count(1)

    def paste(self, organization: str) -> str:
        """A new family, as if copied from Tribe."""
        token = f"rt{next(self._numbers)}"
        self.families[token] = Family(organization, token)
        return token

    def saw(self, what: str) -> None:
        """Count what happened, so that a run can be seen to have had it."""
        self.seen[what] = self.seen.get(what, 0) + 1

    # What a request meets

    def sent(self, token: str) -> None:
        """Bytes leave. The promises about sending are judged here."""
        successor = self.successors.get(token, "")
        if successor in self.stored:
            raise ViolationError(f"{token} was sent although its successor had been stored")
        host, disturbed = self.delivered.get(successor, (None, 0))
        if host is not None and host.disturbed == disturbed and self.now() > self.store_down_until + SAVED_WITHIN:
            raise ViolationError(f"{token} was sent while a host that lives on had its successor, and did not save it")
        if token in self.under_way:
            raise ViolationError(f"{token} was sent while an earlier request with it could still arrive")
        self.under_way.add(token)

    def lost(self, token: str) -> None:
        """It will never arrive."""
        self.under_way.remove(token)

    def revoke(self, token: str) -> None:
        """RFC 7009: the whole family ends."""
        family = self.families[token]
        if self.records.get(family.organization) == family.current:
            raise ViolationError(f"the family of {family.organization} was revoked while the store had it")
        family.revoked = True
        self.saw("revocation")

    def arrive(self, token: str) -> tuple[int, bytes]:
        """The server does its work."""
        self.under_way.remove(token)
        if self.now() < self.unwell[1]:
            return (401, b'{"error":"invalid_client"}') if self.unwell[0] == "invalid_client" else (503, b"busy")
        family = self.families[token]
        if family.revoked or token != family.current:
            if not family.revoked:
                self.saw("reuse, family revoked")
            family.revoked = True
            return 400, b'{"error":"invalid_grant"}'
        access, refresh = f"at{next(self._numbers)}", f"rt{next(self._numbers)}"
        self.families[refresh], family.current = family, refresh
        self.successors[token] = refresh
        self.expires[access] = self.now() + LIFETIME
        self.saw("rotation")
        body = {"access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": LIFETIME}
        return 200, json.dumps(body).encode()


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
    "none": 77,
}


@attrs.define(eq=False)
class Network:
    """What stands for `TokenEndpoint` in one host."""

    server: Server
    host: Process

    async def post(self, url: str, form: bytes, *, may_leave: Callable[[], bool] = lambda: True) -> Outcome:
        """One request, with at most one thing that goes wrong."""
        server, chance = self.server, self.server.chance
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
            server.revoke(parse_qs(form.decode())["token"][0])
            return Answered(read_answer(200, "application/json", b"{}"), 200, None)
        token = parse_qs(form.decode())["refresh_token"][0]
        server.sent(token)
        outcome = await self._travel(fault, token, form)
        await self._wait(0.0)
        if isinstance(outcome, Answered) and isinstance(outcome.reading, Granted):
            assert outcome.reading.refresh_token is not None
            server.delivered[outcome.reading.refresh_token.reveal()] = self.host, self.host.disturbed
        return outcome

    async def _travel(self, fault: str, token: str, form: bytes) -> Outcome:
        server, chance = self.server, self.server.chance
        loop = asyncio.get_running_loop()
        if fault in {"request lost", "reset before the work"}:
            server.lost(token)
            return await self._lost(over=fault != "request lost")
        if fault == "request late":
            loop.call_later(POLICY.request_timeout + chance.random() * 0.9 * POLICY.quiet, server.arrive, token)
            return await self._lost(over=False)
        if fault in {"429", "503 for an hour", "500 before the work"}:
            await asyncio.sleep(0.1)
            server.lost(token)
            status = int(fault[:3])
            retry_after = {"429": 20.0, "503 for an hour": 3600.0}.get(fault)
            return Answered(read_answer(status, "text/html", b"<p>"), status, retry_after)
        arrived: asyncio.Future[tuple[int, bytes]] = loop.create_future()
        loop.call_later(chance.random(), lambda: arrived.set_result(server.arrive(token)))
        status, body = await arrived
        await asyncio.sleep(0.05)
        if fault in {"answer lost", "reset after the work"}:
            return await self._lost(over=fault != "answer lost")
        if fault == "502 after the work":
            return Answered(read_answer(502, "text/html", b"<p>"), 502, None)
        if fault == "half an answer":
            body = body[: len(body) // 2]
        return Answered(read_answer(status, "application/json", body, sent=form), status, None)

    async def _lost(self, *, over: bool) -> Lost:
        await asyncio.sleep(0.2 if over else POLICY.request_timeout)
        return Lost("lost", over)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.host.go_on()

    async def close(self) -> None:
        """As `TokenEndpoint.close`."""

    def forget(self) -> None:
        """As `TokenEndpoint.forget`."""
