"""What each answer of the token endpoint leads to: the design's table, row by row (F2, F3, F8, F9)."""

from __future__ import annotations

import asyncio
import logging
import re

import attrs
import pytest
from aiohttp import web

from tribe_oauth import (
    ClientCredentialsGrant,
    MemoryStore,
    ReauthorizationRequired,
    RefreshTokenGrant,
    TokenEndpointError,
    TokenManager,
)
from tribe_oauth.errors import REVOKED, TemporarilyUnavailable

from ..stored import with_other
from .conftest import MakeManager
from .helpers import (
    Answer,
    Form,
    TokenServer,
    VirtualClock,
    held_back,
    json_answer,
    oauth_error,
    page,
    reset,
    spent_then_reset,
    until,
)

DAY = 86_400
HYDRAS = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is"
    " invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued"
    " to another client."
)


async def expired(manager: TokenManager, clock: VirtualClock) -> None:
    clock.advance(DAY)
    clock.slept.clear()


async def test_could_not_connect(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, make_manager: MakeManager
) -> None:
    """Nothing was sent: no maybe_spent, a back-off of at most a minute, and the connection is kept."""
    await expired(manager, clock)
    record = await store.load("acme")
    assert record is not None
    away = attrs.evolve(server.endpoints, token_endpoint="http://127.0.0.1:9/oauth2/token")
    here, there = server.endpoints.token_endpoint.encode(), away.token_endpoint.encode()
    payload = with_other(record.payload, here, there)
    await store.swap(attrs.evolve(record, payload=payload, failures=30))
    lost = make_manager(client=attrs.evolve(server.client(), endpoints=away))
    with pytest.raises(TemporarilyUnavailable, match="check the address of the token endpoint") as error:
        await lost.token("acme")
    after = await store.load("acme")
    assert after is not None
    assert not after.maybe_spent
    assert after.lease is None
    assert error.value.next_attempt_at == after.not_before
    assert 0 < after.not_before - clock.time() <= 75


@pytest.mark.parametrize(
    ("answer", "waits_for_quiet"),
    [
        pytest.param(reset, False, id="reset"),
        pytest.param(page(500), True, id="500"),
        pytest.param(page(502), True, id="502"),
        pytest.param(page(503), True, id="503"),
        pytest.param(page(504), True, id="504"),
        pytest.param(oauth_error("server_error", 500), True, id="server_error"),
        pytest.param(page(200), True, id="200 with a page"),
        pytest.param(page(200, "", "application/json"), True, id="200 with nothing"),
        pytest.param(
            json_answer({"access_token": "a", "token_type": "bearer", "refresh_token": 7}), True, id="200 absurd"
        ),
    ],
)
async def test_maybe_spent(
    manager: TokenManager,
    server: TokenServer,
    store: MemoryStore,
    clock: VirtualClock,
    answer: Answer,
    waits_for_quiet: bool,
) -> None:
    """The same refresh token once more, not while the first can still arrive; all is well two rotations later."""
    await expired(manager, clock)
    server.order(answer)
    token = await manager.token("acme")
    assert token.access_token.reveal() in server.access
    assert len(set(server.refreshes()[1:])) == 1
    assert len(server.refreshes()) == 3
    assert (sum(clock.slept) >= 10) == waits_for_quiet
    record = await store.load("acme")
    assert record is not None
    assert record.maybe_spent  # the answer to a resend can be a token that is dead already
    for kept in (True, False):
        clock.advance(60)
        await manager.refresh("acme")
        record = await store.load("acme")
        assert record is not None
        assert record.maybe_spent == kept


async def test_a_time_out_is_maybe_spent(make_manager: MakeManager, server: TokenServer, clock: VirtualClock) -> None:
    """F2: no answer within the request's time: the same refresh token again after `quiet`."""
    manager = make_manager(request_timeout=0.1)
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    await expired(manager, clock)
    server.order(held_back(server))
    token = await manager.token("acme")
    assert token.access_token.reveal() in server.access
    assert sum(clock.slept) >= 10
    assert len(set(server.refreshes()[1:])) == 1


async def test_a_lost_answer_ends_as_lost_rotation(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The one that no client can save: spent, and the answer lost. It is named, once, and the server left alone."""
    await expired(manager, clock)
    server.order(spent_then_reset(server))
    with pytest.raises(ReauthorizationRequired) as error:
        await manager.token("acme")
    assert error.value.cause == "lost rotation"
    assert error.value.organization == "acme"
    for _ in range(10):
        clock.advance(3600)
        with pytest.raises(ReauthorizationRequired):
            await manager.token("acme")
    assert len(server.refreshes()) == 3
    assert caplog.text.count("has to be connected again: lost rotation") == 1
    status = await manager.status("acme")
    assert (status.state, status.cause) == ("reauthorization_required", "lost rotation")


@pytest.mark.parametrize(("error", "status"), [("invalid_grant", 400), ("token_inactive", 401)])
async def test_dead(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, error: str, status: int
) -> None:
    """The server's own words end the connection; its record is kept."""
    await expired(manager, clock)
    server.order(oauth_error(error, status))
    with pytest.raises(ReauthorizationRequired) as caught:
        await manager.token("acme")
    assert caught.value.cause == REVOKED
    assert not caught.value.retryable
    record = await store.load("acme")
    assert record is not None
    assert record.status == "reauthorization_required"
    assert record.payload
    assert record.due_at is None


async def test_the_loser_of_a_race_adopts(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """F8: refused, but a peer has written a newer token meanwhile: that one is taken, nothing is marked."""
    await expired(manager, clock)
    peers_token = []

    async def lose(form: object, request: object) -> object:
        record = await store.load("acme")
        assert record is not None
        await store.swap(attrs.evolve(record, lease=None))  # as if the lease had been lost
        peers_token.append(await make_manager().refresh("acme"))
        return await oauth_error("invalid_grant")({}, None)  # type: ignore[arg-type]

    server.order(lose)  # type: ignore[arg-type]
    assert await manager.token("acme") == peers_token[0]
    assert (await manager.status("acme")).state == "fresh"


async def test_invalid_request_is_asked_once_more(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """Hydra 1.5 says so to the loser of a race: after a moment it is asked again."""
    await expired(manager, clock)
    server.order(oauth_error("invalid_request"))
    assert (await manager.token("acme")).access_token.reveal() in server.access
    assert len(server.refreshes()) == 3


async def test_invalid_request_ends_what_can_have_expired(
    make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """Hydra 1.5 and 1.10 say the same of an expired refresh token: twice is an answer, 30 days after it was issued."""
    manager = make_manager(refresh_token_lifetime=DAY / 2)
    server.date = "Thu, 26 Nov 2026 08:00:00 GMT"
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    await expired(manager, clock)
    server.date = "Fri, 27 Nov 2026 08:00:00 GMT"
    server.order(oauth_error("invalid_request"), oauth_error("invalid_request"))
    with pytest.raises(ReauthorizationRequired, match="expired"):
        await manager.token("acme")
    assert len(server.refreshes()) == 3


async def test_an_old_token_that_a_peer_has_replaced(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """F8: old enough to have expired, and refused twice; but a peer was quicker: its token is taken."""
    manager = make_manager(refresh_token_lifetime=DAY / 2)
    server.date = "Thu, 26 Nov 2026 08:00:00 GMT"
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    await expired(manager, clock)
    server.date = "Fri, 27 Nov 2026 08:00:00 GMT"
    peers_token = []

    async def lose(form: Form, request: web.Request) -> web.StreamResponse:
        record = await store.load("acme")
        assert record is not None
        await store.swap(attrs.evolve(record, lease=None))  # as if the lease had been lost
        peers_token.append(await make_manager().refresh("acme"))
        return await oauth_error("invalid_request")(form, request)

    server.order(oauth_error("invalid_request"), lose)
    assert await manager.token("acme") == peers_token[0]


@pytest.mark.parametrize("server_tells", [False, True])
async def test_invalid_request_of_a_proxy(
    make_manager: MakeManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, server_tells: bool
) -> None:
    """F17: a body that was mangled on its way is refused so, whatever the token: not now, for as long as it takes.

    A clock that jumps ahead by years makes no token old, where the server tells what time it is.
    """
    manager = make_manager()
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    await expired(manager, clock)
    if server_tells:
        server.date = "Fri, 27 Nov 2026 08:00:00 GMT"
        await manager.refresh("acme")
        clock.jump(5 * 365 * DAY)
    for _ in range(5):
        server.order(oauth_error("invalid_request"), oauth_error("invalid_request"))
        with pytest.raises(TemporarilyUnavailable, match="invalid_request"):
            await manager.refresh("acme")
        clock.advance(DAY)
    record = await store.load("acme")
    assert record is not None
    assert (record.status, record.failures) == ("connected", 5)
    assert (await manager.token("acme")).access_token.reveal() in server.access


async def test_a_pasted_token_that_is_refused_so(make_manager: MakeManager, server: TokenServer) -> None:
    """How old it is is not known: connect() says what the server said, what worked goes on, nothing is marked."""
    manager = make_manager()
    first = await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    server.order(oauth_error("invalid_request"), oauth_error("invalid_request"))
    with pytest.raises(TokenEndpointError, match="invalid_request"):
        await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    assert await manager.token("acme") == first
    assert (await manager.status("acme")).state == "fresh"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("The refresh token was already used.", "used elsewhere"),
        ("The refresh token expired at '2026-11-27'.", "expired"),
        ("", "revoked, expired, or used elsewhere"),
    ],
)
async def test_the_servers_own_words(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, words: str, cause: str
) -> None:
    """They say the cause, behind the sentence that stands before each such error and says everything at once."""
    await expired(manager, clock)
    server.order(oauth_error("invalid_grant", 400, f"{HYDRAS} {words}".strip()))
    with pytest.raises(ReauthorizationRequired) as caught:
        await manager.token("acme")
    assert caught.value.cause.startswith(cause)


@pytest.mark.parametrize(
    "words",
    [
        "The OAuth 2.0 Client ID from this request does not match the ID during the initial token issuance.",
        'The OAuth 2.0 Client is not allowed to use authorization grant "refresh_token".',
    ],
)
async def test_words_about_the_client(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, words: str
) -> None:
    """An `invalid_grant` that is about a setting says nothing about the token: it lives, and nothing is marked."""
    await expired(manager, clock)
    server.order(oauth_error("invalid_grant", 400, f"{HYDRAS} {words}"))
    with pytest.raises(TokenEndpointError, match=re.escape(words)):
        await manager.token("acme")
    record = await store.load("acme")
    assert record is not None
    assert record.status == "connected"


async def test_429_is_not_now(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """F3: too many requests never means "log in again"; Retry-After is kept."""
    await expired(manager, clock)
    server.order(page(429, **{"Retry-After": "120"}))
    with pytest.raises(TemporarilyUnavailable) as error:
        await manager.token("acme")
    assert error.value.status == 429
    assert error.value.next_attempt_at == pytest.approx(clock.time() + 120)
    clock.advance(119)
    with pytest.raises(TemporarilyUnavailable):
        await manager.token("acme")
    clock.advance(2)
    assert await manager.token("acme")
    assert len(server.refreshes()) == 3


@pytest.mark.parametrize("status", [429, 503])
async def test_a_short_pause_is_waited_out(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, status: int
) -> None:
    """F3: up to ten seconds, in either form, a few times: a caller that waits gets its token, and no error."""
    await expired(manager, clock)
    date, at = "Tue, 24 Nov 2026 08:00:00 GMT", "Tue, 24 Nov 2026 08:00:10 GMT"
    server.order(page(status, **{"Retry-After": "3"}), page(status, **{"Date": date, "Retry-After": at}))
    assert await manager.token("acme")
    assert [min(round(seconds, 3), 12.0) for seconds in clock.slept[:2]] == (
        [3.3, 11.0] if status == 429 else [11.0, 11.0]  # after a 503 the request may still arrive: not before `quiet`
    )
    assert len(server.refreshes()) == 4


async def test_a_short_pause_without_end(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """F3: a server that asks for a little patience again and again is backed off from."""
    await expired(manager, clock)
    server.order(*[page(429, **{"Retry-After": "1"})] * 10)
    with pytest.raises(TemporarilyUnavailable):
        await manager.token("acme")
    assert len(server.refreshes()) == 1 + 4


async def test_nobody_waits_for_one_that_is_ahead_of_time(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """F3: callers go on with the token that they have; the next attempt is later."""
    clock.advance(DAY - 120)
    clock.slept.clear()
    server.order(page(429, **{"Retry-After": "1"}))
    server.arrived.clear()
    assert await manager.token("acme")
    await server.arrived.wait()
    await until(lambda: manager._single_flight.recent_failure("acme") is not None)
    assert len(server.refreshes()) == 2


async def test_a_short_pause_for_client_credentials(server: TokenServer, make_manager: MakeManager) -> None:
    """F3: in the same way."""
    manager = make_manager()
    server.order(page(429, **{"Retry-After": "2"}), page(503, **{"Retry-After": "2"}))
    assert await manager.connect("acme", ClientCredentialsGrant(server.client()))
    assert len(server.forms) == 3


async def test_503_with_a_date(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """F3: Retry-After as a date counts from the server's own Date; such patience is not a waiting caller's."""
    await expired(manager, clock)
    headers = {"Date": "Tue, 24 Nov 2026 08:00:00 GMT", "Retry-After": "Tue, 24 Nov 2026 08:05:00 GMT"}
    server.order(page(503, **headers))
    with pytest.raises(TemporarilyUnavailable) as error:
        await manager.token("acme")
    assert error.value.next_attempt_at == pytest.approx(clock.time() + 300)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 401, 403, 404])
async def test_a_page_says_nothing_about_an_organization(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, store: MemoryStore, status: int
) -> None:
    """A firewall's 403, a redirect, a 400 in HTML: not now, no maybe_spent, and never followed."""
    await expired(manager, clock)
    server.order(page(status, Location=f"{server.base}/oauth2/token"))
    with pytest.raises(TemporarilyUnavailable) as error:
        await manager.token("acme")
    assert error.value.status == status
    record = await store.load("acme")
    assert record is not None
    assert (record.status, record.maybe_spent) == ("connected", False)
    assert len(server.refreshes()) == 2


async def test_invalid_client_for_a_while(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """F9: one invalid_client may be a fault of the server's database; a few spaced tries get over it."""
    await expired(manager, clock)
    server.order(oauth_error("invalid_client", 401), oauth_error("invalid_client", 401))
    assert await manager.token("acme")
    assert len(server.refreshes()) == 4
    assert sum(clock.slept) >= 5


async def test_invalid_client_for_a_minute(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """F9: then a clear error; nothing is deleted, and when the server is well again, so is the organization."""
    await expired(manager, clock)
    server.order(*[oauth_error("invalid_client", 401)] * 3)
    with pytest.raises(TokenEndpointError, match="client_id and client_secret, which worked") as error:
        await manager.token("acme")
    assert error.value.error == "invalid_client"
    assert isinstance(error.value, TemporarilyUnavailable)
    clock.advance(60)
    assert await manager.token("acme")


async def test_a_setting_that_is_wrong(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """Understood and refused: one request, a clear error, nothing deleted."""
    await expired(manager, clock)
    server.order(oauth_error("unauthorized_client"))
    with pytest.raises(TokenEndpointError, match="check the Application's settings"):
        await manager.token("acme")
    assert len(server.refreshes()) == 2


async def test_no_new_refresh_token_keeps_the_old(
    manager: TokenManager, server: TokenServer, clock: VirtualClock
) -> None:
    """S19: an answer without a refresh token leaves the old one in place (RFC 6749 §6)."""
    await expired(manager, clock)
    before = await manager.status("acme")
    server.order(json_answer({"access_token": "new", "token_type": "Bearer", "expires_in": 100}))
    token = await manager.token("acme")
    assert token.access_token.reveal() == "new"
    assert token.refresh_token is not None
    assert token.refresh_token.reveal() == server.refreshes()[-1]
    assert before.organization == "acme"


async def test_spent_and_answered_absurdly(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """A readable refresh token beside an unreadable access token: committed first, complained of after."""
    await expired(manager, clock)
    server.live.add("saved")
    server.order(json_answer({"access_token": "", "token_type": "bearer", "refresh_token": "saved"}))
    with pytest.raises(TemporarilyUnavailable, match="no readable access token"):
        await manager.token("acme")
    record = await store.load("acme")
    assert record is not None
    assert record.not_before > clock.time()
    assert b"saved" in record.payload
    clock.advance(record.not_before - clock.time() + 1)
    await manager.token("acme")
    assert server.refreshes()[-1] == "saved"


async def test_a_changed_scope_is_recorded_and_told(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """S7: in a refresh, another scope is never a reason to drop the family."""
    caplog.set_level(logging.WARNING)
    for scope in ("read write", "read"):
        await expired(manager, clock)

        async def narrowed(form: object, request: object, scope: str = scope) -> object:
            return await json_answer(server.issue(form, scope=scope))({}, request)  # type: ignore[arg-type]

        server.order(narrowed)  # type: ignore[arg-type]
        assert (await manager.token("acme")).scope == frozenset(scope.split())
    assert caplog.text.count("scope of organization 'acme' changed") == 1
    await expired(manager, clock)
    assert (await manager.token("acme")).scope == frozenset({"read"})


async def test_one_that_always_fails(manager: TokenManager, server: TokenServer, clock: VirtualClock) -> None:
    """F12: an organization that fails for ever costs at most 50 requests a day, whoever asks how often."""
    await expired(manager, clock)
    server.order(*[page(404)] * 1_000)
    before = len(server.forms)
    for _ in range(24 * 60):
        with pytest.raises(TemporarilyUnavailable):
            await manager.token("acme")
        clock.advance(60)
    assert len(server.forms) - before <= 50


async def test_many_hosts_fail_as_one(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """The time of the next attempt is in the store: N hosts don't make N times the tries."""
    hosts = [manager, *(make_manager() for _ in range(7))]
    await expired(manager, clock)
    server.order(*[page(404)] * 1_000)
    before = len(server.forms)
    for _ in range(24 * 12):
        errors = await asyncio.gather(*(host.token("acme") for host in hosts), return_exceptions=True)
        assert all(isinstance(error, TemporarilyUnavailable) for error in errors)
        clock.advance(300)
    assert len(server.forms) - before <= 50
