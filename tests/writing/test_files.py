"""Files: sent in base64 while they are read, and read block by block."""

from __future__ import annotations

import asyncio
import io
import os
import tracemalloc
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError

from ..manager.helpers import VirtualClock
from ..serving import reset, status, with_first_token
from .tribe import Tribe, connected, cutting

PERSONS = "Relation_Person"
CONTENT = os.urandom(200_003)


def picture(content: bytes | BinaryIO) -> odata.File:
    return odata.File(content, name='a "photo".jpg', mime_type="image/jpeg")


@pytest.fixture
async def anna(session: aiohttp.ClientSession, tribe: Tribe) -> str:
    created = await odata.create(session, PERSONS, {"LastName": "Bos"})
    tribe.seen.clear()
    return str(created["ID"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 49_152, 200_003])
@pytest.mark.parametrize("kind", ["bytes", "file", "file read in part"])
async def test_an_upload(
    session: aiohttp.ClientSession, tribe: Tribe, anna: str, tmp_path: Path, size: int, kind: str
) -> None:
    """Of any length, from where the file stands; its length is said before, and the file stays open."""
    content, path = CONTENT[:size], tmp_path / "x"
    path.write_bytes(b"header" + content if kind == "file read in part" else content)
    with path.open("rb") as file:
        file.read(6 if kind == "file read in part" else 0)
        await odata.upload(session, PERSONS, anna, "Picture", picture(content if kind == "bytes" else file))
        assert not file.closed
    kept = tribe.rows[PERSONS][anna]["Picture"]
    assert kept == {"Data": content, "MimeType": "image/jpeg", "Name": 'a "photo".jpg'}
    assert tribe.seen[0].headers["Content-Length"] == str(len(tribe.seen[0].body))


async def test_it_is_a_value_like_others(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> None:
    """An attachment, with two files in one."""
    made = await odata.create(
        session, "Attachment", {"Entity": {"ID": anna}, "File": picture(CONTENT), "More": [picture(b"x")], "N": 1}
    )
    row = tribe.rows["Attachment"][made["ID"]]
    assert (row["Entity"], row["File"]["Data"], row["More"][0]["Data"], row["N"]) == ({"ID": anna}, CONTENT, b"x", 1)


@pytest.mark.parametrize("fault", [reset, status(503), status(429), status(401)])
@pytest.mark.parametrize("happened", [False, True])
async def test_an_upload_is_sent_again(
    session: aiohttp.ClientSession, tribe: Tribe, anna: str, path: Path, fault: Any, happened: bool
) -> None:
    """From its beginning: what was there before is replaced by the same."""
    (tribe.after if happened else tribe.before).extend([fault] * 2)
    with path.open("rb") as file:
        await odata.upload(session, PERSONS, anna, "Picture", picture(file))
    assert tribe.rows[PERSONS][anna]["Picture"]["Data"] == CONTENT
    assert len({seen.body for seen in tribe.seen}) == 1


async def test_a_token_that_ran_out(session: aiohttp.ClientSession, tribe: Tribe, anna: str, path: Path) -> None:
    """The file is sent once more, with the new one."""
    tribe.expire()
    with path.open("rb") as file:
        await odata.upload(session, PERSONS, anna, "Picture", picture(file))
    assert tribe.rows[PERSONS][anna]["Picture"]["Data"] == CONTENT


async def test_an_attachment_whose_answer_is_lost(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """Is a create like others."""
    tribe.after.append(reset)
    with pytest.raises(odata.UnknownOutcomeError):
        await odata.create(session, "Attachment", {"File": picture(io.BytesIO(CONTENT))})
    assert len(tribe.writes()) == 1


async def test_an_attachment_that_breaks_off(tribe: Tribe) -> None:
    """Before its end: there is nothing that the API could have acted on, and it is sent again."""
    async with cutting(tribe) as cut, connected(tribe, cut.base) as session:
        cut.request, cut.times = 100_000, 3
        made = await odata.create(session, "Attachment", {"File": picture(CONTENT)})
    assert [made["ID"]] == list(tribe.rows["Attachment"])
    assert (cut.times, len(tribe.writes())) == (0, 1)


async def test_large_fields(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """Without a file: it is not written in one piece, and is the same for the API."""
    text = "é" * 700_000
    made = await odata.create(session, PERSONS, {"LastName": "Bos", "Description": text})
    assert tribe.rows[PERSONS][made["ID"]]["Description"] == text


async def test_memory(session: aiohttp.ClientSession, tribe: Tribe, anna: str, tmp_path: Path) -> None:
    """A file of 16 MiB takes little room: neither it nor its base64 is held."""
    path, most = tmp_path / "large", 0
    path.touch()
    os.truncate(path, 2**24)

    async def swallow(request: web.Request) -> web.StreamResponse:
        return web.Response(status=413)

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        payload: Any = request.body
        nonlocal most
        tracemalloc.start()
        at = 0
        while at < payload.size:
            at += len(payload._value.read_at(at, 2**16))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return await handler(request)

    tribe.before.append(swallow)
    async with aiohttp.ClientSession(tribe.base, middlewares=[middleware]) as own:
        with path.open("rb") as file, pytest.raises(odata.ODataError):
            await odata.upload(own, PERSONS, anna, "Picture", picture(file), give_up_after=0)
    assert 0 < most < 2**20


async def test_a_middleware_that_looks_at_the_body(tribe: Tribe, anna: str) -> None:
    """It sees what is sent."""
    seen = b""

    async def middleware(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        nonlocal seen
        assert isinstance(request.body, aiohttp.Payload)
        seen = await request.body.as_bytes()
        request.headers["Authorization"] = "Bearer token-1"
        return await handler(request)

    async with aiohttp.ClientSession(tribe.base, middlewares=[middleware]) as own:
        await odata.upload(own, PERSONS, anna, "Picture", picture(CONTENT))
    assert seen == tribe.seen[0].body


async def test_a_file_that_becomes_shorter(session: aiohttp.ClientSession, tribe: Tribe, anna: str, path: Path) -> None:
    """Nothing whole can be sent: that is told, and no matter of time."""
    with path.open("r+b") as file:
        upload = picture(file)
        file.truncate(1000)
        with pytest.raises(ConfigurationError, match="became shorter while it was sent"):
            await odata.upload(session, PERSONS, anna, "Picture", upload)
    assert "Picture" not in tribe.rows[PERSONS][anna]


def test_what_is_no_file(path: Path) -> None:
    """A pipe cannot be wound back; text is not bytes."""
    read_end, write_end = os.pipe()
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        for content in (pipe, "photo.jpg", None):
            with pytest.raises(ConfigurationError, match="can be wound back"):
                picture(content)  # type: ignore[arg-type]


async def test_what_is_not_given_as_a_file(session: aiohttp.ClientSession) -> None:
    """It needs a name and a type."""
    with pytest.raises(ConfigurationError, match=r"odata\.File"):
        await odata.upload(session, PERSONS, str(uuid4()), "Picture", b"...")  # type: ignore[arg-type]


# Downloads


async def read(session: aiohttp.ClientSession, where: str, **options: Any) -> bytes:
    async with odata.download(session, where, **options) as file:
        return b"".join([block async for block in file])


@pytest.fixture
async def photo(session: aiohttp.ClientSession, tribe: Tribe, anna: str) -> str:
    """The path of one."""
    await odata.upload(session, PERSONS, anna, "Picture", odata.File(CONTENT, name="photo.jpg", mime_type="image/jpeg"))
    tribe.seen.clear()
    return f"Relation_Person/{anna}/Picture"


async def test_a_download(session: aiohttp.ClientSession, photo: str) -> None:
    """Type, name, size, and the bytes, in several blocks."""
    async with odata.download(session, photo) as file:
        assert (file.mime_type, file.name, file.size) == ("image/jpeg", "photo.jpg", len(CONTENT))
        blocks = [block async for block in file]
    assert b"".join(blocks) == CONTENT
    assert len(blocks) > 1


@pytest.mark.parametrize("host", ["https://api.tribecrm.nl", "http://evil.example:81", ""])
async def test_a_url(session: aiohttp.ClientSession, tribe: Tribe, photo: str, host: str) -> None:
    """Only its path counts: no other host is asked, or sees a token."""
    assert await read(session, f"{host}/v1/odata-file/{photo}") == CONTENT
    assert [seen.headers["Authorization"] for seen in tribe.seen] == ["Bearer token-1"]


@pytest.mark.parametrize(
    "where",
    ["/v1/odata/Relation_Person", "https://api.tribecrm.nl/", "../odata/x", "a/%2e%2e/%2e%2e/odata/x", "a b", "", None],
)
async def test_what_is_no_file_there(session: aiohttp.ClientSession, tribe: Tribe, where: Any) -> None:
    """A path that leads elsewhere is not asked for."""
    with pytest.raises(ConfigurationError, match="a file is at the Url"):
        await read(session, where)
    assert tribe.seen == []


async def test_it_is_waited_for(session: aiohttp.ClientSession, tribe: Tribe, clock: VirtualClock, photo: str) -> None:
    """Until it begins; what does not pass is told at once."""
    tribe.before += [status(503), reset, reset, status(429)]  # of two resets, one is the HTTP client's own to repeat
    assert await read(session, photo) == CONTENT
    assert len(clock.slept) >= 2
    with pytest.raises(odata.ODataError, match="404: there is no such file"):
        await read(session, photo.replace("Picture", "Other"))
    tribe.before.append(status(302, Location="http://elsewhere.example/"))
    with pytest.raises(odata.ODataError, match="302"):
        await read(session, photo)


async def read_into(got: bytearray, file: odata.Download) -> None:
    async for block in file:
        got += block


@pytest.mark.parametrize("where", [0.3, 0.9, 0.9999])
async def test_it_breaks_off(tribe: Tribe, photo: str, where: float) -> None:
    """What came is not the file, and the error says so."""
    async with cutting(tribe) as cut, connected(tribe, cut.base) as session:
        assert await read(session, photo) == CONTENT
        cut.answer, got = int(cut.length * where), bytearray()
        async with odata.download(session, photo) as file:
            with pytest.raises(odata.ODataError, match="the file broke off after") as it:
                await read_into(got, file)
        assert 0 < len(got) < len(CONTENT)
        assert f"after {len(got)} bytes" in str(it.value)
        assert it.value.retryable


async def test_a_silence(tribe: Tribe, photo: str) -> None:
    """The session's total time-out is for a silence, and not for a long file."""

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(4):
            await response.write(b"x")
            await asyncio.sleep(0.2)
        await asyncio.Event().wait()
        return response

    tribe.before.append(slow)
    timeout = aiohttp.ClientTimeout(total=0.6)
    async with aiohttp.ClientSession(tribe.base, middlewares=[with_first_token], timeout=timeout) as session:
        with pytest.raises(odata.ODataError, match=r"broke off after 4 bytes .*Timeout"):
            await read(session, photo)
