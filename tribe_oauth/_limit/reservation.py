"""A slot that is taken before the request is made, so that no time-out runs while it waits. For `_manager` and `sync`.

Whoever makes requests with a session of a manager may take the slot of the next one first: `reserve` finds what the
session's middleware would ask, and gives the slot to the middleware by a context variable. With any other session there
is nothing to reserve.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Final, Protocol
from weakref import WeakKeyDictionary

from aiohttp import ClientSession

from tribe_oauth._limit.line import Lot


class Calls(Protocol):
    """The right to requests of one organization."""

    def take(self) -> Lot | None:
        """A slot, where there is one now."""
        ...

    async def turn(self, longest: float | None = None) -> Lot:
        """A slot, after waiting. Raises TemporarilyUnavailable.

        `longest`: seconds for which the organization may be stopped; else the wait has the limit of the rule.
        """
        ...


class Unlimited:
    """Calls without a limit. It is the lot of each of them, too."""

    def take(self) -> Unlimited:
        """See `Calls.take`."""
        return self

    async def turn(self, longest: float | None = None) -> Unlimited:
        """See `Calls.turn`."""
        return self

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """See `Lot.answered`."""

    def lost(self) -> None:
        """See `Lot.lost`."""

    def unused(self) -> None:
        """See `Lot.unused`."""


UNLIMITED: Final = Unlimited()


class Reservation:
    """A context for the request that the slot is for; what is left of it at the end goes back unused."""

    __slots__ = ("_lot",)

    def __init__(self, lot: Lot | None) -> None:
        self._lot = lot

    def __enter__(self) -> None:
        _RESERVED.set(self)

    def __exit__(self, *_: object) -> None:
        _RESERVED.set(None)
        if (lot := self.take()) is not None:
            lot.unused()

    def take(self) -> Lot | None:
        """The slot: once."""
        lot, self._lot = self._lot, None
        return lot


_RESERVED: Final[ContextVar[Reservation | None]] = ContextVar("tribe_oauth_reserved", default=None)
_CALLS: Final[WeakKeyDictionary[ClientSession, Calls]] = WeakKeyDictionary()


def reserved() -> Lot | None:
    """The slot that was taken for this request."""
    reservation = _RESERVED.get()
    return None if reservation is None else reservation.take()


def register(session: ClientSession, calls: Calls) -> None:
    """Say what a session's middleware asks."""
    _CALLS[session] = calls


async def reserve(session: ClientSession, longest: float) -> Reservation:
    """Wait for the slot of the next request of this session. Raises TemporarilyUnavailable where it is stopped longer.

    Enter what is returned at once.
    """
    calls = _CALLS.get(session)
    if calls is None:
        return Reservation(None)
    return Reservation(calls.take() or await calls.turn(longest))
