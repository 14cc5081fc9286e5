"""The manager against every server profile of the sandbox, whose ledger is the judge."""

from __future__ import annotations

import asyncio
import random

import pytest

from tribe_oauth import ClientCredentialsGrant, ReauthorizationRequired, RefreshTokenGrant, TokenManager
from tribe_oauth.sandbox import PROFILES, Sandbox

from .helpers import VirtualClock

DAY = 86_400


@pytest.mark.parametrize("profile", PROFILES)
async def test_10_000_callers_half_of_them_cancelled(profile: str) -> None:
    """F7: one token request, and no survivor without a token, whenever the others leave."""
    clock, chance = VirtualClock(), random.Random(1)
    async with (
        Sandbox(profile=profile, clock=clock.time) as sandbox,
        TokenManager(sandbox.client(), clock=clock) as manager,
    ):
        await manager.connect("acme", RefreshTokenGrant(sandbox.client(), sandbox.paste_token("Acme")))
        clock.advance(DAY)
        before = sandbox.ledger.token_requests
        fault = sandbox.fault("hang")
        callers = [asyncio.ensure_future(manager.token("acme")) for _ in range(10_000)]
        leaving = chance.sample(callers, 5_000)
        for caller in leaving[:2_500]:
            if chance.random() < 0.02:
                await asyncio.sleep(0)  # let the flight get a little further
            caller.cancel()
        await fault.reached()  # the request is at the server
        for caller in leaving[2_500:]:
            caller.cancel()
        fault.release()
        results = await asyncio.gather(*callers, return_exceptions=True)
        tokens = [result for result in results if not isinstance(result, BaseException)]
        assert len(tokens) == 5_000
        assert len(set(tokens)) == 1
        assert sandbox.ledger.token_requests == before + 1
        assert sandbox.ledger.is_live(tokens[0].access_token.reveal())
        assert sandbox.ledger.spent_twice() == ()


@pytest.mark.parametrize("profile", PROFILES)
async def test_the_three_ways_in(profile: str) -> None:
    """Every flow of Tribe's page, and a rotation of each, on every profile."""
    async with Sandbox(profile=profile) as sandbox:
        client = sandbox.client()
        async with TokenManager(client) as manager:
            await manager.connect("a", ClientCredentialsGrant(client))
            await manager.connect("b", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            request = client.authorization_request(organization_id=sandbox.organizations["Acme"])
            token = await manager.connect("c", request.grant(await sandbox.approve(request.url)))
            assert token.scope == frozenset({"read", "write", "offline"})
            for organization in ("a", "b", "c"):
                await manager.refresh(organization)
                async with manager.session(organization) as session, session.get("/v1/odata/") as response:
                    assert response.status == 200
        assert sandbox.ledger.reused() == ()


@pytest.mark.parametrize("profile", PROFILES)
async def test_two_managers_without_a_common_store_lose(profile: str) -> None:
    """Why there is a store: two processes that each keep their own use one refresh token twice."""
    clock = VirtualClock()
    async with Sandbox(profile=profile, clock=clock.time) as sandbox:
        client, pasted = sandbox.client(), sandbox.paste_token("Acme")
        async with TokenManager(client, clock=clock) as one, TokenManager(client, clock=clock) as other:
            await one.connect("acme", RefreshTokenGrant(client, pasted))
            with pytest.raises(Exception, match="refused"):
                await other.connect("acme", RefreshTokenGrant(client, pasted))
            assert sandbox.ledger.reused()
            if PROFILES[profile].reuse_revokes_family:
                with pytest.raises(ReauthorizationRequired):
                    await one.refresh("acme")
            else:
                assert await one.refresh("acme")


async def test_two_managers_at_the_same_instant_both_win_and_one_is_dead() -> None:
    """Worse than losing: neither is told, and who refreshes with the dead token ends the other's family."""
    clock = VirtualClock()
    async with Sandbox(profile="hydra-2.3", seed=1, race_window=3600, clock=clock.time) as sandbox:
        client, pasted = sandbox.client(), sandbox.paste_token("Acme")
        async with TokenManager(client, clock=clock) as one, TokenManager(client, clock=clock) as other:
            fault, grant = sandbox.fault("hang", times=2), RefreshTokenGrant(client, pasted)
            connecting = [asyncio.ensure_future(manager.connect("acme", grant)) for manager in (one, other)]
            while fault.hits < 2:  # noqa: ASYNC110 (no event tells of the last one)
                await asyncio.sleep(0)
            fault.release()
            tokens = await asyncio.gather(*connecting)
            alive = [sandbox.ledger.is_live(token.access_token.reveal()) for token in tokens]
            assert sorted(alive) == [False, True]
            assert len(sandbox.ledger.spent_twice()) == 1
            with pytest.raises(ReauthorizationRequired):
                await (one, other)[alive.index(False)].refresh("acme")
            with pytest.raises(ReauthorizationRequired):
                await (one, other)[alive.index(True)].refresh("acme")
            assert [family.live for family in sandbox.ledger.families("Acme")] == [False]


async def test_an_idle_organization_that_expired() -> None:
    """A refresh token unused for 720 hours is dead; Hydra 1.5 says so with invalid_request, twice."""
    for profile in PROFILES:
        clock = VirtualClock()
        async with Sandbox(profile=profile, clock=clock.time) as sandbox:
            client = sandbox.client()
            async with TokenManager(client, clock=clock) as manager:
                await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
                clock.advance(31 * DAY)
                with pytest.raises(ReauthorizationRequired, match="expired"):
                    await manager.token("acme")
