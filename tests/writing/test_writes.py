"""Entities are created, changed, linked, converted and deleted, as Tribe takes it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import aiohttp
import attrs
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError

from ..manager.helpers import VirtualClock
from ..serving import reset, status
from .tribe import Row, Tribe, connected, cutting

PERSONS = "Relation_Person"
CONTACTS = "Relationship_Person_Contact_Standard"


@attrs.frozen
class Person:
    LastName: str
    FirstName: str | None = None
    ImportId: str | None = None
    ID: str | None = None


@pytest.fixture
async def anna(session: aiohttp.ClientSession, tribe: Tribe) -> str:
    """The ID of a person who is there; no request of hers is counted."""
    created = await odata.create(session, PERSONS, {"LastName": "Bos", "FirstName": "Anna"})
    tribe.seen.clear()
    return str(created["ID"])


async def test_a_class_and_a_dict(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """An attribute that is None is not written; in a dict, null is meant."""
    one = await odata.create(session, PERSONS, Person("Bos"))
    other = await odata.create(session, PERSONS, {"LastName": "Vos", "FirstName": None})
    assert [seen.json for seen in tribe.writes()] == [{"LastName": "Bos"}, {"LastName": "Vos", "FirstName": None}]
    assert one == {"ID": one["ID"], "LastName": "Bos"}
    assert tribe.rows[PERSONS] == {row["ID"]: row for row in (one, other)}
    assert [seen.headers["Content-Type"] for seen in tribe.writes()] == ["application/json"] * 2


async def test_an_update_merges(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> None:
    """Only what is given changes, and null empties a field."""
    assert (await odata.update(session, PERSONS, anna, Person("Vos", ID=anna)))["FirstName"] == "Anna"
    await odata.update(session, PERSONS, UUID(anna), {"FirstName": None, "ID": anna.upper()})
    await odata.update(session, "/v1/odata/Entity", anna, {"Blog": "x"})
    assert tribe.rows[PERSONS][anna] == {"ID": anna, "LastName": "Vos", "FirstName": None, "Blog": "x"}
    assert [(seen.method, seen.json) for seen in tribe.seen] == [
        ("PUT", {"LastName": "Vos"}),
        ("PUT", {"FirstName": None}),
        ("PUT", {"Blog": "x"}),
    ]


async def test_links_and_what_is_created_inside(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> None:
    """``{"ID": …}`` is a link; an object without one is created."""
    made = await odata.create(
        session, CONTACTS, {"Person": Person("Vos"), "Notes": [{"Content": "hello"}], "Relation": {"Name": "Acme"}}
    )
    contact = tribe.rows[CONTACTS][made["ID"]]
    assert {row["LastName"] for row in tribe.rows[PERSONS].values()} == {"Bos", "Vos"}
    assert [row["Content"] for row in tribe.rows["Note"].values()] == ["hello"]
    assert contact["Person"] != {"ID": anna}
    await odata.link(session, CONTACTS, made["ID"], "Person", anna)
    assert contact["Person"] == {"ID": anna}


async def test_a_conversion(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> None:
    """By a create with the ID: it stays the same entity."""
    converted = await odata.create(session, PERSONS, {"ID": anna, "_UpgradeType": "Relation.Saint"})
    assert (converted["ID"], list(tribe.rows["Relation_Saint"]), tribe.rows[PERSONS]) == (anna, [anna], {})


async def test_a_deletion(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> None:
    """It is gone; what was not there is a 404."""
    await odata.delete(session, PERSONS, anna)
    assert tribe.rows[PERSONS] == {}
    with pytest.raises(odata.ODataError, match=r"404.*no such entity"):
        await odata.delete(session, PERSONS, anna)


# Answers


@pytest.mark.parametrize("header", ["OData-EntityId", "Location"])
@pytest.mark.parametrize("code", [200, 201, 204])
async def test_any_success(session: aiohttp.ClientSession, tribe: Tribe, anna: str, code: int, header: str) -> None:
    """With a body or without; the ID comes from wherever it is known."""
    tribe.post = tribe.put = code
    tribe.headers = lambda key: {header: f"{tribe.base}/v1/odata/{PERSONS}({key})"}
    made = await odata.create(session, PERSONS, {"LastName": "Vos"})
    assert tribe.rows[PERSONS][made["ID"]]["LastName"] == "Vos"
    tribe.headers = lambda key: {}
    assert (await odata.update(session, PERSONS, anna, {"LastName": "Vos"}))["ID"] == anna
    assert (await odata.create(session, PERSONS, {"ID": anna, "LastName": "Bos"}))["ID"] == anna
    assert "@odata.context" not in await odata.create(session, PERSONS, {"LastName": "Bos"})


async def test_a_refusal(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """With the server's words."""
    for entity_set, words in (("Relation", "400.*takes no entities"), (PERSONS, "400: LastName is required")):
        with pytest.raises(odata.ODataError, match=words) as it:
            await odata.create(session, entity_set, {"FirstName": "Anna"})
        assert (it.value.status, it.value.code, it.value.retryable) == (400, None, False)


# Attempts


@pytest.mark.parametrize("fault", [reset, status(408), status(500), status(503), status(429), status(401), status(200)])
@pytest.mark.parametrize("happened", [False, True])
async def test_an_update_is_sent_again(
    session: aiohttp.ClientSession, tribe: Tribe, clock: VirtualClock, anna: str, fault: Any, happened: bool
) -> None:
    """The same fields twice are the same."""
    (tribe.after if happened else tribe.before).extend([fault] * 3)
    await odata.update(session, PERSONS, anna, {"LastName": "Vos"})
    assert tribe.rows[PERSONS][anna]["LastName"] == "Vos"
    assert {seen.body for seen in tribe.seen} == {b'{"LastName":"Vos"}'}
    assert len(tribe.seen) >= 3
    assert clock.slept


async def test_an_update_that_creates_others_is_not(
    session: aiohttp.ClientSession, tribe: Tribe, clock: VirtualClock, anna: str
) -> None:
    """A second one would create them a second time. The error says where to look."""
    tribe.after.append(reset)
    with pytest.raises(odata.UnknownOutcomeError, match=rf"{PERSONS}\({anna}\) may have been changed") as it:
        await odata.update(session, PERSONS, anna, {"Notes": [{"Content": "hello"}]})
    assert (len(tribe.rows["Note"]), clock.slept) == (1, [])
    assert it.value.look_up is not None
    assert [row["ID"] async for row in odata.rows(session, it.value.look_up)] == [anna]
    (note,) = tribe.rows["Note"]
    tribe.after.append(reset)
    await odata.update(session, PERSONS, anna, {"Notes": [{"ID": note}]})
    assert len(clock.slept) <= 1


async def test_a_deletion_is_sent_again(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> None:
    """Where the first one had its effect, there is nothing left, and that is what was asked for."""
    tribe.after.append(reset)
    await odata.delete(session, PERSONS, anna)
    assert (tribe.rows[PERSONS], len(tribe.seen)) == ({}, 2)


async def test_a_deletion_that_was_refused_at_first(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """Nothing was deleted: 404 is news."""
    tribe.before.append(status(429))
    with pytest.raises(odata.ODataError, match="404"):
        await odata.delete(session, PERSONS, uuid4())


async def test_a_deletion_on_a_kept_connection(tribe: Tribe, anna: str) -> None:
    """The HTTP client would send it a second time by itself, and the 404 would be taken for an error."""
    async with connected(tribe) as session:
        await odata.update(session, PERSONS, anna, {"LastName": "Vos"})
        tribe.after.append(reset)
        await odata.delete(session, PERSONS, anna)
    assert tribe.rows[PERSONS] == {}


async def test_it_is_given_up(session: aiohttp.ClientSession, tribe: Tribe, clock: VirtualClock, anna: str) -> None:
    """For as long as the caller says."""
    tribe.before.extend([status(503)] * 9)
    for write in (
        odata.update(session, PERSONS, anna, {"LastName": "Vos"}, give_up_after=0),
        odata.delete(session, PERSONS, anna, give_up_after=0),
        odata.link(session, PERSONS, anna, "Gender", anna, give_up_after=0),
        odata.call(session, "GetCurrentEmployee", give_up_after=0),
    ):
        with pytest.raises(odata.ODataError, match="503"):
            await write
    assert (len(tribe.seen), clock.slept) == (4, [])
    with pytest.raises(ConfigurationError, match="give_up_after"):
        await odata.delete(session, PERSONS, anna, give_up_after=-1)


async def test_a_token_that_ran_out(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """The middleware sends it again with a new one, at once: a 401 comes before any effect."""
    await odata.create(session, PERSONS, {"LastName": "Bos"})
    tribe.expire()
    await odata.create(session, PERSONS, {"LastName": "Vos"})
    assert [row["LastName"] for row in tribe.rows[PERSONS].values()] == ["Bos", "Vos"]
    assert [seen.headers["Authorization"][-1] for seen in tribe.writes()][-1] == "2"


# What cannot be


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ((None, str(uuid4()), {"a": 1}), "the entity set is a name"),
        (("Relation_Person(x)", str(uuid4()), {"a": 1}), "the entity set is a name"),
        ((PERSONS, "1) or (1", {"a": 1}), "an ID is a GUID"),
        ((PERSONS, str(uuid4()), {}), "nothing to change"),
        ((PERSONS, str(uuid4()), Person), "a dict or an instance of an attrs class, and not of type type"),
        ((PERSONS, str(uuid4()), [("a", 1)]), "not of type list"),
        ((PERSONS, str(uuid4()), {"ID": str(uuid4()), "a": 1}), "the ID of another entity"),
    ],
)
async def test_mistakes(session: aiohttp.ClientSession, tribe: Tribe, wrong: Any, words: str) -> None:
    """Are told before anything is sent."""
    with pytest.raises(ConfigurationError, match=words):
        await odata.update(session, *wrong)
    assert tribe.seen == []


async def test_without_a_base_url() -> None:
    """The error says what to give."""
    async with aiohttp.ClientSession() as session:
        with pytest.raises(odata.ODataError, match="no base URL"):
            await odata.create(session, PERSONS, {"LastName": "Bos"})


async def test_an_answer_that_breaks_off_is_no_refusal(tribe: Tribe, anna: str) -> None:
    """An update whose answer is cut is sent again; what was cut off a refusal is left out."""
    async with cutting(tribe) as cut, connected(tribe, cut.base) as session:
        with pytest.raises(odata.ODataError, match="404: there is no such entity"):
            await odata.update(session, PERSONS, uuid4(), {"LastName": "Vos"})
        cut.answer = cut.length - 5
        with pytest.raises(odata.ODataError, match=r"the API answered 404$"):
            await odata.update(session, PERSONS, uuid4(), {"LastName": "Vos"})
        with pytest.raises(odata.ODataError, match="the API answered 200, and its answer is not whole") as it:
            await odata.update(session, PERSONS, anna, {"LastName": "Vos"}, give_up_after=0)
        assert it.value.retryable


# Functions


@attrs.frozen
class Employee:
    ID: UUID
    Hours: str | float


async def test_a_function(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """The entity, as a dict or an instance of a class, without what is said of the message."""
    employee = await odata.call(session, "GetCurrentEmployee", select=["ID"], expand=["Person($select=Name)"])
    assert employee.keys() == {"ID", "Hours"}
    typed = await odata.call(session, "GetCurrentEmployee()", type=Employee)
    assert typed is not None
    assert (type(typed.ID), typed.Hours) == (UUID, 36.5)
    assert [seen.path for seen in tribe.seen] == ["GetCurrentEmployee()"] * 2


@pytest.mark.parametrize(
    ("body", "result"),
    [({"@odata.context": "x", "value": [1]}, [1]), ({"value": 1, "ID": "x"}, {"value": 1, "ID": "x"}), (None, None)],
)
async def test_what_a_function_gives(
    session: aiohttp.ClientSession, tribe: Tribe, body: Row | None, result: Any
) -> None:
    """A value, an entity, or nothing; parameters are literals. A failure is waited for."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.raw_path == "/v1/odata/Sum(of='d''Arc',and=2)"
        return web.Response(status=204) if body is None else web.json_response(body)

    tribe.before += [status(503), answer]
    assert await odata.call(session, "Sum", {"of": "d'Arc", "and": 2}) == result
    with pytest.raises(ConfigurationError, match="a slash"):
        await odata.call(session, "Sum", {"of": "a/b"})


async def test_what_a_deletion_is(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> None:
    """A request without a body, and without a type of one."""
    await odata.delete(session, PERSONS, anna)
    (seen,) = tribe.seen
    assert (seen.body, seen.headers.get("Content-Type")) == (b"", None)
