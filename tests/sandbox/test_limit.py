"""The limit of calls, for each application and organization, in a window that slides."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tribe_oauth.sandbox import ApiRules, Call
from tribe_oauth.sandbox._limit import Limit

from .servers import Server, serve

START = 1_800_000_000.0


async def call(server: Server, token: str) -> tuple[int, str | None]:
    status, headers, _ = await server.get("/v1/odata/Note?$top=1", token)
    return status, headers.get("Retry-After")


async def test_a_window_that_slides() -> None:
    """So many in any so many seconds; what is refused does not count, and says nothing of when to come again."""
    now = [START]
    rules = ApiRules(calls=3, seconds=6)
    async with serve("strict", organizations=["Acme", "Beta"], api=rules, clock=lambda: now[0]) as server:
        assert server.sandbox is not None
        _, answer = await server.refresh()
        token = answer["access_token"]
        found = []
        for at in (0, 2, 4, 5, 5.9, 6, 7.9, 8):
            now[0] = START + at
            found.append(await call(server, token))
        assert [status for status, _ in found] == [200, 200, 200, 429, 429, 200, 429, 200]
        assert {hint for _, hint in found} == {None}
        ledger = server.sandbox.ledger
        assert ledger.limited == 3
        assert ledger.calls[3] == Call(START + 5, "application-1", "Acme", 429)
        assert json.loads(json.dumps(ledger.summary()))["calls"] == 8
        # Another organization, and another application, have calls of their own; a wrong token has none.
        other = server.sandbox.client(organization="Beta")
        for client, expected in ((other, 200), (server.sandbox.client(), 429)):
            form = {"client_id": client.client_id, "client_secret": client.client_secret.reveal()}
            _, answer = await server.token(grant_type="client_credentials", scope="read", **form)
            assert (await call(server, answer["access_token"]))[0] == expected
        assert (await call(server, "wrong"))[0] == 401


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_retry_after(form: Any) -> None:
    """The time until a call is free again, if the rules give it."""
    async with serve("strict", api=ApiRules(calls=1, seconds=6, retry_after=form), clock=lambda: START) as server:
        _, answer = await server.refresh()
        assert await call(server, answer["access_token"]) == (200, None)
        status, hint = await call(server, answer["access_token"])
        assert (status, hint is not None) == (429, True)
        wait = float(hint or 0) if form == "seconds" else parsedate_to_datetime(hint or "").timestamp() - START
        assert wait == 7


def test_who_goes_on_is_blocked() -> None:
    """After so many answers of 429, for as long as the rules say."""
    now = [START]
    limit = Limit(ApiRules(calls=1, block=600, heeded=2), lambda: now[0])
    assert [limit.call("a", "b")[0] for _ in range(5)] == [200, 429, 429, 403, 403]
    assert limit.call("a", "c")[0] == 200
    now[0] += 599
    assert limit.call("a", "b") == (403, START + 600)
    now[0] += 1
    assert limit.call("a", "b")[0] == 200


def test_refused_calls_may_count() -> None:
    """Then who goes on is never let in again."""
    now = [START]
    limit = Limit(ApiRules(calls=2, seconds=6, refused_count=True), lambda: now[0])
    found = []
    for _ in range(10):
        found.append(limit.call("a", "b")[0])
        now[0] += 1
    assert found == [200, 200, *[429] * 8]
    assert limit.call("a", "b") == (429, START + 9 + 6)


def test_no_limit_and_no_calls() -> None:
    """None lets all pass, 0 none."""
    assert {Limit(ApiRules(calls=None), lambda: START).call("a", "b")[0] for _ in range(2_000)} == {200}
    assert Limit(ApiRules(calls=0), lambda: START).call("a", "b") == (429, START + 60)
