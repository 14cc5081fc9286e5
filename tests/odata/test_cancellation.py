"""Reads that are cancelled at each of their awaits, closed early, or left to the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Any

import aiohttp
import pytest

from tribe_oauth import odata

from .cancelling import KINDS, Stepped, no_complaints, run
from .conftest import Service


class Requests:
    """A middleware that counts requests; each takes its time, and more of it to end when it is cancelled."""

    def __init__(self) -> None:
        self.under_way = 0
        self.ended_in_order = 0

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        self.under_way += 1
        try:
            response = await handler(request)
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
            self.ended_in_order += 1
            raise
        else:
            return response
        finally:
            self.under_way -= 1


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
async def slow(service: Service, requests: Requests) -> AsyncIterator[aiohttp.ClientSession]:
    """A session for an API of three pages."""
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {"value": [{"ID": "2"}], "@odata.nextLink": "People?p=3"})
    service.says("People?p=3", {"value": [{"ID": "3"}]})
    async with aiohttp.ClientSession(service.base, middlewares=[requests]) as session:
        yield session


async def read_pages(session: aiohttp.ClientSession) -> list[Any]:
    async with aclosing(odata.pages(session, "People")) as found:
        return [await used(page) async for page in found]


async def read_rows(session: aiohttp.ClientSession) -> list[Any]:
    async with aclosing(odata.rows(session, "People")) as found:
        return [await used(row) async for row in found]


async def stop_early(session: aiohttp.ClientSession) -> None:
    async with aclosing(odata.pages(session, "People")) as found:
        await anext(found)
        await asyncio.sleep(0)


async def used(value: object) -> object:
    """Awaited between two pages, with the next one under way."""
    await asyncio.sleep(0)
    return value


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read", [read_pages, read_rows, stop_early])
async def test_cancelled_at_each_await(slow: aiohttp.ClientSession, requests: Requests, kind: str, read: Any) -> None:
    """However it is cancelled, and wherever: when it has ended, no request of it is under way, and no task is left."""
    with no_complaints():
        for at in count(1):
            stepped = Stepped(read(slow), at)
            await run(kind, stepped)
            assert stepped.left == []
            assert requests.under_way == 0
            if not stepped.was_struck:
                break
    assert at > 3


@pytest.mark.parametrize("kind", KINDS)
async def test_a_read_ahead_is_cancelled_once(session: aiohttp.ClientSession, service: Service, kind: str) -> None:
    """It has time to end in good order: a scope that cancels its own task at every await leaves it alone."""
    requests, hangs = Requests(), asyncio.Event()

    async def never(request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        hangs.set()
        await asyncio.Event().wait()
        raise AssertionError

    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.answers["/v1/odata/People?p=2"] = never
    async with aiohttp.ClientSession(service.base, middlewares=[requests]) as session:
        stepped = Stepped(read_pages(session))
        running = asyncio.create_task(run(kind, stepped))
        await asyncio.wait_for(hangs.wait(), 5)
        stepped.strike()
        await asyncio.wait_for(running, 5)
        assert stepped.left == []
        assert (requests.under_way, requests.ended_in_order) == (0, 1)


@pytest.mark.parametrize("read", [odata.pages, odata.rows])
async def test_left_to_the_garbage_collector(slow: aiohttp.ClientSession, requests: Requests, read: Any) -> None:
    """A read that its caller forgot is ended by the event loop."""
    before = asyncio.all_tasks()
    with no_complaints():
        found = read(slow, "People")
        await anext(found)
        del found
        gc.collect()
        (reading,) = reads() - before
        await asyncio.wait([reading], timeout=5)
        assert reading.done()
        assert requests.under_way == 0
        del reading


def reads() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "pages.<locals>.read" in repr(task)}


async def test_a_read_that_others_cancelled(slow: aiohttp.ClientSession) -> None:
    """As the end of an event loop does with all tasks: closing the reader then takes no harm."""
    with no_complaints():
        found = odata.pages(slow, "People")
        await anext(found)
        (reading,) = reads()
        reading.cancel()
        await asyncio.wait([reading])
        await found.aclose()
        del found, reading


async def settled() -> None:
    """Wait until what is read ahead is there."""
    if under_way := reads():
        await asyncio.wait(under_way, timeout=5)


async def test_a_failure_that_is_not_waited_for(session: aiohttp.ClientSession, service: Service) -> None:
    """Where the next page failed before its reader stopped, nothing complains of an error that is never retrieved."""
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {}, status=400)
    with no_complaints():
        found = odata.pages(session, "People")
        await anext(found)
        await service.asked(2)
        await settled()
        await found.aclose()
        del found
