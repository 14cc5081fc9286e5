"""What may be left behind: tasks, jobs of executors, threads, descriptors, and what an event loop complains about."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import attrs

from .stepping import frames

T = TypeVar("T")

TURNS: Final = 5
"""Turns of the event loop that a cancelled task may take to end. Nothing that waits for anything ends within them."""
SETTLE: Final = 1.0
"""Seconds in which the other end of a closed connection has to see that, and a thread that was told to end, to end."""
LATE_START: Final = 0.01
"""Seconds by which jobs of executors start late: one that nobody waits for is still there when it is looked for."""
GRACE: Final = 5.0
"""Seconds beyond its bound after which a world that blocks its event loop is broken off."""
OURS: Final = "tribe_oauth"
_DESCRIPTORS: Final = next((path for path in ("/proc/self/fd", "/dev/fd") if Path(path).is_dir()), None)


class LateExecutor(ThreadPoolExecutor):
    """The default executor of a world's loop. Knows which of its jobs still run."""

    def __init__(self) -> None:
        super().__init__(max_workers=4, thread_name_prefix="executor of a world")
        self.jobs: list[Future[Any]] = []

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `ThreadPoolExecutor.submit`."""

        def late() -> T:
            time.sleep(LATE_START)
            return fn(*args, **kwargs)

        job = super().submit(late)
        self.jobs.append(job)
        return job

    def running(self) -> int:
        """How many jobs have not ended."""
        return sum(not job.done() for job in self.jobs)


@attrs.frozen
class Snapshot:
    """What there is at one moment, so that what came later can be told."""

    tasks: frozenset[asyncio.Task[Any]]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]

    @classmethod
    def take(cls) -> Snapshot:
        """Of the running loop and its process."""
        return cls(frozenset(asyncio.all_tasks()), frozenset(threading.enumerate()), frozenset(_descriptors()))

    def later_tasks(self) -> list[asyncio.Task[Any]]:
        """Tasks that run now and did not then."""
        return [task for task in asyncio.all_tasks() - self.tasks if task is not asyncio.current_task()]

    def later_threads(self) -> list[str]:
        """Threads of the library."""
        return [t.name for t in threading.enumerate() if t not in self.threads and t.name.startswith(OURS)]

    def later_descriptors(self) -> list[str]:
        """What they are open for."""
        return [target for number, target in _descriptors() if (number, target) not in self.descriptors]


def _descriptors() -> Iterator[tuple[int, str]]:
    """All open ones, each with what it leads to."""
    for name in os.listdir(_DESCRIPTORS) if _DESCRIPTORS is not None else ():
        with suppress(OSError):  # the one that the listing itself needed is closed again
            os.fstat(int(name))
            yield int(name), _target(f"{_DESCRIPTORS}/{name}")


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # where they are no links
        return "a descriptor"


async def left_since(before: Snapshot, executor: LateExecutor, *, tasks_alone: bool = False) -> list[str]:
    """What is there that was not there before, each in a sentence.

    aiohttp's tasks for a connection have until the other end is seen to be closed; all others have to have ended.
    `tasks_alone`: descriptors and threads may stay.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)
    problems = [f"a task still runs: {_named(task)}" for task in before.later_tasks() if not _is_of_a_connection(task)]
    if running := executor.running():
        problems.append(f"{running} jobs of the executor still run")
    gc.collect()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    if tasks_alone:
        return problems
    until = time.monotonic() + SETTLE
    while (still := _still(before)) and time.monotonic() < until:  # noqa: ASYNC110 (no event tells of descriptors)
        await asyncio.sleep(0.002)
    return problems + still


def _still(before: Snapshot) -> list[str]:
    in_use = [
        f"a connection is still in use: {_named(task)}" for task in before.later_tasks() if _is_of_a_connection(task)
    ]
    threads = [f"a thread still runs: {name}" for name in before.later_threads()]
    return in_use + threads + [f"a descriptor is open: {target}" for target in before.later_descriptors()]


_OF_A_CONNECTION: Final = ("RequestHandler.", "ClientRequest.", "_wait_for_close")  # aiohttp's own tasks


def _is_of_a_connection(task: asyncio.Task[Any]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "").startswith(_OF_A_CONNECTION)


def _named(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    return f"{getattr(coroutine, '__qualname__', task.get_name())} at {' > '.join(frames(coroutine)) or 'no frame'}"


class Watch:
    """One event loop, and all that it and its process complain about while it runs."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.executor = LateExecutor()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(self.executor)
        self._loop.set_exception_handler(self._handled)

    def run(self, work: Coroutine[Any, Any, T], bound: float) -> T | None:
        """Run it for so many seconds at most. None: it did not end, and where it waits is complained about."""
        try:
            with self._listening(), _alarm(bound + GRACE):
                result = self._loop.run_until_complete(self._bounded(work, bound))
                gc.collect()
                return result
        finally:
            self._end()

    async def _bounded(self, work: Coroutine[Any, Any, T], bound: float) -> T | None:
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._left_to_the_collector(hooks.finalizer))
        task = asyncio.ensure_future(work)
        done, _ = await asyncio.wait({task}, timeout=bound)
        if done:
            return task.result()
        waiting = [_named(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        self.complaints.append(f"the world did not end within {bound:g} s: " + "; ".join(waiting))
        return None

    def _left_to_the_collector(self, finalizer: Any) -> Callable[[AsyncGenerator[Any, Any]], None]:
        def finalize(generator: AsyncGenerator[Any, Any]) -> None:
            self.complaints.append(
                f"an async generator was left to the garbage collector: {' > '.join(frames(generator))}"
            )
            finalizer(generator)

        return finalize

    def _handled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.complaints.append(f"the loop was told: {context['message']}" + (f" ({error!r})" if error else ""))

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """To warnings about what was left open, and to errors that nobody can catch."""
        hooks = sys.unraisablehook, threading.excepthook
        sys.unraisablehook = lambda what: self.complaints.append(f"an error in a finalizer: {what.exc_value!r}")
        threading.excepthook = lambda what: self.complaints.append(f"an error ended a thread: {what.exc_value!r}")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                yield
            finally:
                sys.unraisablehook, threading.excepthook = hooks
                self.complaints += [f"a warning: {warning.message}" for warning in caught]

    def _end(self) -> None:
        """Leave nothing to the next world, whatever this one left; all that is to be said about it was said."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        wait(self.executor.jobs, timeout=2.0)
        self.executor.shutdown(wait=False, cancel_futures=True)
        with _quiet():
            self._loop.close()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def collect_quietly() -> None:
    """Take away what a world left, so that nothing of it is told of another."""
    with _quiet():
        gc.collect()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Breaks what blocks the event loop itself."""

    def ring(number: int, frame: object) -> None:
        raise TimeoutError(f"something blocked the event loop for {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
