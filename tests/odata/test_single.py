"""What is one request: an entity, a number of rows, the metadata."""

from __future__ import annotations

from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web

from tribe_oauth import odata
from tribe_oauth.errors import ConfigurationError

from ..manager.helpers import VirtualClock
from .conftest import Service

GUID = "6f9619ff-8b86-d011-b42d-00c04fc964ff"
ENTITY = {"@odata.context": "$metadata#OData.People/$entity", "ID": GUID, "Name": "Bos"}


@attrs.frozen
class Person:
    ID: str
    Name: str


async def test_one_entity(session: aiohttp.ClientSession, service: Service) -> None:
    """As a dict or as a class, with one request, without what belongs to collections."""
    service.says(f"People({GUID})?$select=Name&$expand=Address", ENTITY)
    path, options = f"People({GUID})", {"select": ["Name"], "expand": "Address"}
    assert await odata.entity(session, path, **options) == ENTITY  # type: ignore[call-overload]
    assert await odata.entity(session, path, type=Person, **options) == Person(GUID, "Bos")  # type: ignore[call-overload]
    assert len(service.targets) == 2


@pytest.mark.parametrize("options", [{}, {"count": True}, {"page_size": 5, "count": True}], ids=repr)
async def test_one_entity_by_pages(session: aiohttp.ClientSession, service: Service, options: Any) -> None:
    """To read it as pages takes one request too: no order, no number of rows, no look for more."""
    service.says(f"People({GUID})", ENTITY)
    assert [page.rows async for page in odata.pages(session, f"People({GUID})", **options)] == [[ENTITY]]
    assert service.targets == [f"/v1/odata/People({GUID})"]


async def test_no_entity(session: aiohttp.ClientSession, service: Service) -> None:
    """A navigation to nothing is None; what is not there, or is many, is an error."""
    service.says(f"People({GUID})/Boss", b"", status=204)
    assert await odata.entity(session, f"People({GUID})/Boss") is None
    service.says(f"People({GUID})", {"error": {}}, status=404)
    with pytest.raises(odata.ODataError) as it:
        await odata.entity(session, f"People({GUID})")
    assert it.value.status == 404
    service.says(f"People({GUID})/Friends", {"value": [{"ID": "1"}]})
    with pytest.raises(odata.ODataError, match="is a collection, and not one entity"):
        await odata.entity(session, f"People({GUID})/Friends")
    with pytest.raises(ConfigurationError, match="has its key in parentheses"):
        await odata.entity(session, "People")
    with pytest.raises(ConfigurationError, match="attrs class"):
        await odata.entity(session, f"People({GUID})", type=int)


async def test_a_number(session: aiohttp.ClientSession, service: Service) -> None:
    """Of all rows, or of those that a filter lets through."""
    service.says("People?$select=ID&$filter=Age%20gt%201&$count=true&$top=1", {"@odata.count": "25000", "value": []})
    assert await odata.count(session, "People", filter="Age gt 1") == 25_000
    service.says("People?$select=Code&$count=true&$top=1", {"value": []})
    with pytest.raises(odata.ODataError, match="gives no number"):
        await odata.count(session, "People", key="Code")


async def test_the_metadata(session: aiohttp.ClientSession, service: Service) -> None:
    """As text, which is asked for as XML; what passes is tried again, and a refusal says why."""
    asked = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers["Accept"])
        if len(asked) == 1:
            return web.Response(status=503)
        return web.Response(body="\ufeff<é/>".encode(), content_type="application/xml")

    service.answers["/v1/odata/$metadata"] = answer
    assert await odata.metadata(session) == "<é/>"
    assert asked == ["application/xml"] * 2
    with pytest.raises(odata.ODataError, match="more than 3 bytes"):
        await odata.metadata(session, max_bytes=3)
    service.says("$metadata", {"error": {"message": "not for you"}}, status=403)
    with pytest.raises(odata.ODataError, match="403: not for you"):
        await odata.metadata(session)
    service.says("$metadata", b"\xff")
    with pytest.raises(odata.ODataError, match="not text in UTF-8"):
        await odata.metadata(session)


async def test_they_give_up(session: aiohttp.ClientSession, service: Service, clock: VirtualClock) -> None:
    """After so many seconds, or at once."""
    service.says(f"People({GUID})", b"", status=503)
    with pytest.raises(odata.ODataError, match="503"):
        await odata.entity(session, f"People({GUID})", give_up_after=60)
    assert sum(clock.slept) == pytest.approx(60)
    with pytest.raises(ConfigurationError, match="give_up_after"):
        await odata.count(session, "People", give_up_after=-1)
