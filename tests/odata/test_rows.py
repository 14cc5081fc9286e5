from __future__ import annotations

import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import aiohttp
import attrs
import pytest

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError

from .conftest import Service


@attrs.frozen
class Phone:
    Number: str


@attrs.frozen
class Person:
    ID: str
    Name: str | None = None
    Age: int = 0
    Score: float = 0.0
    Active: bool = True
    Phones: list[Phone] = attrs.field(factory=list)


@attrs.frozen
class Adult:
    ID: str
    Age: int = attrs.field(validator=attrs.validators.ge(18))


async def test_rows_of_all_pages(session: aiohttp.ClientSession, service: Service) -> None:
    """As dicts, page after page, with the options of `pages`."""
    service.says(
        "People?$select=ID&$filter=Age%20gt%201&$expand=Phones",
        {"value": [{"ID": "1"}, {"ID": "2"}], "@odata.nextLink": "People?p=2"},
    )
    service.says("People?p=2", {"value": [], "@odata.nextLink": "People?p=3"})
    service.says("People?p=3", {"value": [{"ID": "3"}]})
    rows = odata.rows(session, "People", select=["ID"], filter="Age gt 1", expand=["Phones"], orderby=["ID"])
    assert [row async for row in rows] == [{"ID": "1"}, {"ID": "2"}, {"ID": "3"}]


async def test_rows_of_a_class(session: aiohttp.ClientSession, service: Service) -> None:
    """An attrs class takes the fields that it has; a whole number is a float too, null is None where that is meant."""
    row = {"@odata.id": "x", "ID": "1", "Name": None, "Age": 3, "Score": 2, "Active": False, "More": 1}
    service.says("People", {"value": [row | {"Phones": [{"Number": "+31"}]}, {"ID": "2"}]})
    found = [person async for person in odata.rows(session, "People", type=Person)]
    assert found == [Person("1", None, 3, 2.0, False, [Phone("+31")]), Person("2")]
    assert type(found[0].Score) is float


@attrs.frozen
class Contact:
    ID: UUID
    Since: datetime
    Born: date | None
    Wakes: time
    Debt: Decimal


CONTACT = {
    "ID": "6f9619ff-8b86-d011-b42d-00c04fc964ff",
    "Since": "2024-02-29T12:30:00Z",
    "Born": "2000-02-29",
    "Wakes": "07:30:00",
    "Debt": 0.1,
}


@pytest.mark.parametrize("debt", [0.1, "0.1"])
async def test_what_json_has_no_type_for(session: aiohttp.ClientSession, service: Service, debt: object) -> None:
    """GUIDs, times and decimals, as OData writes them."""
    service.says("People", {"value": [{**CONTACT, "Debt": debt}]})
    assert [row async for row in odata.rows(session, "People", type=Contact)] == [
        Contact(
            UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff"),
            datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
            date(2000, 2, 29),
            time(7, 30),
            Decimal("0.1"),
        )
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ID", 17),
        ("Since", "canary"),
        ("Since", None),
        ("Wakes", 7.5),
        ("Debt", "canary"),
        ("Debt", True),
        ("Debt", None),
    ],
)
async def test_a_field_that_is_none_of_those(
    session: aiohttp.ClientSession, service: Service, field: str, value: object
) -> None:
    """The error names it, and shows no value."""
    service.says("People", {"value": [{**CONTACT, field: value}]})
    with pytest.raises(odata.ODataError, match=f"does not fit Contact: field {field}$") as it:
        await anext(odata.rows(session, "People", type=Contact))
    assert "canary" not in str(it.value)


@pytest.mark.parametrize(
    ("row", "kind", "told"),
    [
        ({"ID": "k1", "Age": "canary"}, Person, "People(k1) does not fit Person: field Age"),
        ({"ID": "k1", "Age": True}, Person, "People(k1) does not fit Person: field Age"),
        ({"ID": "k1", "Age": 1.5}, Person, "People(k1) does not fit Person: field Age"),
        ({"ID": "k1", "Active": 1}, Person, "People(k1) does not fit Person: field Active"),
        ({"ID": "k1", "Score": "1.5"}, Person, "People(k1) does not fit Person: field Score"),
        ({"ID": "k1", "Name": 17}, Person, "People(k1) does not fit Person: field Name"),
        ({"Name": "canary"}, Person, "People(key not known) does not fit Person: field ID"),
        ({"ID": None}, Person, "People(key not known) does not fit Person: field ID"),
        (
            {"ID": "k1", "Phones": [{"Number": "1"}, {"Number": None}]},
            Person,
            "People(k1) does not fit Person: field Phones.1.Number",
        ),
        ({"ID": "k1", "Phones": None}, Person, "People(k1) does not fit Person: field Phones"),
        ({"ID": "k1", "Age": 17}, Adult, "People(k1) does not fit Adult: the class's own check refused it"),
    ],
)
async def test_a_row_that_does_not_fit(
    session: aiohttp.ClientSession, service: Service, row: dict[str, Any], kind: type[Any], told: str
) -> None:
    """The error names entity set, key and field, and shows no value, in no chained cause either."""
    service.says("People", {"value": [row]})
    with pytest.raises(odata.ODataError) as it:
        await anext(odata.rows(session, "/v1/odata/People", type=kind))
    assert str(it.value) == told
    assert it.value.__context__ is None
    assert it.value.__cause__ is None


async def test_a_caller_who_stops_leaves_nothing_open(session: aiohttp.ClientSession, service: Service) -> None:
    """Closed in the middle, it closes what it reads from: nothing is left for the garbage collector to finish."""
    service.says("People", {"value": [{"ID": "1"}, {"ID": "2"}]})
    abandoned: list[object] = []
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(finalizer=abandoned.append)
    try:
        rows = odata.rows(session, "People")
        assert await anext(rows) == {"ID": "1"}
        await rows.aclose()
    finally:
        sys.set_asyncgen_hooks(*hooks)
    assert abandoned == []


async def test_a_class_that_rows_cannot_become(session: aiohttp.ClientSession, service: Service) -> None:
    """Said before anything is sent."""
    with pytest.raises(ConfigurationError, match="dicts or instances of an attrs class"):
        await anext(odata.rows(session, "People", type=int))
    assert service.targets == []


class Whole(int):
    """An integer of another kind."""


GUID = UUID("6F9619FF-8B86-D011-B42D-00C04FC964FF")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ("", "''"),
        ("O'Neil's", "'O''Neil''s'"),
        (0, "0"),
        (-17, "-17"),
        (Whole(3), "3"),
        (1.5, "1.5"),
        (1e22, "1e+22"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.10"), "0.10"),
        (GUID, "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        (date(2024, 2, 29), "2024-02-29"),
        (datetime(2024, 2, 29, 12, 30, tzinfo=UTC), "2024-02-29T12:30:00Z"),
        (datetime(2024, 2, 29, 0, 30, 0, 5, tzinfo=timezone(timedelta(hours=2))), "2024-02-28T22:30:00.000005Z"),
    ],
    ids=repr,
)
def test_a_literal(value: object, text: str) -> None:
    """Written as OData has it: quotes doubled, GUIDs bare, times in UTC."""
    assert odata.literal(value) == text


@pytest.mark.parametrize(
    "value",
    [datetime(2024, 2, 29), float("nan"), float("-inf"), Decimal("NaN"), b"canary", ["canary"]],
    ids=repr,
)
def test_what_has_no_literal(value: object) -> None:
    """A time without a zone, no number, anything else: one error that names the kind and shows no value."""
    with pytest.raises(ConfigurationError, match=f"no literal for this {type(value).__name__}: give text") as it:
        odata.literal(value)
    assert "canary" not in str(it.value)


async def test_a_literal_in_a_filter(session: aiohttp.ClientSession, service: Service) -> None:
    """Together they are one encoded option."""
    service.says("People?$filter=Name%20eq%20'O''Neil%20%26%20Co'%20and%20Score%20lt%201e%2B22", {"value": []})
    wanted = "Name eq " + odata.literal("O'Neil & Co") + " and Score lt " + odata.literal(1e22)
    assert [row async for row in odata.rows(session, "People", filter=wanted)] == []
