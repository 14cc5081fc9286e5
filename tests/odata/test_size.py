"""An answer of any size: what is read of it, and held in memory, has a bound."""

from __future__ import annotations

import asyncio
import json
import sys
import zlib

import aiohttp
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.odata._query import MAX_BYTES

from .conftest import Service

MIB = 2**20


def bomb(mebibytes: int) -> bytes:
    """A page of so many mebibytes, in a thousandth of them: gzip, one block again and again."""
    packer = zlib.compressobj(wbits=31)
    start = packer.compress(b'{"value":[') + packer.flush(zlib.Z_FULL_FLUSH)
    rows = packer.compress(b'{"ID":"1234567"},' * (MIB // 17)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + rows * mebibytes


@pytest.fixture
async def bombs(service: Service) -> Service:
    """An API that gives a page of 600 MiB, in 600 kB or so, with any status."""
    content = await asyncio.to_thread(bomb, 600)

    async def answer(request: web.Request) -> web.StreamResponse:
        status = int(request.path.rpartition("_")[2])
        return web.Response(status=status, body=content, headers={"Content-Encoding": "gzip"})

    for status in (200, 400, 503):
        service.answers[f"/v1/odata/Bomb_{status}"] = answer
    return service


READ = """
import asyncio, json, resource, sys, aiohttp
from tribe_oauth import odata

async def main(base, options):
    async with aiohttp.ClientSession(base) as session:
        try:
            async for row in odata.rows(session, "Warm"):
                pass
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            async for row in odata.rows(session, "Bomb_200", **options):
                pass
        except odata.ODataError as error:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            print(json.dumps({"peak": peak * (1 if sys.platform == "darwin" else 1024), "error": str(error)}))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


@pytest.mark.parametrize("most", [4 * MIB, None])
async def test_a_bomb(bombs: Service, most: int | None) -> None:
    """Memory stays within three times the bound, by default and with one that was set; the error says what to do."""
    bombs.says("Warm", {"value": []})
    options = {} if most is None else {"max_bytes": most}
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READ, bombs.base, json.dumps(options)), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await reader.communicate()
    found = json.loads(out)
    bound = MAX_BYTES if most is None else most
    assert found["peak"] < 3 * bound
    assert f"more than {bound} bytes, decompressed" in found["error"]
    assert "smaller pages with page_size, or allow more with max_bytes" in found["error"]


@pytest.mark.parametrize("status", [400, 503])
async def test_a_bomb_for_a_refusal(session: aiohttp.ClientSession, bombs: Service, status: int) -> None:
    """Its words are lost, its status stays."""
    with pytest.raises(odata.ODataError, match=f"^the API answered {status}$") as it:
        await anext(odata.rows(session, f"Bomb_{status}"))
    assert it.value.retryable is (status == 503)


async def test_the_bound_is_exact(session: aiohttp.ClientSession, service: Service) -> None:
    """So many bytes are read, and not one more; the request is not sent again for that."""
    page = json.dumps({"value": [{"ID": "1"}]}).encode()
    service.says("People", page)
    assert [row async for row in odata.rows(session, "People", max_bytes=len(page))] == [{"ID": "1"}]
    service.targets.clear()
    with pytest.raises(odata.ODataError, match=f"more than {len(page) - 1} bytes") as it:
        await anext(odata.pages(session, "People", max_bytes=len(page) - 1))
    assert (it.value.status, it.value.retryable) == (200, False)
    assert len(service.targets) == 1


async def test_a_page_that_a_middleware_has_read(service: Service) -> None:
    """A middleware may look at the body, as one that logs does: it is there all the same."""

    async def looks(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await handler(request)
        assert b"value" in await response.read()
        return response

    service.says("People", {"value": [{"ID": "1"}]})
    service.says("People?$filter=ID%20gt%20'1'", {"value": []})
    async with aiohttp.ClientSession(service.base, middlewares=[looks]) as session:
        assert [row async for row in odata.rows(session, "People")] == [{"ID": "1"}]


def test_a_bound_that_is_none() -> None:
    """Said before anything is sent."""
    with pytest.raises(ConfigurationError, match="max_bytes is a number of bytes, at least 1"):
        odata.Query("People", max_bytes=0)
