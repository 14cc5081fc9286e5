"""One refresh token, several refreshes: who wins, who dies, and that the ledger tells which."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tribe_oauth.sandbox import PROFILES, Sandbox

from .servers import Server, serve

Said = tuple[int, dict[str, Any]]


async def at_once(server: Server, count: int) -> list[Said]:
    """So many refreshes with the same new token, all in one step of the server."""
    sandbox = server.sandbox
    assert sandbox is not None
    fault, pasted = sandbox.fault("hang", times=count), sandbox.paste_token("Acme")
    racing = [asyncio.ensure_future(server.refresh(pasted)) for _ in range(count)]
    while fault.hits < count:  # noqa: ASYNC110 (no event tells of the last one)
        await asyncio.sleep(0)
    fault.release()
    return await asyncio.gather(*racing)


def of_the_last(sandbox: Sandbox) -> tuple[bool, int]:
    """Whether the newest family lives, and how often its tokens were rotated."""
    family = sandbox.ledger.families("Acme")[-1]
    return family.live, family.rotations


async def many_races(name: str, *, seed: int = 1, count: int = 2) -> Counter[tuple[Any, ...]]:
    """Forty races: how many gave which statuses, how many live tokens, and a family that lives or not."""
    seen: Counter[tuple[Any, ...]] = Counter()
    async with serve(name, seed=seed, race_window=3600) as server:
        sandbox = server.sandbox
        assert sandbox is not None
        for _ in range(40):
            said = await at_once(server, count)
            winners = [answer for status, answer in said if status == 200]
            for kind in ("refresh_token", "access_token"):
                live = sum(sandbox.ledger.is_live(answer[kind]) for answer in winners)
                assert live == of_the_last(sandbox)[0]
            assert of_the_last(sandbox)[1] == len(winners)
            seen[(*sorted(status for status, _ in said), of_the_last(sandbox)[0])] += 1
        assert len(sandbox.ledger.spent_twice()) == 40
    return seen


async def test_two_at_the_same_instant() -> None:
    """1.5: one wins and lives. 1.10, 1.11: it is dead as often as not. 2.3: most often both win, and one lives."""
    assert await many_races("hydra-1.5") == {(200, 400, True): 40}
    for name in ("hydra-1.10", "hydra-1.11"):
        seen = await many_races(name)
        assert set(seen) == {(200, 401, False), (200, 400, True)}
        assert 10 <= seen[200, 401, False] <= 24
    seen = await many_races("hydra-2.3")
    assert set(seen) == {(200, 200, True), (200, 400, False)}
    assert 23 <= seen[200, 200, True] <= 34
    assert await many_races("strict") == {(200, 400, False): 40}


async def test_ten_at_the_same_instant() -> None:
    """1.5: one wins, and lives. The others: nearly all dead, some with a 500; in 2.3, several win before that."""
    assert await many_races("hydra-1.5", count=10) == {(200, *[400] * 9, True): 40}
    for name in ("hydra-1.10", "hydra-1.11", "hydra-2.3"):
        seen = await many_races(name, count=10)
        assert sum(count for outcome, count in seen.items() if not outcome[-1]) >= 36
        assert any(500 in outcome for outcome in seen)
        assert (max(outcome.count(200) for outcome in seen) > 2) == (name == "hydra-2.3")


async def test_chance_follows_the_seed() -> None:
    """The same races end in the same way."""
    assert await many_races("hydra-2.3", seed=7) == await many_races("hydra-2.3", seed=7)
    assert await many_races("hydra-2.3", seed=7) != await many_races("hydra-2.3", seed=8)


async def test_both_win_and_the_ledger_shows_it() -> None:
    """Spent twice, two successors, the first replaced; who uses the dead one ends the family of the other."""
    async with serve("hydra-2.3", seed=1, race_window=3600) as server:
        assert server.sandbox is not None
        ledger = server.sandbox.ledger
        said: list[Said] = []
        while [status for status, _ in said] != [200, 200]:
            said = await at_once(server, 2)
        answers = sorted((answer for _, answer in said), key=lambda answer: ledger.is_live(answer["refresh_token"]))
        dead, alive = answers
        assert ledger.is_live(alive["access_token"])
        assert not ledger.is_live(dead["access_token"])
        family = ledger.families("Acme")[-1]
        assert (family.live, family.rotations) == (True, 2)
        kinds = Counter((event.kind, event.token) for event in ledger.events if event.family == family.id)
        assert kinds["spent", "refresh"] == kinds["issued", "access"] == 2
        assert kinds["replaced", "refresh"] == kinds["replaced", "access"] == 1
        reused = len(ledger.reused())
        status, answer = await server.refresh(dead["refresh_token"])
        assert (status, answer["error"]) == (400, "invalid_grant")
        assert not ledger.is_live(alive["refresh_token"])
        assert len(ledger.reused()) == reused + 1


@pytest.mark.parametrize("name", PROFILES)
async def test_a_late_loser_kills_the_winner(name: str) -> None:
    """One that begins while the first is still under way, but not at the same instant: refused, as any reuse."""
    async with serve(name, race_window=0.0) as server:
        sandbox = server.sandbox
        assert sandbox is not None
        (first, winner), (status, loser) = await at_once(server, 2)
        assert first == 200
        expected = (401, "token_inactive") if name in {"hydra-1.10", "hydra-1.11"} else (400, "invalid_grant")
        assert (status, loser["error"]) == expected
        assert of_the_last(sandbox) == (name == "hydra-1.5", 1)
        for token in (winner["refresh_token"], winner["access_token"]):
            assert sandbox.ledger.is_live(token) is (name == "hydra-1.5")
        assert len(sandbox.ledger.reused()) == len(sandbox.ledger.spent_twice()) == 1


async def test_a_family_that_died_while_it_was_rotating() -> None:
    """Reuse seen during a rotation ends that rotation too."""
    async with serve("strict") as server:
        assert server.sandbox is not None
        _, first = await server.refresh()
        fault = server.sandbox.fault("hang", times=2)
        rotating = asyncio.ensure_future(server.refresh(first["refresh_token"]))
        await fault.reached()
        reusing = asyncio.ensure_future(server.refresh(server.refresh_token))
        while fault.hits < 2:  # noqa: ASYNC110 (no event tells of the last one)
            await asyncio.sleep(0)
        fault.release()
        assert (await rotating)[1]["error"] == (await reusing)[1]["error"] == "invalid_grant"
        (family,) = server.sandbox.ledger.families("Acme")
        assert (family.live, family.rotations) == (False, 1)
