from __future__ import annotations

from collections.abc import Callable

import aiohttp
import pytest

from tribe_oauth import odata

from .conftest import Service

OPAQUE = "People?$skiptoken=a%2Bb+c%20d%7e'e'&x=%e9&x="


def link(text: str) -> Callable[[str], str]:
    return lambda base: text.replace("BASE", base).replace("HOST", base.removeprefix("http://"))


LINKS = {
    "absolute": (link("$metadata#People"), link(f"BASE/v1/odata/{OPAQUE}")),
    "absolute path": (link("$metadata#People"), link(f"/v1/odata/{OPAQUE}")),
    "relative to an absolute context": (link("BASE/v1/odata/$metadata#People"), link(OPAQUE)),
    "relative to a relative context": (link("../$metadata#People"), link(OPAQUE)),
    "relative to a context without a path": (link("../$metadata"), link(OPAQUE)),
    "no context": (None, link(f"../{OPAQUE}")),
    "scheme-relative": (None, link(f"//HOST/v1/odata/{OPAQUE}")),
    "with a fragment": (None, link(f"/v1/odata/{OPAQUE}#there")),
}


@pytest.mark.parametrize("kind", LINKS)
async def test_a_next_link_is_followed_as_it_is(session: aiohttp.ClientSession, service: Service, kind: str) -> None:
    """Opaque: nothing is decoded or encoded again; relative to the context's service root, else to the request."""
    context, next_link = LINKS[kind]
    first = {"value": [{"ID": "1"}], "@odata.nextLink": next_link(service.base)}
    if context is not None:
        first["@odata.context"] = context(service.base)
    service.says("People(1)/Friends?$select=ID", first)
    service.says(OPAQUE, {"value": [{"ID": "2"}]})
    found = [page.rows async for page in odata.pages(session, "People(1)/Friends", select=["ID"])]
    assert found == [[{"ID": "1"}], [{"ID": "2"}]]


async def test_a_context_that_is_the_requests_directory(session: aiohttp.ClientSession, service: Service) -> None:
    """A context of ``$metadata#…`` is relative to the request: the service root is where that stands."""
    service.says("People", {"@odata.context": "$metadata#People", "value": [], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {"@odata.context": None, "value": []})
    assert len([page async for page in odata.pages(session, "People")]) == 2


FORBIDDEN = {
    "another origin": link("ELSEWHERE/v1/odata/People?p=2"),
    "another host": link("http://localhost:PORT/v1/odata/People?p=2"),
    "another scheme": link("https://HOST/v1/odata/People?p=2"),
    "a name that begins like it": link("BASE.elsewhere.test/v1/odata/People?p=2"),
    "scheme-relative": link("//elsewhere.test/v1/odata/People?p=2"),
    "user info": link("http://user:secret@HOST/v1/odata/People?p=2"),
    "password only": link("http://:secret@HOST/v1/odata/People?p=2"),
    "empty user info": link("http://@HOST/v1/odata/People?p=2"),
    "user info for a host": link("http://HOST@elsewhere.test/v1/odata/People?p=2"),
    "another API": link("/v2/odata/People?p=2"),
    "a twin of the root": link("/v1/odatax/People?p=2"),
    "out by dots": link("BASE/v1/odata/../../admin"),
    "out by relative dots": link("../../admin"),
    "out by encoded dots": link("BASE/v1/odata/%2e%2e/%2E./admin"),
    "out by encoded slashes": link("BASE/v1/odata/..%2f..%2fadmin"),
    "out by path parameters": link("BASE/v1/odata/..;/..;a=b/admin"),
    "out by an encoded semicolon": link("BASE/v1/odata/..%3b/admin"),
    "out by encoded backslashes": link("BASE/v1/odata/..%5c..%5cadmin"),
    "out by two encodings": link("BASE/v1/odata/%252e%252e/admin"),
    "a control character": link("BASE/v1/odata/People%00/x"),
    "a backslash": link("http:\\\\elsewhere.test\\v1\\odata\\"),
    "no HTTP": link("file:///v1/odata/People"),
    "a bad port": link("http://127.0.0.1:port/v1/odata/People"),
    "a bad address": link("http://[127/v1/odata/People"),
    "a space": link("/v1/odata/People?$filter=a eq b"),
    "a second request": link("/v1/odata/People HTTP/1.1\r\nX: y"),
    "not ASCII": link("/v1/odata/Pêople"),
    "empty": link(""),
}


@pytest.mark.parametrize("kind", FORBIDDEN)
async def test_a_next_link_that_leads_elsewhere(
    session: aiohttp.ClientSession, service: Service, elsewhere: Service, kind: str
) -> None:
    """S21: same origin, under the service root, no user info; else an error that shows none of it, and no request."""
    port = service.base.rpartition(":")[2]
    text = FORBIDDEN[kind](service.base).replace("ELSEWHERE", elsewhere.base).replace("PORT", port)
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": text})
    pages = odata.pages(session, "People")
    with pytest.raises(odata.ODataError, match=r"leads out of the API's /v1/odata/: it is not followed") as it:
        await anext(pages)
    assert "secret" not in str(it.value)
    assert elsewhere.targets == []
    assert service.targets == ["/v1/odata/People"]


@pytest.mark.parametrize("value", [17, True, ["People?p=2"], {}])
async def test_a_next_link_that_is_no_text(session: aiohttp.ClientSession, service: Service, value: object) -> None:
    """S21: nor is anything else taken for the end."""
    service.says("People", {"value": [], "@odata.nextLink": value})
    with pytest.raises(odata.ODataError, match="it is not followed"):
        await anext(odata.pages(session, "People"))


async def test_a_null_next_link_is_none(session: aiohttp.ClientSession, service: Service) -> None:
    """The last page has none, however that is written."""
    service.says("People", {"value": [], "@odata.nextLink": None})
    assert len([page async for page in odata.pages(session, "People")]) == 1


async def test_a_context_of_another_origin_does_not_move_the_root(
    session: aiohttp.ClientSession, service: Service, elsewhere: Service
) -> None:
    """S21: a relative link is relative to what the context says, and refused where that is somewhere else."""
    context = f"{elsewhere.base}/v1/odata/$metadata#People"
    service.says("People", {"@odata.context": context, "value": [], "@odata.nextLink": "People?p=2"})
    with pytest.raises(odata.ODataError, match="it is not followed"):
        await anext(odata.pages(session, "People"))
    assert elsewhere.targets == []


FIRST = "People?$orderby=ID&$top=100"


@pytest.mark.parametrize("back", [FIRST, f"{FIRST}#again", "People?p=2", "People?p=3"])
async def test_a_loop(session: aiohttp.ClientSession, service: Service, back: str) -> None:
    """S21: a link to a page that was read, the first, the one before or the page itself, is an error."""
    service.says("People", {"value": [{"ID": "1"}], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {"value": [{"ID": "2"}], "@odata.nextLink": "People?p=3"})
    service.says("People?p=3", {"value": [{"ID": "3"}], "@odata.nextLink": back})
    pages = odata.pages(session, "People")
    found = [(await anext(pages)).rows, (await anext(pages)).rows]
    with pytest.raises(odata.ODataError, match="was read already"):
        await anext(pages)
    assert len(service.targets) == 3
    assert found == [[{"ID": "1"}], [{"ID": "2"}]]


async def test_the_sessions_headers_go_with_every_page(session: aiohttp.ClientSession, service: Service) -> None:
    """All pages are requests of the same session."""
    service.says("People", {"value": [], "@odata.nextLink": "People?p=2"})
    service.says("People?p=2", {"value": []})
    assert len([page async for page in odata.pages(session, "People")]) == 2
    assert service.authorizations == ["Bearer canary"] * 2
