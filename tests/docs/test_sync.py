"""The examples of docs/sync.md, run as they stand."""

from __future__ import annotations

import inspect
import re
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from tribe_oauth import ClientCredentialsGrant, TokenManager
from tribe_oauth.sandbox import ApiRules, Sandbox
from tribe_oauth.stores.sqlite import SQLiteStore
from tribe_oauth.sync import export

DOCUMENT = (Path(__file__).parents[2] / "docs" / "sync.md").read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
FILES, QUERY, SINK = EXAMPLES


async def run(source: str) -> dict[str, Any]:
    """Run an example as it stands, as ``python -m asyncio`` does; what it leaves behind."""
    scope: dict[str, Any] = {}
    ran = eval(compile(source, "sync.md", "exec", flags=PyCF_ALLOW_TOP_LEVEL_AWAIT), scope)  # noqa: S307 (it is ours)
    if inspect.iscoroutine(ran):
        await ran
    return scope


@pytest.fixture
async def world() -> AsyncIterator[tuple[Sandbox, TokenManager]]:
    """One organization."""
    async with (
        Sandbox(organizations=["acme"], page_size=40, api=ApiRules(paging="nextLink")) as sandbox,
        TokenManager(endpoints=sandbox.endpoints) as manager,
    ):
        await manager.connect("acme", ClientCredentialsGrant(sandbox.client()))
        yield sandbox, manager


async def test_files_and_a_query(
    world: tuple[Sandbox, TokenManager], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Files in a folder, and what came of each; a query with a filter of dates."""
    sandbox, _ = world
    monkeypatch.chdir(tmp_path)
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
    async with TokenManager(sandbox.client(), store=SQLiteStore("tribe.db")) as manager:
        await manager.connect("acme", ClientCredentialsGrant(sandbox.client()))
    await run(FILES)
    assert capsys.readouterr().out == "acme 250 complete\n"
    assert len((tmp_path / "out" / "acme" / "Relation_Person.jsonl").read_bytes().splitlines()) == 250
    left = await run(QUERY)
    since = [row for row in sandbox.organization("acme").all("Relation_Person") if row["CreationDate"] >= "2020"]
    assert [outcome.rows for outcome in left["outcomes"]] == [len(since)]


@attrs.frozen
class Pool:
    """As small as a pool can be: a connection for each who asks."""

    uri: str

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        async with await psycopg.AsyncConnection.connect(self.uri) as connection:
            yield connection


async def test_a_sink_of_ones_own(world: tuple[Sandbox, TokenManager], database: str) -> None:
    """Each row exactly once, although the database goes away in the middle of a page."""
    sandbox, manager = world
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE TABLE entity (organization text, entity_set text, entity json)")
        connection.execute(
            "CREATE TABLE checkpoint (organization text, entity_set text, kept jsonb,"
            " PRIMARY KEY (organization, entity_set))"
        )
        left = await run(SINK)
        sink = left["PostgresSink"](Pool(database))
        connection.execute("ALTER TABLE checkpoint ADD CHECK ((kept->>'rows')::int < 100)")
        with pytest.raises(psycopg.errors.CheckViolation):
            await export(manager, ["acme"], ["Relation_Person"], sink)
        connection.execute("ALTER TABLE checkpoint DROP CONSTRAINT checkpoint_kept_check")
        (outcome,) = await export(manager, ["acme"], ["Relation_Person"], sink)
        assert (outcome.rows, outcome.read) == (250, 170)
        kept = connection.execute("SELECT entity FROM entity").fetchall()
    by_id = itemgetter("ID")
    assert sorted((row for (row,) in kept), key=by_id) == sorted(
        sandbox.organization("acme").all("Relation_Person"), key=by_id
    )
