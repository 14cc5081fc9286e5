"""What is written in JSON: exact, in OData's forms, and nothing that has none."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import attrs
import pytest

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._body import makes_others, pieces
from tribe_oauth.odata._json import EXACT
from tribe_oauth.odata._query import Query
from tribe_oauth.odata._typed import structurer

GUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"


def written(value: Any) -> str:
    (text,) = pieces({"f": value})
    assert isinstance(text, bytes)
    assert json.loads(text)["f"] is not ...
    return text.decode().removeprefix('{"f":').removesuffix("}")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (12345678901234567890, "12345678901234567890"),
        (0.1, "0.1"),
        (Decimal("12.50"), "12.50"),
        (Decimal("1E+3"), "1E+3"),
        (odata.Number("34.500000000000000000001"), "34.500000000000000000001"),
        ('é"\n', '"é\\"\\n"'),
        (UUID(GUID), f'"{GUID}"'),
        (b"\xfb\xff", '"-_8="'),
        (date(2026, 11, 26), '"2026-11-26"'),
        (time(8, 30), '"08:30:00"'),
        (datetime(2026, 11, 26, 9, 0, tzinfo=timezone(timedelta(hours=1))), '"2026-11-26T08:00:00Z"'),
        (timedelta(days=1, microseconds=500_000), '"PT86400.5S"'),
        (-timedelta(seconds=90), '"-PT90S"'),
        ([1, [True]], "[1,[true]]"),
        ((), "[]"),
        ({"a": {"b": "c"}, "d": []}, '{"a":{"b":"c"},"d":[]}'),
    ],
)
def test_values(value: Any, text: str) -> None:
    """Each in its own form."""
    assert written(value) == text


@attrs.frozen
class All:
    ID: UUID
    Text: str
    Amount: Decimal
    Count: int
    When: datetime
    Day: date
    At: time
    Took: timedelta
    Content: bytes
    Parts: list[Decimal]


def test_it_is_read_as_it_was_written() -> None:
    """A round trip through the reader of rows keeps each value."""
    row = All(
        UUID(GUID),
        "é",
        Decimal("0.1000000000000000000001"),
        3,
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        date(2026, 1, 2),
        time(3, 4),
        timedelta(days=-1, microseconds=1),
        bytes(range(256)),
        [Decimal("1.10")],
    )
    (text,) = pieces({"row": row})
    assert isinstance(text, bytes)
    assert structurer(All)(EXACT(text).value["row"], Query("x")) == row


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        odata.Number("NaN"),
        datetime(2026, 1, 1),  # noqa: DTZ001, RUF100 (that it has no zone is the point)
        time(1, tzinfo=UTC),
        {1, 2},
        object(),
        bytearray(b"x"),
        All,
    ],
)
def test_what_json_has_no_form_for(value: Any) -> None:
    """The error names the field, and shows no value."""
    with pytest.raises(ConfigurationError, match=r"field Outer\.1\.Inner cannot be written: .* give text"):
        pieces({"Outer": [0, {"Inner": value}]})


@pytest.mark.parametrize("fields", [{"f": "\ud800"}, {"\ud800": 1}, {1: 2}, {"f": {None: 1}}])
def test_text_that_is_none(fields: Any) -> None:
    """Half a surrogate pair cannot be sent."""
    with pytest.raises(ConfigurationError, match="UTF-8"):
        pieces(fields)


@attrs.frozen
class Link:
    ID: str | None = None
    Name: str | None = None


@pytest.mark.parametrize(
    ("fields", "others"),
    [
        ({"Name": "x"}, False),
        ({"Person": {"ID": "x"}}, False),
        ({"Person": Link(ID="x")}, False),
        ({"Person": {"Name": "x"}}, True),
        ({"Person": {"ID": None, "Name": "x"}}, True),
        ({"Person": Link(Name="x")}, True),
        ({"Notes": [{"ID": "x"}, {"Content": "x"}]}, True),
        ({"Person": {"ID": "x", "Address": {"City": "x"}}}, True),
        ({"File": odata.File(b"", name="x", mime_type="text/plain")}, False),
        ({"ID": None, "Person": None, "Tags": [1, "x"], "Class": Link}, False),
    ],
)
def test_what_creates_others(fields: dict[str, Any], others: bool) -> None:
    """An object without an ID below the first one, however deep."""
    assert makes_others(fields) is others


def test_ids_of_any_kind() -> None:
    """A UUID is a key, too."""
    assert not makes_others({"Person": {"ID": uuid4()}})
