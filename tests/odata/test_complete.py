"""A server that lies about its end: a read ends with all rows that were promised, or with an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from itertools import count
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.odata import _trail

from .conftest import Answer, Service

PEOPLE = [{"ID": f"{number:02}"} for number in range(10)]
ALL = [row["ID"] for row in PEOPLE]


def chain(service: Service, *bodies: dict[str, Any], options: str = "") -> None:
    """Say these pages, each with a link to the next."""
    for number, body in enumerate(bodies):
        link = {} if number == len(bodies) - 1 else {"@odata.nextLink": f"People?p={number + 1}"}
        service.says(f"People?p={number}" if number else f"People{options}", link | body)


def page(start: int, stop: int, **more: Any) -> dict[str, Any]:
    return {"value": PEOPLE[start:stop], **{name.replace("_", "."): value for name, value in more.items()}}


async def ids(session: aiohttp.ClientSession, path: str = "People", **options: Any) -> list[str]:
    return [row.get("ID", "") async for it in odata.pages(session, path, **options) for row in it.rows]


# By links

COUNT = {"@odata.count": 10}


@pytest.mark.parametrize("promised_at", [0, 1])
async def test_links_that_end_early(session: aiohttp.ClientSession, service: Service, promised_at: int) -> None:
    """Fewer rows than a count said, on whichever page: an error that says how many of how many."""
    bodies = [page(0, 3), page(3, 6)]
    bodies[promised_at] |= COUNT
    chain(service, *bodies)
    with pytest.raises(
        odata.ODataError, match=r"gives 6 rows and no more, and says that there are 10: .* not complete"
    ):
        await ids(session)
    with pytest.raises(odata.ODataError, match="gives 6 rows"):
        assert [row async for row in odata.rows(session, "People")]


async def test_a_count_that_shrinks_to_what_came(session: aiohttp.ClientSession, service: Service) -> None:
    """What was promised first stands: rows that went missing meanwhile are missing."""
    chain(service, page(0, 3) | COUNT, page(3, 6) | {"@odata.count": 6})
    with pytest.raises(odata.ODataError, match="gives 6 rows"):
        await ids(session)


async def test_a_count_that_grows(session: aiohttp.ClientSession, service: Service) -> None:
    """Rows that are added while others are read may come before what is read next: that is no lie."""
    chain(service, page(0, 6) | COUNT, page(6, 10) | {"@odata.count": 11})
    assert await ids(session) == ALL


async def test_it_goes_on_in_another_process(session: aiohttp.ClientSession, service: Service) -> None:
    """The promise and the number of rows are part of a position."""
    chain(service, page(0, 3) | COUNT, page(3, 6), page(6, 9))
    starts = [it.next async for it in _until_error(odata.pages(session, "People"))]
    assert len(starts) == 3
    for start in starts:
        with pytest.raises(odata.ODataError, match="gives 9 rows and no more, and says that there are 10"):
            await ids(session, start=start)
    chain(service, page(0, 3) | COUNT, page(3, 6), page(6, 10))
    assert await ids(session, start=starts[0]) == ALL[3:]


async def test_a_bare_link_as_a_position(session: aiohttp.ClientSession, service: Service) -> None:
    """Where nobody knows what came before, nothing is compared."""
    chain(service, page(0, 3), page(3, 6) | COUNT)
    assert await ids(session, start="/v1/odata/People?p=1") == ALL[3:6]


async def _until_error(found: AsyncIterator[odata.Page]) -> AsyncIterator[odata.Page]:
    try:
        async for it in found:
            yield it
    except odata.ODataError:
        pass


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_a_204_in_a_chain(session: aiohttp.ClientSession, service: Service, number: int) -> None:
    """Nothing is not a page: neither the last one nor the first."""
    chain(service, page(0, 3), page(3, 6), page(6, 10))
    service.says(f"People?p={number}" if number else "People", b"", status=204)
    with pytest.raises(odata.ODataError, match="not a whole OData collection") as it:
        await ids(session, give_up_after=0)
    assert (it.value.status, it.value.retryable) == (204, True)
    assert len(service.targets) == number + 2  # it was asked for twice


async def test_one_entity_in_a_chain(session: aiohttp.ClientSession, service: Service) -> None:
    """Nor is an entity where a page should be."""
    entity = {"@odata.context": "$metadata#People/$entity", "ID": "1"}
    service.says("Friends(1)/People", page(0, 3) | {"@odata.nextLink": "../People?p=1"})
    service.says("People?p=1", entity)
    with pytest.raises(odata.ODataError, match="not a whole OData collection"):
        await ids(session, "Friends(1)/People")
    service.says("People", entity)
    with pytest.raises(odata.ODataError, match="not a whole OData collection"):
        await ids(session, "People")


@pytest.mark.parametrize("name", ["@odata.nextLink", "@nextLink", "odata.nextLink", "@odata.nextlink"])
async def test_a_link_of_any_version(session: aiohttp.ClientSession, service: Service, name: str) -> None:
    """OData 4.01 may leave `odata.` out, and regards no case."""
    service.says("People", page(0, 6) | {"@nextLink": None, name: "People?p=1", "@context": "$metadata#People"})
    service.says("People?p=1", page(6, 10))
    assert await ids(session) == ALL


@pytest.mark.parametrize("name", ["@odata.count", "@count"])
@pytest.mark.parametrize("value", [10, "10", 10.0])
async def test_a_count_of_either_version(
    session: aiohttp.ClientSession, service: Service, name: str, value: object
) -> None:
    """The same, and in quotes too."""
    chain(service, page(0, 3) | {name: value}, page(3, 6))
    with pytest.raises(odata.ODataError, match="says that there are 10"):
        await ids(session)
    chain(service, page(0, 3) | {name: value}, page(3, 10))
    assert await ids(session) == ALL
    assert [it.count async for it in odata.pages(session, "People")] == [10, None]


async def test_one_entity_of_the_later_version(session: aiohttp.ClientSession, service: Service) -> None:
    """An entity is told from a collection by its context, however that is named; it is asked for once."""
    service.says("Contact(1)/Person", {"@context": "$metadata#People/$entity", "ID": "1"})
    assert await ids(session, "Contact(1)/Person") == ["1"]
    assert len(service.targets) == 1


@pytest.mark.parametrize("empty", [True, False])
async def test_top_with_a_count(session: aiohttp.ClientSession, service: Service, empty: bool) -> None:
    """A count is of all rows, and fewer may be asked for."""
    last = page(6, 8) if not empty else page(6, 6)
    chain(service, page(0, 3) | COUNT, page(3, 6), last, options="?$top=8")
    if empty:
        with pytest.raises(odata.ODataError, match="gives 6 rows"):
            await ids(session, top=8)
    else:
        assert await ids(session, top=8) == ALL[:8]


async def test_top_where_the_server_goes_on(session: aiohttp.ClientSession, service: Service) -> None:
    """No more rows than that."""
    chain(service, page(0, 3), page(3, 6), page(6, 10), options="?$top=5")
    assert await ids(session, top=5) == ALL[:5]
    assert len(service.targets) == 2


class Always(dict[str, Answer]):
    """One answer for every target."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer

    def __contains__(self, _: object) -> bool:
        return True

    def __missing__(self, _: str) -> Answer:
        return self.answer


# Reads that would never end


def endless(service: Service, rows: Callable[[int], list[dict[str, Any]]], **more: object) -> None:
    """Every page has a link that is new."""
    numbers = count(1)

    async def answer(request: web.Request) -> web.StreamResponse:
        number = next(numbers)
        return web.json_response({"value": rows(number), "@odata.nextLink": f"People?p={number}", **more})

    service.answers = Always(answer)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("more", [{}, COUNT])
async def test_the_same_rows_under_new_links(
    session: aiohttp.ClientSession, service: Service, length: int, more: dict[str, int]
) -> None:
    """Found out at the first page that comes again."""
    endless(service, lambda number: PEOPLE[number % length * 3 :][:3], **more)
    with pytest.raises(odata.ODataError, match=r"leads back to a page that was read already: .* never end"):
        await ids(session)
    assert len(service.targets) in {length + 1, length + 2}  # one page is read ahead


@pytest.mark.parametrize("rows", [[], [{"Name": "x"}]], ids=repr)
async def test_nothing_new_under_new_links(
    session: aiohttp.ClientSession, service: Service, rows: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that are empty, or equal and without keys, can be right, and not for ever."""
    monkeypatch.setattr(_trail, "_STILL", 20)
    endless(service, lambda number: PEOPLE[:1] if number == 5 else rows)
    with pytest.raises(odata.ODataError, match="20 pages in a row have no new row"):
        await ids(session)
    assert 25 <= len(service.targets) <= 28


async def test_empty_pages_in_a_chain(session: aiohttp.ClientSession, service: Service) -> None:
    """Some are no error: a server may look for rows page by page."""
    chain(service, page(0, 0), page(0, 3), page(0, 0), page(0, 0), page(3, 10))
    assert await ids(session) == ALL


# By $top and $skip


class Windows:
    """A server without links. `counts`: of its answers, one after another; `short`, `empty`: pages with fewer rows."""

    def __init__(
        self,
        service: Service,
        *,
        counts: Sequence[int | None] = (),
        rows: Sequence[dict[str, Any]] = PEOPLE,
        short: Collection[int] = (),
        empty: Collection[int] = (),
    ) -> None:
        self.counts, self.rows, self.short, self.empty, self.asked = counts, rows, short, empty, 0
        service.answers = self.everywhere()

    def everywhere(self) -> Always:
        """The answers to all targets."""
        return Always(self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = dict(pair.split("=") for pair in request.rel_url.raw_query_string.split("&") if pair)
        number, self.asked = self.asked, self.asked + 1
        skip, top = int(asked.get("$skip", 0)), min(4, int(asked.get("$top", 4)))
        top = 0 if number in self.empty else 1 if number in self.short else top
        count = {"@odata.count": self.counts[number]} if number < len(self.counts) else {}
        return web.json_response({"value": self.rows[skip : skip + top], **count})


@pytest.mark.parametrize("short", [{0}, {1}, {2}, {0, 1}, {1, 2, 3}])
@pytest.mark.parametrize("page_size", [4, None])
async def test_short_pages_without_a_count(
    session: aiohttp.ClientSession, service: Service, short: set[int], page_size: int | None
) -> None:
    """A page can be short because rows were left out of it: only an empty one is the end."""
    Windows(service, short=short)
    assert await ids(session, page_size=page_size) == ALL


@pytest.mark.parametrize("page_size", [4, None])
async def test_a_window_that_ends_early(
    session: aiohttp.ClientSession, service: Service, page_size: int | None
) -> None:
    """Compared with the last count that came, and asked again, since a count and its rows are two looks."""
    served = Windows(service, counts=[10] * 20, rows=PEOPLE[:6])
    with pytest.raises(odata.ODataError, match="gives 6 rows and no more, and says that there are 10"):
        await ids(session, page_size=page_size)
    assert served.asked == 7
    Windows(service, counts=[10], rows=PEOPLE[:6])
    with pytest.raises(odata.ODataError, match="gives 6 rows and no more, and says that there are 10"):
        await ids(session, page_size=page_size)


async def test_a_count_that_falls_to_what_came(session: aiohttp.ClientSession, service: Service) -> None:
    """Rows were deleted meanwhile."""
    Windows(service, counts=[10, None, 7, 6, 6], rows=PEOPLE[:6])
    assert await ids(session) == ALL[:6]


async def test_an_empty_window_with_a_link(session: aiohttp.ClientSession, service: Service) -> None:
    """Nothing new, and a link to more of it: that is followed, and its count is a promise."""
    service.says("People?$top=5", page(0, 5))
    service.says("People?$top=5&$skip=2", page(2, 5) | {"@odata.nextLink": "People?p=1"})
    service.says("People?p=1", page(5, 5) | {"@odata.count": 7})
    with pytest.raises(odata.ODataError, match="gives 5 rows and no more, and says that there are 7"):
        await ids(session, page_size=5)


async def test_an_empty_first_page(session: aiohttp.ClientSession, service: Service) -> None:
    """A count says that there are rows, and the first page has none: they are read in another way."""
    Windows(service, counts=[10], rows=PEOPLE, empty={0})
    assert await ids(session) == ALL


async def test_the_count_ends_a_short_page(session: aiohttp.ClientSession, service: Service) -> None:
    """Nothing else has to be asked; after a full page, one more is, since servers cut counts too."""
    for said in (10, 8):
        served = Windows(service, counts=[said] * 9)
        assert await ids(session, page_size=4) == ALL
        assert served.asked == 1 + 1 + 7


async def test_one_entity_by_windows(session: aiohttp.ClientSession, service: Service) -> None:
    """With a page size too, one entity is one row."""
    service.says("C(1)/P", {"@odata.context": "$metadata#P/$entity", "ID": "1"})
    service.says("C(2)/P", b"", status=204)
    assert await ids(session, "C(1)/P", page_size=5) == ["1"]
    assert await ids(session, "C(2)/P", page_size=5) == []


async def test_a_window_goes_on_in_another_process(session: aiohttp.ClientSession, service: Service) -> None:
    """The promise is part of the position."""
    Windows(service, counts=[10], rows=PEOPLE[:6])
    (start, *_) = [it.next async for it in _until_error(odata.pages(session, "People", page_size=4))]
    with pytest.raises(odata.ODataError, match="gives 6 rows and no more, and says that there are 10"):
        await ids(session, page_size=4, start=start)


# Inside of rows

CUT = {"Phones@odata.nextLink": "People(1)/Phones?$skiptoken=2"}
COUNTED = {"Phones@odata.count": 3}
TWO = [{"ID": "p1"}, {"ID": "p2"}]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"Phones": TWO, **CUT}, r"field Phones is not whole"),
        ({"Phones": TWO, "Phones@nextLink": "x"}, r"field Phones is not whole"),
        ({"Boss": {"Phones": [], **CUT}}, r"field Boss\.Phones is not whole"),
        ({"Friends": [{}, {"Phones": TWO, **CUT}]}, r"field Friends\.1\.Phones is not whole"),
        ({"Phones": TWO, **COUNTED}, r"field Phones has 2 of 3 entries"),
        ({"Phones": TWO, "Phones@count": "3"}, r"field Phones has 2 of 3 entries"),
    ],
)
async def test_an_expanded_collection_that_is_cut(
    session: aiohttp.ClientSession, service: Service, row: dict[str, Any], field: str, exact: bool
) -> None:
    """An error that names row and field and says how to read the rest, for rows and for pages."""
    service.says("People?$expand=Phones", {"@odata.count": 2, "value": [{"ID": "0"}, {"ID": "k1", **row}]})
    with pytest.raises(odata.ODataError, match=rf"^People\(k1\): {field}.*: read that collection by itself"):
        await ids(session, expand=["Phones"], exact=exact)


@pytest.mark.parametrize(
    "row",
    [
        {"Phones": TWO, "Phones@odata.count": 2},
        {"Phones": TWO, "Phones@odata.nextLink": None},
        {"Phones@odata.count": 3},
        {"Phones": TWO, "Phones@odata.count": "many"},
        {"Name": '"@odata.nextLink":"x" and nextLink"', "@odata.nextLink": 1},
    ],
    ids=repr,
)
async def test_an_expanded_collection_that_is_whole(
    session: aiohttp.ClientSession, service: Service, row: dict[str, Any]
) -> None:
    """Notes that say nothing of missing entries are no error, nor are texts that look like notes."""
    service.says("People?$expand=Phones", {"@odata.count": 1, "value": [{"ID": "k1", **row}]})
    assert await ids(session, expand="Phones") == ["k1"]


async def test_an_expanded_collection_that_was_limited(session: aiohttp.ClientSession, service: Service) -> None:
    """Where the caller asked for fewer, the count says of how many."""
    service.says(
        "People?$expand=Phones($count=true%3B$top=2)",
        {"@odata.count": 1, "value": [{"ID": "k1", "Phones": TWO, **COUNTED}]},
    )
    assert await ids(session, expand="Phones($count=true;$top=2)") == ["k1"]


async def test_a_cut_in_another_encoding(session: aiohttp.ClientSession, service: Service) -> None:
    """It is seen in UTF-16 too."""
    text = '{"value": [{"ID": "k1", "Phones": [], "Phones@odata.nextLink": "x"}]}'
    service.says("People", text.encode("utf-16"))
    with pytest.raises(odata.ODataError, match="field Phones is not whole"):
        await ids(session)


# In ways that few services have


async def test_links_below_an_entity_that_end_early(session: aiohttp.ClientSession, service: Service) -> None:
    """Nothing else goes on there, since no order was asked for."""
    service.says("Team(1)/People?$count=true", page(0, 3) | COUNT | {"@odata.nextLink": "../People?p=1"})
    service.says("People?p=1", page(3, 6))
    with pytest.raises(odata.ODataError, match="gives 6 rows and no more, and says that there are 10"):
        await ids(session, "Team(1)/People", count=True)


async def test_links_that_end_early_and_no_filter(session: aiohttp.ClientSession, service: Service) -> None:
    """The first page again, in place of what is behind the last key: the rest is read by windows."""
    many = [{"ID": f"{number:03}"} for number in range(130)]
    service.says("People", {"value": many[:60], "@odata.count": 130, "@odata.nextLink": "People?p=1"})
    service.says("People?p=1", {"value": many[60:120]})
    service.says("People?$filter=ID%20gt%20'119'", {"value": many[:60]})
    service.says("People?$skip=117", {"value": many[117:], "@odata.count": 130})
    assert await ids(session) == [row["ID"] for row in many]


async def test_a_window_that_nothing_is_known_of(session: aiohttp.ClientSession, service: Service) -> None:
    """So much moved between two runs that it cannot be said which rows came: an error, and not rows twice."""
    start = '{"rows":2000,"skip":2000,"sure":true,"longest":100,"recent":"AAAAAAAAAAA="}'
    service.answers = Windows(service).everywhere()
    with pytest.raises(odata.ODataError, match="cannot be continued: read it again from the beginning"):
        await ids(session, orderby="Name", start=start)
