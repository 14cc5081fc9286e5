from __future__ import annotations

import aiohttp
import pytest
from multidict import CIMultiDict
from yarl import URL

from .world import Factory, scene

STATUSES = [301, 302, 303, 307, 308]
FOREIGN_HOSTS = ["localhost", "other.test", "api.test.other.test", "x.api.test", "api.test."]


def sent_on(to: URL, *, status: int = 307) -> str:
    return str(URL("/go").with_query(status=status, to=str(to)))


@pytest.mark.parametrize("status", STATUSES)
async def test_another_origin_gets_no_token(make: Factory, status: int) -> None:
    """S20: a redirect to another port carries no Authorization, whichever redirect it is."""
    async with scene(make) as here:
        async with here.session.get(sent_on(here.other.url("/elsewhere"), status=status)) as response:
            assert response.status == 200
        assert here.api.authorizations == ["Bearer token-1"]
        assert here.other.authorizations == [None]


@pytest.mark.parametrize("status", [307, 308])
async def test_another_origin_gets_no_token_with_a_body(make: Factory, status: int) -> None:
    """S20: nor does a redirect that has the body sent again."""
    async with scene(make) as here:
        async with here.session.post(sent_on(here.other.url("/elsewhere"), status=status), data=b"body") as response:
            assert await response.read() == b"body"
        assert here.other.authorizations == [None]


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
async def test_another_host_gets_no_token(make: Factory, host: str) -> None:
    """S20: a name that is like the API's, or leads to the same machine, is another origin."""
    async with scene(make, lambda api: api.url(host="api.test")) as here:
        to = here.api.url("/elsewhere", host=host)
        async with here.session.get(here.api.url(sent_on(to), host="api.test")) as response:
            assert response.status == 200
        assert here.api.authorizations == ["Bearer token-1", None]


async def test_credentials_in_a_redirect_stay_off(make: Factory) -> None:
    """S20: a user name in the URL, here the API's own name, neither fools the check nor becomes a header."""
    async with scene(make) as here:
        to = here.other.url("/elsewhere", host=f"127.0.0.1:{here.api.port}@127.0.0.1")
        async with here.session.get(sent_on(to)) as response:
            assert response.status == 200
        assert here.other.authorizations == [None]


async def test_another_scheme_gets_no_token(make: Factory) -> None:
    """S20: where the API is https, plain http on the same host and port is another origin."""
    async with scene(make, lambda api: api.url().with_scheme("https")) as here:
        async with here.session.get("/elsewhere") as response:
            assert response.status == 200
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await here.session.ws_connect(here.api.url("/socket").with_scheme("ws"))
        assert here.api.authorizations == [None, None]


async def test_the_port_may_be_written_out(make: Factory) -> None:
    """S20: ``http://host:80`` is the origin ``http://host``."""
    async with scene(make, lambda _: URL("http://api.test:80")) as here:
        proxy = here.api.url()
        async with here.session.get("http://api.test/", proxy=proxy) as response:
            assert response.status == 200
        assert here.api.authorizations == ["Bearer token-1"]


async def test_coming_back_gets_the_token(make: Factory) -> None:
    """S20: a way that leaves the API and comes back has the token on the API's hops alone."""
    async with scene(make) as here:
        back = here.other.url(sent_on(here.api.url("/v1/rows")))
        async with here.session.get(sent_on(back)) as response:
            assert response.status == 200
        assert here.api.authorizations == ["Bearer token-1", "Bearer token-1"]
        assert here.other.authorizations == [None]


async def test_within_the_api_a_redirect_keeps_the_token(make: Factory) -> None:
    """A redirect within the origin is a request to the API like any other."""
    async with scene(make) as here:
        async with here.session.get(sent_on(URL("/v1/rows"))) as response:
            assert response.status == 200
        assert here.api.authorizations == ["Bearer token-1", "Bearer token-1"]


async def test_a_callers_own_header_stays_off_other_origins(make: Factory) -> None:
    """S20: an Authorization that is there already is removed, all of it, also without a redirect."""
    async with scene(make) as here:
        headers = CIMultiDict([("Authorization", "Bearer mine"), ("Authorization", "Basic bWU6bWU=")])
        async with here.session.get(here.other.url("/elsewhere"), headers=headers) as response:
            assert response.status == 200
        assert here.other.authorizations == [None]


async def test_a_callers_own_header_gives_way_to_the_token(make: Factory) -> None:
    """To the API there goes one Authorization header, the middleware's."""
    async with scene(make) as here:
        headers = CIMultiDict([("Authorization", "Bearer mine"), ("Authorization", "Basic bWU6bWU=")])
        async with here.session.get("/v1/rows", headers=headers) as response:
            assert response.status == 200
        assert here.api.authorizations == ["Bearer token-1"]


async def test_a_401_elsewhere_refreshes_nothing(make: Factory) -> None:
    """What another origin thinks of a request without a token says nothing about the token."""
    async with scene(make) as here:
        async with here.session.get(here.other.url("/v1/rows")) as response:
            assert response.status == 401
        assert here.world.token_requests == []
        assert len(here.other.seen) == 1


async def test_no_token_in_any_url(make: Factory) -> None:
    """S23: neither on the way to the API, nor after a redirect, nor on a replay, nor at the token endpoint."""
    async with scene(make) as here:
        here.world.expire()
        async with here.session.get(sent_on(here.other.url(sent_on(here.api.url("/v1/rows"))))) as response:
            assert response.status == 200
            urls = [str(part.real_url) for part in (response, *response.history)]
        seen = here.api.seen + here.other.seen + here.world.token_requests
        assert len(here.world.token_requests) == 1
        assert not [text for text in urls + [one.target for one in seen] if "token-" in text]
