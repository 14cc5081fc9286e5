"""What may be asked, and in which form: a query, or its parts; what cannot be one is said before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata import Query

from .conftest import Service

SETS = {"value": [{"name": name, "kind": "EntitySet", "url": name} for name in ("People", "Persons", "Teams")]}


@attrs.frozen
class Person:
    Number: int


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"path": 7}, "path"),
        ({"path": None}, "path"),
        ({"path": b"People"}, "path"),
        ({"filter": 7}, "filter"),
        ({"filter": ["Name eq 'Bos'"]}, "filter"),
        ({"filter": True}, "filter"),
        ({"select": 7}, "select"),
        ({"select": [7]}, "select"),
        ({"select": None}, "select"),
        ({"expand": [None]}, "expand"),
        ({"orderby": date(2026, 1, 1)}, "orderby"),
        ({"top": "10"}, "top"),
        ({"top": True}, "top"),
        ({"top": 1.5}, "top"),
        ({"page_size": "10"}, "page_size"),
        ({"key": None}, "key"),
    ],
    ids=repr,
)
async def test_a_wrong_type(
    session: aiohttp.ClientSession, service: Service, options: dict[str, Any], name: str
) -> None:
    """The error names the argument and what it has to be, in each way of asking."""
    said = f"^{name} is "
    with pytest.raises(ConfigurationError, match=said):
        Query(**{"path": "People"} | options)
    for read in (odata.pages, odata.rows):
        with pytest.raises(ConfigurationError, match=said):
            await anext(aiter(read(session, **{"path": "People"} | options)))
    assert service.targets == []


async def test_a_query_instead_of_its_parts(session: aiohttp.ClientSession, service: Service) -> None:
    """All its options are used."""
    target = "People?$select=Number&$filter=Number%20gt%201&$orderby=Number&$top=2"
    service.says(target, {"value": [{"Number": 2}, {"Number": 3}]})
    query = Query("People", select="Number", filter="Number gt 1", orderby="Number", top=2, key="Number")
    assert [row async for row in odata.rows(session, query, type=Person)] == [Person(2), Person(3)]
    assert [page.rows async for page in odata.pages(session, query)] == [[{"Number": 2}, {"Number": 3}]]
    assert set(service.targets) == {f"/v1/odata/{target}"}


@pytest.mark.parametrize("options", [{"top": 1}, {"select": ["ID"]}, {"filter": "x"}, {"key": "No"}], ids=repr)
async def test_a_query_and_parts_of_one(session: aiohttp.ClientSession, service: Service, options: Any) -> None:
    """It cannot be said which of two would count."""
    for read in (odata.pages, odata.rows):
        with pytest.raises(ConfigurationError, match="a Query has its options in it"):
            await anext(aiter(read(session, Query("People", top=1), **options)))
    assert service.targets == []


async def test_another_key(session: aiohttp.ClientSession, service: Service) -> None:
    """Ties are broken by it, and a row that does not fit is named by it."""
    service.says("People?$orderby=Number&$top=2", {"value": [{"Number": "seven"}, {"Number": "eight"}]})
    with pytest.raises(odata.ODataError, match=r"^People\(seven\) does not fit Person: field Number"):
        await anext(aiter(odata.rows(session, "People", key="Number", page_size=2, type=Person)))


@pytest.mark.parametrize("top", [0, 1, 2, 3, 4, 5])
async def test_the_first_rows(session: aiohttp.ClientSession, service: Service, top: int) -> None:
    """No more of them than asked for, also from a server that goes on; what is not needed is not read."""
    service.says(f"People?$top={top}", {"value": [{"ID": "1"}, {"ID": "2"}], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {"value": [{"ID": "3"}, {"ID": "4"}]})
    rows = [row["ID"] async for row in odata.rows(session, "People", top=top)]
    assert rows == ["1", "2", "3", "4"][:top]
    if top == 0:
        assert len(service.targets) <= 2


# A set that is not there


async def refused(session: aiohttp.ClientSession, path: str, **options: Any) -> odata.ODataError:
    with pytest.raises(odata.ODataError) as it:
        await anext(aiter(odata.pages(session, path, **options)))
    return it.value


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("path", ["Peeple", "Peeple(6f9619ff-8b86-d011-b42d-00c04fc964ff)/Phones"])
async def test_a_set_that_is_not_there(
    session: aiohttp.ClientSession, service: Service, path: str, status: int
) -> None:
    """The error says which there are; all else in it is as the server said it."""
    service.says(path, {"error": {"code": None, "message": "entity type not found"}}, status=status, X_Request_ID="7")
    service.says("", SETS)
    error = await refused(session, path)
    assert str(error) == (
        f"the API answered {status}: entity type not found: there is no entity set Peeple;"
        " there are People, Persons, Teams"
    )
    assert (error.status, error.message, error.retryable) == (status, "entity type not found", False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Relation_Persn", r"there are 483, listed at /v1/odata/, and most like it are Relation_Person(,|$)"),
        ("relation_person", r"most like it are Relation_Person(,|$)"),
        ("Zzz", r"there are 483, listed at /v1/odata/$"),
        ("Team7", r"most like it is Team$"),
    ],
)
async def test_one_of_hundreds(session: aiohttp.ClientSession, service: Service, name: str, said: str) -> None:
    """Those that are most like it are said, and where the others are."""
    names = ["Relation_Person", "Relation_Personal", "Team", *(f"Custom_{number:03}" for number in range(480))]
    service.says(name, b"<html>", status=404)
    service.says("", {"value": [{"name": name} for name in names]})
    assert re.search(said, str(await refused(session, name)))


async def test_the_first_page_of_a_size(session: aiohttp.ClientSession, service: Service) -> None:
    """The same, where pages are counted."""
    service.says("Peeple?$top=2", {}, status=404)
    service.says("", SETS)
    assert "there are People" in str(await refused(session, "Peeple", page_size=2))


def with_another_error(service: Service) -> None:
    service.says("", {}, status=500)


def with_no_names(service: Service) -> None:
    service.says("", {"value": [{"name": 7}, {}]})


def with_the_name(service: Service) -> None:
    service.says("", {"value": [{"name": "Peeple"}]})


@pytest.mark.parametrize("there", [with_another_error, with_no_names, with_the_name])
async def test_nothing_is_added(
    session: aiohttp.ClientSession, service: Service, there: Callable[[Service], None]
) -> None:
    """Where the sets cannot be read, or the set is there and something else is not: the error is the server's."""
    service.says("Peeple", {}, status=404)
    there(service)
    assert str(await refused(session, "Peeple")) == "the API answered 404"


@pytest.mark.parametrize(("path", "status"), [("GetEmployee()", 404), ("Peeple", 403), ("Peeple", 410)])
async def test_nothing_is_asked(session: aiohttp.ClientSession, service: Service, path: str, status: int) -> None:
    """Of a function, or another refusal, the sets say nothing."""
    service.says(path, {}, status=status)
    service.says("", SETS)
    assert str(await refused(session, path)) == f"the API answered {status}"
    assert len(service.targets) == 1


async def test_a_later_page(session: aiohttp.ClientSession, service: Service) -> None:
    """The set was there: a link that is gone is another matter."""
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {}, status=404)
    with pytest.raises(odata.ODataError, match=r"^the API answered 404$"):
        _all = [page async for page in odata.pages(session, "People")]


async def test_sets_that_hang(session: aiohttp.ClientSession, service: Service) -> None:
    """The way to the sets may break: the refusal comes out, and carries nothing of that."""

    async def broken(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    service.says("Peeple", {}, status=404)
    service.answers["/v1/odata/"] = broken
    error = await refused(session, "Peeple")
    assert (str(error), error.__context__) == ("the API answered 404", None)


@pytest.mark.parametrize("text", ["2022-09-27T08:34:26.1234567Z", "2022-09-27T08:34:26+01:00", "2022-09-27T08:34Z"])
def test_a_time_as_the_api_wrote_it(text: str) -> None:
    """With all of its digits: a datetime has six, and ``le`` would miss the row."""
    assert odata.literal(text, time=True) == text
    assert odata.literal(text) == f"'{text}'"


@pytest.mark.parametrize("value", ["2022-09-27T08:34:26", "x", "2022-09-27T08:34:26Z or true", 7, None])
def test_what_is_no_time(value: object) -> None:
    """Nothing else gets into a filter that way."""
    with pytest.raises(ConfigurationError, match="a time is text as the API writes it"):
        odata.literal(value, time=True)


def test_half_of_a_character() -> None:
    """A lone surrogate has no place in a URL, and the error says in which option it is."""
    with pytest.raises(ConfigurationError, match="a text has half of a surrogate pair"):
        odata.literal("\ud800")
    with pytest.raises(ConfigurationError, match="filter has half of a surrogate pair"):
        odata.Query("People", filter="\ud800")
    with pytest.raises(ConfigurationError, match="key has half of a surrogate pair"):
        odata.Query("People", key="\ud800")
    with pytest.raises(ConfigurationError, match="select has half of a surrogate pair"):
        odata.Query("People", select=["\ud800"])
    with pytest.raises(ConfigurationError, match="path has half of a surrogate pair"):
        odata.Query("\ud800")
