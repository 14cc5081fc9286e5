"""One process: the rule is never broken, who waits waits in order, and a 429 stops the organization."""

from __future__ import annotations

import asyncio
import math

import pytest

from tribe_oauth import RateLimit
from tribe_oauth.errors import ConfigurationError, ManagerError, TemporarilyUnavailable

from .virtual import Api, Sender, least, limits, line, slot, uneven, virtually

SMALL = RateLimit(calls=20, seconds=6.0)


def now() -> float:
    return asyncio.get_running_loop().time()


# The rule


@pytest.mark.parametrize("at_once", [1, 8, 100])
def test_the_limit_is_used_up_and_never_broken(at_once: int) -> None:
    """2,500 requests at the real limit: none is refused, and it takes no more than a hundredth longer than it must."""

    async def work() -> float:
        sender = Sender(line(RateLimit()), api := Api(1000, 60.0))
        await sender.send(2500, at_once=at_once)
        assert not api.refused
        return sender.last / least(2500, RateLimit(), at_once=at_once, latency=0.05)

    assert virtually(work) < 1.01


@pytest.mark.parametrize("seed", range(10))
def test_no_transit_time_breaks_it(seed: int) -> None:
    """However long requests and answers take on their way."""

    async def work() -> None:
        sender = Sender(line(SMALL), api := Api(20, 6.0), transit=uneven(seed, most=5.0))
        await sender.send(200, at_once=30)
        assert not api.refused

    virtually(work)


def test_what_got_no_answer_may_arrive_later() -> None:
    """A slot without an answer is held for `quiet` longer; one that nothing was sent with is free at once."""

    async def work() -> None:
        of = line(RateLimit(calls=2, seconds=6.0), quiet=4.0)
        (await slot(of)).lost()
        unused = await slot(of)
        waiting = asyncio.ensure_future(slot(of))
        await asyncio.sleep(1)
        assert not waiting.done()
        unused.unused()
        (await waiting).answered(200, {})
        assert now() == 1
        await slot(of)
        assert now() == 7
        await slot(of)
        assert now() == 10

    virtually(work)


def test_the_end_of_the_loop_changes_nothing_that_was_sent() -> None:
    """What was in flight counts as unanswered, once, whatever becomes of its coroutine; those who waited are gone."""

    async def work() -> None:
        of = line(RateLimit(calls=2, seconds=6.0), quiet=4.0)
        first, second = await slot(of), await slot(of)
        first.answered(200, {})
        waiting = asyncio.ensure_future(slot(of))
        await asyncio.sleep(0)
        of.forget_loop()
        second.lost()  # as garbage
        assert of.take(False) is None
        await asyncio.sleep(6.1)
        assert of.take(False) is not None
        assert of.take(False) is None
        await asyncio.sleep(4)
        assert of.take(False) is not None
        waiting.cancel()

    virtually(work)


# Order


def test_people_go_first_and_an_export_keeps_a_twentieth() -> None:
    """People want more than the limit: an export has 5 % of it all the same, and they have the rest."""

    async def work() -> None:
        api, of = Api(100, 6.0), line(RateLimit(calls=100, seconds=6.0))
        people, export = Sender(of, api), Sender(of, api, background=True)
        both = asyncio.gather(export.send(10_000), people.send(10_000, at_once=200))
        await asyncio.sleep(60)
        both.cancel()
        assert not api.refused
        assert 4 <= export.sent / 10 <= 7
        assert people.sent / 10 > 90

    virtually(work)


def test_a_person_waits_for_the_next_slot_only() -> None:
    """Behind an export that has used up everything, the next slot that is free is the person's."""

    async def work() -> None:
        api, of = Api(20, 6.0), line(SMALL)
        export = asyncio.ensure_future(Sender(of, api, background=True).send(1000, at_once=5))
        await asyncio.sleep(3)
        person = Sender(of, api)
        await person.one()
        assert person.last == pytest.approx(6.1)
        export.cancel()

    virtually(work)


def test_a_share_leaves_room_for_people() -> None:
    """An export has so much of the limit and no more; people have theirs at once."""

    async def work() -> None:
        api, of = Api(20, 6.0), line(RateLimit(calls=20, seconds=6.0, share=0.5))
        export = Sender(of, api, background=True)
        reading = asyncio.ensure_future(export.send(1000))
        await asyncio.sleep(3)
        assert export.answered == 10
        people = Sender(of, api)
        await people.send(10)
        assert now() < 3.2
        reading.cancel()

    virtually(work)


def test_one_who_leaves_the_line_takes_nothing() -> None:
    """Cancelled while it waits, or in the moment it is given a slot: the next one has it."""

    async def work() -> None:
        of = line(RateLimit(calls=1, seconds=6.0))
        first = await slot(of)
        tasks = [asyncio.ensure_future(slot(of)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.sleep(0)
        first.unused()
        tasks[1].cancel()  # it was given to this one just now
        await tasks[2]
        assert now() == 0
        assert tasks[0].cancelled()
        assert tasks[1].cancelled()
        assert not of.waits

    virtually(work)


def test_one_who_leaves_the_middle_of_the_line() -> None:
    """The slots that come are for those who are still there."""

    async def work() -> None:
        of = line(RateLimit(calls=2, seconds=6.0))
        for lot in (await slot(of), await slot(of)):
            lot.answered(200, {})
        tasks = [asyncio.ensure_future(slot(of)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await tasks[0]
        await tasks[2]
        assert now() == 6

    virtually(work)


def test_a_slot_in_the_last_moment() -> None:
    """Who is given one just when the wait is over has it."""

    async def work() -> None:
        of = line(RateLimit(calls=1, seconds=2.0))
        (await slot(of)).answered(200, {})
        assert await of.turn(False, 2.0) is not None
        assert now() == 2

    virtually(work)


def test_a_long_wait_ends_with_an_error() -> None:
    """After `longest_wait` seconds it says when to ask again; nothing was sent, and the others go on."""

    async def work() -> None:
        of = line(RateLimit(calls=1, seconds=6.0))
        (await slot(of)).answered(200, {})
        with pytest.raises(TemporarilyUnavailable, match=r"'acme': its limit of 1 calls in 6 s is used up") as error:
            await of.turn(False, 2.0)
        assert now() == 2
        assert error.value.next_attempt_at == pytest.approx(1_800_000_006.0)
        assert error.value.retryable
        in_flight = await of.turn(False, 5.0)
        with pytest.raises(TemporarilyUnavailable):
            await of.turn(False, 2.0)  # nobody knows when that one is answered
        in_flight.unused()
        assert of.take(True) is not None

    virtually(work)


def test_a_wait_can_be_without_an_end() -> None:
    """An export waits as long as the limit is used up: that is no failure."""

    async def work() -> None:
        of = line(RateLimit(calls=1, seconds=600.0))
        (await slot(of)).answered(200, {})
        await of.turn(True, 5.0, patient=True)
        assert now() == 600

    virtually(work)


def test_closing_ends_all_waits() -> None:
    """Who waits is told; a line is closed twice without harm."""

    async def work() -> None:
        all_of_them = limits(RateLimit(calls=1, seconds=6.0))
        of = all_of_them.line("client", "acme")
        await slot(of)
        waiting = [asyncio.ensure_future(slot(of)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        await all_of_them.close()
        with pytest.raises(ManagerError, match="nothing was sent"):
            await waiting[1]
        await all_of_them.close()
        await of.close()

    virtually(work)


# 429


def test_a_foreign_program_spends_the_budget() -> None:
    """Refused is what was in flight when the first 429 was read; nothing is sent for a minute, then one probe."""

    async def work() -> None:
        api = Api(20, 60.0)
        of = line(RateLimit(calls=20, seconds=60.0))
        for _ in range(15):
            api.ask()
        sender = Sender(of, api)
        await sender.send(40, at_once=4)
        assert len(api.refused) <= 4
        first = api.refused[0] + 0.025
        later = [at for at in sender.moments if at > first + 0.05]
        assert later[0] >= first + 60
        assert later[1] >= later[0] + 0.05  # the probe's answer came before the next one went
        assert sender.answered >= 36

    virtually(work)


def test_a_probe_that_is_refused_doubles_the_time() -> None:
    """A minute, two, four, and so on up to an hour; one request each; what the API takes then frees all at once."""

    async def work() -> None:
        api = Api(0, 60.0)
        of = line(RateLimit())
        sender = Sender(of, api)
        sending = asyncio.ensure_future(sender.send(100, at_once=5))
        await asyncio.sleep(4 * 3600 + 300)
        began, gaps = sender.moments[:5], [b - a for a, b in zip(sender.moments[4:], sender.moments[5:], strict=False)]
        assert began[-1] - began[0] < 1
        assert [round(gap) for gap in gaps[:9]] == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
        api.calls = 1000
        await asyncio.sleep(3600)
        assert sending.done()
        assert of.refusals == 0

    virtually(work)


def test_the_api_says_how_long() -> None:
    """Retry-After counts in place of the minute, and grows as that does; a longer one of a late answer counts, too."""

    async def work() -> None:
        of = line(RateLimit())
        lots = [await slot(of) for _ in range(3)]
        lots[0].answered(429, {"Retry-After": "7"})
        lots[1].answered(429, {"Retry-After": "9"})
        lots[2].answered(200, {})  # sent before it stopped: it says nothing of now
        assert of.until == now() + 9
        probe = await slot(of)
        assert now() == 9
        probe.answered(429, {"Retry-After": "5000"})
        assert of.until == now() + 5000  # twice as much would be more than an hour
        probe = await slot(of)
        probe.answered(429, {"Retry-After": "1"})
        assert of.until == now() + 4

    virtually(work)


def test_who_cannot_wait_for_the_end_of_a_stop_hears_it_at_once() -> None:
    """Those in the line, and those who come later; one who can wait does."""

    async def work() -> None:
        of = line(RateLimit(calls=1, seconds=6.0))
        lot = await slot(of)
        hasty = asyncio.ensure_future(of.turn(False, 30.0))
        patient = asyncio.ensure_future(of.turn(True, 100.0, patient=True))
        await asyncio.sleep(0)
        lot.answered(429, {})
        with pytest.raises(TemporarilyUnavailable, match=r"refused more calls \(429\)") as error:
            await hasty
        assert error.value.next_attempt_at == 1_800_000_060.0
        with pytest.raises(TemporarilyUnavailable):
            await of.turn(False, 30.0)
        assert now() == 0
        (await patient).answered(200, {})
        assert now() == 60

    virtually(work)


@pytest.mark.parametrize("end", ["lost", "unused"])
def test_a_probe_of_which_nothing_is_known(end: str) -> None:
    """The next one goes."""

    async def work() -> None:
        of = line(RateLimit())
        (await slot(of)).answered(429, {"Retry-After": "0"})
        probe = await slot(of)
        waiting = asyncio.ensure_future(slot(of))
        await asyncio.sleep(1)
        assert not waiting.done()
        getattr(probe, end)()
        await waiting
        assert now() == 1

    virtually(work)


def test_an_old_probe_ends_no_newer_one() -> None:
    """A probe that is answered after another one was: its end lets nobody go."""

    async def work() -> None:
        of = line(RateLimit())
        first, late = await slot(of), await slot(of)
        first.answered(429, {"Retry-After": "1"})
        old = await slot(of)
        late.answered(200, {})  # all go on
        assert of.refusals == 0
        (await slot(of)).answered(429, {"Retry-After": "1"})
        probe = await slot(of)
        old.lost()
        waiting = asyncio.ensure_future(slot(of))
        await asyncio.sleep(1)
        assert not waiting.done()
        probe.answered(200, {})
        await waiting

    virtually(work)


# Memory, settings


def test_an_organization_that_sends_nothing_holds_no_memory() -> None:
    """A minute after its last request nothing is left of it; a stop is remembered for an hour."""

    async def work() -> None:
        all_of_them = limits(RateLimit(), quiet=1.0)
        for number in range(100):
            (await slot(all_of_them.line("client", f"org {number}"))).answered(200, {})
        (await slot(all_of_them.line("client", "stopped"))).answered(429, {"Retry-After": "5"})
        await asyncio.sleep(70)
        (await slot(all_of_them.line("client", "busy"))).answered(200, {})
        assert set(all_of_them._lines) == {("client", "stopped"), ("client", "busy")} or len(all_of_them._lines) == 102
        await asyncio.sleep(130)
        assert set(all_of_them._lines) == {("client", "stopped")}
        await asyncio.sleep(3700)
        assert not all_of_them._lines
        all_of_them.line("client", "again")
        all_of_them.forget_loop()
        await all_of_them.close()

    virtually(work)


def test_each_client_and_organization_has_its_own() -> None:
    """Another client of the same organization has a budget of its own."""

    async def work() -> None:
        all_of_them = limits(RateLimit(calls=1))
        assert all_of_them.line("one", "acme").take(False) is not None
        assert all_of_them.line("one", "acme").take(False) is None
        assert all_of_them.line("two", "acme").take(False) is not None
        assert all_of_them.line("one", "beta").take(False) is not None
        await all_of_them.close()

    virtually(work)


@pytest.mark.parametrize(
    "options",
    [
        {"calls": 0},
        {"calls": 1.5},
        {"calls": True},
        {"seconds": 0},
        {"seconds": math.inf},
        {"seconds": math.nan},
        {"share": 0},
        {"share": 1.1},
        {"longest_wait": -1},
        {"longest_wait": math.nan},
    ],
    ids=repr,
)
def test_settings_that_cannot_be(options: dict[str, float]) -> None:
    """They are refused, with the remedy."""
    with pytest.raises(ConfigurationError, match="RateLimit: "):
        RateLimit(**options)  # type: ignore[arg-type]
