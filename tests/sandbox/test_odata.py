"""The API's own OData: what it offers, how it pages, what it refuses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter
from typing import Any
from urllib.parse import quote
from uuid import UUID

import attrs
import pytest

from tribe_oauth.sandbox import ApiRules
from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._model import CUSTOM_FIELD, CUSTOM_TYPE, ENTITY_SETS

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


@asynccontextmanager
async def calling(**rules: Any) -> AsyncIterator[Api]:
    """The API of 40 persons, ten to a page, with these rules."""
    async with serve("strict", persons=40, page_size=10, api=ApiRules(**rules)) as server:
        _, answer = await server.refresh()
        yield Api(server, answer["access_token"])


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with calling() as api:
        yield api


async def test_every_entity_set(api: Api) -> None:
    """The service document names them; each has rows with a GUID, and with the fields of the type in the URL."""
    _, service = await api.get("")
    names = [entity_set["name"] for entity_set in service["value"]]
    assert names == list(ENTITY_SETS)
    for name in names:
        row = (await api.rows(name, top=1))[0]
        assert str(UUID(row["ID"])) == row["ID"]
        assert set(row) == set(ENTITY_SETS[name].properties)
        assert row["_Type"] in {each.type_name for each in ENTITY_SETS[name].concrete}


async def test_a_row(api: Api) -> None:
    """All fields, null where they are empty; the ID in the middle; no flag that is false."""
    rows = await api.rows("Relation_Person", orderby="ID")
    assert len(rows) == 10
    for row in rows:
        assert 5 < list(row).index("ID") < len(row) - 5
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["CreationDate"])
        assert row["LastMutationDate"] is None or row["LastMutationDate"] > row["CreationDate"]
        assert row["IsActive"] in {True, None}
        assert row["IsClosed"] is None
        assert row["BirthDate"].endswith(row["BirthDay"])
    persons = api.server.sandbox.organization("Acme").all("Relation_Person")  # type: ignore[union-attr]
    assert 0 < sum(row["LastMutationDate"] is None for row in persons) < len(persons) / 2
    assert 0 < sum(row["IsActive"] is None for row in persons) < len(persons)


async def test_custom_names(api: Api) -> None:
    """A UUID with two underscores for each hyphen, and one before a digit; `_Type` has the UUID itself."""
    custom = [name for name in ENTITY_SETS if "__" in name]
    assert CUSTOM_TYPE in custom
    assert CUSTOM_TYPE[0].isalpha()
    assert any(name[:1] == "_" and name[1].isdigit() for name in [*custom, CUSTOM_FIELD])
    (row,) = await api.rows(CUSTOM_TYPE, top=1)
    assert UUID(row["_Type"]) == UUID(CUSTOM_TYPE.replace("__", "-"))
    named = f"{CUSTOM_FIELD} eq '{row[CUSTOM_FIELD]}'"
    assert row in await api.rows(CUSTOM_TYPE, filter=named, orderby="ID")


async def test_no_links_between_pages(api: Api) -> None:
    """A page ends, and nothing says that there is more, but a count that was asked for."""
    _, answer = await api.get("Relation_Person", count="true", top=1000)
    assert list(answer) == ["@odata.context", "@odata.count", "value"]
    assert (answer["@odata.count"], len(answer["value"])) == (40, 10)
    _, answer = await api.get("Relation_Person")
    assert list(answer) == ["@odata.context", "value"]


async def test_paging_by_the_server() -> None:
    """Page after page until there is no next link; every row once."""
    async with calling(paging="nextLink") as api:
        for options in ({"orderby": "Name"}, {"orderby": "ID desc"}, {}):
            status, answer = await api.get("Relation_Person", count="true", select="ID", **options)
            seen = list(answer["value"])
            assert answer["@odata.count"] == 40
            while link := answer.get("@odata.nextLink"):
                assert list(answer)[-1] == "@odata.nextLink"
                status, _, answer = await api.server.get(link.removeprefix(api.server.api), api.token)
                assert status == 200
                seen += answer["value"]
            assert len(seen) == len({row["ID"] for row in seen}) == 40
        _, answer = await api.get("Relation_Person", top=15)
        assert len(answer["value"]) == 10
        _, _, answer = await api.server.get(answer["@odata.nextLink"].removeprefix(api.server.api), api.token)
        assert len(answer["value"]) == 5
        assert "@odata.nextLink" not in answer
        assert (await api.get("Relation_Person", skiptoken="x"))[0] == 400


async def test_top_and_skip(api: Api) -> None:
    """In an order, and beyond the end."""
    everything = await api.rows("Relation_Person", top=10, orderby="ID")
    assert await api.rows("Relation_Person", top=3, skip=2, orderby="ID") == everything[2:5]
    assert await api.rows("Relation_Person", skip=1000, orderby="ID") == []
    assert await api.rows("Relation_Person", skip=1000) == []
    assert await api.rows("Relation_Person", top=0) == []
    backwards = await api.rows("Relation_Person", top=10, skip=30, orderby="ID desc")
    assert backwards[::-1] == everything


async def test_no_order(api: Api) -> None:
    """Without `$orderby`, an order that differs from call to call: rows come again, and others never."""
    pages = [[row["ID"] for row in await api.rows("Relation_Person", skip=skip)] for skip in (0, 10, 20, 30, 0)]
    assert all(len(set(page)) == 10 for page in pages)
    assert len({each for page in pages for each in page}) < 40
    assert pages[0] != pages[-1]
    once = await api.rows("Relation_Organization", filter="NumberOfEmployees ge 0")
    assert {row["ID"] for row in once} == {row["ID"] for row in await api.rows("Relation_Organization", orderby="ID")}


async def test_orderby(api: Api) -> None:
    """By several properties, nulls first, and backwards; what is equal, by ID."""
    rows = await api.rows("Relation_Person", orderby="EmailAddress,Name desc", top=10)
    nulls = [row for row in rows if row["EmailAddress"] is None]
    assert rows[: len(nulls)] == nulls
    assert [row["Name"] for row in nulls] == sorted((row["Name"] for row in nulls), reverse=True)
    rows = await api.rows("Relation_Person", orderby="_Type", filter=f"ID gt {rows[0]['ID']}")
    assert [row["ID"] for row in rows] == sorted(row["ID"] for row in rows)


async def test_parts_by_id(api: Api) -> None:
    """Between two IDs, with the count of what is between them; with another filter before it, too."""
    everyone = [row for at in range(4) for row in await api.rows("Relation_Person", orderby="ID", skip=10 * at)]
    low, high = everyone[4]["ID"], everyone[30]["ID"]
    for before, expected in (("", everyone[5:30]), ("(IsActive eq null) and ", [])):
        wanted = expected or [row for row in everyone[5:30] if row["IsActive"] is None]
        text = f"{before}ID gt {low} and ID lt {high}"
        _, answer = await api.get("Relation_Person", filter=text, orderby="ID", count="true")
        assert answer["@odata.count"] == len(wanted)
        assert answer["value"] == wanted[:10]
    assert await api.rows("Relation_Person", filter=f"ID eq {low}") == [everyone[4]]
    assert await api.rows("Relation_Person", filter=f"ID ge {high} and ID le {low}") == []
    assert len(await api.rows("Relation_Person", filter=f"ID ne {low} and ID le {low}")) == 4


async def test_base_sets(api: Api) -> None:
    """They list all types below them, in one order; anything can be found by its ID in `Entity`."""
    everything = {row["ID"] for name in ("Relation_Person", "Relation_Organization") for row in await all_of(api, name)}
    assert {row["ID"] for row in await all_of(api, "Relation")} == everything
    persons = await api.rows("Relation_Person", orderby="ID", top=1)
    _, found = await api.get(f"Entity({persons[0]['ID']})")
    assert found["_Type"] == "Relation.Person"
    assert "FirstName" not in found
    _, answer = await api.get("Relation", filter="Name ne null", count="true")
    assert answer["@odata.count"] == 48


async def all_of(api: Api, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while page := await api.rows(name, orderby="ID", skip=len(found)):
        found += page
    return found


async def test_select(api: Api) -> None:
    """The ID comes always; where it was not selected, an `@odata.id` comes as well."""
    (row,) = await api.rows("Relation_Person", select="FirstName", top=1)
    assert row == {"@odata.id": f"Relation_Person({row['ID']})", "FirstName": row["FirstName"], "ID": row["ID"]}
    (row,) = await api.rows("Relation_Person", select="FirstName,ID", top=1)
    assert list(row) == ["FirstName", "ID"]
    (row,) = await api.rows("Relation_Person", select="*", top=1)
    assert len(row) > 30


async def test_expand_and_navigation(api: Api) -> None:
    """Along navigation properties, to one and to many, nested, whole or in part; an entity by its key."""
    (identity,) = await api.rows("Relationship_Organization_Identity", expand="Relation($select=ID)", select="Name")
    assert identity["Name"] == "Acme"
    assert set(identity["Relation"]) == {"ID"}
    _, own = await api.get(f"Relation_Organization({identity['Relation']['ID']})")
    assert own["Name"] == "Acme"
    expand = "Person,Relation($select=Name;$expand=VisitingAddress($expand=Country),Notes)"
    contact = (await api.rows("Relationship_Person_Contact_Standard", top=1, expand=expand))[0]
    assert contact["Relation"]["VisitingAddress"]["Country"]["Code"]
    assert isinstance(contact["Relation"]["Notes"], list)
    path = f"Relationship_Person_Contact_Standard({contact['ID']})"
    _, entity = await api.get(f"{path}")
    assert entity["@odata.context"] == "$metadata#OData.Relationship_Person_Contact_Standard/$entity"
    assert entity["Department"] == contact["Department"]
    _, person = await api.get(f"{path}/Person", select="ID")
    assert person == {"@odata.context": "$metadata#OData.Relation_Person/$entity", "ID": contact["Person"]["ID"]}
    assert (await api.get(f"Relationship_Person_Contact_Standard(ID={contact['ID'].upper()})"))[0] == 200


async def test_links_that_lead_nowhere_or_to_many(api: Api) -> None:
    """Null inside of a row, 204 by itself; a collection can be filtered and ordered."""
    people = await api.rows("Relation_Person", expand="Address,Notes", orderby="ID", top=10)
    alone = next(row for row in people if row["Address"] is None)
    assert (await api.get(f"Relation_Person({alone['ID']})/Address"))[0] == 204
    noted = next(row for row in people if len(row["Notes"]) > 1)
    path = f"Relation_Person({noted['ID']})/Notes"
    notes = await api.rows(path, orderby="Content desc")
    assert notes == sorted(noted["Notes"], key=itemgetter("Content"), reverse=True)
    assert await api.rows(path, filter=f"ID eq {notes[1]['ID']}", select="ID") == [{"ID": notes[1]["ID"]}]
    assert await api.rows(path, filter="IsPinned eq true") == []
    assert await api.rows(path, orderby="Content desc", skip=1, top=1) == notes[1:2]


async def test_who_the_token_stands_for(api: Api) -> None:
    """An employee, with the person behind it; the parentheses are needed."""
    status, answer = await api.get("GetCurrentEmployee()", expand="Person", select="ID")
    assert status == 200
    assert set(answer) == {"@odata.context", "ID", "Person"}
    assert answer["Person"]["FirstName"]
    assert (await api.get("GetCurrentEmployee"))[0] == 400


async def test_a_plus_is_a_plus(api: Api) -> None:
    """Only per cent signs are decoded: inside of text it is looked for, and no operator has spaces made of it."""
    raw = "/v1/odata/Activity_Appointment?$filter=contains(Description,'verder+%2B')"
    assert (await api.server.get(raw, api.token))[2]["value"] == []
    raw = "/v1/odata/Activity_Appointment?$filter=contains(Description,'%20+')&%24top=3"
    _, _, plus = await api.server.get(raw, api.token)
    assert len(plus["value"]) == 3
    assert all(" +" in row["Description"] for row in plus["value"])
    status, _, answer = await api.server.get("/v1/odata/Relation_Person?$filter=FirstName+eq+'Jan'", api.token)
    assert (status, answer["error"]["code"]) == (400, None)


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("Nothing", {}, 404),
        ("relation_person", {}, 404),
        ("Relation_Person/", {}, 400),
        ("Relation_Person/Name", {}, 404),
        ("Relation_Person//", {}, 400),
        ("Relation_Person(00000000-0000-0000-0000-000000000000)", {}, 404),
        ("Relation_Person('00000000-0000-0000-0000-000000000000')", {}, 400),
        ("Relation_Person(not-a-guid)", {}, 400),
        ("Relation_Person/$count", {}, 501),
        ("$batch", {}, 501),
        ("(", {}, 400),
        ("Relation_Person", {"top": -1}, 400),
        ("Relation_Person", {"skip": "x"}, 400),
        ("Relation_Person", {"count": "yes"}, 400),
        ("Relation_Person", {"select": "Nothing"}, 400),
        ("Relation_Person", {"orderby": "Nothing"}, 400),
        ("Relation_Person", {"orderby": "Name sideways"}, 400),
        ("Relation_Person", {"expand": "Nothing"}, 400),
        ("Relation_Person", {"expand": "Address)"}, 400),
        ("Relation_Person", {"expand": "Address("}, 400),
        ("Relation_Person", {"expand": "Address()x"}, 400),
        ("Relation_Person", {"expand": "Notes($top=1)"}, 400),
        ("Relation_Person", {"apply": "x"}, 400),
        ("Relation_Person", {"Top": "1"}, 400),
        ("Relation_Person", {"filter": "Name in ('a')"}, 400),
        ("Relation_Person", {"filter": "(" * 2_000}, 400),
    ],
)
async def test_what_is_refused(api: Api, path: str, options: dict[str, object], status: int) -> None:
    """In OData's form, with a null code."""
    got, answer = await api.get(path, **options)
    assert got == status
    assert answer["error"]["code"] is None
    assert answer["error"]["message"]


async def test_what_else_is_refused(api: Api) -> None:
    """A wrong navigation, an option that comes twice, HEAD, a form that is not JSON; what has no dollar is not read."""
    row = (await api.rows("Relation_Person", top=1))[0]
    assert (await api.get(f"Relation_Person({row['ID']})/Boss"))[0] == 404
    assert (await api.server.get("/v1/odata/Relation_Person?$top=1&$top=2", api.token))[0] == 400
    assert (await api.server.get("/v1/odata/Relation_Person?top=1&top=2", api.token))[0] == 200
    headers, url = {"Authorization": f"Bearer {api.token}"}, f"{api.server.api}/v1/odata"
    async with api.server.session.head(f"{url}/Relation_Person", headers=headers) as response:
        assert response.status == 405
    html = headers | {"Accept": "text/html"}
    async with api.server.session.get(f"{url}/Relation_Person", headers=html) as response:
        assert response.status == 406
    async with api.server.session.get(url, headers=headers, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (307, "/v1/odata/")


async def test_a_token_that_may_not_read() -> None:
    """403, with the reason."""
    async with serve("strict") as server:
        _, answer = await server.token(grant_type="client_credentials", scope="write")
        assert (await server.get("/v1/odata/Relation_Person", answer["access_token"]))[0] == 403


def test_the_same_seed_gives_the_same_data() -> None:
    """For an organization and a seed; other seeds and other organizations have other data."""
    one, same = Data(1, "Acme", 10), Data(1, "Acme", 10)
    assert one.all("Relation_Person") == same.all("Relation_Person")
    assert one.all("Relation_Person") != Data(2, "Acme", 10).all("Relation_Person")
    assert one.all("Relation_Person") != Data(1, "Beta", 10).all("Relation_Person")
    assert Data(1, "Empty", 0).count("Relation_Person") == 0
    assert one.employee() == one.all("Relationship_Person_Contact_Employee")[0]
    assert Data(1, "Empty", 0).employee()["_Type"] == "Relationship.Person.Contact.Employee"
    assert list(one.rows("Relation_Person", 2, 4)) == one.all("Relation_Person")[2:4]


def test_ids_lead_back_to_rows() -> None:
    """Every row is found by its ID, and nothing by another."""
    data = Data(1, "Acme", 50)
    for name in ENTITY_SETS:
        for row in data.all(name):
            assert data.find(name, row["ID"]) == row
            assert data.find(name, row["ID"][:8] + "-0000-0000-0000-000000000000") is None
