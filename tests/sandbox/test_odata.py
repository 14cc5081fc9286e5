"""The API's own OData: what it offers, how it pages, what it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote
from uuid import UUID

import attrs
import pytest

from tribe_oauth.sandbox._data import ENTITY_SETS, Data
from tribe_oauth.sandbox._filter import FilterError, compile_filter

from .servers import Server, serve


@attrs.define
class Api:
    """An organization's API with a token."""

    server: Server
    token: str

    async def get(self, path: str, **options: object) -> tuple[int, Any]:
        """A call with system query options."""
        query = "&".join(f"${name}={quote(str(value))}" for name, value in options.items())
        status, _, answer = await self.server.get(f"/v1/odata/{path}?{query}", self.token)
        return status, answer

    async def rows(self, path: str, **options: object) -> list[dict[str, Any]]:
        """The rows of a page."""
        status, answer = await self.get(path, **options)
        assert status == 200, answer
        rows: list[dict[str, Any]] = answer["value"]
        return rows


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with serve("strict", persons=40, page_size=10) as server:
        _, answer = await server.refresh()
        yield Api(server, answer["access_token"])


async def test_every_entity_set(api: Api) -> None:
    """The service document names them, and each has rows with a GUID."""
    _, service = await api.get("")
    names = [entity_set["name"] for entity_set in service["value"]]
    assert names == list(ENTITY_SETS)
    for name in names:
        row = (await api.rows(name, top=1))[0]
        assert str(UUID(row["ID"])) == row["ID"]
        assert set(row) == set(ENTITY_SETS[name].properties)


async def test_paging_by_the_server(api: Api) -> None:
    """Page after page until there is no next link; every row once."""
    status, answer = await api.get("Relation_Person", count="true", select="ID", orderby="Name")
    seen = list(answer["value"])
    assert answer["@odata.count"] == 40
    while link := answer.get("@odata.nextLink"):
        status, _, answer = await api.server.get(link.removeprefix(api.server.api), api.token)
        assert status == 200
        seen += answer["value"]
    assert len(seen) == len({row["ID"] for row in seen}) == 40


async def test_top_and_skip(api: Api) -> None:
    """Also over several pages, and beyond the end."""
    everything = await api.rows("Relation_Person", top=10)
    assert await api.rows("Relation_Person", top=3, skip=2) == everything[2:5]
    _, answer = await api.get("Relation_Person", top=15)
    assert len(answer["value"]) == 10
    _, _, answer = await api.server.get(answer["@odata.nextLink"].removeprefix(api.server.api), api.token)
    assert len(answer["value"]) == 5
    assert "@odata.nextLink" not in answer
    assert await api.rows("Relation_Person", skip=1000) == []
    assert await api.rows("Relation_Person", top=0) == []


async def test_orderby(api: Api) -> None:
    """By several properties, nulls first, and backwards."""
    rows = await api.rows("Relation_Person", orderby="EmailAddress,Name desc", top=10)
    nulls = [row for row in rows if row["EmailAddress"] is None]
    assert rows[: len(nulls)] == nulls
    assert [row["Name"] for row in nulls] == sorted((row["Name"] for row in nulls), reverse=True)


async def test_expand_and_navigation(api: Api) -> None:
    """Along a navigation property, whole or in part; an entity by its key."""
    (identity,) = await api.rows("Relationship_Organization_Identity", expand="Relation($select=ID)", select="Name")
    assert identity["Name"] == "Acme"
    assert set(identity["Relation"]) == {"ID"}
    contact = (await api.rows("Relationship_Person_ContactPerson", top=1, expand="Person,Organization"))[0]
    path = f"Relationship_Person_ContactPerson({contact['ID']})"
    _, entity = await api.get(path)
    assert entity["Function"] == contact["Function"]
    _, person = await api.get(f"{path}/Person", select="ID")
    assert person["ID"] == contact["Person"]["ID"]
    assert "@odata.context" in person


async def test_the_probe(api: Api) -> None:
    """Who the token stands for."""
    status, answer = await api.get("GetCurrentEmployee()")
    assert status == 200
    assert answer["FirstName"]


async def test_a_plus_is_a_plus(api: Api) -> None:
    """Only per cent signs are decoded."""
    raw = "/v1/odata/Activity_Conversation?$filter=contains(Note,'+')"
    _, _, plus = await api.server.get(raw, api.token)
    assert plus["value"]
    assert all("+" in row["Note"] for row in plus["value"])


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("Nothing", {}, 404),
        ("Relation_Person/Name", {}, 404),
        ("Relation_Person(00000000-0000-0000-0000-000000000000)", {}, 404),
        ("Relation_Person(not-a-guid)", {}, 404),
        ("Relation_Person", {"top": -1}, 400),
        ("Relation_Person", {"skip": "x"}, 400),
        ("Relation_Person", {"select": "Nothing"}, 400),
        ("Relation_Person", {"orderby": "Nothing"}, 400),
        ("Relation_Person", {"orderby": "Name sideways"}, 400),
        ("Relation_Person", {"expand": "Nothing"}, 400),
        ("Relationship_Person_ContactPerson", {"expand": "Person("}, 400),
        ("Relation_Person", {"apply": "x"}, 400),
        ("Relation_Person", {"filter": "Name in ('a')"}, 400),
        ("Relation_Person", {"skiptoken": "x"}, 400),
        ("Relation_Person", {"filter": "(" * 2_000}, 400),
    ],
)
async def test_what_is_refused(api: Api, path: str, options: dict[str, object], status: int) -> None:
    """In OData's form, with a null code."""
    got, answer = await api.get(path, **options)
    assert got == status
    assert answer["error"]["code"] is None
    assert answer["error"]["message"]


async def test_a_wrong_navigation_and_a_doubled_option(api: Api) -> None:
    """Neither is guessed at."""
    row = (await api.rows("Relation_Person", top=1))[0]
    assert (await api.get(f"Relation_Person({row['ID']})/Boss"))[0] == 404
    assert (await api.server.get("/v1/odata/Relation_Person?$top=1&$top=2", api.token))[0] == 400
    headers = {"Authorization": f"Bearer {api.token}"}
    async with api.server.session.post(f"{api.server.api}/v1/odata/Relation_Person", headers=headers) as response:
        assert response.status == 405


def test_the_same_seed_gives_the_same_data() -> None:
    """For an organization and a seed; other seeds and other organizations have other data."""
    one, same = Data(1, "Acme", 10), Data(1, "Acme", 10)
    assert one.all("Relation_Person") == same.all("Relation_Person")
    assert one.all("Relation_Person") != Data(2, "Acme", 10).all("Relation_Person")
    assert one.all("Relation_Person") != Data(1, "Beta", 10).all("Relation_Person")
    assert Data(1, "Empty", 0).count("Relation_Person") == 0
    assert one.employee() == one.row("Relation_Person", 0)


def test_ids_lead_back_to_rows() -> None:
    """Every row is found by its ID, and nothing by another."""
    data = Data(1, "Acme", 50)
    for name in ENTITY_SETS:
        for row in data.all(name):
            assert data.find(name, row["ID"]) == row
            assert data.find(name, "0" * 8 + row["ID"][8:]) is None


ROW = {"Name": "O'Neill", "Age": 40, "Note": None, "Active": True, "ID": "9f1900e6-2bd0-62ca-8291-702dd9c984f6"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("Name eq 'O''Neill'", True),
        ("Name ne 'O''Neill'", False),
        ("Age gt 39.5 and Age lt 41", True),
        ("Age ge 40 and Age le 40", True),
        ("Age gt 'x'", False),
        ("Note eq null", True),
        ("Note gt 'a'", False),
        ("Active", True),
        ("Active eq true and not (Active eq false)", True),
        ("not Active or Age eq 40", True),
        ("contains(Name,'Nei') and startswith(Name,'O') and endswith(Name,'ll')", True),
        ("contains(Note,'x')", False),
        ("ID eq 9F1900E6-2bd0-62ca-8291-702dd9c984f6", True),
        ("2024-01-01 lt 2024-01-01T00:00:00Z", True),
        ("  Age eq 40  ", True),
    ],
)
def test_filters(text: str, holds: bool) -> None:
    """As much of `$filter` as Tribe is known to answer."""
    assert bool(compile_filter(text, list(ROW))(ROW)) is holds


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Nothing eq 1", "no property"),
        ("Name in ('a')", "'in' is not supported"),
        ("Name has 'a'", "'has' is not supported"),
        ("Name eq", "breaks off"),
        ("(Name eq 'a'", "breaks off"),
        ("Name eq 'a')", "unexpected"),
        ("Name eq )", "unexpected"),
        ("contains(Name 'a')", "expected ,"),
        ("Name eq ;", "position 8"),
    ],
)
def test_filters_that_cannot_be_read(text: str, wrong: str) -> None:
    """The reason is said."""
    with pytest.raises(FilterError, match=wrong.replace("(", r"\(")):
        compile_filter(text, list(ROW))
