from __future__ import annotations

import io
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import pytest
from aiohttp import web

from .world import Factory, Scene, Seen, scene

LARGE = os.urandom(1 << 16) * 256  # more than sockets and buffers of both sides hold


async def generator() -> AsyncIterator[bytes]:
    yield b"gene"
    yield b"rated"


def form(value: Any) -> aiohttp.FormData:
    data = aiohttp.FormData(quote_fields=False)
    data.add_field("name", "Jansen")
    data.add_field("file", value, filename="photo.jpg", content_type="image/jpeg")
    return data


def multipart(*parts: Any) -> aiohttp.MultipartWriter:
    writer = aiohttp.MultipartWriter()
    for part in parts:
        writer.append(part)
    return writer


def read_in_part(file: BinaryIO) -> BinaryIO:
    """A caller may have read a header off the file: the body begins after it."""
    file.read(3)
    return file


REPEATABLE: dict[str, Callable[[BinaryIO], dict[str, Any]]] = {
    "none": lambda file: {},
    "empty": lambda file: {"data": b""},
    "bytes": lambda file: {"data": b"\x00\xff body"},
    "bytearray": lambda file: {"data": bytearray(b"body")},
    "text": lambda file: {"data": "tëxt"},
    "json": lambda file: {"json": {"Name": "Jansen"}},
    "form": lambda file: {"data": {"name": "Jansen & Co", "n": "1"}},
    "StringIO": lambda file: {"data": io.StringIO("text")},
    "BytesIO": lambda file: {"data": io.BytesIO(b"bytes")},
    "BytesIO read in part": lambda file: {"data": read_in_part(io.BytesIO(b"bytes"))},
    "file": lambda file: {"data": file},
    "file read in part": lambda file: {"data": read_in_part(file)},
    "FormData with bytes": lambda file: {"data": form(b"bytes")},
    "FormData with a file": lambda file: {"data": form(file)},
    "multipart": lambda file: {"data": multipart(b"bytes", "text", file)},
    "multipart in multipart": lambda file: {"data": multipart(multipart(b"bytes", file), "text")},
    "compressed": lambda file: {"data": b"bytes" * 100, "compress": True},
    "chunked": lambda file: {"data": b"bytes" * 100, "chunked": True},
    "held back until 100 Continue": lambda file: {"data": b"bytes", "expect100": True},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "upload.bin"
    path.write_bytes(b"from a file" * 1000)
    return path


@pytest.mark.parametrize("kind", REPEATABLE)
async def test_a_body_that_can_be_sent_again_is(make: Factory, kind: str, path: Path) -> None:
    """S22: after one 401 the same request goes out once more, with the new token and the same bytes."""
    async with scene(make) as here:
        here.world.expire()
        with path.open("rb") as file:
            async with here.session.post("/v1/rows", **REPEATABLE[kind](file)) as response:
                assert response.status == 200
                received = await response.read()
        first, second = here.api.seen
        assert (first.authorization, second.authorization) == ("Bearer token-1", "Bearer token-2")
        assert (second.method, second.target, second.body) == (first.method, first.target, first.body)
        assert received == first.body
        assert bool(received) == (kind not in {"none", "empty"})
        assert here.source.lasting == [False]


async def not_sent_again(here: Scene, data: Any, *, arrived: Callable[[bytes], bool]) -> None:
    """One request, whole; its 401; a new token; and the next request has it."""
    here.world.expire()
    async with here.session.post("/v1/rows", data=data) as response:
        assert (response.status, await response.text()) == (401, "who are you?")
    assert len(here.api.seen) == 1
    assert arrived(here.api.seen[0].body)
    assert len(here.world.token_requests) == 1
    async with here.session.get("/v1/rows") as response:
        assert response.status == 200
    assert here.api.authorizations == ["Bearer token-1", "Bearer token-2"]
    assert here.source.lasting == [True, False]


async def test_a_generator_is_not_sent_again(make: Factory) -> None:
    """S22: it is drained; a second request would be empty, and would succeed."""
    async with scene(make) as here:
        await not_sent_again(here, generator(), arrived=lambda body: body == b"generated")


@pytest.mark.parametrize("depth", [0, 1])
async def test_a_generator_within_a_multipart_is_not_sent_again(make: Factory, depth: int) -> None:
    """S22: nor is a multipart, or one inside it, with a generator for a part: that part would be empty."""
    async with scene(make) as here:
        body = multipart(b"bytes", generator())
        for _ in range(depth):
            body = multipart("text", body)
        await not_sent_again(here, body, arrived=lambda body: b"generated" in body)


async def test_a_generator_within_a_form_is_not_sent_again(make: Factory) -> None:
    """S22: nor is form data with one."""
    async with scene(make) as here:
        await not_sent_again(here, form(generator()), arrived=lambda body: b"generated" in body)


@pytest.mark.parametrize("wrap", [lambda file: file, multipart], ids=["alone", "multipart"])
async def test_a_pipe_is_not_sent_again(make: Factory, wrap: Callable[[BinaryIO], Any]) -> None:
    """S22: nor is a file that cannot be wound back."""
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(b"from a pipe")
    with os.fdopen(read_end, "rb") as file:
        async with scene(make) as here:
            await not_sent_again(here, wrap(file), arrived=lambda body: b"from a pipe" in body)


class OneWay(io.BytesIO):
    """Knows where it is, and cannot go back."""

    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation


async def test_a_file_that_tells_but_does_not_seek_is_not_sent_again(make: Factory) -> None:
    """S22: aiohttp notices only after the fact that it could not wind back."""
    async with scene(make) as here:
        await not_sent_again(here, OneWay(b"one way"), arrived=lambda body: body == b"one way")


async def test_a_text_file_that_was_iterated_is_not_sent_again(make: Factory, path: Path) -> None:
    """S22: it could be wound back, but does not say whereto."""
    path.write_text("a line\nand the rest\n")
    with path.open() as file:
        next(file)
        async with scene(make) as here:
            here.world.expire()
            async with here.session.post("/v1/rows", data=file) as response:
                assert response.status == 401
            assert [seen.body for seen in here.api.seen] == [b"and the rest\n"]


@pytest.mark.parametrize("wrap", [lambda file: file, form], ids=["file", "form"])
async def test_a_401_in_the_middle_of_an_upload(make: Factory, wrap: Callable[[BinaryIO], Any]) -> None:
    """S22: where the API refuses before it has read the body, the rest is not mixed into the second request."""
    bodies = []

    async def answer(request: web.Request) -> web.Response:
        if request.headers["Authorization"] == "Bearer token-1":
            return web.Response(status=401)
        bodies.append((await Seen.read(request)).body)
        return web.Response()

    with tempfile.TemporaryFile() as file:
        file.write(LARGE)
        file.seek(0)
        async with scene(make) as here:
            here.api.answer = answer
            async with here.session.post("/v1/rows", data=wrap(file)) as response:
                assert response.status == 200
        assert len(bodies) == 1
        assert LARGE in bodies[0]


async def test_a_401_instead_of_100_continue(make: Factory) -> None:
    """S22: where the API refuses before the body was asked for, it is sent with the second request all the same."""
    async with scene(make) as here:
        here.world.expire()
        here.api.impatient = True
        async with here.session.post("/v1/rows", data=b"body", expect100=True) as response:
            assert (response.status, await response.read()) == (200, b"body")
        assert [seen.body for seen in here.api.seen] == [b"body"]


async def test_a_body_that_was_sent_before(make: Factory) -> None:
    """A multipart is closed by aiohttp after its request; used for another, it goes out, and is not sent again."""
    async with scene(make) as here:
        body = multipart(b"bytes")
        async with here.session.post("/v1/rows", data=body) as response:
            assert response.status == 200
        here.world.expire()
        async with here.session.post("/v1/rows", data=body) as response:
            assert response.status == 401
        assert len(here.api.seen) == 2
        assert here.api.seen[0].body == here.api.seen[1].body
