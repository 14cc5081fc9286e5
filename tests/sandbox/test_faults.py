"""Faults by order: each seen by a client over a real socket, and by the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest
from aiohttp import ClientError, ClientPayloadError, ServerDisconnectedError

from tribe_oauth.sandbox import PROFILES, Sandbox

from .servers import Server, serve


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serve("strict") as server:
        yield server


@pytest.fixture
def sandbox(server: Server) -> Sandbox:
    assert server.sandbox is not None
    return server.sandbox


async def test_status(server: Server, sandbox: Sandbox) -> None:
    """A gateway's answer, with Retry-After; the refresh token is not touched. Then all is well."""
    fault = sandbox.fault("status", status=503, retry_after=7)
    form = {"grant_type": "refresh_token", "refresh_token": server.refresh_token}
    async with server.session.post(f"{server.auth}/oauth2/token", data=form) as response:
        assert response.status == 503
        assert response.headers["Retry-After"] == "7"
        assert response.content_type == "text/html"
    assert fault.hits == 1
    assert (await server.refresh())[0] == 200
    assert fault.hits == 1


async def test_body(server: Server, sandbox: Sandbox) -> None:
    """A literal body, by default with status 200."""
    sandbox.fault("body", body='{"access_token": 7}', content_type="application/json")
    sandbox.fault("body", body="{}", content_type="application/json", status=418)
    assert await server.token(grant_type="refresh_token") == (200, {"access_token": 7})
    assert (await server.token())[0] == 418


async def test_invalid_client_for_a_while(server: Server, sandbox: Sandbox) -> None:
    """All answers until the order is taken back."""
    fault = sandbox.fault("invalid_client", times=None)
    for _ in range(3):
        status, answer = await server.refresh()
        assert (status, answer["error"]) == (401, "invalid_client")
    fault.cancel()
    assert (await server.refresh())[0] == 200
    assert fault.hits == 3


async def test_a_lost_answer(server: Server, sandbox: Sandbox) -> None:
    """The refresh token is spent, and the client gets no answer."""
    sandbox.fault("lost_answer")
    with pytest.raises(ServerDisconnectedError):
        await server.refresh()
    assert not sandbox.ledger.is_live(server.refresh_token)
    assert sandbox.ledger.undelivered() == (1,)
    (family,) = sandbox.ledger.families("Acme")
    assert family.rotations == 1


async def test_a_lost_request(server: Server, sandbox: Sandbox) -> None:
    """It never arrived, so that the refresh token is as good as before."""
    fault = sandbox.fault("lost_request", hang=True)
    sending = asyncio.ensure_future(server.refresh())
    await fault.reached()
    fault.release()
    with pytest.raises(ServerDisconnectedError):
        await sending
    assert sandbox.ledger.is_live(server.refresh_token)
    assert sandbox.ledger.token_requests == 0


async def test_hang(server: Server, sandbox: Sandbox) -> None:
    """It waits until it is released, and is then processed."""
    fault = sandbox.fault("hang", times=2)
    first = asyncio.ensure_future(server.refresh())
    await fault.reached()
    fault.release()
    assert (await first)[0] == 200


async def test_a_client_that_went_away(server: Server, sandbox: Sandbox) -> None:
    """An answer to a client that has disconnected is not delivered."""
    fault = sandbox.fault("lost_answer", hang=True)
    sending = asyncio.ensure_future(server.refresh())
    await fault.reached()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert (await server.token(grant_type="x"))[0] == 400  # by now the server knows
    fault.release()
    assert (await server.token(grant_type="x"))[0] == 400
    assert sandbox.ledger.undelivered() == (1,)


@pytest.mark.parametrize("after_bytes", [0, 1, 20])
async def test_cut(server: Server, sandbox: Sandbox, after_bytes: int) -> None:
    """The headers promise more than comes."""
    sandbox.fault("cut", after_bytes=after_bytes)
    with pytest.raises(ClientPayloadError):
        await server.refresh()
    assert not sandbox.ledger.is_live(server.refresh_token)


async def test_slowly(server: Server, sandbox: Sandbox) -> None:
    """Later, and a byte at a time; complete in the end."""
    sandbox.fault("delay", seconds=0.001)
    sandbox.fault("drip", seconds=0.0)
    _, answer = await server.refresh()
    assert (await server.refresh(answer["refresh_token"]))[0] == 200


async def test_other_endpoints(server: Server, sandbox: Sandbox) -> None:
    """The API, the revocation and the consent page can fail as well."""
    _, answer = await server.refresh()
    sandbox.fault("status", endpoint="api", status=429)
    assert (await server.get("/v1/odata/", answer["access_token"]))[0] == 429
    assert (await server.get("/v1/odata/", answer["access_token"]))[0] == 200
    sandbox.fault("lost_request", endpoint="revoke")
    with pytest.raises(ClientError):
        await server.session.post(f"{server.auth}/oauth2/revoke", data={})
    sandbox.fault("status", endpoint="authorize", status=500)
    with pytest.raises(RuntimeError, match="the consent page says: 500"):
        await sandbox.approve(sandbox.client().authorization_request().url)
    sandbox.fault("delay", endpoint="authorize")  # the page; then the answer to the decision
    sandbox.fault("status", endpoint="authorize", status=500)
    with pytest.raises(RuntimeError, match="the consent page says: 500"):
        await sandbox.approve(sandbox.client().authorization_request().url)
    sandbox.fault("delay", endpoint="authorize")
    sandbox.fault("status", endpoint="authorize", status=200)
    with pytest.raises(RuntimeError, match="asks again instead of sending the browser back"):
        await sandbox.approve(sandbox.client().authorization_request().url)


def test_orders_that_make_no_sense() -> None:
    """The choices are named."""
    sandbox = Sandbox()
    with pytest.raises(ValueError, match="no fault 'typo': choose one of delay, cut"):
        sandbox.fault("typo")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no endpoint 'typo': choose one of token, api"):
        sandbox.fault("hang", endpoint="typo")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        sandbox.fault("hang", nonsense=1)


async def test_one_organizations_fault(server: Server, sandbox: Sandbox) -> None:
    """It hits the API of that organization, of no other one, and no request with an unknown token."""
    _, acme = await server.refresh()
    _, beta = await server.token(grant_type="refresh_token", refresh_token=sandbox.paste_token("Beta"))
    fault = sandbox.fault("status", endpoint="api", status=503, times=None, organization="Beta")
    said = [(await server.get("/v1/odata/", token))[0] for token in (acme["access_token"], beta["access_token"], "x")]
    assert said == [200, 503, 401]
    assert fault.hits == 1


async def test_faults_by_chance(server: Server, sandbox: Sandbox) -> None:
    """Some of the answers are hit, and the same ones in every run."""
    token = (await server.refresh())[1]["access_token"]
    fault = sandbox.fault("status", endpoint="api", status=503, times=None, chance=0.25)
    said = [(await server.get("/v1/odata/", token))[0] for _ in range(100)]
    assert said.count(503) == fault.hits
    assert 10 < fault.hits < 45


@pytest.mark.parametrize("kind", ["cut", "drip"])
async def test_a_fault_on_an_answer_without_a_body(
    server: Server, sandbox: Sandbox, kind: Literal["cut", "drip"]
) -> None:
    """A 401 has none: there is nothing to cut off, and the sandbox does not stumble over that."""
    sandbox.fault(kind, endpoint="api")
    assert (await server.get("/v1/odata/", "x"))[0] == 401


@pytest.mark.parametrize("name", PROFILES)
async def test_the_database_is_away(name: str) -> None:
    """Every token request is 401 invalid_client, with good credentials; a revocation can be 200, and does nothing."""
    async with serve(name) as server:
        sandbox = server.sandbox
        assert sandbox is not None
        fault = sandbox.fault("database_away", times=None)
        refresh = {"grant_type": "refresh_token", "refresh_token": server.refresh_token}
        for form in (refresh, {"grant_type": "client_credentials"}, {}):
            said = await server.post("/oauth2/token", {**server.credentials, **form})
            assert (said.status, said.error) == (401, "invalid_client")
            assert ("Cache-Control" in said.headers) == (name not in {"hydra-1.5", "strict"})
        said = await server.post("/oauth2/revoke", {**server.credentials, "token": server.refresh_token})
        assert said.status == (200 if name in {"hydra-2.3", "strict"} else 401)
        assert fault.hits == 4
        assert sandbox.ledger.token_requests == 0
        assert sandbox.ledger.is_live(server.refresh_token)
        fault.cancel()
        assert (await server.refresh())[0] == 200


def test_a_database_that_an_endpoint_does_not_have() -> None:
    """The order is refused, with what to order instead."""
    with pytest.raises(ValueError, match="for api order another fault"):
        Sandbox().fault("database_away", endpoint="api")
