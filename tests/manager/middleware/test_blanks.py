"""A blank that became a plus: the API takes ``+`` for a plus, and yarl writes a blank of `params` so."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from tribe_oauth import ClientCredentialsGrant, TokenManager, odata
from tribe_oauth.sandbox import Sandbox

from .world import Factory, scene

PATH = "/v1/odata/X"


async def sent(make: Factory, url: str | URL, **options: Any) -> str:
    """The query as it reached the API."""
    async with scene(make) as here:
        async with here.session.get(url, **options) as response:
            assert response.status == 200
        (seen,) = here.api.seen
        return seen.target.partition("?")[2]


@pytest.mark.parametrize(
    ("params", "query"),
    [
        ({"$filter": "contains(Name,'van Leeuwen')"}, "$filter=contains(Name,'van%20Leeuwen')"),
        ({"$filter": "Name eq 'a+b'", "$top": "1"}, "$filter=Name%20eq%20'a%2Bb'&$top=1"),
        ({"$filter": "Since ge 2024-01-01T00:00:00+01:00"}, "$filter=Since%20ge%202024-01-01T00:00:00%2B01:00"),
        ([("a b", "c d"), ("a b", "e")], "a%20b=c%20d&a%20b=e"),
        ("a=b c", "a=b%20c"),
        ({"$filter": "Name eq '100%25'"}, "$filter=Name%20eq%20'100%2525'"),
        ({"$top": "10"}, "$top=10"),
        ({}, ""),
    ],
)
async def test_a_blank_stays_a_blank(make: Factory, params: Any, query: str) -> None:
    """In `params`, a blank is sent as ``%20`` and a plus as ``%2B``."""
    assert await sent(make, PATH, params=params) == query


async def test_a_blank_in_a_url(make: Factory) -> None:
    """In a URL as text, too, where a plus is written ``%2B``."""
    assert await sent(make, f"{PATH}?$filter=Name eq 'a%2Bb'") == "$filter=Name%20eq%20'a%2Bb'"


@pytest.mark.parametrize(
    "query",
    [
        "$filter=Name%20eq%20'a+b'",
        "$skiptoken=a+b",
        "$filter=Name+eq+'x'&$skiptoken=5",
        "%24skiptoken=a+b",
        "$deltatoken=a+b",
    ],
)
@pytest.mark.parametrize("encoded", [True, False])
async def test_a_url_that_came_encoded_stays_as_it_is(make: Factory, query: str, encoded: bool) -> None:
    """It has a ``%20``, or is a link of the API's own."""
    url = URL(f"{PATH}?{query}", encoded=encoded)
    assert await sent(make, url) == url.raw_query_string


async def test_another_origin(make: Factory) -> None:
    """What other servers take a plus for is not known here."""
    async with scene(make) as here:
        async with here.session.get(here.other.url("/x"), params={"a": "b c"}) as response:
            assert response.status == 200
        assert here.other.seen[0].target == "/x?a=b+c"


async def test_it_holds_for_every_attempt(make: Factory) -> None:
    """After a 401, the request is sent again as it was."""
    async with scene(make) as here:
        here.world.expire()
        async with here.session.post(PATH, params={"a": "b c"}, data=b"x") as response:
            assert response.status == 200
        assert {seen.target for seen in here.api.seen} == {f"{PATH}?a=b%20c"}
        assert len(here.api.seen) == 2


async def test_links_of_a_read_stay_as_they_are(make: Factory) -> None:
    """Each nextLink that `odata` follows is the API's own, whatever is in it; what comes after it is not."""

    async def answer(request: web.Request) -> web.StreamResponse:
        targets.append(request.raw_path)
        more = {"@odata.nextLink": "X?page=a+b"} if len(targets) == 1 else {}
        return web.json_response({"value": [{"ID": str(len(targets))}], **more})

    targets: list[str] = []
    async with scene(make) as here:
        here.api.answer = answer
        assert [row["ID"] async for row in odata.rows(here.session, "X")] == ["1", "2"]
        async with here.session.get(PATH, params={"a": "b c"}) as response:
            assert response.status == 200
    assert targets == [f"{PATH}?$orderby=ID&$top=100", f"{PATH}?page=a+b", f"{PATH}?a=b%20c"]


async def test_as_the_readme_has_it() -> None:
    """A name with a blank is found with a session and `params`, as it is with `odata`."""
    wanted = "contains(Name,'van Leeuwen')"
    async with (
        Sandbox(organizations=["acme"], persons=200) as sandbox,
        TokenManager(endpoints=sandbox.endpoints) as manager,
    ):
        await manager.connect("acme", ClientCredentialsGrant(sandbox.client()))
        async with manager.session("acme") as session:
            async with session.get("/v1/odata/Relation_Person", params={"$filter": wanted}) as response:
                found = (await response.json())["value"]
            read = [row["ID"] async for row in odata.rows(session, "Relation_Person", filter=wanted)]
            assert {row["ID"] for row in found} == set(read)
    assert found


async def test_a_session_of_ones_own(make: Factory) -> None:
    """The middleware does it, in any session that has it."""
    async with scene(make) as here, here.another_session() as session:
        async with session.get(PATH, params={"a": "b c"}) as response:
            assert response.status == 200
        assert here.api.seen[0].target == f"{PATH}?a=b%20c"
