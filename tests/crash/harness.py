"""The crash test: eight processes on one store, a server that revokes the family on reuse, one fault in each round.

Run it alone: ``nox -s crash -- --rounds 2000 --seed 1 --store postgres``. The sandbox's ledger is the judge:

- a refresh token is used again only after an answer was lost;
- every organization works, or is marked *lost rotation* for a rotation that the ledger knows and the store does not;
- what a caller was given is in the store;
- an answer that reached a process which lives on is kept;
- nobody hangs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from tribe_oauth._manager import settings as environment
from tribe_oauth._refresh.context import Timing
from tribe_oauth._refresh.payload import decode
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.sandbox._faults import Fault
from tribe_oauth.stores import TokenStore

Result = TypeVar("Result")

WORKER: Final = Path(__file__).with_name("worker.py")
WORKERS: Final = 8
ORGANIZATIONS: Final = 6
PATIENCE: Final = 30.0
"""Seconds after which a process is taken to hang."""
QUIET, REQUEST_TIMEOUT = 0.25, 0.3
LEASE: Final = Timing(quiet=QUIET, request_timeout=REQUEST_TIMEOUT).lease  # a second

FAULTS: Final = (
    *(f"kill {step}" for step in ("read", "lease", "sent", "answered", "committed")),
    *(f"freeze {step}" for step in ("lease", "sent", "answered")),
    "kill in flight",
    "lost_answer",
    "lost_request",
    "late",
    "none",
)
LOCKED: Final = ("locked", "locked, kill")
"""What only a file can suffer: somebody else writes to it for a long time, just when an answer has come."""


DELAYED: Final = {"freeze sent", "freeze answered"}
"""Where a peer may have to send again although nothing was lost: it was too late."""


class Violation(AssertionError):  # noqa: N818 (it is what the test is about)
    """A promise was broken."""


@attrs.define
class Report:
    """What happened in a run."""

    rounds: int = 0
    faults: Counter[str] = attrs.Factory(Counter)
    outcomes: Counter[str] = attrs.Factory(Counter)
    lost: Counter[str] = attrs.Factory(Counter)
    requests: int = 0
    seconds: float = 0.0


@attrs.define(eq=False)
class Worker:
    """A process that refreshes on command."""

    process: asyncio.subprocess.Process

    @classmethod
    async def start(cls, sandbox: Sandbox, url: str, variant: str) -> Worker:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TRIBE_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(WORKER), url, variant),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=kept | sandbox.environment,
        )
        worker = cls(process)
        await worker.hear()
        return worker

    def order(self, **order: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def hear(self) -> dict[str, Any]:
        """The next answer; empty when the process has died."""
        assert self.process.stdout is not None
        line = await _soon(self.process.stdout.readline())
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


async def _soon(what: Coroutine[Any, Any, Result]) -> Result:
    """Wait, but not for ever."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await what
    except TimeoutError:
        raise Violation("a process hangs") from None


@attrs.define(eq=False)
class Run:
    """One run: the world, and the judge."""

    sandbox: Sandbox
    store: TokenStore
    url: str
    variant: str
    chance: random.Random
    workers: list[Worker]
    starting: list[asyncio.Task[Worker]] = attrs.Factory(list)
    report: Report = attrs.Factory(Report)
    faults: Sequence[str] = FAULTS
    judged: int = 0

    async def round(self) -> None:
        """One fault, in one refresh that several processes want."""
        organization = f"org {self.chance.randrange(ORGANIZATIONS)}"
        fault = self.chance.choice(self.faults)
        victim, *others = self.chance.sample(self.workers, 3)
        self.report.rounds += 1
        self.report.faults[fault] += 1
        thawed = await self._strike(fault, organization, victim, others)
        try:
            await self._judge(organization, fault, thawed)
        except Violation as violation:
            violation.add_note(self._history(organization))
            raise

    def _history(self, organization: str) -> str:
        """What the ledger says of the organization's last requests, for whoever has to understand a violation."""
        events = [e for e in self.sandbox.ledger.events if e.organization == organization][-15:]
        return "\n".join(
            f"{e.at - events[-1].at:8.3f} request {e.request} {e.kind} {e.token} {e.fingerprint[:6]}"
            f" {e.family} {e.error} {e.delivered}"
            for e in events
        )

    async def _strike(self, fault: str, organization: str, victim: Worker, others: list[Worker]) -> float | None:
        """Let it happen; when a frozen process went on."""
        kind, _, step = fault.partition(" ")
        at = {step: kind} if kind in {"kill", "freeze"} and step != "in flight" else {}
        ordered = self._at_the_server(fault)
        victim.order(organization=organization, at=at, send=True)
        if ordered is not None:
            await _soon(ordered.reached())  # it is the victim's request that is hit
        for other in others:
            other.order(organization=organization)
        if fault == "kill in flight":
            victim.process.kill()
        if fault in {"kill in flight", "late"}:
            assert ordered is not None
            # After the time-out, if there is one, and before the quiet time is over.
            await asyncio.sleep((REQUEST_TIMEOUT if fault == "late" else 0.0) + 0.05)
            ordered.release()
        if fault in LOCKED:
            assert ordered is not None
            await self._lock(ordered, victim, kill=step == "kill")
        thawed = await self._hear(victim, freeze=kind == "freeze", replace=fault == "locked, kill")
        for other in others:
            self._note(await other.hear(), organization)
        return thawed

    def _at_the_server(self, fault: str) -> Fault | None:
        """What is to happen to the next request."""
        if fault in {"lost_answer", "lost_request"}:
            return self.sandbox.fault(fault)  # type: ignore[arg-type]
        return self.sandbox.fault("hang") if fault in {"kill in flight", "late", *LOCKED} else None

    async def _lock(self, ordered: Fault, victim: Worker, *, kill: bool) -> None:
        """Lock the file right before the answer comes, for about as long as a lease lasts.

        The victim dies meanwhile: as soon as it has kept a copy beside the file.
        """
        path = self.url.removeprefix("sqlite:")
        blocker = sqlite3.connect(path, isolation_level=None)
        try:
            blocker.execute("BEGIN IMMEDIATE")
            ordered.release()
            deadline = time.monotonic() + LEASE * self.chance.uniform(1.0, 2.0)
            while time.monotonic() < deadline:
                if kill and list(Path(f"{path}-rescue").glob("*.json")):
                    victim.process.kill()
                    kill = False
                await asyncio.sleep(0.01)
        finally:
            blocker.close()

    async def _hear(self, victim: Worker, *, freeze: bool, replace: bool) -> float | None:
        """What became of the victim. A dead one is replaced."""
        answer = await victim.hear()
        thawed = None
        if "frozen" in answer:
            # Back before the lease ends; or after, while a peer waits for quiet; or when the peer has sent again.
            shortest, longest = self.chance.choice([(0.5, 0.9), (1.1, 1.5), (1.6, 2.0)])
            await asyncio.sleep(LEASE * self.chance.uniform(shortest, longest))
            victim.process.send_signal(signal.SIGCONT)
            thawed = time.time()
            answer = await victim.hear()
        if answer:
            self._note(answer, None)
        if replace or not answer:
            await victim.end()
            self.workers.remove(victim)
            self.workers.append(await self.starting.pop(0))
            self._prepare()
        return thawed

    def _prepare(self) -> None:
        """Have the next process ready: starting one takes longer than a round."""
        self.starting.append(asyncio.ensure_future(Worker.start(self.sandbox, self.url, self.variant)))

    def _note(self, answer: dict[str, Any], organization: str | None) -> None:
        outcome = answer.get("cause") or answer.get("error", "").partition(":")[0] or ("token" if answer else "died")
        self.report.outcomes[outcome] += 1
        if "ManagerError" in outcome or "ConfigurationError" in outcome:
            raise Violation(f"an error that nothing here can cause: {answer}")

    # The judge

    async def _judge(self, organization: str, fault: str, thawed: float | None) -> None:
        """Look at the organization when all is quiet again."""
        asker = self.workers[0]
        deadline = time.monotonic() + PATIENCE
        while True:
            asker.order(organization=organization, send=True)  # a loss shows itself at the next request
            answer = await asker.hear()
            if "error" not in answer:
                break
            if time.monotonic() > deadline:
                raise Violation(f"not well again after {PATIENCE:g} s: {answer}")
            await asyncio.sleep(0.1)
        record = await self.store.load(organization)
        if record is None:
            raise Violation(f"{organization}: connected, and not in the store")
        family = self.sandbox.ledger.families(organization)[-1]
        missing = family.rotations - (record.generation - self._base[organization])
        if "cause" in answer:
            self._judge_loss(organization, fault, answer["cause"], missing, thawed)
            await self._reconnect(organization)
        else:
            token = decode(record).token
            assert token is not None
            assert token.refresh_token is not None
            if record.generation < answer["generation"]:
                raise Violation("a token was given out that is not in the store")
            if not self.sandbox.ledger.is_live(token.refresh_token.reveal()):
                await self._judge_late(organization, fault, thawed)
        self._judge_reuse(missing, fault)

    async def _judge_late(self, organization: str, fault: str, thawed: float | None) -> None:
        """A live token, killed by a request that nobody could hold back.

        Either its sender was frozen between its last look at the lease and the write; or the answer's reader was frozen
        for so long that a peer had to send again before the answer was saved.
        """
        if fault not in DELAYED:
            raise Violation(f"the store's refresh token is dead after {fault}")
        self._judge_delay(organization, fault, thawed)
        self.workers[0].order(organization=organization)
        answer = await self.workers[0].hear()
        if answer.get("cause") != "lost rotation":
            raise Violation(f"a late request killed {organization}, and it is told so: {answer}")
        self.report.lost[fault] += 1
        await self._reconnect(organization)

    def _judge_loss(self, organization: str, fault: str, cause: str, missing: int, thawed: float | None) -> None:
        self.report.lost[fault] += 1
        if cause != "lost rotation":
            raise Violation(f"{organization} is marked {cause!r} after {fault}: nobody revoked it")
        if missing < 1 and fault not in DELAYED:
            raise Violation(f"{organization} was lost after {fault}, although every rotation was saved")
        if fault in {"kill read", "kill lease", "kill committed", "lost_request", "none", "freeze lease", *LOCKED}:
            raise Violation(f"{organization} was lost after {fault}, which no client need lose")
        self._judge_delay(organization, fault, thawed)

    def _judge_delay(self, organization: str, fault: str, thawed: float | None) -> None:
        """An answer that a living process had in time is kept."""
        reuse = [event.at for event in self.sandbox.ledger.events[self.judged :] if event.kind == "reused"]
        if fault == "freeze answered" and thawed is not None and reuse and thawed + 0.1 < reuse[0]:
            raise Violation(f"{organization} was lost, although the answer came back in time")

    def _judge_reuse(self, missing: int, fault: str) -> None:
        """A refresh token is used again only where a rotation is missing."""
        new = self.sandbox.ledger.events[self.judged :]
        self.judged += len(new)
        if missing < 1 and fault not in DELAYED and any(event.kind == "reused" for event in new):
            raise Violation(f"a refresh token was used twice after {fault}, and no answer had been lost")

    _base: dict[str, int] = attrs.Factory(dict)

    async def _reconnect(self, organization: str) -> None:
        self.workers[0].order(organization=organization, paste=self.sandbox.paste_token(organization))
        answer = await self.workers[0].hear()
        if "generation" not in answer:
            raise Violation(f"a lost organization could not be connected again: {answer}")
        await self._count_from(organization)

    async def _count_from(self, organization: str) -> None:
        """Connecting is the family's first rotation, and the generation that later ones are counted from."""
        record = await self.store.load(organization)
        assert record is not None
        self._base[organization] = record.generation - 1


@asynccontextmanager
async def _world(url: str, variant: str, seed: int) -> AsyncIterator[Run]:
    async with Sandbox() as sandbox:
        store = environment.store({"TRIBE_STORE": url}, durable=True)
        if hasattr(store, "create_schema"):
            await store.create_schema()
        workers = await asyncio.gather(*(Worker.start(sandbox, url, variant) for _ in range(WORKERS)))
        run = Run(sandbox, store, url, variant, random.Random(seed), list(workers))
        run._prepare()
        try:
            for number in range(ORGANIZATIONS):
                organization = f"org {number}"
                run.workers[0].order(organization=organization, paste=sandbox.paste_token(organization))
                await run.workers[0].hear()
                await run._count_from(organization)
            yield run
        finally:
            for worker in [*run.workers, *await asyncio.gather(*run.starting)]:
                await worker.end()
            await store.close()


async def crash(
    url: str,
    *,
    rounds: int,
    seed: int,
    variant: str = "whole",
    faults: Sequence[str] = FAULTS,
    progress: bool = False,
) -> Report:
    """Run so many rounds. Raises Violation at the first promise that is broken."""
    started = time.monotonic()
    async with _world(url, variant, seed) as run:
        run.faults = [*faults, *(LOCKED if faults is FAULTS and url.startswith("sqlite:") else ())]
        for number in range(1, rounds + 1):
            await run.round()
            if progress and number % 100 == 0:
                sys.stderr.write(f"{number} rounds, {time.monotonic() - started:.0f} s\n")
        run.report.requests = run.sandbox.ledger.token_requests
        run.report.seconds = time.monotonic() - started
        return run.report


def main() -> None:
    """The long run, with its figures."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "stores"))
    import servers  # type: ignore[import-not-found]

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=["sqlite", "postgres", "redis"], default="sqlite")
    options = parser.parse_args()

    def run(url: str) -> Report:
        return asyncio.run(crash(url, rounds=options.rounds, seed=options.seed, progress=True))

    if options.store == "postgres":
        with servers.postgres() as url:
            report = run(url)
    elif options.store == "redis":
        with servers.redis() as server:
            report = run(server.url)
    else:
        with tempfile.TemporaryDirectory() as folder:
            report = run(f"sqlite:{folder}/tribe.db")
    sys.stdout.write(json.dumps(attrs.asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
