"""What is written through the API: created, changed, linked, converted, deleted; read late; files."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from yarl import URL

from tribe_oauth.sandbox import ApiRules, Sandbox

from .servers import Server, serve

PEOPLE, CONTACTS = "Relation_Person", "Relationship_Person_Contact_Standard"
STAGE = "Relationship_Organization_CommercialRelationship_"
NOWHERE = "00000000-0000-0000-0000-000000000000"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@attrs.define
class Api:
    """The API of 40 persons, with a clock that stands."""

    server: Server
    sandbox: Sandbox
    token: str
    now: list[float]

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
        """A request; the status, and the JSON or the bytes."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        sent = {} if body is None else {"json": body}
        url = URL(f"{self.server.api}/v1/{path}".replace(" ", "%20"), encoded=True)
        async with self.server.session.request(method, url, headers=headers, **sent, **options) as response:
            is_json = response.content_type == "application/json"
            return response.status, await response.json() if is_json else await response.read()

    async def wrote(self, method: str, path: str, body: Any = None) -> Any:
        """A request below the root that is carried out; what it is answered with."""
        status, answer = await self.ask(method, f"odata/{path}", body)
        assert status in {200, 201, 204}, answer
        return answer

    async def get(self, path: str) -> Any:
        return await self.wrote("GET", path)

    async def refused(self, method: str, path: str, body: Any = None) -> int:
        """The status of what is refused; nothing has changed."""
        before = len(self.sandbox.organization("Acme").true.log)
        status, answer = await self.ask(method, f"odata/{path}", body)
        assert answer["error"]["message"]
        assert len(self.sandbox.organization("Acme").true.log) == before
        return status


@asynccontextmanager
async def calling(**rules: Any) -> AsyncIterator[Api]:
    now = [1_800_000_000.25]
    async with serve("strict", persons=40, api=ApiRules(**rules), clock=lambda: now[0]) as server:
        _, answer = await server.refresh()
        assert server.sandbox is not None
        yield Api(server, server.sandbox, answer["access_token"], now)


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with calling() as api:
        yield api


async def test_created_changed_and_deleted(api: Api) -> None:
    """A POST gives the entity; a PUT changes the fields that it names, and moves the date; a deleted row is gone."""
    status, made = await api.ask("POST", f"odata/{PEOPLE}", {"FirstName": "Ada", "LastName": "Byron", "ImportId": "7"})
    assert status == 201
    assert (made["Name"], made["_Name"], made["_Type"]) == ("Ada Byron", "Ada Byron", "Relation.Person")
    assert (made["CreationDate"], made["LastMutationDate"]) == ("2027-01-15T08:00:00Z", None)
    found = await api.get(f"{PEOPLE}?$filter=contains(ImportId,'7')&$expand=Notes,Address")
    assert [row["ID"] for row in found["value"]] == [made["ID"]]
    assert (found["value"][0]["Notes"], found["value"][0]["Address"]) == ([], None)
    api.now[0] += 60
    path = f"{PEOPLE}({made['ID']})"
    changed = await api.wrote("PUT", path, {"EmailAddress": "ada@example.com", "_Type": "passed over"})
    assert changed["LastMutationDate"] == "2027-01-15T08:01:00Z"
    assert changed | {"@odata.context": ""} == made | {
        "@odata.context": "",
        "EmailAddress": "ada@example.com",
        "LastMutationDate": "2027-01-15T08:01:00Z",
    }
    assert await api.get(path) == changed
    assert await api.wrote("PUT", f"Entity({made['ID']})", {"EmailAddress": None})
    assert await api.wrote("DELETE", f"Relation({made['ID']})") == b""
    assert await api.refused("GET", path) == 404
    assert (await api.get(f"{PEOPLE}?$count=true"))["@odata.count"] == 40


async def test_what_was_generated_is_changed_too(api: Api) -> None:
    """Also by a POST with its ID, and by PATCH; and it is deleted."""
    first, second = (await api.get(f"{PEOPLE}?$orderby=ID&$top=2"))["value"]
    status, changed = await api.ask("POST", f"odata/{PEOPLE}", {"ID": first["ID"].upper(), "Title": "Dr"})
    assert (status, changed["Title"], changed["FirstName"]) == (200, "Dr", first["FirstName"])
    assert (await api.wrote("PATCH", f"{PEOPLE}({second['ID']})", {"Title": "Ir"}))["Title"] == "Ir"
    await api.wrote("DELETE", f"{PEOPLE}({first['ID']})")
    page = await api.get(f"{PEOPLE}?$orderby=ID&$top=1&$count=true")
    assert (page["value"][0]["Title"], page["@odata.count"]) == ("Ir", 39)


@pytest.mark.parametrize(
    ("rules", "statuses"),
    [
        ({}, [201, 200, 404, 200]),
        ({"created": 200, "updated": 204, "unknown_id": "creates", "patch": 405}, [200, 204, 200, 405]),
    ],
)
async def test_statuses(rules: dict[str, Any], statuses: list[int]) -> None:
    """Of a creation, an update, a POST with an unknown ID, and a PATCH."""
    async with calling(**rules) as api:
        body = {"LastName": "Byron"}
        found = [(await api.ask("POST", f"odata/{PEOPLE}", body))[0]]
        guid = (await api.get(f"{PEOPLE}?$top=1"))["value"][0]["ID"]
        found.append((await api.ask("PUT", f"odata/{PEOPLE}({guid})", body))[0])
        found.append((await api.ask("POST", f"odata/{PEOPLE}", {"ID": NOWHERE, **body}))[0])
        found.append((await api.ask("PATCH", f"odata/{PEOPLE}({guid})", body))[0])
        assert found == statuses
        assert ((await api.ask("GET", f"odata/{PEOPLE}({NOWHERE})"))[0] == 200) == (statuses[2] == 200)


async def test_links_and_what_is_created_with_them(api: Api) -> None:
    """An object with an ID is a link, one without is created; a collection gets more; null leads nowhere."""
    organization = (await api.get("Relation_Organization?$top=1"))["value"][0]["ID"]
    body = {
        "Department": "Zorg",
        "Relation": {"ID": organization},
        "Person": {"LastName": "Byron", "Notes": [{"Content": "one", "IsPinned": True}]},
    }
    contact = await api.wrote("POST", CONTACTS, body)
    expand = "$expand=Relation($select=ID),Person($expand=Notes)"
    found = await api.get(f"{CONTACTS}({contact['ID']})?{expand}")
    assert found["Relation"] == {"ID": organization}
    assert [note["Content"] for note in found["Person"]["Notes"]] == ["one"]
    person = found["Person"]["ID"]
    await api.wrote("PUT", f"{PEOPLE}({person})", {"Notes": [{"Content": "two"}], "Language": None})
    notes = await api.get(f"{PEOPLE}({person})/Notes?$orderby=Content")
    assert [note["Content"] for note in notes["value"]] == ["one", "two"]
    other = (await api.get(f"{PEOPLE}?$orderby=ID&$top=1"))["value"][0]["ID"]
    await api.wrote("PUT", f"{CONTACTS}({contact['ID']})", {"Person": {"ID": other, "Title": "Dr"}})
    assert (await api.get(f"{CONTACTS}({contact['ID']})/Person"))["Title"] == "Dr"
    await api.wrote("PUT", f"{CONTACTS}({contact['ID']})", {"Person": None})
    assert (await api.ask("GET", f"odata/{CONTACTS}({contact['ID']})/Person"))[0] == 204
    noted = (await api.get(f"{PEOPLE}?$expand=Notes"))["value"]
    generated = next(row for row in noted if len(row["Notes"]) > 1)
    await api.wrote("PUT", f"{PEOPLE}({generated['ID']})", {"Notes": [{"Content": "more"}]})
    assert len((await api.get(f"{PEOPLE}({generated['ID']})/Notes"))["value"]) == len(generated["Notes"]) + 1
    await api.wrote("DELETE", f"Note({generated['Notes'][0]['ID']})")
    assert len((await api.get(f"{PEOPLE}({generated['ID']})/Notes"))["value"]) == len(generated["Notes"])


async def test_an_unknown_link(api: Api) -> None:
    """400, or 404 by the rules."""
    body = {"Relation": {"ID": NOWHERE}}
    assert await api.refused("POST", CONTACTS, body) == 400
    async with calling(unknown_link=404) as other:
        assert await other.refused("POST", CONTACTS, body) == 404


async def test_converted(api: Api) -> None:
    """Within its level, under the same ID: it leaves one set, and is in another."""
    suspect = (await api.get(f"{STAGE}Suspect?$top=1"))["value"][0]
    body = {"ID": suspect["ID"], "_UpgradeType": f"{STAGE}Customer"}
    customer = await api.wrote("POST", f"{STAGE}Suspect", body)
    assert customer["_Type"].endswith(".Customer")
    assert (customer["PaymentTermInDays"], customer["Name"]) == (None, suspect["Name"])
    assert await api.refused("GET", f"{STAGE}Suspect({suspect['ID']})") == 404
    assert (await api.get(f"{STAGE}Customer({suspect['ID']})"))["ID"] == suspect["ID"]
    back = {"_UpgradeType": "Relationship.Organization.CommercialRelationship.Suspect", "IsFormer": True}
    assert "PaymentTermInDays" not in await api.wrote("PUT", f"{STAGE}Customer({suspect['ID']})", back)
    for wrong in (PEOPLE, "Nothing", CONTACTS):
        assert await api.refused("POST", f"{STAGE}Suspect", body | {"_UpgradeType": wrong}) == 400


async def test_a_persons_name_is_in_the_names_of_relationships(api: Api) -> None:
    """They move with it; an address does not move the person, nor does another field the relationships."""
    contact = (await api.get(f"{CONTACTS}?$orderby=ID&$top=1&$expand=Person($expand=Address)"))["value"][0]
    made = await api.wrote("POST", CONTACTS, {"Person": {"ID": contact["Person"]["ID"]}})
    person = f"{PEOPLE}({contact['Person']['ID']})"
    await api.wrote("PUT", person, {"Title": "Dr"})
    assert (await api.get(f"{CONTACTS}({contact['ID']})"))["LastMutationDate"] == contact["LastMutationDate"]
    api.now[0] += 3600
    await api.wrote("PUT", person, {"FirstName": "Ada", "LastName": "Byron"})
    for each in (contact, made):
        found = await api.get(f"{CONTACTS}({each['ID']})")
        assert (found["Name"], found["LastMutationDate"]) == ("Ada Byron", "2027-01-15T09:00:00Z")
    others = (await api.get(f"{CONTACTS}?$filter=Name eq 'Ada Byron'&$count=true"))["@odata.count"]
    assert others == len(api.sandbox.organization("Acme").relationships(contact["Person"]["ID"])) - 1 or others == 2
    address = (await api.get(f"{PEOPLE}?$expand=Address&$filter=Address/City ne null&$top=1"))["value"][0]
    await api.wrote("PUT", f"Address({address['Address']['ID']})", {"City": "Assen"})
    again = await api.get(f"{PEOPLE}({address['ID']})?$expand=Address")
    assert (again["Address"]["City"], again["LastMutationDate"]) == ("Assen", address["LastMutationDate"])


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "Entity", {}, 400),
        ("POST", "Relation", {"Name": "x"}, 400),
        ("POST", "Datastore_Country", {"Name": "x"}, 400),
        ("POST", "Nothing", {}, 404),
        ("POST", PEOPLE, {"FirstName": "x"}, 400),
        ("POST", PEOPLE, {"LastName": "x", "Nothing": 1}, 400),
        ("POST", PEOPLE, {"LastName": 1}, 400),
        ("POST", PEOPLE, {"LastName": "x", "BirthDate": "2020-13-01"}, 400),
        ("POST", PEOPLE, {"LastName": "x", "Start": "2020-01-01T00:00:00"}, 400),
        ("POST", PEOPLE, {"LastName": "x", "IsActive": "true"}, 400),
        ("POST", PEOPLE, {"LastName": "x", "SortIndex": True}, 400),
        ("POST", "Address", {"HouseNumber": 1.5}, 400),
        ("POST", PEOPLE, {"LastName": "x", "Notes": {}}, 400),
        ("POST", PEOPLE, {"LastName": "x", "Notes": [1]}, 400),
        ("POST", "Attachment", {"Entity": {"Name": "x"}}, 400),
        ("POST", PEOPLE, {"LastName": "x", "Address": {"ID": 5}}, 400),
        ("POST", PEOPLE, [], 400),
        ("POST", f"{PEOPLE}({NOWHERE})", {"LastName": "x"}, 405),
        ("PUT", PEOPLE, {"LastName": "x"}, 405),
        ("PUT", f"{PEOPLE}({NOWHERE})/Notes", {"LastName": "x"}, 405),
        ("PUT", f"{PEOPLE}({NOWHERE})", {"LastName": "x"}, 404),
        ("DELETE", PEOPLE, None, 405),
        ("DELETE", f"{PEOPLE}({NOWHERE})", None, 404),
        ("OPTIONS", PEOPLE, None, 405),
    ],
)
async def test_what_is_refused(api: Api, method: str, path: str, body: Any, status: int) -> None:
    """With a reason, and nothing is done."""
    assert await api.refused(method, path, body) == status


async def test_what_else_is_refused(api: Api) -> None:
    """An employee is not deleted, a datastore neither changed nor deleted; a body has one ID, a type and a form."""
    employee = (await api.get("Relationship_Person_Contact_Employee?$top=1"))["value"][0]["ID"]
    assert await api.refused("DELETE", f"Entity({employee})") == 400
    country = (await api.get("Datastore_Country?$top=1"))["value"][0]["ID"]
    assert await api.refused("DELETE", f"Datastore_Country({country})") == 400
    assert await api.refused("PUT", f"Datastore_Country({country})", {"Name": "x"}) == 400
    person = (await api.get(f"{PEOPLE}?$top=1"))["value"][0]["ID"]
    assert await api.refused("PUT", f"{PEOPLE}({person})", {"ID": NOWHERE}) == 400
    assert await api.refused("POST", "Relation", {"ID": person, "Title": "Dr"}) == 400
    for headers, data, status in (
        ({"Content-Type": "text/plain"}, b"{}", 406),
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"[" * 100_000, 400),
    ):
        assert (await api.ask("POST", f"odata/{PEOPLE}", headers=headers, data=data))[0] == status
    skipped = {"skip_auto_headers": ["Content-Type"], "data": b"{}"}
    assert (await api.ask("POST", f"odata/{PEOPLE}", **skipped))[0] == 400
    _, answer = await api.server.token(grant_type="client_credentials", scope="read")
    api.token = answer["access_token"]
    assert await api.refused("POST", PEOPLE, {"LastName": "x"}) == 403


async def test_reads_lag_behind() -> None:
    """What was written is not seen for a while, nor is what was deleted; the write itself knows it."""
    async with calling(lag=5) as api:
        made = await api.wrote("POST", PEOPLE, {"LastName": "Byron"})
        path = f"{PEOPLE}({made['ID']})"
        assert await api.refused("GET", path) == 404
        assert (await api.wrote("PUT", path, {"Title": "Dr"}))["LastName"] == "Byron"
        api.now[0] += 4.9
        assert (await api.get(f"{PEOPLE}?$count=true"))["@odata.count"] == 40
        api.now[0] += 0.1
        assert (await api.get(path))["Title"] == "Dr"
        await api.wrote("DELETE", path)
        assert (await api.ask("DELETE", f"odata/{path}"))[0] == 404
        assert (await api.get(path))["Title"] == "Dr"
        api.now[0] += 5
        assert await api.refused("GET", path) == 404


async def test_files(api: Api) -> None:
    """Sent in base64, and given as bytes with their type, to who has a token; as JSON without the content."""
    person = (await api.get(f"{PEOPLE}?$top=1"))["value"][0]["ID"]
    file = {"Name": "é.png", "MimeType": "image/png", "Data": base64.b64encode(PNG).decode()}
    body = {"Description": "x", "Entity": {"ID": person}, "File": file}
    made = await api.wrote("POST", "Attachment", body)
    told = await api.get(f"Attachment({made['ID']})?$expand=File,Entity($select=ID)")
    assert told["Entity"] == {"ID": person}
    assert set(told["File"]) == {"Name", "MimeType", "Url"}
    url = told["File"]["Url"].removeprefix(f"{api.server.api}/v1/")
    assert url == f"odata-file/Attachment/{made['ID']}/File"
    assert await api.ask("GET", url) == (200, PNG)
    whole = await api.get(f"Attachment({made['ID']})?$expand=File($select=Name,Data)")
    assert whole["File"] == {"Name": file["Name"], "Data": file["Data"]}
    attached = await api.get(f"Entity({person})/Attachments")
    assert made["ID"] in [row["ID"] for row in attached["value"]]
    generated = (await api.get("Attachment?$orderby=ID&$top=1"))["value"][0]
    assert (await api.ask("GET", f"odata-file/Attachment/{generated['ID']}/File"))[1].startswith(b"Bijlage")
    assert (await api.get(f"{PEOPLE}({person})?$expand=Picture"))["Picture"] is None
    await api.wrote("PUT", f"{PEOPLE}({person})", {"Picture": file})
    assert await api.ask("GET", f"odata-file/Relation.Person/{person.upper()}/Picture") == (200, PNG)
    await api.wrote("PUT", f"{PEOPLE}({person})", {"Picture": None})
    for missing in (
        f"Relation_Person/{person}/Picture",
        f"Relation_Person/{person}/Nothing",
        f"Relation_Person/{NOWHERE}/Picture",
        f"Nothing/{person}/File",
        "Attachment/x/File",
        "Attachment",
    ):
        assert (await api.ask("GET", f"odata-file/{missing}"))[0] == 404
    assert (await api.ask("DELETE", url))[0] == 405
    api.token = "wrong"
    assert (await api.ask("GET", url))[0] == 401


@pytest.mark.parametrize("file", [1, {"Name": "x"}, {"Data": "é"}, {"Data": "eA=="}])
async def test_files_that_are_none(api: Api, file: Any) -> None:
    """Not whole, not base64, or not what their type says."""
    whole = {"Name": "x.png", "MimeType": "image/png", **file} if isinstance(file, dict) and "Data" in file else file
    assert await api.refused("POST", "Attachment", {"File": whole}) == 400


async def test_a_body_that_is_too_large() -> None:
    """413."""
    async with calling(max_body=2_000) as api:
        assert await api.refused("POST", PEOPLE, {"LastName": "x" * 3_000}) == 413


async def test_filters_and_orders_while_rows_change(api: Api) -> None:
    """What was found before is kept, and what is written meanwhile is in it, in its place."""
    order = "$orderby=LastMutationDate desc,ID&$top=100"
    named, far = "$filter=Title eq 'Dr'&$count=true&$orderby=ID", "$filter=Address/City eq 'Assen'&$orderby=ID"
    truth = api.sandbox.organization("Acme")

    async def check() -> None:
        people = truth.all(PEOPLE)
        doctors = [row["ID"] for row in people if row["Title"] == "Dr"]
        found = await api.get(f"{PEOPLE}?{named}")
        assert ([row["ID"] for row in found["value"]], found["@odata.count"]) == (doctors, len(doctors))
        newest = sorted(people, key=lambda row: row["LastMutationDate"] or "", reverse=True)
        assert (await api.get(f"{PEOPLE}?{order}"))["value"] == newest
        cities = {row["ID"]: row["City"] for row in truth.all("Address")}
        there = [truth.target(row, "Address", truth.true) for row in people]
        assert len((await api.get(f"{PEOPLE}?{far}"))["value"]) == sum(cities.get(str(it)) == "Assen" for it in there)

    await check()
    people = [row["ID"] for row in truth.all(PEOPLE)]
    for guid in people[::3]:
        api.now[0] += 1
        await api.wrote("PUT", f"{PEOPLE}({guid})", {"Title": "Dr"})
    await check()
    await api.wrote("PUT", f"{PEOPLE}({people[0]})", {"Title": None})
    await api.wrote("DELETE", f"{PEOPLE}({people[3]})")
    await api.wrote("PUT", f"{PEOPLE}({people[6]})", {"FirstName": "Ada"})
    await api.wrote("POST", PEOPLE, {"LastName": "x", "Title": "Dr", "Address": {"City": "Assen"}})
    await api.wrote("POST", "Note", {"Content": "x"})
    housed = next(row for row in truth.all(PEOPLE) if truth.target(row, "Address", truth.true))
    await api.wrote("PUT", f"Address({truth.target(housed, 'Address', truth.true)})", {"City": "Assen"})
    await check()
    for number in range(20):
        await api.get(f"{PEOPLE}?$filter=SortIndex eq {number}")
    await check()


async def test_an_organization_without_rows() -> None:
    """It has itself and an employee, who is nobody."""
    async with serve("strict", persons=0) as server:
        assert server.sandbox is not None
        data = server.sandbox.organization("Acme")
        assert data.count(PEOPLE) == 0
        assert data.follow(data.employee(), "Person") is None
        assert data.follow(data.all("Relation_Organization")[0], "VisitingAddress") is None
