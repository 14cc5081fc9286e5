"""F13: a long random run of everything together, on virtual time, and proof that its judge is awake.

Longer: ``nox -s simulation -- --steps 5000000 --seed 1``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tribe_oauth._refresh.commit import Commit, Commits
from tribe_oauth._refresh.context import Timing
from tribe_oauth._refresh.lease import Lease

from .server import FAULTS, ViolationError
from .world import World, run

FATES = {"kill", "freeze", "restart", "clock", "server", "store"}


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    """A hundred thousand warnings, every one of them deserved."""
    logger = logging.getLogger("tribe_oauth")
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="module")
def first() -> World:
    return run(1, 200_000)


def test_promises_hold(first: World) -> None:
    """A thousand rotations and more, every fault and every fate among them, and no promise broken."""
    assert first.server.seen["rotation"] > 1_000
    assert FATES | set(FAULTS) <= set(first.server.seen)
    assert {"lost rotation", "revocation", "a caller left", "reuse, family revoked"} <= set(first.server.seen)


def test_a_seed_is_a_run(first: World) -> None:
    """The same seed is the same run, to the last step; another one is another."""
    again, other = run(1, 200_000), run(2, 50_000)
    assert (again.server.seen, again.loop.time()) == (first.server.seen, first.loop.time())
    assert other.server.seen != first.server.seen


def no_hold_off(patch: pytest.MonkeyPatch) -> None:
    async def at_once(*arguments: object, **options: object) -> bool:
        return True

    patch.setattr("tribe_oauth._refresh.refresh.hold_off", at_once)


def no_look_at_the_lease(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lease, "may_send", lambda self: True)
    patch.setattr(Timing, "lease", 20.0)  # and a lease that is over before a request can be


def no_patience_with_the_store(patch: pytest.MonkeyPatch) -> None:
    async def once(self: Commits, commit: Commit) -> object:
        return await commit.write(self._store)

    patch.setattr(Commits, "save", once)


@pytest.mark.parametrize("broken", [no_hold_off, no_look_at_the_lease, no_patience_with_the_store])
def test_it_bites(broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule of the refresh taken away is found out."""
    broken(monkeypatch)  # type: ignore[operator]
    with pytest.raises(ViolationError):
        run(1, 1_500_000)
