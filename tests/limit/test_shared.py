"""Several processes on one store: together they keep the rule, whatever becomes of the store and of one another."""

from __future__ import annotations

import asyncio

import pytest

from tribe_oauth import RateLimit
from tribe_oauth._limit.ledger import Ledger
from tribe_oauth._limit.line import Line
from tribe_oauth._limit.shared import SharedLine

from .virtual import Api, Sender, Shared, least, limits, line, slot, uneven, virtually

LIMIT = RateLimit(calls=100, seconds=60.0)


def now() -> float:
    return asyncio.get_running_loop().time()


def ledger_of(store: Shared) -> Ledger:
    ((state, _, _),) = store.kept.values()
    return Ledger.read(state, store.now, 1e6)


async def closed(*lines: Line) -> None:
    for of in lines:
        await of.close()


# The rule


@pytest.mark.parametrize(("processes", "at_once"), [(1, 8), (4, 8), (4, 1)])
def test_the_limit_is_used_up_and_never_broken(processes: int, at_once: int) -> None:
    """2,500 requests at the real limit, shared by processes: none is refused, and little time is lost."""

    async def work() -> float:
        api, store = Api(1000, 60.0), Shared()
        senders = [Sender(line(RateLimit(), store), api) for _ in range(processes)]
        await asyncio.gather(*(sender.send(2500 // processes, at_once=at_once) for sender in senders))
        assert not api.refused
        assert store.operations < 2500
        await closed(*(sender.of for sender in senders))
        took = max(sender.last for sender in senders)
        return took / least(2500, RateLimit(), at_once=processes * at_once, latency=0.05)

    assert virtually(work) < 1.03


@pytest.mark.parametrize("seed", range(6))
def test_no_transit_time_and_no_slow_store_breaks_it(seed: int) -> None:
    """Requests, answers and the store take their time, differently each."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared(latency=0.3 * seed)
        senders = [Sender(line(LIMIT, store), api, transit=uneven(seed + n, most=20.0)) for n in range(5)]
        await asyncio.gather(*(sender.send(100, at_once=10) for sender in senders))
        assert not api.refused
        await closed(*(sender.of for sender in senders))

    virtually(work)


def test_many_processes_with_one_request_each() -> None:
    """Blocks begin with one slot, so that 40 processes share a limit of 100."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared()
        senders = [Sender(line(LIMIT, store), api) for _ in range(40)]
        await asyncio.gather(*(sender.send(10, at_once=1) for sender in senders))
        assert not api.refused
        assert max(sender.last for sender in senders) < 60 * 3 + 20
        await closed(*(sender.of for sender in senders))

    virtually(work)


def test_people_go_first_in_all_processes() -> None:
    """An export of another process gives way, and keeps a twentieth."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared()
        people, export = (Sender(line(LIMIT, store), api, background=kind) for kind in (False, True))
        both = asyncio.gather(people.send(10_000, at_once=200), export.send(10_000))
        await asyncio.sleep(600)
        both.cancel()
        assert not api.refused
        assert 4 <= export.sent / 10 <= 12
        assert people.sent / 10 > 80
        await closed(people.of, export.of)

    virtually(work)


# Blocks


def test_what_is_not_used_goes_back() -> None:
    """A second after it was taken nothing is sent from a block, and another process can have the rest of it."""

    async def work() -> None:
        store = Shared()
        one, other = line(LIMIT, store), line(LIMIT, store)
        lots = await asyncio.gather(*(slot(one) for _ in range(6)))
        for lot in lots[:5]:
            lot.unused()
        await asyncio.sleep(3)
        assert ledger_of(store).held(False) == 1
        taken = await asyncio.gather(*(slot(other) for _ in range(99)))
        assert now() < 4
        lots[5].answered(200, {})
        for lot in taken:
            lot.answered(200, {})
        await asyncio.sleep(3)
        assert ledger_of(store).held(False) == 100
        await closed(one, other)

    virtually(work)


def test_a_block_is_renewed_while_a_request_is_in_flight() -> None:
    """However long its answer takes; when it came, the slot is held for `seconds`, and then it is free."""

    async def work() -> None:
        store = Shared()
        of = line(LIMIT, store)
        lot = await slot(of)
        await asyncio.sleep(3600)
        assert ledger_of(store).held(False) == 1
        lot.lost()
        await asyncio.sleep(65)
        assert ledger_of(store).held(False) == 1
        await asyncio.sleep(6)
        assert ledger_of(store).held(False) == 0
        assert of.is_idle(now())

    virtually(work)


def test_a_slot_that_comes_back_late_is_not_used_any_more() -> None:
    """Nothing is sent from a block that is closed."""

    async def work() -> None:
        store = Shared()
        of = line(LIMIT, store)
        first, second = await asyncio.gather(slot(of), slot(of))
        await asyncio.sleep(5)
        first.unused()
        assert of.take(False) is None
        second.answered(200, {})
        await asyncio.sleep(5)
        assert ledger_of(store).held(False) == 1
        await closed(of)

    virtually(work)


def test_a_process_that_was_killed_gives_its_share_back() -> None:
    """Its block ends by the store's clock, two minutes and `seconds` after it was taken."""

    async def work() -> None:
        store = Shared()
        killed, other = line(LIMIT, store), line(LIMIT, store)
        for _ in range(100):
            await slot(killed)
        killed.forget_loop()
        waiting = asyncio.ensure_future(slot(other))
        await asyncio.sleep(170)
        assert not waiting.done()
        await asyncio.sleep(15)
        (await waiting).unused()
        await closed(other)

    virtually(work)


def test_closing_gives_back_what_is_left() -> None:
    """What is in flight at the end is held, and nothing is taken for those who wait."""

    async def work() -> None:
        store = Shared()
        all_of_them = limits(LIMIT, store)
        of = all_of_them.line("client", "acme")
        lots = await asyncio.gather(*(slot(of) for _ in range(6)))
        for lot in lots[:4]:
            lot.unused()
        waiting = [asyncio.ensure_future(slot(of)) for _ in range(200)]
        await asyncio.sleep(0)
        await all_of_them.close()
        for task in waiting:
            task.cancel()
        for given in await asyncio.gather(*waiting, return_exceptions=True):
            if not isinstance(given, BaseException):
                given.unused()
        assert ledger_of(store).held(False) == 6
        lots[4].answered(200, {})
        lots[5].answered(200, {})
        await asyncio.sleep(5)
        assert ledger_of(store).held(False) == 6
        never_used = line(LIMIT, store)
        await closed(never_used)

    virtually(work)


def test_closing_gives_back_what_was_not_used() -> None:
    """At once: the next process need not wait for it."""

    async def work() -> None:
        store = Shared()
        of = line(LIMIT, store)
        lots = await asyncio.gather(*(slot(of) for _ in range(6)))
        for lot in lots[:5]:
            lot.unused()
        await closed(of)
        assert ledger_of(store).held(False) == 1

    virtually(work)


def test_closing_while_the_store_is_away() -> None:
    """It ends all the same, also amid an operation of the store."""

    async def work() -> None:
        store = Shared()
        of = line(LIMIT, store)
        (await slot(of)).answered(200, {})
        store.away = True
        await closed(of)
        busy = line(LIMIT, store)
        waiting = asyncio.ensure_future(slot(busy))
        await asyncio.sleep(0)
        waiting.cancel()
        await closed(busy)

    virtually(work)


# The store


def test_the_store_is_away() -> None:
    """A process goes on with as many slots as it held, at once; what it sent is told when the store is back."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared()
        one, other = Sender(line(LIMIT, store), api), Sender(line(LIMIT, store), api)
        await one.send(40)
        await other.send(20)
        store.away = True
        for _ in range(5):
            await asyncio.gather(one.send(40), other.send(20))
        assert now() < 5 * 61 + 5
        assert not api.refused
        store.away = False
        await asyncio.sleep(5)
        assert ledger_of(store).held(False) >= sum(at > now() - 60 for at in api.arrived) > 20
        await asyncio.gather(one.send(200), other.send(200))
        assert not api.refused
        await closed(one.of, other.of)

    virtually(work)


def test_a_store_that_is_away_for_long() -> None:
    """It is asked every two seconds, and what is over by then is forgotten; a request in flight changes nothing."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared()
        sender = Sender(of := line(LIMIT, store), api)
        in_flight = await slot(of)
        store.away, began = True, store.operations
        sending = asyncio.ensure_future(sender.send(100_000))
        await asyncio.sleep(7200)
        assert isinstance(of, SharedLine)
        assert len(of._ended) < 1000
        assert store.operations - began < 7200
        assert not api.refused
        sending.cancel()
        in_flight.answered(200, {})
        store.away = False
        await asyncio.sleep(5)
        await closed(of)

    virtually(work)


def test_a_store_that_was_never_there() -> None:
    """A twentieth of the limit is what a process goes on with that held less; each minute the log says it once."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared(away=True)
        sender = Sender(line(LIMIT, store), api)
        await sender.send(15, at_once=15)
        assert 120 < now() < 130
        await closed(sender.of)

    virtually(work)


def test_it_is_said_that_the_store_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Once a minute, for all organizations."""

    async def work() -> None:
        all_of_them = limits(LIMIT, Shared(away=True))
        for number in range(10):
            (await slot(all_of_them.line("client", f"org {number}"))).answered(200, {})
        await all_of_them.close()

    virtually(work)
    assert caplog.text.count("the API's limit cannot be shared now") == 1


def test_the_stores_answers_are_lost() -> None:
    """It is not known what was written: slots are held for longer, and never for less."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared()
        senders = [Sender(line(LIMIT, store), api) for _ in range(3)]
        sending = asyncio.gather(*(sender.send(60) for sender in senders))
        for _ in range(20):
            await asyncio.sleep(3)
            store.lose_answers = not store.lose_answers
        store.lose_answers = False
        await sending
        assert not api.refused
        await closed(*(sender.of for sender in senders))

    virtually(work)


def test_what_the_store_has_cannot_be_read() -> None:
    """It is as if nothing were there."""

    async def work() -> None:
        store = Shared()
        of = line(LIMIT, store)
        await slot(of)
        (key,) = store.kept
        for state in (b"", b"\xff", b"[]", b"{}", b"7", b'[{},[[[],[]],[[],[]]],[0,0],"x",0,0]', b"[" * 100_000):
            store.kept[key] = (state, store.version, store.now + 100)
            assert Ledger.read(state, 0.0, 1.0).held(False) == 0
        await slot(of)
        await closed(of)

    virtually(work)


def test_the_stores_clock_is_set_back() -> None:
    """What seems to be held for longer than anything can be, as after a reboot, ends within that time."""
    ledger = Ledger()
    assert ledger.take("block", False, 60, LIMIT, 1e6) == 60
    ledger.tell("other", True, 0, [1e6 + 50.0, 1e6 + 60.0], LIMIT, 1e6)
    ledger.stop(1, 1e6 + 60.0)
    later = Ledger.read(ledger.written(), 100.0, 180.0)
    assert (later.held(False), later.held(True)) == (60, 2)
    later = Ledger.read(later.written(), 280.5, 180.0)
    assert (later.held(False), later.held(True)) == (0, 0)
    assert later.until < 100.0 + 90_001


# A new event loop, a child


def test_another_event_loop() -> None:
    """What the one before had taken is left to the store's clock; the line begins anew."""

    async def work() -> None:
        store = Shared()
        of = line(LIMIT, store)
        lot = await slot(of)
        waiting = [asyncio.ensure_future(slot(of)) for _ in range(30)]
        await asyncio.sleep(0)
        of.forget_loop()
        for task in waiting:
            task.cancel()
        await asyncio.sleep(1)
        lot.answered(200, {})
        (await slot(of)).answered(200, {})
        await asyncio.sleep(5)
        assert ledger_of(store).held(False) >= 2
        await closed(of)

    virtually(work)


# 429


def test_all_processes_stop() -> None:
    """One is refused: within a second nobody sends; after the minute one of them sends one probe, then all go on."""

    async def work() -> None:
        api, store = Api(100, 60.0), Shared()
        for _ in range(60):
            api.ask()
        senders = [Sender(line(LIMIT, store), api) for _ in range(3)]
        await asyncio.gather(*(sender.send(60, at_once=3) for sender in senders))
        first = api.refused[0]
        assert len(api.refused) < 30
        moments = sorted(at for sender in senders for at in sender.moments)
        later = [at for at in moments if at > first + 1.2]
        assert later[0] >= first + 60
        assert later[1] >= later[0] + 0.05
        assert all(sender.of.refusals == 0 for sender in senders)
        await closed(*(sender.of for sender in senders))

    virtually(work)


def test_one_probe_of_all_processes_at_a_time() -> None:
    """Refused again and again, whoever sends it: the time doubles for all of them."""

    async def work() -> None:
        api, store = Api(0, 60.0), Shared()
        senders = [Sender(line(LIMIT, store), api) for _ in range(3)]
        sending = asyncio.gather(*(sender.send(30, at_once=3) for sender in senders))
        await asyncio.sleep(1000)
        moments = sorted(at for sender in senders for at in sender.moments)
        probes = [at for at in moments if at > 30]
        assert [round(at / 60) for at in probes] == [1, 3, 7, 15]
        api.calls = 100
        await sending
        assert all(sender.of.refusals == 0 for sender in senders)
        await closed(*(sender.of for sender in senders))

    virtually(work)


def test_a_429_amid_an_operation_of_the_store() -> None:
    """What the store said before is older than what this process knows: it stops, and tells it next."""

    async def work() -> None:
        store = Shared()
        of = line(LIMIT, store)
        lot = await slot(of)
        waiting = asyncio.ensure_future(slot(of))
        await asyncio.sleep(0.0015)
        lot.answered(429, {})
        await asyncio.sleep(1)
        assert ledger_of(store).refusals == 1
        assert not waiting.done()
        (await waiting).answered(200, {})
        assert 60 < now() < 62
        await closed(of)

    virtually(work)


def test_a_prober_that_dies() -> None:
    """Another process sends the next probe, `seconds` after it."""

    async def work() -> None:
        store = Shared()
        one, other = line(LIMIT, store), line(LIMIT, store)
        (await slot(one)).answered(429, {"Retry-After": "5"})
        await slot(one)
        assert 5 < now() < 7
        one.forget_loop()
        (await slot(other)).answered(200, {})
        assert 64 < now() < 68
        assert other.refusals == 0
        await closed(other)

    virtually(work)


def test_a_stop_while_the_store_is_away() -> None:
    """The process stops by itself, and tells it when the store is back."""

    async def work() -> None:
        store = Shared()
        one, other = line(LIMIT, store), line(LIMIT, store)
        lot = await slot(one)
        store.away = True
        lot.answered(429, {})
        await asyncio.sleep(10)
        assert one.take(False) is None
        store.away = False
        waiting = asyncio.ensure_future(slot(one))
        await asyncio.sleep(10)
        assert ledger_of(store).refusals == 1
        theirs = asyncio.ensure_future(slot(other))
        await asyncio.sleep(30)
        assert not waiting.done()
        assert not theirs.done()
        done, _ = await asyncio.wait([waiting, theirs], return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        done.pop().result().answered(200, {})
        for task in (waiting, theirs):
            if not (await task).__class__.__name__.startswith("_"):
                (await task).answered(200, {})
        await closed(one, other)

    virtually(work)
