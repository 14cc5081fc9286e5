"""An API that lies about its end: an entity set is complete with all of its rows, or it has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from operator import itemgetter
from typing import Any

import pytest

from tribe_oauth.odata import ODataError, Query, pages, rows
from tribe_oauth.sync import export

from .conftest import Kept, World, connected

PEOPLE = "Relation_Person"
FALSE = ["end", "nothing", "short", "again", "inside"]
TRUE = ["version", "quoted"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """One organization of 25 persons, ten to a page."""
    async with connected(organizations=["Acme"], persons=25, page_size=10) as world:
        yield world


def are_all(rows: list[dict[str, Any]], world: World) -> bool:
    """Each row once, in whichever order."""
    return sorted(rows, key=itemgetter("ID")) == sorted(world.expected("Acme"), key=itemgetter("ID"))


def order(world: World, lie: str, spares: int, times: int | None) -> None:
    """Lie after so many answers; a 204 is read again, and has to end."""
    world.sandbox.fault("lie", endpoint="api", lie=lie, spares=spares, times=2 if lie == "nothing" else times)


@pytest.mark.parametrize("page_size", [None, 10])
@pytest.mark.parametrize("lie", [*FALSE, *TRUE])
@pytest.mark.parametrize("spares", [0, 1, 2])
@pytest.mark.parametrize("times", [1, None])
async def test_never_complete_with_fewer_rows(
    world: World, lie: str, spares: int, times: int | None, page_size: int | None
) -> None:
    """In each way of paging, by each lie, on each page, once or from there on: the export."""
    sink, query = Kept(), Query(PEOPLE, count=True, page_size=page_size)
    order(world, lie, spares, times)
    (outcome,) = await export(world.manager, ["Acme"], [query], sink)
    if outcome.error is None:
        assert are_all(sink.rows["Acme", PEOPLE], world)
        return
    assert isinstance(outcome.error, ODataError)
    assert lie in FALSE
    assert not sink.checkpoints or not sink.checkpoints["Acme", PEOPLE].done
    # It goes on where it was, and what it was promised then still stands.
    (outcome,) = await export(world.manager, ["Acme"], [query], sink)
    assert outcome.error is not None or are_all(sink.rows["Acme", PEOPLE], world)


@pytest.mark.parametrize("lie", [*FALSE, *TRUE])
@pytest.mark.parametrize("spares", [0, 1, 2])
async def test_pages_and_rows(world: World, lie: str, spares: int) -> None:
    """The same, for who reads them one by one; without a count, only what the protocol promises can be kept."""
    async with world.manager.session("Acme") as session:
        for page_size in (None, 10):
            found = []
            order(world, lie, spares, 1)
            try:
                found += [
                    row async for it in pages(session, PEOPLE, count=True, page_size=page_size) for row in it.rows
                ]
            except ODataError:
                assert lie in FALSE
            else:
                assert are_all(found, world)
            order(world, lie, spares, 1)
            try:
                found = [row async for row in rows(session, PEOPLE, page_size=page_size)]
            except ODataError:
                assert lie in FALSE
            else:
                assert are_all(found, world) or (lie in {"end", "short"} and page_size is None and spares)
