"""The same against the sandbox, which shares no code with it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import attrs
import pytest

from tribe_oauth import ClientCredentialsGrant, TokenManager, odata
from tribe_oauth.sandbox import ApiRules, Sandbox


@attrs.frozen
class Person:
    ID: str
    FirstName: str


@pytest.fixture
async def api() -> AsyncIterator[aiohttp.ClientSession]:
    """A session for an organization of seven persons, three to a page."""
    async with (
        Sandbox(organizations=["acme"], persons=7, page_size=3, api=ApiRules(paging="nextLink")) as sandbox,
        TokenManager(endpoints=sandbox.endpoints) as manager,
    ):
        await manager.connect("acme", ClientCredentialsGrant(sandbox.client()))
        async with manager.session("acme") as session:
            yield session


async def names(session: aiohttp.ClientSession, **options: Any) -> list[str]:
    return [row["FirstName"] async for row in odata.rows(session, "Relation_Person", **options)]


async def test_all_pages(api: aiohttp.ClientSession) -> None:
    """Server-driven paging is followed to its end, and the count is of all."""
    pages = [page async for page in odata.pages(api, "Relation_Person", select=["ID"], count=True)]
    assert [len(page.rows) for page in pages] == [3, 3, 1]
    assert pages[0].count == 7
    assert len({row["ID"] for page in pages for row in page.rows}) == 7


async def test_top(api: aiohttp.ClientSession) -> None:
    """`top` is of all pages together."""
    pages = [page async for page in odata.pages(api, "Relation_Person", top=5)]
    assert sum(len(page.rows) for page in pages) == 5


async def test_a_filter_and_an_order(api: aiohttp.ClientSession) -> None:
    """A literal finds what it was written from."""
    everyone = await names(api, orderby=["FirstName desc"])
    assert everyone == sorted(everyone, reverse=True)
    found = await names(api, filter=f"FirstName eq {odata.literal(everyone[0])}")
    assert found == [name for name in everyone if name == everyone[0]]


async def test_rows_of_a_class(api: aiohttp.ClientSession) -> None:
    """Rows become instances."""
    people = [person async for person in odata.rows(api, "Relation_Person", type=Person)]
    assert len(people) == 7
    assert all(type(person) is Person for person in people)


async def test_a_refusal(api: aiohttp.ClientSession) -> None:
    """Null for a code and all, the server's message comes through."""
    with pytest.raises(odata.ODataError, match="the API answered 40") as it:
        await names(api, filter="Nonsense eq 1")
    assert it.value.code is None
    assert it.value.message


async def test_a_mistyped_set(api: aiohttp.ClientSession) -> None:
    """The error says which sets there are."""
    with pytest.raises(odata.ODataError, match=r"no entity set Relation_Persn; there are .*Relation_Person[,;]"):
        await anext(aiter(odata.rows(api, "Relation_Persn")))


async def test_the_first_of_several_pages(api: aiohttp.ClientSession) -> None:
    """As many rows as were asked for, over as many pages as it takes."""
    query = odata.Query("Relation_Person", select=["FirstName"], top=5)
    assert [row["FirstName"] async for row in odata.rows(api, query)] == (await names(api))[:5]
