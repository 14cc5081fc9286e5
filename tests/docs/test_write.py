"""The examples of docs/write.md, run as they stand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from tribe_oauth import Client, ClientCredentialsGrant, TokenManager, odata

from ..serving import reset
from ..writing.tribe import ORGANIZATION, Tribe, connected
from ..writing.tribe import tribe as serving
from .examples import examples, run

FIRST, CLASS, LOST, FILES, WHOSE = examples("write.md")


@pytest.fixture
async def tribe() -> AsyncIterator[Tribe]:
    async with serving() as there:
        yield there


@pytest.fixture
async def session(tribe: Tribe) -> AsyncIterator[aiohttp.ClientSession]:
    async with connected(tribe) as session:
        yield session


@pytest.fixture
async def anna(session: aiohttp.ClientSession) -> dict[str, Any]:
    return await odata.create(session, "Relation_Person", {"LastName": "Bos"})


async def test_create_change_and_delete(tribe: Tribe) -> None:
    """One person, from beginning to end."""
    async with TokenManager(endpoints=tribe.endpoints) as manager:
        client = Client("id", "secret", endpoints=tribe.endpoints)
        await manager.connect("acme", ClientCredentialsGrant(client))
        await run(FIRST, manager=manager)
    assert [seen.method for seen in tribe.seen] == ["POST", "PUT", "DELETE"]
    assert tribe.seen[1].json == {"Suffix": "MSc", "BirthDate": None}
    assert tribe.rows["Relation_Person"] == {}


async def test_a_class(tribe: Tribe, session: aiohttp.ClientSession, anna: dict[str, Any]) -> None:
    """Links, and what is not written."""
    acme = await odata.create(session, "Relation_Organization", {"Name": "Acme"})
    left = await run(CLASS, session=session, anna=anna, acme=acme, odata=odata, attrs=attrs)
    written = tribe.rows["Relationship_Person_Contact_Standard"][left["made"]["ID"]]
    assert written.keys() == {"ID", "Person", "Relation", "Department"}


@pytest.mark.parametrize("happened", [False, True])
async def test_an_answer_that_is_lost(tribe: Tribe, session: aiohttp.ClientSession, happened: bool) -> None:
    """One entity, or an error; never two."""

    class Clock:
        slept = 0.0

        async def sleep(self, seconds: float) -> None:
            self.slept += seconds

    clock = Clock()
    create_once = (await run(LOST, odata=odata, asyncio=clock))["create_once"]
    await odata.create(session, "Relation_Person", {"LastName": "Vos", "ImportId": "crm-47110"})
    (tribe.after if happened else tribe.before).append(reset)
    person = {"LastName": "Bos", "ImportId": "crm-4711"}
    if happened:
        key = await create_once(session, person)
        assert tribe.rows["Relation_Person"][key]["LastName"] == "Bos"
    else:
        with pytest.raises(odata.UnknownOutcomeError):
            await create_once(session, person)
    assert len(tribe.rows["Relation_Person"]) == 1 + happened
    assert clock.slept == 60


async def test_files(
    tribe: Tribe, session: aiohttp.ClientSession, anna: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up, attached, and down again."""
    monkeypatch.chdir(tmp_path)
    await asyncio.to_thread(Path("photo.jpg").write_bytes, b"a photo")
    await asyncio.to_thread(Path("offer.pdf").write_bytes, b"an offer" * 100_000)
    await run(FILES, session=session, anna=anna, odata=odata)
    assert tribe.rows["Relation_Person"][anna["ID"]]["Picture"]["Data"] == b"a photo"
    assert await asyncio.to_thread(Path("copy.pdf").read_bytes) == b"an offer" * 100_000


async def test_whose_data_it_is(session: aiohttp.ClientSession, capsys: pytest.CaptureFixture[str]) -> None:
    """The organization, and who the token acts as."""
    left = await run(WHOSE, session=session, odata=odata)
    assert capsys.readouterr().out == f"{ORGANIZATION} Acme B.V.\n"
    assert left["employee"]["ID"]
