"""Values at the edges: exact, or an error that names row and field."""

from __future__ import annotations

import math
import pickle
import sys
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Union
from uuid import UUID

import aiohttp
import attrs
import pytest

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._json import parser

from .conftest import Service


def body(text: str) -> bytes:
    """A page of one row with this JSON in its field `x`."""
    return f'{{"value": [{{"ID": "k1", "x": {text}}}]}}'.encode()


async def read(session: aiohttp.ClientSession, **options: Any) -> list[Any]:
    return [row async for row in odata.rows(session, "People", **options)]


async def read_as(session: aiohttp.ClientSession, service: Service, kind: Any, text: str) -> Any:
    """The value of a field of this type."""
    service.says("People", body(text))
    made = attrs.make_class("Row", {"x": attrs.field(type=kind)}, frozen=True)
    (row,) = await read(session, type=made)
    return row.x


LONG = "123456789012345678.901234567890123456789"

EXACT: list[tuple[Any, str, Any]] = [
    (Decimal, LONG, Decimal(LONG)),
    (Decimal, "0.1", Decimal("0.1")),
    (Decimal, "34.50", Decimal("34.50")),
    (Decimal, "1e999", Decimal("1e999")),
    (Decimal, "-1E-400", Decimal("-1E-400")),
    (Decimal, "34", Decimal(34)),
    (Decimal, f'"{LONG}"', Decimal(LONG)),
    (Decimal, '"INF"', Decimal("Infinity")),
    (Decimal | None, "null", None),
    (list[Decimal], f"[{LONG}, 1]", [Decimal(LONG), Decimal(1)]),
    (float, "0.1", 0.1),
    (float, "3", 3.0),
    (float, '"INF"', math.inf),
    (float, '"-INF"', -math.inf),
    (float, "1e308", 1e308),
    (int, "34", 34),
    (int, "34.0", 34),
    (int, "-34.00", -34),
    (int, '"9223372036854775807"', 2**63 - 1),
    (int, '"-9223372036854775808"', -(2**63)),
    (int, "9223372036854775808", 2**63),
    (timedelta, '"P1DT2H3M4.5S"', timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
    (timedelta, '"-PT0.000001S"', timedelta(microseconds=-1)),
    (timedelta, '"PT36H"', timedelta(hours=36)),
    (timedelta, '"P2D"', timedelta(days=2)),
    (timedelta, '"PT1.5000000S"', timedelta(seconds=1.5)),
    (bytes, '"-_-_"', b"\xfb\xff\xbf"),
    (bytes, '"+/+/"', b"\xfb\xff\xbf"),
    (bytes, '"YQ"', b"a"),
    (bytes, '"YQ=="', b"a"),
    (bytes, '""', b""),
    (datetime, '"2024-02-29T12:30:00.12Z"', datetime(2024, 2, 29, 12, 30, 0, 120_000, tzinfo=UTC)),
    (datetime, '"2024-02-29T12:30:00.1234560Z"', datetime(2024, 2, 29, 12, 30, 0, 123_456, tzinfo=UTC)),
    (time, '"07:30:00.5"', time(7, 30, 0, 500_000)),
    (int | str, '"007"', "007"),
    (int | str, "7", 7),
    (str | int | None, "null", None),
    (Union[int, Decimal], "7.50", Decimal("7.50")),  # noqa: UP007 (the other spelling)
    (UUID | int, '"6f9619ff-8b86-d011-b42d-00c04fc964ff"', UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff")),
    (float | None, "1.25", 1.25),
    (float | str, "1.25", 1.25),
    (list[str], '["a", "b"]', ["a", "b"]),
]


@pytest.mark.parametrize(("kind", "text", "value"), EXACT, ids=lambda it: str(it)[:40])
async def test_a_value_is_exact(
    session: aiohttp.ClientSession, service: Service, kind: Any, text: str, value: object
) -> None:
    """All digits of a number; whole numbers in quotes; infinities, durations and bytes as OData writes them."""
    found = await read_as(session, service, kind, text)
    assert found == value
    assert type(found) is type(value)


async def test_not_a_number(session: aiohttp.ClientSession, service: Service) -> None:
    """As OData writes it, in quotes."""
    assert math.isnan(await read_as(session, service, float, '"NaN"'))


REFUSED: list[tuple[Any, str]] = [
    (Decimal, "true"),
    (Decimal, '" 1"'),
    (Decimal, '"1_000"'),
    (Decimal, '"Infinity"'),
    (Decimal, "[1]"),
    (Decimal, "1e99999999999999999999"),
    (float, "1e999"),
    (float, "-1e999"),
    (float, "1" + "0" * 400),
    (float, "1" + "0" * 5000),
    (float, '"1.5"'),
    (float, '"Infinity"'),
    (float, "true"),
    (int, "34.5"),
    (int, "1e3"),
    (int, '"34.0"'),
    (int, '"0x10"'),
    (int, '"1_0"'),
    (int, '"٣"'),
    (int, "1" + "0" * 5000),
    (timedelta, '"P"'),
    (timedelta, '"PT"'),
    (timedelta, '"P1Y"'),
    (timedelta, '"1 day"'),
    (timedelta, '"PT0.0000001S"'),
    (timedelta, '"P9999999999D"'),
    (timedelta, "5"),
    (bytes, '"a"'),
    (bytes, '"a b="'),
    (bytes, '"ö"'),
    (bytes, "5"),
    (datetime, '"2024-02-29T12:30:00.1234567Z"'),
    (datetime, '"2024-02-30T12:30:00Z"'),
    (time, '"07:30:00.0000001"'),
    (int | Decimal, '"many"'),
    (UUID | int, "true"),
    (list[str], '"text"'),
    (list[str], '{"a": 1}'),
    (list[str], "null"),
]


@pytest.mark.parametrize(("kind", "text"), REFUSED, ids=lambda it: str(it)[:40])
async def test_what_is_not_exact_is_refused(
    session: aiohttp.ClientSession, service: Service, kind: Any, text: str
) -> None:
    """With an error that names row and field, and nothing else of the row."""
    with pytest.raises(odata.ODataError, match=r"^People\(k1\) does not fit Row: field x$") as it:
        await read_as(session, service, kind, text)
    assert it.value.__context__ is None


class Opaque:
    """No attrs class."""


UNKNOWN: list[Any] = [Opaque, list[Opaque], complex, object, "Nowhere", Opaque | int]


@pytest.mark.parametrize("kind", UNKNOWN, ids=str)
async def test_a_type_that_no_value_becomes(session: aiohttp.ClientSession, service: Service, kind: Any) -> None:
    """Said before anything is sent, in the library's own error, with what could be used."""
    with pytest.raises(ConfigurationError, match=r"rows cannot become Row: .*; give the field a type that OData has"):
        await read_as(session, service, kind, "1")
    assert service.targets == []


@pytest.mark.parametrize("text", ["1", '{"a": 1}'])
async def test_a_type_that_is_found_out_late(session: aiohttp.ClientSession, service: Service, text: str) -> None:
    """The same, where only a value shows it."""
    with pytest.raises(ConfigurationError, match="rows cannot become Row: Unsupported type"):
        await read_as(session, service, Opaque | None, text)


async def test_a_field_of_any_type(session: aiohttp.ClientSession, service: Service) -> None:
    """Where a class leaves it open, a number with a fraction is a float that keeps its digits."""
    found = await read_as(session, service, Any, "34.50")
    assert found == 34.5
    assert isinstance(found, odata.Number)
    assert found.text == "34.50"
    copied = pickle.loads(pickle.dumps(found))  # noqa: S301 (our own)
    assert (copied, copied.text) == (34.5, "34.50")


# Rows as dicts


async def test_plain_rows_have_plain_floats(session: aiohttp.ClientSession, service: Service) -> None:
    """As from Python's own JSON, unless all digits are asked for."""
    service.says("People", body("34.50"))
    (row,) = await read(session)
    assert type(row["x"]) is float
    page, _ = [page async for page in odata.pages(session, "People", exact=True)]
    assert page.rows[0]["x"].text == "34.50"


@pytest.mark.parametrize("with_msgspec", [True, False])
@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("1e999", "x"),
        ("-1e999", "x"),
        ('{"y": [0, 1e999]}', r"x\.y\.1"),
        ("1" + "0" * 5000, "x"),
        ("NaN", "x"),
        ("Infinity", "x"),
        ('[{"z": -Infinity}]', r"x\.0\.z"),
    ],
    ids=lambda it: it[:12],
)
async def test_a_number_that_no_float_can_hold(
    session: aiohttp.ClientSession,
    service: Service,
    text: str,
    field: str,
    with_msgspec: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error with row and field, and never an infinity or a null; NaN is not even JSON."""
    if not with_msgspec:
        monkeypatch.setitem(sys.modules, "msgspec", None)
        monkeypatch.setattr("tribe_oauth.odata._answer.PLAIN", parser(exact=False))
    service.says("People", body(text))
    with pytest.raises(odata.ODataError, match=rf"^People\(k1\): field {field} has .*number"):
        await read(session)


@pytest.mark.parametrize("text", ["NaN", "-Infinity"])
async def test_what_is_no_json_is_never_exact(session: aiohttp.ClientSession, service: Service, text: str) -> None:
    """With all digits asked for, too."""
    service.says("People", body(text))
    with pytest.raises(odata.ODataError, match=r"^People\(k1\): field x has no number that JSON knows"):
        await read_as(session, service, float, text)


async def test_odd_values_outside_of_rows(session: aiohttp.ClientSession, service: Service) -> None:
    """Nobody is given them, so they are no error."""
    service.says("People", b'{"value": [{"ID": "k1"}], "x": 1e999}')
    assert await read(session) == [{"ID": "k1"}]
