"""Exports that are cancelled at each of their awaits: when they have ended, nothing of them is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tribe_oauth.sync import JSONLinesFolder, Pace, export

from ..odata.cancelling import KINDS, SlowDisk, Stepped, no_complaints, run, under_way
from .conftest import Kept, World, connected


@pytest.fixture
async def small() -> AsyncIterator[World]:
    """An organization of three pages."""
    async with connected(organizations=["acme"], persons=25, page_size=10) as world:
        yield world


@pytest.mark.parametrize("kind", KINDS)
async def test_an_export_cancelled_at_each_await(small: World, tmp_path: Path, disk: SlowDisk, kind: str) -> None:
    """At each await of each of its tasks: it ends with nothing under way, and the next run completes the file."""
    loop = asyncio.get_running_loop()
    with no_complaints():
        for at in count(1):
            folder = tmp_path / str(at)
            stepped = Stepped(take(small, folder), at)
            stepped.at_the_end = partial(under_way, disk, folder)
            loop.set_task_factory(partial(counted, stepped))
            await run(kind, stepped)
            loop.set_task_factory(None)
            assert stepped.left == []
            await take(small, folder)
            lines = JSONLinesFolder(folder).path("acme", "Relation_Person").read_bytes().splitlines()
            assert len(lines) == 25
            if not stepped.was_struck:
                break
    assert at > 10


def counted(stepped: Stepped, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    """A task whose suspensions count too, where it is the export's."""
    if "tribe_oauth/sync" in work.cr_code.co_filename or "tribe_oauth/odata" in work.cr_code.co_filename:
        work = stepped.beside(work)
    return asyncio.Task(work, loop=loop, **options)


async def take(world: World, folder: Path) -> None:
    async with JSONLinesFolder(folder, every=0) as sink:
        (outcome,) = await export(world.manager, ["acme"], ["Relation_Person"], sink)
    assert outcome.error is None


async def test_the_callers_generator_is_closed(small: World) -> None:
    """The generator of the organizations has ended when a cancelled export has, also where that takes an await."""
    ended: list[str] = []

    async def organizations() -> AsyncIterator[str]:
        try:
            yield "acme"
            yield "next"
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                ended.append("in order")

    for kind in KINDS:
        fault, pace = small.sandbox.fault("hang", endpoint="api"), Pace(organizations=1, patience=60)
        stepped = Stepped(export(small.manager, organizations(), ["Relation_Person"], Kept(), pace=pace))
        running = asyncio.create_task(run(kind, stepped))
        await asyncio.wait_for(fault.reached(), 10)
        stepped.strike()
        await running
        assert stepped.left == []
        assert ended.pop() == "in order"
