"""Servers without a nextLink; reads that continue at a position; paths below an entity."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._trail import _REMEMBERED, Trail

from .conftest import Service

PEOPLE = [{"ID": f"{number:02}", "Name": "abc"[number % 3]} for number in range(25)]


class Counting:
    """An API that gives no nextLink: it sorts, skips and cuts, at `most` rows."""

    def __init__(self, service: Service, most: int = 1000, rows: list[dict[str, Any]] = PEOPLE) -> None:
        self.most, self.rows = most, rows
        self.asked: list[dict[str, str]] = []
        self.answers = service.answers
        service.answers = self  # type: ignore[assignment]

    def __contains__(self, target: str) -> bool:
        return True

    def __getitem__(self, target: str) -> Any:
        return self.answer

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = {name: values[0] for name, values in parse_qs(request.query_string).items()}
        self.asked.append(asked)
        rows = self.rows
        # Without an order, one that is another each time.
        for name in reversed(asked["$orderby"].split(",")) if "$orderby" in asked else ():
            rows = sorted(rows, key=lambda row: row[name])
        if "$orderby" not in asked and len(self.asked) % 2:
            rows = rows[::-1]
        skip, top = int(asked.get("$skip", 0)), min(int(asked.get("$top", self.most)), self.most)
        body: dict[str, Any] = {"value": rows[skip : skip + top]}
        if "$count" in asked:
            body["@odata.count"] = len(self.rows)
        return web.json_response(body)


async def ids(session: aiohttp.ClientSession, path: str = "People", **options: Any) -> list[str]:
    return [row["ID"] async for page in odata.pages(session, path, **options) for row in page.rows]


ALL = [row["ID"] for row in PEOPLE]


@pytest.mark.parametrize("most", [1, 4, 5, 24])
async def test_a_server_that_cuts_without_a_word(session: aiohttp.ClientSession, service: Service, most: int) -> None:
    """It is found out, and everything is read again by $top and $skip, in an order that is the same for each part."""
    counting = Counting(service, most)
    assert await ids(session) == ALL
    first, beyond, *others = counting.asked
    assert first == {}
    assert beyond == {"$top": "1", "$skip": str(most)}
    assert all(asked["$orderby"] == "ID" and asked["$top"] == str(most) for asked in others)


@pytest.mark.parametrize("most", [25, 26, 1000])
async def test_a_server_that_gives_everything(session: aiohttp.ClientSession, service: Service, most: int) -> None:
    """Whether there is more is asked once, and there is none."""
    counting = Counting(service, most)
    assert sorted(await ids(session)) == ALL
    assert counting.asked == [{}, {"$top": "1", "$skip": "25"}]


async def test_the_count_answers_it(session: aiohttp.ClientSession, service: Service) -> None:
    """Where the count was asked for, nothing else has to be."""
    counting = Counting(service)
    assert sorted(await ids(session, count=True)) == ALL
    assert len(counting.asked) == 1


async def test_a_page_size(session: aiohttp.ClientSession, service: Service) -> None:
    """Pages of that size from the beginning, until one is empty: a short one can be cut, or have gaps."""
    counting = Counting(service)
    assert await ids(session, page_size=10) == ALL
    assert [asked["$skip"] for asked in counting.asked] == ["0", "10", "20", "25"]
    assert [row["ID"] async for row in odata.rows(session, "People", page_size=10)] == ALL


async def test_a_page_size_that_is_more_than_the_server_gives(session: aiohttp.ClientSession, service: Service) -> None:
    """Short pages are no end: only an empty one is."""
    counting = Counting(service, most=10)
    assert await ids(session, page_size=15) == ALL
    assert [asked["$skip"] for asked in counting.asked] == ["0", "10", "20", "25"]


async def test_full_pages_to_the_end(session: aiohttp.ClientSession, service: Service) -> None:
    """Where the last one is full, an empty one follows."""
    counting = Counting(service)
    assert await ids(session, page_size=5) == ALL
    assert len(counting.asked) == 6


@pytest.mark.parametrize("top", [0, 1, 9, 10, 11, 25, 30])
async def test_top_is_of_all_pages(session: aiohttp.ClientSession, service: Service, top: int) -> None:
    """No more rows than that, and no more asked for."""
    counting = Counting(service)
    assert await ids(session, page_size=10, top=top) == ALL[:top]
    assert sum(int(asked["$top"]) for asked in counting.asked) in {top, 35}


async def test_top_where_the_server_cuts(session: aiohttp.ClientSession, service: Service) -> None:
    """The same, found out."""
    Counting(service, most=10)
    assert await ids(session, top=15) == ALL[:15]


async def test_ties_are_broken_by_the_key(session: aiohttp.ClientSession, service: Service) -> None:
    """An order of the caller's own is kept, and made the same for each part; one that has the key is one."""
    counting = Counting(service, most=4)
    expected = [row["ID"] for row in sorted(PEOPLE, key=lambda row: (row["Name"], row["ID"]))]
    assert await ids(session, orderby=["Name"]) == expected
    assert counting.asked[-1]["$orderby"] == "Name,ID"
    counting.asked.clear()
    await ids(session, orderby=["ID"], page_size=10)
    assert counting.asked[-1]["$orderby"] == "ID"


async def test_rows_without_their_key(session: aiohttp.ClientSession, service: Service) -> None:
    """Equal rows are rows like others, where the key was not selected."""
    for skip in (0, 2, 4, 5):
        rows = [{"Name": "x"}] * min(2, 5 - skip)
        service.says(f"People?$select=Name&$orderby=ID&$top=2&$skip={skip}", {"value": rows})
    found = [page.rows async for page in odata.pages(session, "People", select="Name", page_size=2)]
    assert found == [[{"Name": "x"}] * 2, [{"Name": "x"}] * 2, [{"Name": "x"}], []]


@pytest.mark.parametrize("size", [1, 2, 10])
async def test_a_server_that_looks_at_no_option(session: aiohttp.ClientSession, service: Service, size: int) -> None:
    """The same answer to every question: it is all there is."""
    rows = PEOPLE[:size]

    async def always(request: web.Request) -> web.StreamResponse:
        return web.json_response({"value": rows})

    for target in ("People", f"People?$top=1&$skip={size}"):
        service.answers[f"/v1/odata/{target}"] = always
    assert await ids(session) == [row["ID"] for row in rows]


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_a_server_that_knows_no_skip(session: aiohttp.ClientSession, service: Service, status: int) -> None:
    """What it gave without a nextLink was everything, as OData has it."""
    service.says("People", {"value": PEOPLE})
    service.says("People?$top=1&$skip=25", b"", status=status)
    assert await ids(session) == ALL


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_a_question_without_an_answer(session: aiohttp.ClientSession, service: Service, status: int) -> None:
    """Where it is not known whether there is more, that is an error and not the end."""
    service.says("People", {"value": PEOPLE})
    service.says("People?$top=1&$skip=25", b"", status=status)
    with pytest.raises(odata.ODataError, match=f"the API answered {status}"):
        await ids(session)


async def test_a_server_that_does_not_skip(session: aiohttp.ClientSession, service: Service) -> None:
    """The same part again and again is an error, not a read without end."""
    for skip in (0, 5):
        service.says(f"People?$orderby=ID&$top=5&$skip={skip}", {"value": PEOPLE[:5]})
    with pytest.raises(odata.ODataError, match=r"does not keep to \$top and \$skip: leave page_size out"):
        await ids(session, page_size=5)


async def test_a_server_that_does_not_cut(session: aiohttp.ClientSession, service: Service) -> None:
    """More rows than were asked for: what the next part would be is anybody's guess."""
    service.says("People?$orderby=ID&$top=5&$skip=0", {"value": PEOPLE[:6]})
    with pytest.raises(odata.ODataError, match=r"does not keep to \$top"):
        await ids(session, page_size=5)


# Reads that continue at a position


@pytest.mark.parametrize("options", [{}, {"page_size": 4}, {"orderby": "Name"}], ids=repr)
async def test_a_read_goes_on_by_counting(
    session: aiohttp.ClientSession, service: Service, options: dict[str, Any]
) -> None:
    """From every page's `next`, in another process or a year later: the rows after that page, and no others."""
    Counting(service, most=5)
    await goes_on(session, options)


async def test_a_read_goes_on_by_links(session: aiohttp.ClientSession, service: Service) -> None:
    """The same, where the server says what comes next."""
    for at in range(0, 25, 5):
        more = {"@odata.nextLink": f"People?p={at + 5}"} if at < 20 else {}
        service.says(f"People?p={at}" if at else "People", {"value": PEOPLE[at : at + 5], **more})
    await goes_on(session, {})


async def goes_on(session: aiohttp.ClientSession, options: dict[str, Any]) -> None:
    whole = [page async for page in odata.pages(session, "People", **options)]
    everything = [row for page in whole for row in page.rows]
    done = 0
    assert sorted(row["ID"] for row in everything) == ALL
    for page in whole:
        done += len(page.rows)
        if page.next is not None:
            rest = [row async for it in odata.pages(session, "People", start=page.next, **options) for row in it.rows]
            assert rest == everything[done:]
    assert whole[-1].next is None


@pytest.mark.parametrize(
    "start",
    ["x", "/v2/odata/People", "http://elsewhere.test/v1/odata/People", "/v1/odata/../admin", "skip=-1", "/v1/odata/ ö"],
)
async def test_a_place_that_is_none(session: aiohttp.ClientSession, service: Service, start: str) -> None:
    """S21: nothing is asked for that no page named."""
    with pytest.raises(ConfigurationError, match="no position of a read"):
        await ids(session, start=start)
    assert service.targets == []


@pytest.mark.parametrize("options", [{"top": -1}, {"page_size": 0}], ids=repr)
async def test_what_is_no_number_of_rows(session: aiohttp.ClientSession, options: dict[str, Any]) -> None:
    """Said before anything is sent."""
    with pytest.raises(ConfigurationError, match="page_size is at least 1"):
        await ids(session, **options)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 1000, 5000])
@pytest.mark.parametrize("before", [0, 1, 100])
def test_every_loop_is_found(length: int, before: int) -> None:
    """S21: in a memory that does not grow: a short one at once, a long one a few rounds later."""
    trail, steps = Trail(), 0

    def walk() -> None:
        nonlocal steps
        while True:
            trail.add(f"page {steps if steps < before else before + (steps - before) % length}")
            steps += 1

    with pytest.raises(odata.ODataError, match="was read already"):
        walk()
    if length <= _REMEMBERED:
        assert steps == before + length
    assert steps <= 4 * (before + length)
    assert len(trail._recent) <= _REMEMBERED


# Paths below an entity


async def test_below_an_entity(session: aiohttp.ClientSession, service: Service) -> None:
    """A collection that a navigation property leads to is read like any other, over all its pages."""
    context = f"{service.base}/v1/odata/$metadata#Phones"
    path = "Relation_Person(6f9619ff-8b86-d011-b42d-00c04fc964ff)/Phones"
    link = f"{path}?$skiptoken=2"
    service.says(path, {"@odata.context": context, "value": [{"ID": "1"}], "@odata.nextLink": link})
    service.says(link, {"@odata.context": context, "value": [{"ID": "2"}]})
    assert await ids(session, path) == ["1", "2"]


async def test_one_entity_below_another(session: aiohttp.ClientSession, service: Service) -> None:
    """Where it leads to one entity, that is the one row; where it leads to nothing, there is none."""
    entity = {"@odata.context": "$metadata#Relation_Organization/$entity", "ID": "1", "Name": "Acme"}
    service.says("Contact(1)/Organization", entity)
    service.says("Contact(2)/Organization", b"", status=204)
    service.says("Contact(3)/Organization", {"@odata.context": "$metadata#x", "ID": "1"})
    assert await ids(session, "Contact(1)/Organization") == ["1"]
    assert await ids(session, "Contact(2)/Organization") == []
    with pytest.raises(odata.ODataError, match="not a whole OData collection"):
        await ids(session, "Contact(3)/Organization")


# An answer that says that there is more


@pytest.mark.parametrize("status", [200, 400])
async def test_more_than_it_gives(session: aiohttp.ClientSession, service: Service, status: int) -> None:
    """A count that is higher than the rows, and no way to the others: an error, not a whole collection."""
    service.says("People?$count=true", {"value": PEOPLE[:10], "@odata.count": 25})
    beyond: dict[str, Any] = {"value": []} if status == 200 else {"error": {}}
    service.says("People?$top=1&$skip=10", beyond, status=status)
    with pytest.raises(odata.ODataError, match="gives 10 rows and no more, and says that there are 25"):
        await ids(session, count=True)


async def test_a_service_that_skips_and_knows_no_top(session: aiohttp.ClientSession, service: Service) -> None:
    """More than the one row that was asked for is more rows too."""
    service.says("People", {"value": PEOPLE[:10]})
    service.says("People?$top=1&$skip=10", {"value": PEOPLE[10:20]})
    for skip in (0, 10, 20, 25):
        rows = PEOPLE[skip : skip + 10]
        service.says(f"People?$orderby=ID&$top=10&$skip={skip}", {"value": rows})
    assert await ids(session) == ALL


@pytest.mark.parametrize("hint", [{"@odata.nextLink": "People?$skiptoken=x"}, {"@odata.count": 25}, {}])
async def test_a_short_page_in_the_middle(
    session: aiohttp.ClientSession, service: Service, hint: dict[str, Any]
) -> None:
    """A page shorter than was asked for is not the end, whatever the answer says of more."""
    for skip, rows in ((0, PEOPLE[:10]), (10, PEOPLE[10:17]), (17, PEOPLE[17:]), (25, [])):
        more = hint if skip + len(rows) < 25 else {}
        service.says(f"People?$orderby=ID&$top=10&$skip={skip}", {"value": rows, **more})
    assert await ids(session, page_size=10) == ALL


async def test_an_empty_page_in_the_middle(session: aiohttp.ClientSession, service: Service) -> None:
    """Nothing, where there should be rows: an error."""
    service.says("People?$orderby=ID&$count=true&$top=10&$skip=0", {"value": PEOPLE[:10], "@odata.count": 25})
    service.says("People?$orderby=ID&$count=true&$top=10&$skip=10", {"value": [], "@odata.count": 25})
    with pytest.raises(odata.ODataError, match="gives 10 rows and no more"):
        await ids(session, page_size=10, count=True)
