"""The authorization server as a ledger. It rotates strictly: reuse revokes the family. It also judges what is sent.

What no client can prevent is named here, as the cause of a family's death; every other death is a violation:

- the answer was lost on the wire, or a part of it that no one can do without;
- the host that had the answer was killed, frozen, closed or cancelled before it could save it;
- the host that had the answer could not reach the store, or not write, until a moment before it was overtaken;
- the store was emptied or put back, and the sender had seen nothing of what it lost: a successor, or a peer's lease.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from itertools import count
from typing import Final, Protocol

import attrs

from tribe_oauth.errors import REVOKED

LIFETIME: Final = 300
SAVED_WITHIN: Final = 9.0
"""Seconds of undisturbed sight of the store in which a host has saved what it has. A successor holds off for longer."""
OWN_FAULT: Final = frozenset(
    {"the answer was lost on the wire", *(f"its host was {fate}" for fate in ("killed", "frozen"))}
)
"""Deaths of which the record knows, unless the store lost it: an answer was never read, and the token sent again."""
SOON: Final = 4.0
"""Seconds after the return of the store for all, in which every holder that can reach it has saved."""
SKEW: Final = 60.0
"""Seconds by which connections have to be apart, for the clocks of two hosts to tell which is the newer one."""
GRACE: Final = 60.0
"""Seconds in which a resend may be answered, with a token that is dead: some versions of the server do that."""


class ViolationError(Exception):
    """A promise was broken."""


@attrs.define(eq=False)
class Family:
    """All that came from one connection.

    `death`: why it ended. `stored`: it was the organization's own. `replaced`: another was, after it, or none.
    `since`: when it was stored first. `last`: the refresh token that was stored last.
    """

    organization: str
    current: str
    born: float
    rotated: float
    death: str = ""
    stored: bool = False
    replaced: bool = False
    since: float = 0.0
    last: str = ""

    @property
    def revoked(self) -> bool:
        return bool(self.death)


class Process(Protocol):
    """A host. `disturbed` counts what was done to it, `fate` is the last of it; `looked`: when it last saw a record."""

    alive: bool
    disturbed: int
    fate: str
    looked: dict[str, float]

    def trouble(self) -> float:
        """Until when its store failed it, or was slow."""
        ...

    def has_own_trouble(self) -> bool:
        """Whether the store is away or slow for it alone."""
        ...

    def clock_is_off(self) -> bool:
        """Whether its wall clock is wrong, or was a while ago."""
        ...

    async def go_on(self) -> None:
        """Returns when it is alive and not frozen."""
        ...


@attrs.define(eq=False)
class Delivery:
    """An answer that came to a host, and how disturbed that host was then."""

    host: Process
    disturbed: int
    usable: bool  # with an access token that can be given out, so that the host remembers it

    def is_known_to(self, host: Process) -> bool:
        """Whether this host remembers it."""
        return self.host is host and self.usable and self.undisturbed

    @property
    def undisturbed(self) -> bool:
        return self.host.disturbed == self.disturbed


class Server:
    """Issues, spends, revokes. The store tells what reached it, and what it lost.

    `under_way`: refresh tokens that will arrive, and since when. `stored`: what the store has or had, as far as it did
    not lose it. `records`: the family of each organization that was stored last.
    """

    def __init__(self, chance: random.Random, loop: asyncio.AbstractEventLoop) -> None:
        self.chance = chance
        self.now = loop.time
        self.families: dict[str, Family] = {}  # by each refresh token that it ever had
        self.expires: dict[str, float] = {}  # of access tokens
        self.odd_generations: set[str] = set()  # organizations that were connected by a host with a wrong clock
        self.odd: set[str] = set()  # access tokens whose lifetime a host with a wrong clock wrote down
        self.stored: set[str] = set()
        self.ever_stored: set[str] = set()
        self.stored_at: dict[str, float] = {}
        self.written_back: dict[str, float] = {}
        self.leased: dict[str, float] = {}  # when it was first about to be sent
        self.lost_at: dict[str, float] = {}
        self.records: dict[str, Family] = {}
        self.candidates: dict[str, Family | None] = {}
        self.successors: dict[str, str] = {}
        self.delivered: dict[str, Delivery] = {}
        self.under_way: dict[str, float] = {}
        self.faulty = False
        self.unwell: tuple[str, float] = ("", 0.0)  # an error for everybody, until then
        self.mangled_until = 0.0  # no host's requests arrive whole
        self.seen: dict[str, int] = {}
        self.rotated: dict[str, list[float]] = {}
        self.last: deque[str] = deque(maxlen=400)
        self._causes: dict[str, str] = {}
        self.report: Callable[[ViolationError], None] = lambda error: None
        self.back_for: Callable[[], float] = lambda: math.inf  # since the store was away for all, for long enough
        self._loop = loop
        self._numbers = count(1)

    def paste(self, organization: str) -> str:
        """A new family, as if copied from Tribe."""
        token = f"rt{next(self._numbers)}"
        self.families[token] = Family(organization, token, self.now(), self.now())
        return token

    def saw(self, what: str) -> None:
        """Count what happened, so that a run can be seen to have had it."""
        self.seen[what] = self.seen.get(what, 0) + 1

    def violation(self, what: str) -> ViolationError:
        """To be raised. It is reported before, since what is raised in a store is a failure of the store."""
        error = ViolationError(what)
        self.report(error)
        return error

    def note(self, what: str) -> None:
        """For whoever has to understand a violation."""
        self.last.append(f"{self.now():12.3f} {what}")

    def descendants(self, token: str) -> Iterator[str]:
        """What followed from a refresh token, the next one first."""
        while (token := self.successors.get(token, "")) != "":
            yield token

    # What a request meets

    def sent(self, token: str, host: Process, connecting_since: float) -> None:
        """Bytes leave. The promises about sending are judged here."""
        family = self.families[token]
        self.note(f"{family.organization}: {host} sends {token}")
        lost_at = self.lost_at.get(family.organization, -1.0)
        if token in self.under_way:
            known = self.written_back.get(token, -1.0) >= lost_at  # it was known that the store had lost something
            if known or lost_at < min(self.under_way[token], connecting_since):  # else one of the two leases was lost
                raise self.violation(f"{token} was sent while an earlier request with it could still arrive")
            self._causes[token] = "the store lost a lease"
        elif token in self.successors and not family.revoked:
            self._causes[token] = self._why(token, family, host)
        self.under_way[token] = connecting_since  # it had the lease then; a store that loses that later cannot tell it
        self.leased.setdefault(token, connecting_since)

    def _why(self, token: str, family: Family, host: Process) -> str:
        """Why a spent refresh token was sent again. Raises where a client could have known better."""
        seen_at = host.looked.get(family.organization, -1.0)
        lost_at = self.lost_at.get(family.organization, -1.0)
        for later in self.descendants(token):
            delivery = self.delivered.get(later)
            if later in self.stored and self.stored_at[later] <= seen_at:
                raise self.violation(f"{token} was sent although {later} followed from it and had been stored")
            if delivery is not None and delivery.is_known_to(host) and not family.replaced:
                raise self.violation(f"{token} was sent by the very host that had {later}, which followed from it")
        return self._why_unsaved(token, family, seen_at, lost_at)

    def _why_unsaved(self, token: str, family: Family, seen_at: float, lost_at: float) -> str:
        """The same, where nobody can have seen in the store what followed from it."""
        successor = self.successors[token]
        if successor in self.ever_stored and lost_at >= min(self.leased[token], seen_at):
            return "the store lost it"
        if (delivery := self.delivered.get(successor)) is None:
            return "the answer was lost on the wire"
        if not delivery.undisturbed:
            return f"its host was {delivery.host.fate}"
        blind = lost_at >= self.leased[token] or delivery.host.has_own_trouble()
        if self.back_for() < SOON and not blind:  # the store did not lose the lease, and its holder could see it
            raise self.violation(f"{token} was sent {self.back_for():.1f} s after the store's return, and was spent")
        if self.stored_at.get(successor, self.now()) < delivery.host.trouble() + SAVED_WITHIN:
            return "its host could not reach the store"
        raise self.violation(f"{token} was sent while a host that lives on had its successor, and did not save it")

    def lost(self, token: str) -> None:
        """It will never arrive."""
        del self.under_way[token]

    def revoke(self, token: str) -> None:
        """RFC 7009: the whole family ends."""
        family = self.families[token]
        if self.records.get(family.organization) is family and not (family.replaced or family.revoked):
            raise self.violation(f"the family of {family.organization} was revoked, and the store had no other")
        if self.candidates.get(family.organization) is family and not family.revoked:
            raise self.violation(f"the answer to what was pasted for {family.organization} was revoked")
        self.note(f"{token} is revoked")
        family.death = family.death or "revoked, since it was replaced"
        self.saw("revocation")

    def arrive(self, token: str) -> tuple[int, bytes]:
        """The server does its work."""
        self.note(f"{token} arrives")
        self.under_way.pop(token, None)  # where a lease was lost, two of them arrive
        if self.now() < self.unwell[1]:
            return (401, b'{"error":"invalid_client"}') if self.unwell[0] == "invalid_client" else (503, b"busy")
        family = self.families[token]
        if family.revoked:
            return 400, b'{"error":"invalid_grant"}'
        if token == family.current:
            self._count(family)
            return 200, self._issue(token, family)
        self.saw("reuse, family revoked")
        family.death = self._causes[token]
        if self.faulty and self.now() < family.rotated + GRACE and self.chance.random() < 0.5:
            self.saw("a resend answered with a dead token")
            return 200, self._issue(token, family)
        return 400, b'{"error":"invalid_grant"}'

    def _count(self, family: Family) -> None:
        self.saw("rotation")
        family.rotated = self.now()
        self.rotated.setdefault(family.organization, []).append(self.now())

    def _issue(self, token: str, family: Family) -> bytes:
        access, refresh = f"at{next(self._numbers)}", f"rt{next(self._numbers)}"
        self.families[refresh], family.current = family, refresh
        self.successors[token] = refresh
        self.expires[access] = self.now() + LIFETIME
        body = {"access_token": access, "refresh_token": refresh, "token_type": "bearer", "expires_in": LIFETIME}
        order = list(body.items())
        self.chance.shuffle(order)
        return json.dumps(dict(order)).encode()

    # What reaches a host, and the store

    def arrived(self, access: str, refresh: str, host: Process, *, usable: bool) -> None:
        """All that counts of an answer came to a host. From here on it has to be saved."""
        self.note(f"{host} was given {refresh}")
        self.delivered[refresh] = Delivery(host, host.disturbed, usable)
        if host.clock_is_off():
            self.odd.add(access)
        self._loop.call_later(SAVED_WITHIN, self._look_after, refresh)

    def _look_after(self, token: str) -> None:
        """Whether what arrived is saved by now; where the host has trouble with the store, look again."""
        delivery, family = self.delivered[token], self.families[token]
        if token in self.ever_stored or not delivery.undisturbed or self.is_over(family):
            return
        if (wait := delivery.host.trouble() + SAVED_WITHIN - self.now()) > 0:
            self._loop.call_later(wait, self._look_after, token)
        else:
            raise self.violation(f"{token} reached a host that lives on, and was not saved")

    def unsaved(self, host: Process) -> list[str]:
        """What arrived at a host, belongs to a family that lives, and was not stored."""
        return [
            token
            for token, delivery in self.delivered.items()
            if delivery.host is host and token not in self.ever_stored
            if not self.is_over(self.families[token])
        ]

    def is_over(self, family: Family) -> bool:
        """Whether nothing of it has to be saved any more: it is dead, or another took its place, also at the trial."""
        tried = self.candidates.get(family.organization)
        return family.revoked or family.replaced or not (family.stored or tried is family)

    def has_stored(self, access: str, token: str, host: Process) -> None:
        """A refresh token reached the store, as a family's own."""
        family = self.families[token]
        if token in self.ever_stored and token not in self.stored:
            self.saw("written back")
            self.written_back[token] = self.now()
            if host.clock_is_off():
                self.odd.add(access)
        if token not in self.stored:
            self.stored_at[token] = self.now()
        self.stored.add(token)
        self.ever_stored.add(token)
        before = self.records.get(family.organization)
        if not family.stored:
            family.since = self.now()
            if host.clock_is_off():  # generations begin by the clock, and never go back
                self.odd_generations.add(family.organization)
        if before is not None and before is not family:
            if family.replaced and before.since > family.since:
                self._judge_overwriting(before, family, host)
            before.replaced = True
        self.records[family.organization], family.last, family.stored = family, token, True

    def _judge_overwriting(self, newer: Family, older: Family, host: Process) -> None:
        """A connection came back over the one that had taken its place, which the store has."""
        self.saw("a newer connection was overwritten")
        known = newer.last in self.stored and not newer.revoked
        if known and newer.since > older.since + SKEW and older.organization not in self.odd_generations:
            raise self.violation(f"{host} wrote {older.last} over {newer.last}, of a newer connection")

    def has_disconnected(self, organization: str) -> None:
        """The organization's record is a tombstone."""
        if (family := self.records.pop(organization, None)) is not None:
            family.replaced = True

    def is_marked(self, token: str, cause: str, *, anew: bool) -> None:
        """The organization's record says that it has to be connected again."""
        family = self.families[token]
        if not family.revoked and family.current == token:
            raise self.violation(f"{family.organization} was marked ({cause}), and its family lives")
        lost = self.lost_at.get(family.organization, -1.0) > family.born
        if cause == REVOKED and family.death in OWN_FAULT and not lost:
            raise self.violation(f"{family.organization} was marked ({cause}), and it died because {family.death}")
        if anew:
            self.saw(f"marked ({cause.partition(',')[0]}): {family.death}")

    def store_lost(self, left: dict[str, str], organizations: list[str]) -> None:
        """The store was emptied or put back. `left`: the refresh token that it has now, by organization."""
        self.note(f"the store has lost something; it has {left}")
        ancestors = {successor: token for token, successor in self.successors.items()}
        self.stored.clear()
        for token in left.values():
            self.stored.add(token)
            while (token := ancestors.get(token, "")) != "":
                self.stored.add(token)
        for organization in organizations:
            self.lost_at[organization] = self.now()
