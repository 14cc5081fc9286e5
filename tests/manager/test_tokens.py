"""The fast path, single flight, and what reaches whom."""

from __future__ import annotations

import asyncio
import random

import pytest

from tribe_oauth import ClientCredentialsGrant, MemoryStore, ReauthorizationRequired, RefreshTokenGrant, TokenManager
from tribe_oauth.errors import ManagerError, TemporarilyUnavailable, UnknownOrganizationError

from .conftest import MakeManager
from .helpers import TokenServer, VirtualClock, held_back, oauth_error, page, until

DAY = 86_400


async def test_nothing_due_is_a_look_up(manager: TokenManager, server: TokenServer) -> None:
    """A token that is not due comes from memory: no request, no suspension."""
    before = len(server.forms)
    coroutine = manager.token("acme")
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value.access_token.reveal() in server.access
    assert len(server.forms) == before


async def test_10_000_callers_share_one_refresh(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """However many ask for an expired token, one request is sent, and all get its result."""
    clock.advance(DAY)
    before = len(server.forms)
    tokens = await asyncio.gather(*(manager.token("acme") for _ in range(10_000)))
    assert len(server.forms) == before + 1
    assert {token.access_token.reveal() for token in tokens} <= server.access
    assert len(set(tokens)) == 1


async def test_cancelled_callers_disturb_nobody(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """F7: half of the callers are cancelled while the request is under way; the others get the token of it."""
    clock.advance(DAY)
    server.order(held_back(server))
    before = len(server.forms)
    callers = [asyncio.ensure_future(manager.token("acme")) for _ in range(1_000)]
    await server.arrived.wait()
    victims = random.Random(7).sample(callers, 500)
    for victim in victims:
        victim.cancel()
    server.released.set()
    results = await asyncio.gather(*callers, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 500
    assert len({result for result in results if not isinstance(result, BaseException)}) == 1
    assert len(server.forms) == before + 1


async def test_all_callers_cancelled_and_the_rotation_is_kept(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """F7: the request was sent, everybody left: what comes back is saved, and serves whoever comes next."""
    clock.advance(DAY)
    server.order(held_back(server))
    before = len(server.forms)
    caller = asyncio.ensure_future(manager.token("acme"))
    await server.arrived.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    server.released.set()
    token = await manager.token("acme")
    assert token.access_token.reveal() in server.access
    assert len(server.forms) == before + 1


async def test_a_callers_time_out_does_not_reach_the_flight(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """F7: a time-out of one caller is that caller's alone."""
    clock.advance(DAY)
    server.order(held_back(server))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(manager.token("acme"), timeout=0.01)
    server.released.set()
    assert (await manager.token("acme")).access_token.reveal() in server.access
    assert len(server.refreshes()) == 2


async def test_a_failure_is_shared_and_remembered(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """20 callers of a dead family make one request; each gets an error of its own."""
    server.live.clear()
    clock.advance(DAY)
    before = len(server.forms)
    errors = await asyncio.gather(*(manager.token("acme") for _ in range(20)), return_exceptions=True)
    assert {type(error) for error in errors} == {ReauthorizationRequired}
    assert len({id(error) for error in errors}) == 20
    with pytest.raises(ReauthorizationRequired):
        await manager.token("acme")
    assert len(server.forms) == before + 1


async def test_the_store_is_read_again_for_a_dead_organization(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """A reconnection on another host is seen before long, and the server is not asked meanwhile."""
    server.live.clear()
    clock.advance(DAY)
    with pytest.raises(ReauthorizationRequired):
        await manager.token("acme")
    await make_manager().connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    before = len(server.forms)
    with pytest.raises(ReauthorizationRequired):
        await manager.token("acme")
    clock.advance(60)
    assert (await manager.token("acme")).access_token.reveal() in server.access
    assert len(server.forms) == before


async def test_ahead_of_time_callers_do_not_wait(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """In the last part of its life the old token is served while the new one is fetched."""
    old, generation = await manager.token("acme"), manager._tokens["acme"].generation
    clock.advance(DAY * 0.95)
    server.order(held_back(server))
    assert await manager.token("acme") == old
    assert await manager.token("acme") == old
    await server.arrived.wait()
    server.released.set()
    await until(lambda: manager._tokens["acme"].generation == generation + 1)
    assert (await manager.token("acme")) != old
    assert len(server.refreshes()) == 2


async def test_a_failure_ahead_of_time_is_nobodys_trouble(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """While the old token works, a failed refresh is logged, and tried again later."""
    old = await manager.token("acme")
    clock.advance(DAY * 0.95)
    server.order(page(404), page(404))
    assert await manager.token("acme") == old
    await until(lambda: "not refreshed ahead of time" in caplog.text)
    assert await manager.token("acme") == old
    assert len(server.refreshes()) == 2
    clock.advance(10)
    assert await manager.token("acme") == old
    await until(lambda: len(server.refreshes()) == 3)


async def test_the_spread_of_early_refreshes(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """F12: organizations connected in one moment are not due in one moment."""
    manager, due = make_manager(), []
    for number in range(5):
        clock.chance = number / 5
        await manager.connect(f"org {number}", RefreshTokenGrant(server.client(), server.paste()))
        due.append(manager._tokens[f"org {number}"].due)
    assert len(set(due)) == 5
    assert max(due) - min(due) > DAY * 0.05


async def test_in_the_leeway_callers_wait(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """60 seconds before its end a token is not given out any more."""
    clock.advance(DAY - 59)
    old = manager._tokens["acme"].token
    assert await manager.token("acme") != old


async def test_short_lives_have_a_short_leeway(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """A token that lives a minute is used for nine tenths of it."""
    server.expires_in = 60
    manager = make_manager()
    first = await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    clock.advance(53)
    assert await manager.token("acme") == first
    clock.advance(2)
    assert await manager.token("acme") != first


async def test_clock_jumps(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """S29: within a process the wall clock may jump either way and decides nothing."""
    before = len(server.forms)
    clock.wall += 365 * DAY
    await manager.token("acme")
    clock.wall -= 2 * 365 * DAY
    await manager.token("acme")
    assert len(server.forms) == before
    clock.mono += DAY
    await manager.token("acme")
    assert len(server.forms) == before + 1


async def test_a_jump_during_the_request(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """S29: a wall clock that jumps while the answer is on its way makes the new token neither dead nor immortal."""
    clock.advance(DAY)
    server.order(held_back(server))
    caller = asyncio.ensure_future(manager.token("acme"))
    await server.arrived.wait()
    clock.wall += 30 * DAY
    server.released.set()
    token = await caller
    assert await manager.token("acme") == token
    assert len(server.refreshes()) == 2


async def test_refresh_forces(manager: TokenManager, server: TokenServer) -> None:
    """`refresh` without `rejected` rotates although nothing is due; callers at once share it."""
    old = await manager.token("acme")
    tokens = await asyncio.gather(*(manager.refresh("acme") for _ in range(50)))
    assert set(tokens) != {old}
    assert len(set(tokens)) == 1
    assert len(server.refreshes()) == 2


async def test_rejected_and_replaced_already(manager: TokenManager, server: TokenServer) -> None:
    """`refresh(rejected=…)` is no refresh where that token was replaced already."""
    old = await manager.token("acme")
    new = await manager.refresh("acme", rejected=old)
    assert new != old
    assert await manager.refresh("acme", rejected=old) == new
    assert len(server.refreshes()) == 2


async def test_500_rejections_make_one_refresh(manager: TokenManager, server: TokenServer) -> None:
    """Everybody had the same token refused at once."""
    old = await manager.token("acme")
    tokens = await asyncio.gather(*(manager.refresh("acme", rejected=old) for _ in range(500)))
    assert len(set(tokens)) == 1
    assert old not in tokens
    assert len(server.refreshes()) == 2


async def test_a_waiter_given_the_rejected_token_starts_one_more_flight(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """A flight that is under way for another reason may bring the very token that was rejected."""
    rejected = await make_manager().refresh("acme")  # a peer's; here the one before is still cached
    clock.advance(DAY * 0.95)
    server.order(held_back(server))
    await manager.token("acme")  # starts a flight ahead of time, which finds the peer's
    assert (await manager.refresh("acme", rejected=rejected)) != rejected


async def test_an_api_that_always_refuses_does_not_burn_the_family(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """After one rotation that did not help, the next ones come ever more rarely; the rejected token is returned."""
    token = await manager.token("acme")
    for _ in range(100):
        token = await manager.refresh("acme", rejected=token)
    assert len(server.refreshes()) == 2
    for _ in range(24 * 60):
        clock.advance(60)
        token = await manager.refresh("acme", rejected=token)
    assert len(server.refreshes()) < 50


async def test_the_store_is_still_read_for_a_rejected_token(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer
) -> None:
    """While rotations for 401 are held back, a token that a peer has fetched is taken."""
    token = await manager.token("acme")
    for _ in range(5):
        token = await manager.refresh("acme", rejected=token)
    peer = make_manager()
    newer = await peer.refresh("acme")
    assert await manager.refresh("acme", rejected=token) == newer


async def test_client_credentials_rejected_again_and_again(make_manager: MakeManager, server: TokenServer) -> None:
    """The same holds for client credentials, where memory is all there is."""
    manager = make_manager()
    token = await manager.connect("acme", ClientCredentialsGrant(server.client()))
    for _ in range(10):
        token = await manager.refresh("acme", rejected=token)
    assert len(server.forms) == 2


async def test_the_only_organization_needs_no_name(manager: TokenManager, server: TokenServer) -> None:
    """With one organization the key may be left out; with two that is an error with a remedy."""
    token = await manager.token()
    assert token == await manager.token("acme")
    assert await manager.token() == token
    await manager.connect("beta", ClientCredentialsGrant(server.client()))
    with pytest.raises(UnknownOrganizationError, match="say which one"):
        await manager.token()
    await manager.disconnect("acme")
    assert await manager.token() == await manager.token("beta")


async def test_no_organization_at_all(make_manager: MakeManager) -> None:
    """Nothing connected, or not this one: said so, with the remedy."""
    manager = make_manager()
    with pytest.raises(UnknownOrganizationError, match="connect"):
        await manager.token()
    with pytest.raises(UnknownOrganizationError, match="'acme' is not connected: connect"):
        await manager.token("acme")
    with pytest.raises(UnknownOrganizationError):
        await manager.status("acme")


async def test_disconnected_by_a_peer(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """What a peer has disconnected is unknown here too, at the next look, and never written back."""
    await make_manager().disconnect("acme")
    clock.advance(DAY)
    with pytest.raises(UnknownOrganizationError):
        await manager.token("acme")
    assert "acme" not in manager._tokens


async def test_a_bug_reaches_the_waiters(
    manager: TokenManager, store: MemoryStore, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever ends a refresh, no waiter hangs."""
    loop_errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: loop_errors.append(context))

    def broken(record: object) -> None:
        raise ZeroDivisionError

    clock.advance(DAY)
    monkeypatch.setattr("tribe_oauth._refresh.refresh.decode", broken)
    with pytest.raises(ManagerError, match="ZeroDivisionError"):
        await manager.token("acme")


async def test_backing_off_callers_are_told_when(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """During a back-off callers get the error at once, with the time of the next attempt; after it, one asks again."""
    clock.advance(DAY)
    server.order(page(404))
    with pytest.raises(TemporarilyUnavailable) as first:
        await manager.token("acme")
    assert first.value.next_attempt_at is not None
    before = len(server.forms)
    with pytest.raises(TemporarilyUnavailable):
        await manager.token("acme")
    assert len(server.forms) == before
    clock.advance(first.value.next_attempt_at - clock.time() + 0.001)
    assert (await manager.token("acme")).access_token.reveal() in server.access


async def test_a_forced_refresh_during_a_back_off(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """Somebody who repaired the fault need not wait, unless the refresh token may be spent."""
    clock.advance(DAY)
    server.order(oauth_error("unauthorized_client"))
    with pytest.raises(Exception, match="unauthorized_client"):
        await manager.token("acme")
    assert (await manager.refresh("acme")).access_token.reveal() in server.access


async def test_a_token_that_ran_out_on_its_way(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """An answer that took longer than the token lives is good for the next refresh alone."""
    clock.advance(DAY)

    async def slow(form: object, request: object) -> object:
        clock.advance(2 * DAY)
        return await server.rotate(form, request)  # type: ignore[arg-type]

    server.order(slow)  # type: ignore[arg-type]
    token = await manager.token("acme")
    assert server.refreshes()[-1] != server.refreshes()[-2]
    assert token.expires_at > clock.time()
