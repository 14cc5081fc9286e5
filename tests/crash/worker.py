"""A worker of the crash test: refreshes on command, and dies or freezes at a named step of it.

Commands and answers are lines of JSON. The steps are hooked in from outside: the library has no failpoints.
Environment: the sandbox's address and the client. Arguments: the store's URL, and the variant of the library to be.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from typing import Any

import attrs

from tribe_oauth import ReauthorizationRequired, RefreshTokenGrant, TokenManager, TribeOAuthError
from tribe_oauth._manager import settings as environment
from tribe_oauth._oauth.endpoint import TokenEndpoint
from tribe_oauth._refresh import commit, rotation
from tribe_oauth._refresh.cached_token import from_record
from tribe_oauth._refresh.commit import Commit, Commits
from tribe_oauth._refresh.context import Timing
from tribe_oauth.stores import Record, Rescuer, TokenStore
from tribe_oauth.stores.sqlite import SQLiteStore

QUIET, REQUEST_TIMEOUT = 0.25, 0.3
LOOK = 0.05
"""Seconds between two looks at the store, as often faster than usual as everything else here."""


class Steps:
    """Where a refresh is, and what is to happen at which step."""

    def __init__(self) -> None:
        self.at: dict[str, str] = {}

    def reach(self, step: str) -> None:
        """Die or freeze, if that is ordered for this step."""
        order = self.at.pop(step, None)
        if order == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif order == "freeze":
            say({"frozen": step})
            os.kill(os.getpid(), signal.SIGSTOP)


class Watched:
    """A store whose every call is a step."""

    def __init__(self, store: TokenStore, steps: Steps) -> None:
        self._store = store
        self._steps = steps
        self.stale: dict[str, Record] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def load(self, organization: str) -> Record | None:
        record = await self._store.load(organization)
        self._steps.reach("read")
        return record

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        stored = await self._store.swap(record, lease_for=lease_for)
        self._steps.reach("committed" if lease_for is None else "lease")
        return stored

    async def rescue(self, organization: str, record: Record | None) -> None:
        if isinstance(self._store, Rescuer):
            await self._store.rescue(organization, record)


class NoLease(Watched):
    """Broken: peers' leases are not seen."""

    async def load(self, organization: str) -> Record | None:
        record = await super().load(organization)
        return None if record is None else attrs.evolve(record, lease=None, lease_left=0.0)


class NoReRead(Watched):
    """Broken: what was read once is believed; only the version is looked up, so that writes succeed."""

    async def load(self, organization: str) -> Record | None:
        record = await super().load(organization)
        first = self.stale.setdefault(organization, record) if record is not None else None
        return None if record is None or first is None else attrs.evolve(first, version=record.version, lease=None)


def watch_requests(steps: Steps) -> None:
    """Make the sending and the answer of a request steps."""
    post = TokenEndpoint.post

    async def watched(self: TokenEndpoint, url: str, form: bytes, **options: Any) -> Any:
        may_leave = options.get("may_leave")

        def leave() -> bool:
            allowed = may_leave is None or may_leave()
            if allowed:
                steps.reach("sent")
            return bool(allowed)

        outcome = await post(self, url, form, may_leave=leave)
        steps.reach("answered")
        return outcome

    TokenEndpoint.post = watched  # type: ignore[method-assign]


def publish_before_commit() -> None:
    """Broken: the token is given out, and saved a little later."""
    keep = rotation.Rotation._keep

    async def hasty(self: Any, answered: Any, sent: Any) -> Any:
        async def later() -> None:
            await asyncio.sleep(0.1)
            await keep(self, answered, sent)

        self._context.tasks.spawn(later())
        payload = self._new_payload(answered.reading, sent, None)
        return from_record(self._context, self._commit_of(answered.reading, payload, sent)(self._lease.record), payload)

    rotation.Rotation._keep = hasty  # type: ignore[method-assign]


def commit_by_the_holder_only() -> None:
    """Broken: whoever lost the lease throws away what it was given."""
    fits = rotation.Rotation._fits

    def holds(self: Any, record: Record | None) -> bool:
        return fits(self, record) and record is not None and record.lease == self._lease.nonce

    rotation.Rotation._fits = holds  # type: ignore[method-assign]


def save_once() -> None:
    """Broken: what the store does not take at once is thrown away."""

    async def once(self: Commits, wanted: Commit) -> Record | None:
        return await wanted.write(self._store)

    setattr(Commits, "save", once)  # noqa: B010 (not for users)


def resend_at_once() -> None:
    """Broken: a time-out is taken for "did not arrive"."""

    def at_once(verdict: object, attempt: int, *, quiet: float, retry_after: float | None) -> float | None:
        return 0.0 if attempt < 1 else None

    setattr(rotation, "pause_before", at_once)  # noqa: B010 (the library does not export it)


def hurry() -> None:
    """Be as fast as all is here: look for a store that cannot write all the time, and hold off for twice `quiet`."""
    for name, value in (("PAUSES", (0.02, 0.05)), ("LOOK_EVERY", LOOK), ("LONGEST_PAUSE", 2 * LOOK)):
        setattr(commit, name, value)

    def hold_off(self: Timing, store_timeout: float, *, ahead: bool) -> float:
        return 2 * self.quiet

    setattr(Timing, "hold_off", hold_off)  # noqa: B010 (not for users)


async def main(url: str, variant: str) -> None:
    steps = Steps()
    hurry()
    watch_requests(steps)
    kind = {"no lease": NoLease, "no re-read": NoReRead}.get(variant, Watched)
    {
        "publish before commit": publish_before_commit,
        "commit by the holder only": commit_by_the_holder_only,
        "save once": save_once,
        "resend at once": resend_at_once,
    }.get(variant, lambda: None)()
    client = environment.read().client
    inner = environment.store({"TRIBE_STORE": url}, durable=True)
    if isinstance(inner, SQLiteStore):
        inner._busy_timeout = 2 * LOOK
    store = kind(inner, steps)
    quiet = 0.0 if variant == "resend at once" else QUIET
    manager = TokenManager(client, store=store, quiet=quiet, request_timeout=REQUEST_TIMEOUT)
    manager._context.timing = attrs.evolve(manager._context.timing, look_every=LOOK)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say({"ready": True})
    async with manager:
        while line := await reader.readline():
            order = json.loads(line)
            steps.at = order.get("at", {})
            say(await obey(manager, order))
            steps.at = {}


async def obey(manager: TokenManager, order: dict[str, Any]) -> dict[str, Any]:
    """Refresh, or connect where a pasted token is given; what came of it."""
    organization = order["organization"]
    try:
        if "paste" in order:
            client = manager._context.client
            assert client is not None
            token = await manager.connect(organization, RefreshTokenGrant(client, order["paste"]))
        else:
            if order.get("send"):  # what peers have fetched meanwhile is not enough: a request has to be made
                manager._tokens.pop(organization, None)
            token = await manager.refresh(organization)
    except ReauthorizationRequired as error:
        return {"cause": error.cause}
    except TribeOAuthError as error:
        return {"error": f"{type(error).__name__}: {error}"}
    assert token.refresh_token is not None
    return {
        "generation": manager._tokens[organization].generation,
        "refresh_token": hashlib.sha256(token.refresh_token.reveal().encode()).hexdigest(),
    }


def say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
