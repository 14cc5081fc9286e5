from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tests.limit.virtual import virtually
from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata import ODataError
from tribe_oauth.sync import Pace, export
from tribe_oauth.sync._pace import LENT_AT_LEAST, Limit, OrganizationPace, Place

from .conftest import Kept, connected

REFUSED = {
    status: ODataError("no", status=status, retryable=status != 400, retry_after=0.0) for status in (429, 503, 400)
}


def nothing() -> None:
    pass


def raising(error: TribeOAuthError) -> Callable[[], Awaitable[None]]:
    async def read() -> None:
        raise error

    return read


async def quick() -> None:
    await asyncio.sleep(0)


async def refuse(pace: OrganizationPace, error: TribeOAuthError) -> None:
    with pytest.raises(type(error)):
        await pace.run(raising(error), nothing)


class Hanging:
    """Requests that wait for an order."""

    def __init__(self) -> None:
        self.under_way = 0
        self.most = 0
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()

    async def read(self) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.begun.set()
        await self.go_on.wait()
        self.under_way -= 1


# One limit


async def test_first_come_first_served() -> None:
    """So many at a time; the others in the order in which they came."""
    limit, order = Limit(1, 1), list[int]()

    async def work(number: int) -> None:
        await limit.acquire()
        order.append(number)
        await asyncio.sleep(0)
        limit.release()

    await asyncio.gather(*(work(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert limit.active == 0


@pytest.mark.parametrize("moment", ["waiting", "given"])
async def test_a_cancelled_waiter_takes_no_slot(moment: str) -> None:
    """Cancelled while it waits, or in the moment it is given the slot: the next one has it."""
    limit = Limit(1, 1)
    await limit.acquire()
    first, second = asyncio.ensure_future(limit.acquire()), asyncio.ensure_future(limit.acquire())
    await asyncio.sleep(0)
    if moment == "given":
        limit.release()
        first.cancel()
    else:
        first.cancel()
        await asyncio.sleep(0)
        limit.release()
    await asyncio.wait_for(second, 5)
    assert first.cancelled()
    assert limit.active == 1


async def test_it_grows_only_when_it_is_used_up() -> None:
    """Answers to few requests say nothing of how many would be too many."""
    limit = Limit(2, 8)
    limit.more()
    assert limit.now == 2
    await limit.acquire()
    await limit.acquire()
    waiting = asyncio.ensure_future(limit.acquire())
    await asyncio.sleep(0)
    limit.more()
    limit.more()
    await asyncio.wait_for(waiting, 5)
    assert limit.now == 4
    limit.more()  # four, and three are taken
    assert limit.now == 4


async def test_it_doubles_until_the_first_refusal() -> None:
    """A round of quick answers gives twice as many; once it was refused, one more."""
    limit = Limit(4, 32)

    async def round_of_answers() -> None:
        for _ in range(int(limit.now) - limit.active):
            await limit.acquire()
        for _ in range(limit.active):
            limit.more()
            if limit.active < int(limit.now):
                await limit.acquire()

    await round_of_answers()
    assert limit.now == 8
    await round_of_answers()
    assert limit.now == 16
    limit.less()
    assert limit.now == 8
    while limit.active > 8:
        limit.release()
    await round_of_answers()
    assert 8.9 < limit.now < 9.1


@pytest.mark.parametrize(("seconds", "each", "most"), [(0.01, 8, 32), (0.1, 16, 64), (2.0, 24, 96)])
def test_as_many_as_the_latency_needs(seconds: float, each: int, most: int) -> None:
    """Where answers take longer, as many a second need more at a time; what the caller has set is not changed."""

    async def work() -> None:
        for pace in (Pace(patience=60), Pace(most=7, each=3, patience=60)):
            acme = pace.organization("acme")
            for _ in range(200):
                await acme.run(lambda: asyncio.sleep(seconds), nothing)
            assert (acme.limit.most, pace.all.most) in {(each, most), (each, most - 1), (3, 7)}

    virtually(work)


def test_sixty_organizations_at_once() -> None:
    """Each has nine pages, one after another, of 200 ms: 1.8 s are possible, and it takes little longer."""

    async def work() -> float:
        pace = Pace()

        async def read(organization: str) -> None:
            for _ in range(9):
                await pace.organization(organization).run(lambda: asyncio.sleep(0.2), nothing)

        await asyncio.gather(*(read(f"org {number}") for number in range(60)))
        return asyncio.get_running_loop().time()

    assert 1.7 < virtually(work) < 2.5


async def test_it_has_its_turn_before_its_clock_starts() -> None:
    """While a request waits for the rate, nobody waits for it, its place is lent, and it has not begun."""
    pace, gate, order = Pace(most=1, patience=0.01), asyncio.Event(), list[str]()

    @contextmanager
    def reserved() -> Iterator[None]:
        order.append("turn")
        yield
        order.append("over")

    async def turn() -> AbstractContextManager[None]:
        await gate.wait()
        return reserved()

    async def read() -> None:
        order.append("read")

    slow = asyncio.Event()
    waiting = asyncio.ensure_future(pace.organization("acme").run(read, slow.set, longest=5.0, turn=turn))
    await slow.wait()
    await pace.organization("other").run(quick, nothing)  # with most=1
    gate.set()
    await waiting
    assert order == ["turn", "read", "over"]


# An organization


async def test_it_grows_while_answers_are_quick() -> None:
    """One more for each round of quick answers, as far as it may."""
    pace = Pace(each=4).organization("acme")
    await asyncio.gather(*(pace.run(quick, nothing) for _ in range(100)))
    assert pace.limit.now == 4


async def test_it_does_not_grow_while_they_are_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that take many times as long as the best say that there is a queue already."""
    pace = Pace().organization("acme")
    await pace.run(quick, nothing)
    now = pace.limit.now
    loop = asyncio.get_running_loop()
    clock = iter(range(1000))
    monkeypatch.setattr(loop, "time", lambda: float(next(clock)))
    await asyncio.gather(pace.run(quick, nothing), pace.run(quick, nothing))
    monkeypatch.undo()
    assert pace.limit.now == now


@pytest.mark.parametrize(
    ("error", "falls"),
    [
        (REFUSED[429], True),
        (REFUSED[503], True),
        (ODataError("no whole answer came", retryable=True), True),
        (REFUSED[400], False),
        (ODataError("@odata.nextLink leads out"), False),
        (TribeOAuthError("connect again"), False),
    ],
    ids=repr,
)
async def test_it_falls_when_there_is_too_much(error: TribeOAuthError, falls: bool) -> None:
    """429, 503 and no answer: half as many. Other errors have nothing to do with how many."""
    pace = Pace().organization("acme")
    pace.limit.now = 8.0
    await refuse(pace, error)
    assert pace.limit.now == (4.0 if falls else 8.0)


async def test_it_falls_once_a_round() -> None:
    """Requests that were under way together are one piece of news; one at a time is the least."""
    pace = Pace().organization("acme")
    pace.limit.now = 8.0
    go = asyncio.Event()

    async def together() -> None:
        await go.wait()
        raise REFUSED[503]

    running = [asyncio.ensure_future(pace.run(together, nothing)) for _ in range(8)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*running, return_exceptions=True)
    assert pace.limit.now == 4.0
    for _ in range(5):
        await refuse(pace, REFUSED[503])
    assert pace.limit.now == 1.0


async def test_retry_after_holds_back_everything_of_one_organization() -> None:
    """All its tasks wait, those too that had asked for a slot before; others' go on."""
    pace = Pace(most=1, patience=0.05)
    acme, beta = pace.organization("acme"), pace.organization("beta")
    loop = asyncio.get_running_loop()
    hanging = Hanging()
    busy = asyncio.ensure_future(beta.run(hanging.read, nothing))
    await hanging.begun.wait()
    asked_before = asyncio.ensure_future(acme.run(quick, nothing))  # waits for the one slot that is for all
    await asyncio.sleep(0)
    began = loop.time()
    acme._failed(ODataError("no", status=429, retry_after=0.3, retryable=True), began)
    slow: list[bool] = []
    asked_after = asyncio.ensure_future(acme.run(quick, lambda: slow.append(True)))
    hanging.go_on.set()
    await busy
    await beta.run(quick, nothing)
    assert not asked_before.done()
    await asyncio.gather(asked_before, asked_after)
    assert loop.time() - began >= 0.3
    assert slow == []  # it waited for its turn behind the first; there was no pause left when it came


async def test_a_pause_that_is_too_long_for_all() -> None:
    """What the API told one task is told to the others of the organization too: none of them waits for tomorrow."""
    acme = Pace().organization("acme")
    acme._failed(ODataError("come tomorrow", status=429, retry_after=86_400, retryable=True), 0.0)
    with pytest.raises(ODataError, match="come tomorrow") as error:
        await asyncio.wait_for(acme.run(quick, nothing, longest=600.0), 5)
    assert error.value.retry_after == 86_400
    assert acme.limit.active == 0


async def test_a_429_without_a_time_is_a_pause_of_a_minute() -> None:
    """Of all tasks of the organization: who goes on asking is blocked."""
    acme = Pace().organization("acme")
    await refuse(acme, ODataError("too many", status=429, retryable=True))
    with pytest.raises(ODataError, match="too many"):
        await asyncio.wait_for(acme.run(quick, nothing, longest=50.0), 5)
    asked = asyncio.ensure_future(acme.run(quick, nothing, longest=60.0))
    await asyncio.wait([asked], timeout=0.05)
    assert not asked.done()
    asked.cancel()


async def test_slots_are_not_lent_without_end() -> None:
    """Where everybody is slow, more requests would not help."""
    pace = Pace(most=2, each=100, patience=0.01)
    hanging = Hanging()
    started = 0

    async def counted() -> None:
        nonlocal started
        started += 1
        await hanging.read()

    organizations = [pace.organization(str(number)) for number in range(60)]
    requests = [asyncio.ensure_future(organization.run(counted, nothing)) for organization in organizations]
    await hanging.begun.wait()
    before = -1
    while before != started:  # until no more are let in
        before = started
        await asyncio.sleep(0.1)
    assert started == 2 + LENT_AT_LEAST
    hanging.go_on.set()
    await asyncio.gather(*requests)
    assert started == len(requests)
    assert (pace.all.active, pace.all._lent) == (0, 0)


async def test_a_place_is_lent_once_and_left_once() -> None:
    """However often a slow one says so, and whenever."""
    limit = Limit(1, 1)
    await limit.acquire()
    place = Place(limit)
    place.lend()
    place.lend()
    assert (limit.active, limit._lent) == (0, 1)
    place.leave()
    place.lend()
    place.leave()
    assert (limit.active, limit._lent) == (0, 0)


async def test_a_long_pause_is_slow() -> None:
    """Who has to wait gives its place among those that are read to another."""
    pace = Pace(patience=0.05).organization("acme")
    pace._failed(ODataError("no", status=429, retry_after=0.1, retryable=True), 0.0)
    slow: list[bool] = []
    await pace.run(quick, lambda: slow.append(True))
    assert slow == [True]


async def test_a_short_pause_is_not_slow() -> None:
    """For a moment, nobody gives up a place."""
    pace = Pace(patience=5.0).organization("acme")
    loop = asyncio.get_running_loop()
    pace._failed(ODataError("no", status=429, retry_after=0.05, retryable=True), loop.time())
    slow: list[bool] = []
    began = loop.time()
    await pace.run(quick, lambda: slow.append(True))
    assert loop.time() - began >= 0.04
    assert slow == []


async def test_all_who_ask_share_it() -> None:
    """While one of them has it, it is the same object for all."""
    pace = Pace()
    acme = pace.organization("acme")
    assert pace.organization("acme") is acme
    assert pace.organization("beta") is not acme


# All of them


async def test_hanging_requests_hold_no_one_else_up() -> None:
    """They give back what is for all after a second's patience, and keep their own organization's."""
    pace = Pace(most=2, each=8, patience=0.05)
    dead, alive = pace.organization("dead"), pace.organization("alive")
    dead.limit.now = 8.0
    hanging = Hanging()
    left: list[bool] = []
    requests = [asyncio.ensure_future(dead.run(hanging.read, lambda: left.append(True))) for _ in range(8)]
    await hanging.begun.wait()
    await asyncio.wait_for(alive.run(quick, nothing), 5)
    assert left
    hanging.go_on.set()
    await asyncio.gather(*requests)
    assert pace.all.active == 0
    assert dead.limit.active == 0


async def test_one_that_is_refused_is_its_own_matter() -> None:
    """The limit for all falls when many organizations are refused, not when one is, however often."""
    pace = Pace(most=64)
    start = pace.all.now
    bad = pace.organization("bad")
    for _ in range(200):
        await refuse(bad, REFUSED[429])
    assert pace.all.now == start
    many = [pace.organization(str(number)) for number in range(200)]
    for organization in many:
        await refuse(organization, REFUSED[429])
    assert pace.all.now < start / 2


@pytest.mark.parametrize("options", [{"most": 0}, {"each": 0}, {"organizations": 0}, {"patience": 0}], ids=repr)
def test_what_is_no_pace(options: dict[str, Any]) -> None:
    """Said when it is made."""
    with pytest.raises(ConfigurationError):
        Pace(**options)


async def test_slow_and_dead_organizations_in_an_export() -> None:
    """Two hang and one drips, with two places and few slots: the others are complete before any of those is."""
    names = ["dead 1", "dead 2", "slow", "a", "b", "c", "d"]
    async with connected(organizations=names, persons=30, page_size=10) as world:
        for name in names[:2]:
            world.sandbox.fault("hang", endpoint="api", times=None, organization=name)
        world.sandbox.fault("delay", endpoint="api", times=None, seconds=0.8, organization="slow")
        finished: list[str] = []
        sink = Kept()
        outcomes = await export(
            world.manager,
            names,
            ["Relation_Person", "Relation_Organization"],
            sink,
            pace=Pace(most=2, each=2, organizations=2, patience=0.1),
            give_up_after=0.0,
            request_timeout=2.0,
            on_event=lambda event: (
                finished.append(event.organization) if event.kind in {"finished", "failed"} else None
            ),
        )
        assert set(finished[:8]) == {"a", "b", "c", "d"}
        assert {it.organization for it in outcomes if it.error is not None} == {"dead 1", "dead 2"}
        for name in names[2:]:
            assert sink.rows[name, "Relation_Person"] == world.expected(name)
