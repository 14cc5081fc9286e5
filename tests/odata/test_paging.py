"""Servers without a nextLink; reads that continue at a position; paths below an entity."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._trail import _REMEMBERED, Trail

from .conftest import Service
from .test_complete import Always

PEOPLE = [{"ID": f"{number:02}", "Name": "abc"[number % 3]} for number in range(25)]


class Counting:
    """An API that gives no nextLink: it sorts, skips and cuts, at `most` rows.

    `keys`: it knows a filter for what is behind a key; otherwise it looks at none. `behind`: how many are there.
    """

    def __init__(
        self, service: Service, most: int = 1000, rows: list[dict[str, Any]] = PEOPLE, *, keys: bool = False
    ) -> None:
        self.most, self.rows, self.keys = most, rows, keys
        self.behind: int | None = None
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
        count = len(rows)
        if self.keys and (bound := re.search(r"ID gt '(\d+)'$", asked.get("$filter", ""))):
            rows = [row for row in rows if row["ID"] > bound[1]]
            count = len(rows) if self.behind is None else self.behind
        skip, top = int(asked.get("$skip", 0)), min(int(asked.get("$top", self.most)), self.most)
        body: dict[str, Any] = {"value": rows[skip : skip + top]}
        if "$count" in asked:
            body["@odata.count"] = count
        return web.json_response(body)


async def ids(session: aiohttp.ClientSession, path: str = "People", **options: Any) -> list[str]:
    return [row["ID"] async for page in odata.pages(session, path, **options) for row in page.rows]


ALL = [row["ID"] for row in PEOPLE]


@pytest.mark.parametrize("most", [1, 4, 5, 24])
async def test_a_server_that_cuts_without_a_word(session: aiohttp.ClientSession, service: Service, most: int) -> None:
    """It is found out, and everything is read again by $top and $skip, in an order that is the same for each part."""
    counting = Counting(service, most)
    assert await ids(session) == ALL
    first, probe, *others = counting.asked
    assert first == {"$orderby": "ID", "$top": "100"}
    assert probe == first | {"$filter": f"ID gt '{most - 1:02}'"}
    assert all(asked["$orderby"] == "ID" and asked["$top"] in {"100", "1"} and asked["$skip"] for asked in others)


async def test_a_server_that_knows_keys(session: aiohttp.ClientSession, service: Service) -> None:
    """What is behind the last one is asked for until nothing is; a filter stands beside that in parentheses."""
    counting = Counting(service, 10, keys=True)
    assert await ids(session, filter="Name ne 'x' or true") == ALL
    assert [asked["$filter"] for asked in counting.asked] == [
        "Name ne 'x' or true",
        "(Name ne 'x' or true) and ID gt '09'",
        "(Name ne 'x' or true) and ID gt '19'",
        "(Name ne 'x' or true) and ID gt '24'",
    ]
    assert not any("$skip" in asked for asked in counting.asked)


@pytest.mark.parametrize("behind", [3, 900])
async def test_another_order_of_keys(session: aiohttp.ClientSession, service: Service, behind: int) -> None:
    """Where the rows behind a key are far from as many as were left, the filter has another order: by windows."""
    counting = Counting(service, 10, keys=True, rows=[{"ID": f"{number:03}"} for number in range(250)])
    counting.behind = behind
    assert len(set(await ids(session, count=True))) == 250
    assert "$skip" in counting.asked[2]


@pytest.mark.parametrize("most", [25, 26, 1000])
async def test_a_server_that_gives_everything(session: aiohttp.ClientSession, service: Service, most: int) -> None:
    """Whether there is more is asked, behind the last key where the server knows that, and there is none."""
    counting = Counting(service, most, keys=True)
    assert sorted(await ids(session)) == ALL
    assert len(counting.asked) == 2
    counting = Counting(service, most)
    assert sorted(await ids(session)) == ALL
    assert [asked.get("$skip") for asked in counting.asked] == [None, None, "22", "25"]


async def test_the_count_answers_it(session: aiohttp.ClientSession, service: Service) -> None:
    """Where the count was asked for, nothing else has to be."""
    counting = Counting(service)
    assert sorted(await ids(session, count=True)) == ALL
    assert len(counting.asked) == 1


async def test_a_page_size(session: aiohttp.ClientSession, service: Service) -> None:
    """Pages of that size from the beginning, until nothing is new: a short one can be cut, or have gaps."""
    counting = Counting(service)
    assert await ids(session, page_size=10, orderby=["ID", "Name"]) == ALL
    assert [asked.get("$skip") for asked in counting.asked] == [None, "7", "14", "21", "22", "25"]
    assert [asked["$top"] for asked in counting.asked] == ["10"] * 5 + ["1"]
    counting = Counting(service, keys=True)
    assert await ids(session, page_size=10) == ALL
    assert [asked.get("$filter") for asked in counting.asked] == [None, "ID gt '09'", "ID gt '19'", "ID gt '24'"]
    assert [row["ID"] async for row in odata.rows(session, "People", page_size=10)] == ALL


async def test_a_page_size_that_is_more_than_the_server_gives(session: aiohttp.ClientSession, service: Service) -> None:
    """Short pages are no end: only one without new rows is."""
    counting = Counting(service, most=10)
    assert await ids(session, page_size=15) == ALL
    assert [asked.get("$skip") for asked in counting.asked] == [None, None, "7", "14", "21", "22", "25"]


async def test_full_pages_to_the_end(session: aiohttp.ClientSession, service: Service) -> None:
    """Where the last one is full, an empty one follows."""
    counting = Counting(service, keys=True)
    assert await ids(session, page_size=5) == ALL
    assert len(counting.asked) == 6


@pytest.mark.parametrize("top", [0, 1, 9, 10, 11, 25, 30])
async def test_top_is_of_all_pages(session: aiohttp.ClientSession, service: Service, top: int) -> None:
    """No more rows than that, and no more asked for."""
    counting = Counting(service, keys=True)
    assert await ids(session, page_size=10, top=top) == ALL[:top]
    assert sum(int(asked["$top"]) for asked in counting.asked) in {top, 35}
    for orderby in ("ID", "Name"):
        Counting(service)
        found = await ids(session, page_size=10, top=top, orderby=orderby)
        assert len(set(found)) == len(found) == min(top, 25)


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
        service.says(f"People?$select=Name&$orderby=ID&$top=2{(skip and f'&$skip={skip}') or ''}", {"value": rows})
    found = [page.rows async for page in odata.pages(session, "People", select="Name", page_size=2)]
    assert found == [[{"Name": "x"}] * 2, [{"Name": "x"}] * 2, [{"Name": "x"}], []]


async def test_keys_that_no_url_can_hold(session: aiohttp.ClientSession, service: Service) -> None:
    """Half of a surrogate pair is no character: the rows are read by position."""
    rows = [{"ID": f"{number}\ud800"} for number in range(9)]
    counting = Counting(service, most=4, rows=rows, keys=True)
    assert await ids(session, page_size=4) == [row["ID"] for row in rows]
    assert not any("$filter" in asked for asked in counting.asked)


@pytest.mark.parametrize("size", [1, 2, 10])
async def test_a_server_that_looks_at_no_option(session: aiohttp.ClientSession, service: Service, size: int) -> None:
    """The same answer to every question: it is all there is."""
    rows = PEOPLE[:size]

    async def always(request: web.Request) -> web.StreamResponse:
        return web.json_response({"value": rows})

    service.answers = Always(always)
    for options in ({}, {"count": True}, {"orderby": "Name"}, {"orderby": "Name", "count": True}):
        assert await ids(session, **options) == [row["ID"] for row in rows]
    assert await ids(session, "Someone(1)/Friends") == [row["ID"] for row in rows]


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_a_server_that_knows_no_skip(session: aiohttp.ClientSession, service: Service, status: int) -> None:
    """What it gave without a nextLink was everything, as OData has it."""
    for path in ("People", "Someone(1)/Friends"):
        service.says(path, {"value": PEOPLE})
        service.says(f"{path}?$filter=ID%20gt%20'24'", b"", status=status)
        service.says(f"{path}?$skip=22", b"", status=status)
        service.says(f"{path}?$top=1&$skip=25", b"", status=status)
        assert await ids(session, path) == ALL


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
async def test_a_question_without_an_answer(session: aiohttp.ClientSession, service: Service, status: int) -> None:
    """Where it is not known whether there is more, that is an error and not the end."""
    for path in ("People", "Someone(1)/Friends"):
        service.says(path, {"value": PEOPLE})
        service.says(f"{path}?$filter=ID%20gt%20'24'", b"", status=status)
        service.says(f"{path}?$top=1&$skip=25", b"", status=status)
        with pytest.raises(odata.ODataError, match=f"the API answered {status}"):
            await ids(session, path)
    service.says("People?$filter=ID%20gt%20'24'", b"", status=400)
    service.says("People?$skip=22", b"", status=status)
    with pytest.raises(odata.ODataError, match=f"the API answered {status}"):
        await ids(session)


async def test_a_server_that_does_not_skip(session: aiohttp.ClientSession, service: Service) -> None:
    """The same part again and again is an error, not a read without end."""
    for skip in ("", "&$skip=2"):
        service.says(f"People?$top=5{skip}", {"value": PEOPLE[:5]})
    with pytest.raises(odata.ODataError, match=r"does not keep to \$top and \$skip: leave page_size out"):
        await ids(session, page_size=5)


async def test_a_server_that_does_not_cut(session: aiohttp.ClientSession, service: Service) -> None:
    """More rows than were asked for: what the next part would be is anybody's guess."""
    for orderby in (["ID"], ["Name", "ID"]):
        service.says(f"People?$orderby={','.join(orderby)}&$top=5", {"value": PEOPLE[:6]})
        with pytest.raises(odata.ODataError, match=r"does not keep to \$top"):
            await ids(session, page_size=5, orderby=orderby)


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


async def test_a_row_that_comes_before_itself(session: aiohttp.ClientSession, service: Service) -> None:
    """Behind a key is that key again, from a service that knew the filter before: the read would never end."""
    service.says("People", {"value": PEOPLE[:10]})
    service.says("People?$filter=ID%20gt%20'09'", {"value": PEOPLE[10:20]})
    service.says("People?$filter=ID%20gt%20'19'", {"value": PEOPLE[19:]})
    with pytest.raises(odata.ODataError, match="was read already"):
        await ids(session)


async def test_an_order_and_links(session: aiohttp.ClientSession, service: Service) -> None:
    """A row that moved to a later page comes once."""
    first, second = PEOPLE[:10], [*PEOPLE[8:10], *PEOPLE[10:]]
    service.says("People?$orderby=Name,ID&$top=100", {"value": first, "@odata.nextLink": "People?p=1"})
    service.says("People?p=1", {"value": second})
    assert await ids(session, orderby="Name") == ALL


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
    service.says("People?$filter=ID%20gt%20'09'&$count=true", beyond, status=status)
    service.says("Someone(1)/Friends?$count=true", {"value": PEOPLE[:10], "@odata.count": 25})
    service.says("Someone(1)/Friends?$count=true&$top=1&$skip=10", beyond, status=status)
    for path in ("People", "Someone(1)/Friends"):
        with pytest.raises(odata.ODataError, match="gives 10 rows and no more, and says that there are 25"):
            await ids(session, path, count=True)


async def test_a_service_that_skips_and_knows_no_top(session: aiohttp.ClientSession, service: Service) -> None:
    """More than the one row that was asked for is more rows too."""
    path = "Someone(1)/People"
    service.says(path, {"value": PEOPLE[:10]})
    service.says(f"{path}?$top=1&$skip=10", {"value": PEOPLE[10:20]})
    service.says(f"{path}?$orderby=ID&$top=100", {"value": PEOPLE[:10]})
    for skip in (7, 14, 21, 22):
        service.says(f"{path}?$skip={skip}", {"value": PEOPLE[skip : skip + 10]})
    service.says(f"{path}?$orderby=ID&$top=1&$skip=25", {"value": []})
    assert await ids(session, path) == ALL


@pytest.mark.parametrize("hint", [{"@odata.nextLink": "People?$skiptoken="}, {"@odata.count": 25}, {}])
async def test_a_short_page_in_the_middle(
    session: aiohttp.ClientSession, service: Service, hint: dict[str, Any]
) -> None:
    """A page shorter than was asked for is not the end, whatever the answer says of more."""
    for skip, rows in (
        (0, PEOPLE[:10]),
        (7, PEOPLE[7:14]),
        (11, PEOPLE[11:20]),
        (17, PEOPLE[17:]),
        (22, PEOPLE[22:]),
        (25, []),
    ):
        more = hint if skip + len(rows) < 25 else {}
        if "@odata.nextLink" in more:
            more = {"@odata.nextLink": f"{more['@odata.nextLink']}{skip}"}
            service.says(f"People?$skiptoken={skip}", {"value": PEOPLE[skip + len(rows) :]})
        top = 10 if rows else 1
        service.says(f"People?$top={top}{(skip and f'&$skip={skip}') or ''}", {"value": rows, **more})
    assert await ids(session, page_size=10) == ALL


async def test_an_empty_page_in_the_middle(session: aiohttp.ClientSession, service: Service) -> None:
    """Nothing, where there should be rows: an error."""
    service.says("People?$count=true&$top=10", {"value": PEOPLE[:10], "@odata.count": 25})
    service.says("People?$filter=ID%20gt%20'09'&$count=true&$top=10", {"value": [], "@odata.count": 15})
    with pytest.raises(odata.ODataError, match="gives 10 rows and no more"):
        await ids(session, page_size=10, count=True)
