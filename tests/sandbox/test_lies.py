"""The sandbox lies about the end of a collection when it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tribe_oauth import ClientCredentialsGrant, TokenManager
from tribe_oauth.sandbox import ApiRules, Sandbox


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Seven persons, three to a page."""
    async with Sandbox(organizations=["acme"], persons=7, page_size=3, api=ApiRules(paging="nextLink")) as sandbox:
        yield sandbox


@pytest.fixture
async def api(sandbox: Sandbox) -> AsyncIterator[aiohttp.ClientSession]:
    async with TokenManager(endpoints=sandbox.endpoints) as manager:
        await manager.connect("acme", ClientCredentialsGrant(sandbox.client()))
        async with manager.session("acme") as session:
            yield session


async def page(api: aiohttp.ClientSession, path: str = "Relation_Person?$count=true") -> Any:
    async with api.get(f"/v1/odata/{path}") as response:
        return None if response.status == 204 else await response.json()


async def test_each_lie(sandbox: Sandbox, api: aiohttp.ClientSession) -> None:
    """One answer each, and then the truth again."""
    true = await page(api)
    found = {}
    for lie in ("end", "nothing", "inside", "version", "quoted"):
        sandbox.fault("lie", endpoint="api", lie=lie)
        found[lie] = await page(api)
        assert await page(api) == true
    rows = true["value"]
    assert found["end"] == {"@odata.context": true["@odata.context"], "@odata.count": 7, "value": rows}
    assert found["nothing"] is None
    assert found["inside"]["value"][0] == rows[0] | {"Labels": [], "Labels@odata.nextLink": "Labels?$skiptoken=1"}
    assert found["inside"]["value"][1:] == rows[1:]
    assert found["version"] == {name.replace("odata.", ""): value for name, value in true.items()}
    assert found["quoted"] == true | {"@odata.count": "7"}


async def test_a_short_page(sandbox: Sandbox, api: aiohttp.ClientSession) -> None:
    """Where pages come by `$top` and `$skip`: some of the rows that were asked for, and no count."""
    asked = "Relation_Person?$count=true&$top=3&$skip=3&$orderby=ID"
    true = await page(api, asked)
    sandbox.fault("lie", endpoint="api", lie="short", times=None)
    assert await page(api, asked) == {"@odata.context": true["@odata.context"], "value": true["value"][:2]}
    assert len((await page(api))["value"]) == 3


async def test_the_same_page_again_and_again(sandbox: Sandbox, api: aiohttp.ClientSession) -> None:
    """Its links are new each time, and lead to the same rows."""
    sandbox.fault("lie", endpoint="api", lie="again", times=None)
    first = await page(api)
    links = {first["@odata.nextLink"]}
    again = first
    for _ in range(3):
        async with api.get(again["@odata.nextLink"]) as response:
            again = await response.json()
        assert again["value"] == first["value"]
        links.add(again["@odata.nextLink"])
    assert len(links) == 4


async def test_the_first_ones_may_be_true(sandbox: Sandbox, api: aiohttp.ClientSession) -> None:
    """So many as were ordered, of those that would be hit."""
    sandbox.fault("lie", endpoint="api", lie="nothing", spares=2)
    assert [await page(api) is None for _ in range(4)] == [False, False, True, False]


@pytest.mark.parametrize("lie", ["end", "nothing", "short", "again", "inside", "version", "quoted"])
async def test_nothing_to_lie_about(sandbox: Sandbox, api: aiohttp.ClientSession, lie: str) -> None:
    """An entity, a refusal and what is no JSON stay as they are; so does a page that has not what the lie changes."""
    sandbox.fault("lie", endpoint="api", lie=lie, times=None)
    assert "value" not in await page(api, "GetCurrentEmployee()")
    assert "error" in await page(api, "Nothing")
    if lie in {"end", "again", "quoted"}:
        assert len((await page(api, "Relation_Person?$top=2"))["value"]) == 2


@pytest.mark.parametrize("options", [{}, {"lie": "typo"}, {"lie": "end", "endpoint": "token"}])
async def test_a_lie_that_is_none(sandbox: Sandbox, options: dict[str, Any]) -> None:
    """The error names them all."""
    with pytest.raises(ValueError, match="order lie= one of end, nothing, short, again"):
        sandbox.fault("lie", **{"endpoint": "api"} | options)
    with pytest.raises(ValueError, match="a lie is told by the api"):
        sandbox.fault("delay", endpoint="api", lie="end")
