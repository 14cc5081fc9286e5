"""The one table of columns: what follows from it, in every store and in an encrypted one."""

from __future__ import annotations

from typing import Literal

import attrs
import pytest

from tribe_oauth.errors import UnreadableError
from tribe_oauth.stores import MemoryStore, Record, Unreadable
from tribe_oauth.stores._columns import (
    COLUMNS,
    NAMES,
    Column,
    _column,
    definitions,
    from_row,
    values,
)
from tribe_oauth.stores._writes import next_version
from tribe_oauth.stores._writes import written as as_written
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.encrypted import EncryptedStore, _with_payload, generate_key

FULL = record(
    family="family", generation=7, cause="because", maybe_spent=True, failures=3, not_before=1.5, due_at=2.5,
    status="reauthorization_required", lease="nonce", lease_left=9.0, payload=b"secret",
)  # fmt: skip


def test_every_field_is_a_column() -> None:
    """All but the key and what is computed on reading; none is written down twice."""
    fields = {field.name for field in attrs.fields(Record)}
    assert set(NAMES) == fields - {"organization", "lease_left"}
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    ("hint", "kind", "nullable"),
    [(int, int, False), (float | None, float, True), (Literal["a", "b"], str, False), (bytes, bytes, False)],
)
def test_what_a_type_becomes(hint: object, kind: type, nullable: bool) -> None:
    """A union with None may be null; a literal has the type of its values."""
    assert _column("name", hint) == Column("name", kind, nullable)


def test_a_type_that_no_column_has() -> None:
    """A field that could be two things is an error when the library is imported, not when a record is stored."""
    with pytest.raises(ValueError, match="too many values"):
        _column("name", int | str)


def test_a_schema() -> None:
    """Each column with the database's own type."""
    types = {str: "TEXT", int: "INT", bool: "BOOL", float: "REAL", bytes: "BLOB"}
    assert definitions(types) == (
        "version INT NOT NULL, family TEXT NOT NULL, generation INT NOT NULL, status TEXT NOT NULL, cause TEXT,"
        " maybe_spent BOOL NOT NULL, failures INT NOT NULL, not_before REAL NOT NULL, due_at REAL, lease TEXT,"
        " payload BLOB NOT NULL"
    )


def test_a_row_and_its_record() -> None:
    """What a record has in the columns makes the record again, also of a database's integers and buffers."""
    row = [int(value) if value is True else value for value in values(FULL)]
    row[NAMES.index("version")] = 1
    read = from_row("acme", [*row[:-1], memoryview(b"secret"), "more columns"], 9.0, 10.0)
    assert read == attrs.evolve(FULL, version=1)
    assert read.maybe_spent is True
    assert type(read.payload) is bytes


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ({"status": "odd"}, {}),
        ({"family": 7, "generation": "7"}, {"generation": 0}),
        ({"generation": -1, "status": "odd"}, {"generation": 0}),
        ({"cause": b"", "generation": 2**60}, {"generation": 0}),
        ({"failures": 1.5, "status": "disconnected"}, {"status": "disconnected"}),
        ({"payload": "text"}, {"payload": b""}),
        pytest.param({"due_at": "x", "payload": memoryview(b"view")}, {"payload": b"view"}, id="a view"),
    ],
    ids=repr,
)
def test_what_there_is_of_an_altered_row(change: dict[str, object], left: dict[str, object]) -> None:
    """Enough to replace it and to remove it: its version, its generation where that is one, that it was removed."""
    full = dict(zip(NAMES, values(FULL), strict=True)) | {"version": 3}
    found = from_row("acme", list((full | change).values()), 9.0, 10.0)
    expected = {"version": 3, "generation": 7, "status": "connected", "payload": b"secret"} | left
    assert attrs.asdict(found) == attrs.asdict(Record(organization="acme", status="connected")) | expected
    assert isinstance(found.payload, Unreadable)
    assert "secret" not in repr(found)


@pytest.mark.parametrize("version", [None, "3", 0, -1, 1.5, True, 2**60])
def test_a_row_without_a_version(version: object) -> None:
    """There is nothing to compare by."""
    full = dict(zip(NAMES, values(FULL), strict=True)) | {"version": version, "status": "odd"}
    with pytest.raises(UnreadableError, match="'acme' cannot be read: it was altered by something else"):
        from_row("acme", list(full.values()), 9.0, 10.0)


def test_records_from_records() -> None:
    """A write changes the version and the lease's time, encryption the payload, and neither anything else."""
    assert as_written(FULL, 7, 1.0) == attrs.evolve(FULL, version=7, lease_left=1.0)
    assert _with_payload(FULL, b"new") == attrs.evolve(FULL, payload=b"new")


def test_a_version_is_higher_than_all_before() -> None:
    """By the clock; where that is behind, by one."""
    assert next_version(FULL.version, 1.5) == 1_500_000
    assert next_version(2_000_000, 1.5) == 2_000_001


async def test_what_stays_readable() -> None:
    """S24: beside an encrypted payload all other columns can be read, and are what was written."""
    inner = MemoryStore()
    stored = await put(EncryptedStore(inner, [generate_key()]), FULL, lease_for=9)
    beside = await inner.load("acme")
    assert beside is not None
    for column in COLUMNS:
        assert (getattr(beside, column.name) == getattr(stored, column.name)) is column.readable, column.name
    assert [column.name for column in COLUMNS if not column.readable] == ["payload"]
    assert b"secret" not in beside.payload
