"""Sessions and middlewares of a real manager, against the sandbox, whose ledger is the judge."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tribe_oauth import MemoryStore, ReauthorizationRequired, RefreshTokenGrant, TokenManager, odata
from tribe_oauth.sandbox import Sandbox

PEOPLE = "/v1/odata/Relation_Person?$top=1"
ORGANIZATIONS = ("acme", "beta", "gamma")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(organizations=ORGANIZATIONS, persons=5) as sandbox:
        yield sandbox


@pytest.fixture
async def manager(sandbox: Sandbox) -> AsyncIterator[TokenManager]:
    """Three organizations, each connected by a pasted refresh token: three refreshes so far."""
    async with TokenManager(sandbox.client()) as manager:
        for organization in ORGANIZATIONS:
            await manager.connect(organization, RefreshTokenGrant(sandbox.client(), sandbox.paste_token(organization)))
        yield manager


class Statuses:
    """A middleware inside the manager's: sees each answer of the API."""

    def __init__(self) -> None:
        self.seen: Counter[int] = Counter()
        self.refused = asyncio.Event()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = await handler(request)
        self.seen[response.status] += 1
        if self.seen[401] == 500:
            self.refused.set()
        return response


async def status_of(session: aiohttp.ClientSession) -> int:
    async with session.get(PEOPLE) as response:
        return response.status


async def test_500_simultaneous_401s_make_one_refresh(sandbox: Sandbox, manager: TokenManager) -> None:
    """S22: all 500 are refused before the one refresh is answered; all 500 succeed with its token."""
    statuses = Statuses()
    session = aiohttp.ClientSession(
        sandbox.base,
        connector=aiohttp.TCPConnector(limit=0),
        middlewares=[manager.middleware("acme"), statuses],
    )
    async with session:
        sandbox.expire("acme")
        fault = sandbox.fault("hang")
        asked = [asyncio.create_task(status_of(session)) for _ in range(500)]
        await asyncio.wait_for(statuses.refused.wait(), 30)
        fault.release()
        assert await asyncio.gather(*asked) == [200] * 500
    assert statuses.seen == {401: 500, 200: 500}
    assert sandbox.ledger.count("refresh_token") == len(ORGANIZATIONS) + 1
    assert sandbox.ledger.spent_twice() == ()


async def test_sessions_of_several_organizations_share_one_connector(sandbox: Sandbox, manager: TokenManager) -> None:
    """S20: on the same connections, each session sees its own organization alone, also across a refresh of one."""
    own = {name: {row["ID"] async for row in _people(manager, name)} for name in ORGANIZATIONS}
    assert len(set().union(*own.values())) == sum(len(ids) for ids in own.values())
    async with AsyncExitStack() as stack:
        sessions = {name: await stack.enter_async_context(manager.session(name)) for name in ORGANIZATIONS}
        assert len({session.connector for session in sessions.values()}) == 1
        sandbox.expire("beta")

        async def reads_its_own(name: str) -> bool:
            return {row["ID"] async for row in odata.rows(sessions[name], "Relation_Person")} == own[name]

        assert all(await asyncio.gather(*(reads_its_own(name) for name in ORGANIZATIONS * 20)))
    assert sandbox.ledger.count("refresh_token") == len(ORGANIZATIONS) + 1


async def _people(manager: TokenManager, organization: str) -> AsyncIterator[dict[str, object]]:
    async with manager.session(organization) as session:
        async for row in odata.rows(session, "Relation_Person"):
            yield row


async def test_a_callers_time_out_in_the_middle_of_a_refresh(sandbox: Sandbox, manager: TokenManager) -> None:
    """The request's time-out ends the request. The flight lands, its token serves the next; nothing is sent twice."""
    sandbox.expire("acme")
    fault = sandbox.fault("hang")
    async with manager.session("acme") as session:
        with pytest.raises(TimeoutError):
            await session.get(PEOPLE, timeout=aiohttp.ClientTimeout(total=0.3))
        assert fault.hits == 1
        fault.release()
        assert await status_of(session) == 200
    assert sandbox.ledger.count("refresh_token") == len(ORGANIZATIONS) + 1
    assert sandbox.ledger.spent_twice() == ()


async def test_a_body_that_cannot_be_sent_again_waits_for_a_refresh(sandbox: Sandbox, manager: TokenManager) -> None:
    """The refresh under way is about to delete the token that this body would be refused with."""
    drawn = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        drawn.set()
        yield b"{}"

    async def post(session: aiohttp.ClientSession) -> int:
        async with session.post(PEOPLE, data=body()) as response:
            return response.status

    fault = sandbox.fault("hang")
    flight = asyncio.create_task(manager.refresh("acme"))
    await fault.reached()
    async with manager.session("acme") as session:
        posted = asyncio.create_task(post(session))
        await asyncio.wait({posted}, timeout=0.2)
        assert not drawn.is_set()
        fault.release()
        await flight
        assert await posted != 401
    assert drawn.is_set()


async def test_a_body_that_cannot_be_sent_again_is_sent_once_there_is_a_token(sandbox: Sandbox) -> None:
    """With nothing in hand and no refresh under way it waits for neither: the token is fetched, and then it goes."""

    async def body() -> AsyncIterator[bytes]:
        yield b"{}"

    client = sandbox.client()
    store = MemoryStore()
    async with TokenManager(client, store=store) as first:
        await first.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
    async with (
        TokenManager(client, store=store) as second,
        second.session("acme") as session,
        session.post(PEOPLE, data=body()) as response,
    ):
        assert response.status != 401


async def test_reauthorization_required_comes_out_of_a_request(sandbox: Sandbox, manager: TokenManager) -> None:
    """What nobody but a person can mend is the error of the request; the other organizations go on."""
    sandbox.expire("acme")
    sandbox.fault("status", status=400, body='{"error": "invalid_grant"}', content_type="application/json")
    async with manager.session("acme") as session:
        with pytest.raises(ReauthorizationRequired) as it:
            await session.get(PEOPLE)
    assert it.value.organization == "acme"
    async with manager.session("beta") as session:
        assert await status_of(session) == 200


async def test_an_api_that_always_says_401_does_not_burn_the_family(sandbox: Sandbox, manager: TokenManager) -> None:
    """S22: a hundred refused requests in a row cost one refresh; the 401s are returned."""
    sandbox.fault("status", endpoint="api", times=None, status=401)
    async with manager.session("acme") as session:
        assert [await status_of(session) for _ in range(100)] == [401] * 100
    assert sandbox.ledger.count("refresh_token") == len(ORGANIZATIONS) + 1
