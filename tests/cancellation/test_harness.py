"""The instrument finds what it is there to find: small coroutines that leak, each in one way."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, web

from . import harness, kinds, leaks
from .harness import Cut, Subject, cut, sample
from .kinds import DISCONNECT, KINDS, Gate
from .leaks import Snapshot
from .stepping import Steps, frames

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Leaky = Callable[[], Coroutine[Any, Any, object]]


def _name(leaky: Leaky) -> str:
    return leaky.__name__


def cut_alone(leaky: Leaky, kind: str = "cancel", at: int | None = 0, **options: Any) -> Cut:
    """In a world that has nothing else."""

    @asynccontextmanager
    async def world(place: object) -> AsyncIterator[Subject]:
        yield Subject(run=leaky, owns=Snapshot.take(), **options)

    return cut(world, KINDS[kind], at, None)


async def well_behaved() -> int:
    """Three suspensions, and a clean-up that suspends once."""
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0.001)
        await asyncio.get_running_loop().run_in_executor(None, int)
    finally:
        await asyncio.sleep(0)
    return 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [0, 1, None])
def test_what_behaves_well_is_cut_and_leaves_nothing(kind: str, at: int | None) -> None:
    """In each kind, and without a cut."""
    done = cut_alone(well_behaved, kind, at)
    assert done.problems == []
    assert done.reached == (at is not None)


def test_suspensions_are_counted() -> None:
    """Those of the coroutine, whatever it awaits."""
    assert cut_alone(well_behaved, at=None).steps == 4


async def leaves_a_task() -> None:
    asyncio.get_running_loop().kept = asyncio.ensure_future(asyncio.sleep(60))  # type: ignore[attr-defined]
    await asyncio.sleep(0.02)


async def leaves_a_descriptor() -> None:
    there, _here = os.pipe()
    os.close(_here)
    asyncio.get_running_loop().kept = there  # type: ignore[attr-defined]
    await asyncio.sleep(0.02)


async def leaves_a_socket() -> None:
    asyncio.get_running_loop().kept = socket.socket()  # type: ignore[attr-defined]
    await asyncio.sleep(0.02)


async def leaves_a_job() -> None:
    await asyncio.to_thread(int)


async def leaves_a_thread() -> None:
    threading.Thread(target=threading.Event().wait, args=(1.5,), name="tribe_oauth of a test", daemon=True).start()
    await asyncio.sleep(0.02)


async def leaves_an_exception() -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_exception(OSError("nobody asks"))
    del future
    await asyncio.sleep(0.02)


async def leaves_a_failed_task() -> None:
    async def fails() -> None:
        raise OSError("nobody asks")

    asyncio.ensure_future(fails())  # noqa: RUF006 (that is the point)
    await asyncio.sleep(0.02)


async def leaves_a_generator() -> None:
    async def numbers() -> AsyncIterator[int]:
        while True:
            yield 1

    async for _ in numbers():
        await asyncio.sleep(0.02)


async def leaves_a_coroutine() -> None:
    asyncio.sleep(0)  # type: ignore[unused-coroutine]
    await asyncio.sleep(0.02)


async def swallows() -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0.02)


async def turns_it_into_an_error() -> None:
    try:
        await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        raise OSError("interrupted") from None


CAUGHT: dict[Leaky, str] = {
    leaves_a_task: "a task still runs: sleep",
    leaves_an_exception: "Future exception was never retrieved",
    leaves_a_failed_task: "Task exception was never retrieved",
    leaves_a_generator: "left to the garbage collector",
    leaves_a_coroutine: "was never awaited",
    swallows: "it swallowed the cancellation",
    turns_it_into_an_error: "came out in place of the cancellation",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("leaky", CAUGHT, ids=_name)
def test_each_leak_is_caught(leaky: Leaky, kind: str) -> None:
    """In each kind, with a sentence that says what it is."""
    problems = cut_alone(leaky, kind).problems
    assert any(CAUGHT[leaky] in problem for problem in problems), problems


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"late"}))  # too late for a job: it has ended
def test_a_job_that_nobody_waits_for_is_caught(kind: str) -> None:
    """However short it is."""
    problems = cut_alone(leaves_a_job, kind).problems
    assert any("jobs of the executor still run" in problem for problem in problems), problems


HELD: dict[Leaky, str] = {
    leaves_a_descriptor: "a descriptor is open: pipe:",
    leaves_a_socket: "a descriptor is open: socket:",
    leaves_a_thread: "a thread still runs: tribe_oauth of a test",
}


@pytest.mark.parametrize("leaky", HELD, ids=_name)
def test_what_is_held_is_caught(leaky: Leaky, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as its owner has ended, and again when the world is closed."""
    monkeypatch.setattr(leaks, "SETTLE", 0.05)
    problems = cut_alone(leaky, frees="everything").problems
    for when in ("as soon as it had ended", "after the world was closed"):
        assert any(when in problem and HELD[leaky] in problem for problem in problems), problems


async def leaves_a_session() -> None:
    ClientSession()
    await asyncio.sleep(0.02)


def test_a_session_that_nobody_closed_is_caught() -> None:
    """Aiohttp says so when it is collected."""
    assert any("Unclosed client session" in problem for problem in cut_alone(leaves_a_session).problems)


async def hangs_when_cut() -> None:
    try:
        await asyncio.sleep(0)
    finally:
        await asyncio.sleep(60)


def test_a_hang_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the bound, with the line that it waits at."""
    monkeypatch.setattr(kinds, "PATIENCE", 0.1)
    (first, *_) = cut_alone(hangs_when_cut).problems
    assert "it did not end within 0.1 s" in first
    assert "hangs_when_cut" in first


def test_a_world_that_does_not_close_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a bound of its own."""
    monkeypatch.setattr(harness, "BOUND", 0.1)

    @asynccontextmanager
    async def world(place: object) -> AsyncIterator[Subject]:
        yield Subject(run=well_behaved)
        await asyncio.sleep(60)

    (problem,) = cut(world, KINDS["cancel"], 0, None).problems
    assert "the world did not end within 0.1 s" in problem
    assert "in world" in problem or " world" in problem


def test_a_blocked_loop_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in the loop could: an alarm does."""

    async def blocks() -> None:
        threading.Event().wait(60)

    monkeypatch.setattr(leaks, "GRACE", 0.1 - harness.BOUND)
    problems = cut_alone(blocks).problems
    assert any("blocked the event loop" in problem for problem in problems), problems


def test_what_must_hold_afterwards_is_looked_at() -> None:
    """The subject's own check is reported with the rest."""

    async def after() -> None:
        raise AssertionError("it does not")

    (problem,) = cut_alone(well_behaved, after=after).problems
    assert problem.endswith("afterwards: AssertionError: it does not")


def test_a_step_says_where_it_is() -> None:
    """Through coroutines, generators and their iterators."""
    steps = Steps(0)
    steps.trigger = lambda awaited: None

    async def generator() -> AsyncIterator[int]:
        await asyncio.sleep(0)
        yield 1

    async def reads() -> None:
        async for _ in generator():
            pass

    asyncio.run(steps.drive(reads()))
    names = [frame.rpartition(" ")[2] for frame in steps.where.split(" > ")]
    assert names == ["reads", "generator", "sleep", "__sleep0"]
    assert frames(None) == []


async def answers(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(0.02)
    return web.Response()


async def answers_all_the_same(request: web.Request) -> web.StreamResponse:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0.02)
    return web.Response()


@pytest.mark.parametrize(
    ("handler", "problems"), [(answers, []), (answers_all_the_same, ["it swallowed the cancellation"])]
)
def test_a_handler_is_cut_by_its_client(handler: Handler, problems: list[str]) -> None:
    """When it disconnects, in the task that aiohttp made for the request."""

    @asynccontextmanager
    async def world(place: object) -> AsyncIterator[Subject]:
        gate = Gate()
        app = web.Application(middlewares=[gate.middleware])
        app.router.add_get("/", handler)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()

        async def ask() -> None:
            async with ClientSession() as session:
                with suppress(ClientError):
                    await session.get(f"http://127.0.0.1:{runner.addresses[0][1]}")

        yield Subject(run=ask, gate=gate)
        await runner.cleanup()

    done = cut(world, DISCONNECT["disconnect"], 0, None)
    assert done.reached
    assert [problem.rpartition(": ")[2] for problem in done.problems] == problems


@pytest.mark.parametrize(("total", "most"), [(0, 3), (1, 3), (3, 3), (10, 3), (100, 7)])
def test_a_sample_is_spread(total: int, most: int) -> None:
    """It has as many steps as it may, all of which there are, and others for another shift."""
    for shift in range(3):
        steps = sample(total, most, shift)
        assert len(steps) == min(total, most)
        assert all(0 <= step < total for step in steps)
