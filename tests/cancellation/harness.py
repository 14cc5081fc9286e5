"""One world, one cut: what a scenario is, how it is cut, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Literal

import attrs

from .kinds import DISCONNECT, KINDS, Ended, Gate, HungError, Kind, Run, task_cancel
from .leaks import Snapshot, Watch, collect_quietly, left_since
from .stepping import Steps

BOUND: Final = 20.0
"""Seconds for one world, from its opening to its end."""

Frees = Literal["tasks", "everything", "everything if cut"]


@attrs.frozen(kw_only=True)
class Subject:
    """What is cut, in a world that is open.

    `run` makes the coroutine. `owns`: what was there before it opened anything; as soon as it has ended, before the
    world closes, nothing more may be left, of tasks and jobs (`frees` is ``"tasks"``) or of descriptors and threads
    too, in any case or only if it was cut. `after`: what must hold at that moment besides. `gate`: for a request, whose
    handler is what is cut.
    """

    run: Callable[[], Coroutine[Any, Any, object]]
    owns: Snapshot | None = None
    frees: Frees = "tasks"
    after: Callable[[], Awaitable[object]] | None = None
    gate: Gate | None = None


World = Callable[[Any], AbstractAsyncContextManager[Subject]]


@attrs.frozen(kw_only=True)
class Scenario:
    """A world and what is cut in it. `covers`: public names, as in `surface.public_coroutines`."""

    name: str
    covers: tuple[str, ...]
    world: World
    kinds: dict[str, Kind]


SCENARIOS: Final[dict[str, Scenario]] = {}


def scenario(
    name: str, *covers: str, request: bool = False
) -> Callable[[Callable[[Any], AsyncIterator[Subject]]], World]:
    """Register an async generator function that opens a world, yields its subject, and closes it.

    `name`: the coroutine, and after a colon the situation. `covers`: the public names, where that is another or more
    than one. `request`: what is cut is the handler of a request.
    """

    def register(function: Callable[[Any], AsyncIterator[Subject]]) -> World:
        assert name not in SCENARIOS, name
        world = asynccontextmanager(function)
        kinds = DISCONNECT if request else KINDS
        SCENARIOS[name] = Scenario(name=name, covers=covers or (name.partition(":")[0],), world=world, kinds=kinds)
        return world

    return register


@attrs.define
class Cut:
    """What came of one. `step`: None where it was not reached."""

    steps: int = 0
    reached: bool = False
    problems: list[str] = attrs.field(factory=list)


def cut(world: World, kind: Kind, at: int | None, place: object) -> Cut:
    """Open a fresh world, cut its subject at a step, close the world, and look for what is left. None: cut nothing."""
    try:
        return _watched(world, kind, at, place)
    finally:
        collect_quietly()


def _watched(world: World, kind: Kind, at: int | None, place: object) -> Cut:
    result, watch = Cut(), Watch()
    steps = Steps(at)
    watch.run(_live(world, kind, steps, place, watch, result), BOUND)
    result.problems += watch.complaints
    result.steps, result.reached = steps.count, steps.reached
    if result.problems:
        where = f"step {at}, at {steps.where}" if steps.reached else "not cut"
        result.problems = [f"{where}: {problem}" for problem in dict.fromkeys(result.problems)]
    return result


async def _live(world: World, kind: Kind, steps: Steps, place: object, watch: Watch, result: Cut) -> None:
    before = Snapshot.take()
    try:
        async with world(place) as subject:
            result.problems += await _cut(subject, kind, steps, watch)
    except Exception as error:  # noqa: BLE001, RUF100 (a world that cannot be closed is what is looked for)
        result.problems.append(f"the world could not be closed: {error!r}")
    left = await left_since(before, watch.executor)
    result.problems += [f"after the world was closed, {problem}" for problem in left]


async def _cut(subject: Subject, kind: Kind, steps: Steps, watch: Watch) -> list[str]:
    try:
        ended = await kind(steps, Run(coroutine=subject.run, gate=subject.gate))
    except HungError as error:
        return [str(error)]
    steps.trigger = None  # it knows the task, whose error knows every frame that it came through
    problems = list(_judged(steps, ended))
    if subject.owns is not None and (ended.was_cut or subject.frees != "everything if cut"):
        left = await left_since(subject.owns, watch.executor, tasks_alone=subject.frees == "tasks")
        problems += [f"as soon as it had ended, {problem}" for problem in left]
    if subject.after is not None:
        try:
            await subject.after()
        except Exception as error:  # noqa: BLE001, RUF100 (reported with the others)
            problems.append(f"afterwards: {type(error).__name__}: {error}")
    return problems


def _judged(steps: Steps, ended: Ended) -> Iterator[str]:
    """Whether what came out is right: the cancellation where one went in, else the coroutine's own result."""
    if ended.was_cut:
        if not steps.reached:
            yield "it was cancelled, and nobody had cancelled it"
    elif ended.error is not None:
        yield f"{ended.error!r} came out" + (" in place of the cancellation" if steps.delivered else "")
    elif steps.delivered:
        yield "it swallowed the cancellation"


def cut_at(
    scenario: Scenario, kind: str, steps: Iterable[int], open_place: Callable[[], object]
) -> tuple[int, list[str]]:
    """Cut at these steps, until two runs in a row end before theirs; how many were reached, and what was left."""
    reached, missed, problems = 0, 0, []
    for step in steps:
        done = cut(scenario.world, scenario.kinds[kind], step, open_place())
        problems += done.problems
        reached, missed = (reached + 1, 0) if done.reached else (reached, missed + 1)
        if missed == 2:
            break
    return reached, problems


def sample(total: int, most: int, shift: int) -> list[int]:
    """At most so many of the steps, evenly spread; another `shift` gives others."""
    size = min(total, most)
    return sorted({(shift + index * total // size) % total for index in range(size)}) if size else []


def suspensions(scenario: Scenario, open_place: Callable[[], object]) -> int:
    """How often the subject suspends when nothing is cut."""
    kind = task_cancel if "cancel" in scenario.kinds else scenario.kinds["disconnect"]
    return cut(scenario.world, kind, None, open_place()).steps
