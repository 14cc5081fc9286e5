"""An export keeps every digit as it came, or says which row and field it cannot keep."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tribe_oauth.odata import Number, ODataError, Query
from tribe_oauth.sync import JSONLinesFolder, JSONLinesStream, Outcome, export

from .conftest import Kept, World, connected

PEOPLE = "Relation_Person"
LONG = "123456789012345678.901234567890123456789"
NUMBERS = ["34.50", "34.0", "1e999", "-1E-400", "0.0000001", "1E5", "-0.0", LONG, "9" * 30, "9" * 5000, "7"]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """One organization, whose API answers what a test says."""
    async with connected(organizations=["acme"], persons=1) as world:
        yield world


async def read(world: World, sink: Any, body: str, **options: Any) -> Outcome:
    fault = world.sandbox.fault("body", endpoint="api", body=body, content_type="application/json", times=None)
    (outcome,) = await export(world.manager, ["acme"], [Query(PEOPLE, count=True, **options)], sink)
    fault.cancel()
    return outcome


def page(*rows: str) -> str:
    return f'{{"@odata.count": {len(rows)}, "value": [{", ".join(rows)}]}}'


@pytest.mark.parametrize("text", ["a", "é", "\\ud800"], ids=ascii)
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: number[:20])
async def test_digits_in_files(world: World, tmp_path: Path, number: str, text: str) -> None:
    """Every number, also one that no float can hold, and beside half a surrogate pair."""
    async with JSONLinesFolder(tmp_path) as sink:
        outcome = await read(
            world, sink, page(f'{{"ID": "1", "x": {number}, "y": [{{"z": {number}}}], "t": "{text}"}}')
        )
        assert outcome.error is None
        (line,) = sink.path("acme", PEOPLE).read_text(encoding="utf-8").splitlines()
    assert line.replace(" ", "") == f'{{"ID":"1","x":{number},"y":[{{"z":{number}}}],"t":"{text}"}}'


async def test_digits_in_a_stream(world: World) -> None:
    """The same, in one stream for all."""
    stream = io.BytesIO()
    await read(world, JSONLinesStream(stream), page('{"ID": "1", "x": 1e999}', '{"ID": "2", "x": 34.50}'))
    lines = stream.getvalue().decode().splitlines()
    assert [line.partition('"row":')[2] for line in lines] == ['{"ID": "1", "x": 1e999}}', '{"ID": "2", "x": 34.50}}']


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
async def test_what_is_no_number(world: World, tmp_path: Path, number: str) -> None:
    """It is no null: the entity set has failed, and its error names row and field."""
    async with JSONLinesFolder(tmp_path) as sink:
        outcome = await read(world, sink, page('{"ID": "1"}', f'{{"ID": "2", "x": {{"y": {number}}}}}'))
        assert not sink.path("acme", PEOPLE).exists()
    assert isinstance(outcome.error, ODataError)
    assert str(outcome.error).startswith(f"{PEOPLE}(2): field x.y has no number that JSON knows")


async def test_a_sink_with_plain_floats(world: World) -> None:
    """A sink of one's own gets what Python's JSON gives; a number that no float can hold is an error."""
    sink = Kept()
    assert (await read(world, sink, page('{"ID": "1", "x": 34.50}'))).error is None
    (row,) = sink.rows["acme", PEOPLE]
    assert (type(row["x"]), row["x"]) == (float, 34.5)
    error = (await read(world, Kept(), page('{"ID": "1", "x": 1e999}'))).error
    assert str(error).startswith(f"{PEOPLE}(1): field x has a number that is too large for a float")


@pytest.mark.parametrize("way", ["sink", "query"])
async def test_a_sink_that_wants_all_digits(world: World, way: str) -> None:
    """It says so once, or the query does; its numbers are floats all the same."""
    sink = Kept()
    if way == "sink":
        sink = ExactSink()
    await read(world, sink, page('{"ID": "1", "x": 34.50}'), exact=way == "query")
    (row,) = sink.rows["acme", PEOPLE]
    assert isinstance(row["x"], Number)
    assert row["x"].text == "34.50"
    assert json.dumps(row) == '{"ID": "1", "x": 34.5}'


class ExactSink(Kept):
    """Wants all digits."""

    exact = True


async def test_a_bound_for_pages(world: World) -> None:
    """A query has one, and what is longer is the error of its entity set."""
    outcome = await read(world, Kept(), page('{"ID": "1"}'), max_bytes=10)
    assert "more than 10 bytes" in str(outcome.error)
