"""Positions of reads: only those that a page can have; and what a page is split into."""

from __future__ import annotations

import json
import sys

import aiohttp
import msgspec
import pytest

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._json import EXACT, raw_row, splitter
from tribe_oauth.odata._keys import Known
from tribe_oauth.odata._positions import Place, joined, parts_at

from .conftest import Service

PLACES = [
    Place(rows=100, last="a", recent="AAAA", longest=100, left=-3),
    Place(rows=None, last=7, before=9, sure=True),
    Place(rows=5, skip=5, sure=True),
    Place(rows=5, link="/v1/odata/People?p=2", got=5, mark=7, ordered=False),
]


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_a_position_is_read_again(place: Place) -> None:
    """As it was written, by itself or among parts."""
    assert Place.at(str(place)) == place
    assert parts_at(str(place)) == [str(place)]
    text = joined([str(place), str(PLACES[0])])
    assert text is not None
    assert parts_at(text) == [str(place), str(PLACES[0])]
    assert joined([]) is None


ODD = [
    "",
    "x",
    "{}",
    "7",
    "[",
    "[]",
    "[7]",
    "[{}]",
    '{"last":1.5}',
    '{"last":true}',
    '{"skip":-1}',
    '{"skip":"1"}',
    '{"last":"a","more":1}',
    '{"last":null}',
    "[" * 100_000,
]


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:20])
def test_what_is_no_position(text: str) -> None:
    """Is refused, whatever it is."""
    with pytest.raises(ConfigurationError, match="no position of a read"):
        [Place.at(part) for part in parts_at(text)]


async def test_digests_that_are_none(session: aiohttp.ClientSession, service: Service) -> None:
    """The same, and nothing is asked for."""
    start = json.dumps({"rows": 5, "skip": 5, "recent": "?"})
    with pytest.raises(ConfigurationError, match="no position of a read"):
        await anext(odata.pages(session, "People", start=start))
    assert service.targets == []


def test_rows_that_are_known() -> None:
    """A position remembers the last thousand; a read itself all of them."""
    digests = [number.to_bytes(8, "big") for number in range(1_500)]
    known = Known([], 0)
    known.add(digests)
    assert known.is_all
    assert digests[0] in known
    again = Known.at(str(known), 1_500)
    assert not again.is_all
    assert digests[0] not in again
    assert digests[500] in again
    assert (again.oldest, Known([], 0).oldest) == (digests[500], None)


SPLIT = splitter()


@pytest.mark.parametrize("text", ["a", "é", "\\ud83d\\ude00", "😀"])
def test_rows_as_they_came(text: str) -> None:
    """Byte for byte, with their digits."""
    rows = [f'{{"ID": "{text}", "x": 1e999}}', '{"y":0.10}']
    content = f'{{"@odata.context":"c","@odata.count":3,"value":[{rows[0]} , {rows[1]}]}}'.encode()
    value = SPLIT(content).value
    assert [bytes(row).decode() for row in value["value"]] == rows
    assert (value["@odata.count"], value["@odata.context"]) == (3, "c")
    assert "@odata.nextLink" not in value


@pytest.mark.parametrize(
    "content",
    [
        b'{"value":[{"ID":\n1}]}',
        b'{"value":[{"ID":\r1}]}',
        b'{"value":[{"ID":"\\ud800"}]}',
        b'{"value":[{"ID":1}],"@count":1}',
        b'{"value":[{"ID":1}],"@odata.count":"1"}',
        b'{"value":[1]}',
        b'{"error":{}}',
        b"\xef\xbb\xbf{}",
    ],
)
def test_rows_that_are_parsed(content: bytes) -> None:
    """What cannot be a line as it is, or is no usual page."""
    assert SPLIT(content) == EXACT(content)


@pytest.mark.parametrize("content", [b"", b'{"value":[{"ID":"\xff"}]}'])
def test_what_is_no_json(content: bytes) -> None:
    """Bytes that are no UTF-8 are not written as they are."""
    with pytest.raises(ValueError, match=r"."):
        SPLIT(content)


def test_without_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is parsed."""
    assert raw_row() is msgspec.Raw
    monkeypatch.setitem(sys.modules, "msgspec", None)
    assert splitter() is EXACT
    assert raw_row() is None
