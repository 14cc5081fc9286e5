"""Several hosts on one store: the lease, take-over, late results, and a store that fails or forgets."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from tribe_oauth import MemoryStore, ReauthorizationRequired, RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth._refresh.payload import decode, encode
from tribe_oauth.errors import ManagerError
from tribe_oauth.stores import Record

from ..stored import with_other
from .conftest import MakeManager
from .helpers import TokenServer, VirtualClock, held_back, oauth_error, page, until

DAY = 86_400


async def stored(store: MemoryStore) -> Record:
    record = await store.load("acme")
    assert record is not None
    return record


def paste(server: TokenServer) -> RefreshTokenGrant:
    return RefreshTokenGrant(server.client(), server.paste())


async def test_eight_hosts_make_one_request(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """F5: one POST for each rotation, whoever asks; all end with the same token."""
    hosts = [manager, *(make_manager() for _ in range(7))]
    for rotation in range(2, 5):
        clock.advance(DAY)
        tokens = await asyncio.gather(*(host.token("acme") for host in hosts for _ in range(10)))
        assert len(set(tokens)) == 1
        assert len(server.refreshes()) == rotation
    assert len(set(server.refreshes())) == len(server.refreshes())


async def test_ahead_of_time_a_peers_lease_is_respected(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock
) -> None:
    """While a peer refreshes and the old token works, nobody waits and nothing is sent."""
    peer = make_manager()
    old = await peer.token("acme")
    clock.advance(DAY * 0.95)
    server.order(held_back(server))
    await manager.token("acme")
    await server.arrived.wait()
    assert await peer.token("acme") == old
    await until(lambda: not peer._single_flight._in_flight)
    assert await peer.token("acme") == old
    server.released.set()
    await until(lambda: manager._tokens["acme"].token != old)
    clock.advance(10)
    await peer.token("acme")
    await until(lambda: peer._tokens["acme"].token == manager._tokens["acme"].token)
    assert len(server.refreshes()) == 2


async def test_a_lease_that_ran_out_is_taken_over(
    manager: TokenManager, store: MemoryStore, server: TokenServer, clock: VirtualClock
) -> None:
    """F1: its holder died after an unknown step: doubt is set, and the resend waits for `quiet`."""
    record = await stored(store)
    await store.swap(attrs.evolve(record, lease=f"{record.family}:dead"), lease_for=3)
    clock.advance(DAY)
    clock.slept.clear()
    assert await manager.token("acme")
    assert sum(clock.slept) >= 10
    after = await stored(store)
    assert after.maybe_spent  # sticky: the dead holder's request may still arrive one day
    assert after.lease is None


async def test_a_lease_that_never_ends(make_manager: MakeManager, server: TokenServer, clock: VirtualClock) -> None:
    """The store's clock stands, or was set back: who waits counts for itself, and nobody waits for ever."""
    store = MemoryStore(clock=lambda: 0.0)
    manager = make_manager(store=store)
    await manager.connect("acme", RefreshTokenGrant(server.client(), server.paste()))
    record = await stored(store)
    await store.swap(attrs.evolve(record, lease=f"{record.family}:dead"), lease_for=30)
    clock.advance(DAY)
    clock.slept.clear()
    assert await asyncio.wait_for(manager.token("acme"), 30)
    assert sum(clock.slept) > 39
    assert len(server.refreshes()) == 2


async def test_a_take_over_of_a_spent_token_is_a_lost_rotation(
    manager: TokenManager, store: MemoryStore, server: TokenServer, clock: VirtualClock
) -> None:
    """F1: killed between the answer and the commit: no client can save it, and the cause says so."""
    record = await stored(store)
    await store.swap(attrs.evolve(record, lease=f"{record.family}:dead"), lease_for=3)
    server.live.clear()
    clock.advance(DAY)
    with pytest.raises(ReauthorizationRequired, match="lost rotation"):
        await manager.token("acme")


async def test_waiting_for_a_peer_that_dies(
    manager: TokenManager, store: MemoryStore, server: TokenServer, clock: VirtualClock
) -> None:
    """A caller waits for a running lease to end, and then takes over: nobody hangs."""
    clock.advance(DAY)
    record = await stored(store)
    await store.swap(attrs.evolve(record, lease=f"{record.family}:dead"), lease_for=3)
    assert await manager.token("acme")
    assert len(server.refreshes()) == 2


async def test_a_late_commit_is_kept(
    manager: TokenManager, make_manager: MakeManager, store: MemoryStore, server: TokenServer, clock: VirtualClock
) -> None:
    """F6: a holder frozen beyond its lease comes back with a live token: it is committed, whoever marked what."""
    clock.advance(DAY)
    server.order(held_back(server), oauth_error("invalid_grant"))
    frozen = asyncio.ensure_future(manager.token("acme"))
    await server.arrived.wait()
    record = await stored(store)
    await store.swap(record, lease_for=0)  # as if its time had run out
    with pytest.raises(ReauthorizationRequired, match="lost rotation"):
        await make_manager().token("acme")
    server.released.set()
    token = await frozen
    after = await stored(store)
    assert after.status == "connected"
    assert after.maybe_spent
    assert await make_manager().token("acme") == token


async def test_a_holder_whose_lease_ran_out_does_not_send(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F6: frozen before the bytes left: it looks at the clock once more, and renews first."""
    clock.advance(DAY)
    flight_looks: list[float] = []
    monotonic = clock.monotonic

    async def frozen_after_begin(record: Record, *, lease_for: float | None = None) -> Record | None:
        result = await MemoryStore.swap(store, record, lease_for=lease_for)
        if not flight_looks:
            clock.advance(10)  # more than the margin for connecting, less than the lease
            flight_looks.append(monotonic())
        return result

    monkeypatch.setattr(store, "swap", frozen_after_begin)
    assert await manager.token("acme")
    assert len(server.refreshes()) == 2
    assert (await stored(store)).lease is None


async def test_overtaken_while_waiting_for_quiet(
    manager: TokenManager, store: MemoryStore, server: TokenServer, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frozen holder's commit arrives while its successor waits: that is what is taken."""
    record = await stored(store)
    late = attrs.evolve(record, generation=record.generation + 1, lease=None, due_at=clock.time() + 3 * DAY)
    late = attrs.evolve(late, payload=with_other(late.payload, b'"expires_at":18', b'"expires_at":19'))
    await store.swap(attrs.evolve(record, lease=f"{record.family}:frozen"), lease_for=1)
    clock.advance(DAY)
    sleep = clock.sleep

    async def thaw(seconds: float) -> None:
        if seconds == 1:  # a look at the store
            current = await stored(store)
            await store.swap(attrs.evolve(late, version=current.version))
        await sleep(seconds)

    monkeypatch.setattr(clock, "sleep", thaw)
    await manager.token("acme")
    assert len(server.refreshes()) == 1


async def test_a_newer_token_that_has_run_out_is_not_taken(
    manager: TokenManager, make_manager: MakeManager, store: MemoryStore, server: TokenServer, clock: VirtualClock
) -> None:
    """A peer's token is fresh by cause only if it came while we waited: one that was there before may have run out."""
    peer = make_manager()
    for ask in (manager.token, manager.refresh):
        clock.advance(DAY)
        theirs = await peer.token("acme")
        clock.advance(DAY)
        record = await stored(store)
        await store.swap(attrs.evolve(record, lease=f"{record.family}:dead"), lease_for=3)
        ours = await ask("acme")
        assert ours != theirs
        assert ours.expires_at > clock.time()
    assert len(server.refreshes()) == 5


@pytest.mark.parametrize(("age", "requests"), [(1.0, 1), (DAY, 2)])
async def test_a_token_that_was_saved_late(
    manager: TokenManager,
    store: MemoryStore,
    server: TokenServer,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    age: float,
    requests: int,
) -> None:
    """S29: what a peer commits while we wait is as old as the peer says, whatever our wall clock makes of it."""
    record = await stored(store)
    late = encode(attrs.evolve(decode(record), age=age))
    await store.swap(attrs.evolve(record, lease=f"{record.family}:peer"), lease_for=3)
    clock.advance(DAY)
    sleep = clock.sleep

    async def commit(seconds: float) -> None:
        current = await stored(store)
        if current.generation == record.generation:
            change = attrs.evolve(current, generation=record.generation + 1, payload=late, lease=None)
            await store.swap(change)
        await sleep(seconds)

    monkeypatch.setattr(clock, "sleep", commit)
    await manager.token("acme")
    assert len(server.refreshes()) == requests


async def test_quiet_is_kept_whatever_the_clocks_say(
    manager: TokenManager, store: MemoryStore, server: TokenServer, clock: VirtualClock
) -> None:
    """After a flight that ended in maybe_spent, the next waits by its own clock: wall clocks of two hosts differ."""
    record = await stored(store)
    await store.swap(attrs.evolve(record, maybe_spent=True, failures=1, not_before=clock.time() - 1))
    clock.advance(DAY)
    clock.slept.clear()
    assert await manager.token("acme")
    assert clock.slept == [1.0] * 10  # looking at the store all the time
    await manager.refresh("acme")
    assert len(clock.slept) == 10  # the commit ended it


# The store fails


class Failing:
    """Makes some calls of a store fail, before or after they take effect."""

    def __init__(self, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.swaps: list[str] = []
        self.loads: list[str] = []
        self._swap, self._load = store.swap, store.load
        monkeypatch.setattr(store, "swap", self.swap)
        monkeypatch.setattr(store, "load", self.load)

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        fault = self.swaps.pop(0) if self.swaps else "well"
        if fault == "before":
            raise StoreError("not written")
        result = await self._swap(record, lease_for=lease_for)
        if fault == "after":
            raise StoreError("written, and not said")
        return result

    async def load(self, organization: str) -> Record | None:
        if self.loads and self.loads.pop(0) == "fail":
            raise StoreError("not read")
        return await self._load(organization)


@pytest.fixture
def failing(manager: TokenManager, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(store, monkeypatch)


async def test_a_store_that_cannot_write_fails_before_sending(
    manager: TokenManager, failing: Failing, server: TokenServer, clock: VirtualClock
) -> None:
    """F4: no lease, no request. The failure is remembered for a second, not longer."""
    clock.advance(DAY)
    failing.swaps = ["before"]
    with pytest.raises(StoreError, match="not written") as error:
        await manager.token("acme")
    assert error.value.retryable
    assert len(server.refreshes()) == 1
    clock.advance(1.1)
    assert await manager.token("acme")


async def test_a_lease_whose_writing_is_unknown_is_read_again(
    manager: TokenManager, failing: Failing, server: TokenServer, clock: VirtualClock
) -> None:
    """Written but not confirmed: found by its nonce, and the flight goes on."""
    clock.advance(DAY)
    failing.swaps = ["after"]
    assert await manager.token("acme")
    assert len(server.refreshes()) == 2


async def test_a_commit_whose_writing_is_unknown_is_recognized(
    manager: TokenManager, failing: Failing, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """The commit was written and the confirmation lost: it is found, not written twice, not taken for a peer's."""
    before = await stored(store)
    clock.advance(DAY)
    failing.swaps = ["well", "after"]
    assert await manager.token("acme")
    assert server.revoked == []
    assert (await stored(store)).generation == before.generation + 1


async def test_a_commit_is_tried_again(
    manager: TokenManager, failing: Failing, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """A store that fails for a moment after the POST: durable before anybody sees the token."""
    clock.advance(DAY)
    failing.swaps = ["well", "before", "before"]
    token = await manager.token("acme")
    assert token.access_token.reveal().encode() in (await stored(store)).payload


async def test_a_commit_that_cannot_be_saved(
    manager: TokenManager,
    failing: Failing,
    server: TokenServer,
    clock: VirtualClock,
    store: MemoryStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The named window: the token is served from memory, the alarm raised, and saving goes on until it succeeds."""
    clock.advance(DAY)
    failing.swaps = ["well", *["before"] * 8]
    token = await manager.token("acme")
    assert "could not be saved" in caplog.text
    await until(lambda: not failing.swaps)
    await asyncio.wait(manager._tasks._tasks)
    assert "saved at last" in caplog.text
    assert token.access_token.reveal().encode() in (await stored(store)).payload
    assert token.access_token.reveal() not in caplog.text


async def test_closing_while_unsaved(
    manager: TokenManager, failing: Failing, server: TokenServer, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """F7: closing tries once more, at once, and does not wait for ever."""
    clock.advance(DAY)
    failing.swaps = ["well", *["before"] * 1000]
    await manager.token("acme")
    await manager.close()
    assert "still not saved" in caplog.text


async def test_an_unsaved_token_is_never_behind_the_store(
    manager: TokenManager, failing: Failing, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """With a newer token in memory than in the store, the older one is not spent: memory is written back."""
    clock.advance(DAY)
    failing.swaps = ["well", *["before"] * 4]
    await manager.token("acme")
    await manager.refresh("acme")
    assert len(set(server.refreshes())) == len(server.refreshes()) == 3


async def test_a_fail_over_that_lost_a_commit(
    manager: TokenManager,
    server: TokenServer,
    clock: VirtualClock,
    store: MemoryStore,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store found older than memory is written back, never spent from."""
    old = await stored(store)
    token = await manager.refresh("acme")
    current = await stored(store)
    await store.swap(attrs.evolve(old, version=current.version))
    clock.advance(DAY * 0.95)
    await manager.token("acme")
    await until(lambda: "lost a commit" in caplog.text)
    clock.advance(60)  # with the commit a peer's lease may have been lost
    await manager.token("acme")
    await until(lambda: manager._tokens["acme"].generation == old.generation + 2)
    assert token.refresh_token is not None
    assert server.refreshes()[-1] == token.refresh_token.reveal()


async def test_a_fail_over_that_lost_the_record(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """Even a record that is gone altogether comes back from memory."""
    before = await stored(store)
    empty = MemoryStore(clock=clock.monotonic)
    store.__dict__.update(empty.__dict__)
    clock.advance(DAY)
    assert await manager.token("acme")
    assert (await stored(store)).generation == before.generation + 1


async def test_a_connection_that_is_newer_than_memory(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """A store was emptied, and the organization connected again: a host that remembers the old one goes to the new.

    The old one had been refreshed so often that counting from one would have made it look newer.
    """
    for _ in range(3):
        await manager.refresh("acme")
    store.__dict__.update(MemoryStore(clock=clock.monotonic).__dict__)
    clock.advance(60)
    peer = make_manager()
    token = await peer.connect("acme", paste(server))
    clock.advance(DAY * 0.95)
    await manager.token("acme")
    await until(lambda: not manager._single_flight._in_flight)
    assert (await stored(store)).family == peer._tokens["acme"].family
    assert token.refresh_token is not None
    assert server.refreshes()[-1] == token.refresh_token.reveal()


async def test_an_older_familys_answer_that_comes_late(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """The same with a request on the wire: the answer that the old family gets does not take the new one's place."""
    clock.advance(DAY * 0.95)
    server.order(held_back(server))
    await manager.token("acme")
    await server.arrived.wait()
    store.__dict__.update(MemoryStore(clock=clock.monotonic).__dict__)
    clock.advance(60)
    peer = make_manager()
    await peer.connect("acme", paste(server))
    connected = await stored(store)
    server.released.set()
    await until(lambda: not manager._single_flight._in_flight)
    assert (await stored(store)).family == connected.family
    assert (await manager.token("acme")) == await peer.token("acme")


async def test_a_store_that_was_emptied_keeps_what_is_being_tried(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """A peer writes its old connection back while a pasted token is on the wire: the new one takes its place."""
    peer = make_manager()
    await peer.token("acme")
    store.__dict__.update(MemoryStore(clock=clock.monotonic).__dict__)
    server.order(held_back(server))
    host = make_manager()
    connecting = asyncio.ensure_future(host.connect("acme", paste(server)))
    await server.arrived.wait()
    clock.advance(DAY * 0.95)
    await peer.token("acme")
    await until(lambda: store._records["acme"][0].status == "connected")
    server.released.set()
    token = await connecting
    record = await stored(store)
    assert decode(record).token == token
    assert decode(record).candidate is None
    assert len(decode(record).seen) == 1


async def test_a_store_put_back_to_a_trial_that_is_over(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """What was being tried then is the family of now: it is not tried again, and what is learned of it is its own."""
    swap, trials = store.swap, []

    async def watching(record: Record, *, lease_for: float | None = None) -> Record | None:
        trials.append(record)
        return await swap(record, lease_for=lease_for)

    store.swap = watching  # type: ignore[method-assign]
    await manager.connect("acme", paste(server))
    (trial, *_) = [record for record in trials if decode(record).candidate is not None]
    store.swap = swap  # type: ignore[method-assign]
    await store.swap(attrs.evolve(trial, version=(await stored(store)).version, lease=None))
    clock.advance(DAY * 0.95)
    await manager.token("acme")
    await until(lambda: not manager._single_flight._in_flight)
    assert decode(await stored(store)).candidate is None


async def test_a_family_refreshed_while_a_candidate_was_cut_off(
    manager: TokenManager, make_manager: MakeManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """The lease of a trial ran out and a peer refreshed the old family: the answer to the trial is kept."""
    peer = make_manager()
    server.order(held_back(server))
    connecting = asyncio.ensure_future(manager.connect("acme", paste(server)))
    await server.arrived.wait()
    trial = await stored(store)
    await store.swap(attrs.evolve(trial, lease=None, generation=trial.generation + 1))  # as by a peer's commit
    server.released.set()
    token = await connecting
    assert decode(await stored(store)).token == token == await peer.token("acme")


async def test_doubt_that_cannot_be_written(
    manager: TokenManager, failing: Failing, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """A store that dies during the request: nothing is sent again; the lease runs out, and its taker doubts."""
    clock.advance(DAY)
    server.order(page(502))
    failing.swaps = ["well", "before"]
    with pytest.raises(StoreError):
        await manager.token("acme")
    assert len(server.refreshes()) == 2
    assert (await stored(store)).lease is not None
    clock.advance(60)
    assert await manager.token("acme")
    assert (await stored(store)).maybe_spent


async def test_a_write_in_between(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, store: MemoryStore
) -> None:
    """Somebody else's write under our lease (a candidate, a renewal of maybe_spent) does not stop the flight."""
    clock.advance(DAY)

    async def meddle(form: object, request: object) -> object:
        await store.swap(await stored(store))
        return await page(502)({}, None)  # type: ignore[arg-type]

    async def meddle_and_answer(form: object, request: object) -> object:
        await store.swap(await stored(store))
        return await server.rotate(form, request)  # type: ignore[arg-type]

    server.order(meddle, meddle_and_answer)  # type: ignore[arg-type]
    assert await manager.token("acme")
    assert len(server.refreshes()) == 3


@pytest.mark.parametrize("answer", [page(502), page(404), oauth_error("invalid_grant")])
async def test_a_lease_that_was_lost(
    manager: TokenManager, server: TokenServer, clock: VirtualClock, store: MemoryStore, answer: object
) -> None:
    """Whatever the answer meant, a holder that lost its lease looks again instead of writing."""
    clock.advance(DAY)

    async def lose(form: object, request: object) -> object:
        await store.swap(attrs.evolve(await stored(store), lease=None))
        return await answer({}, None)  # type: ignore[operator]

    server.order(lose)  # type: ignore[arg-type]
    assert await manager.token("acme")


async def test_closing_while_waiting_for_a_peer(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F7: a waiter of a closing manager is told."""
    clock.advance(DAY)
    record = await stored(store)
    await store.swap(attrs.evolve(record, lease=f"{record.family}:peer"), lease_for=1e9)
    waiting = asyncio.ensure_future(manager.token("acme"))
    await until(lambda: len(clock.slept) > 2)
    await manager.close()
    with pytest.raises(ManagerError, match="closing"):
        await waiting


async def test_closing_while_waiting_for_quiet(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F7: pauses are cut short, the lease is given back, and nothing is sent."""
    clock.advance(DAY)
    record = await stored(store)
    await store.swap(attrs.evolve(record, lease=f"{record.family}:dead"), lease_for=0)
    waiting = asyncio.Event()

    async def for_ever(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(clock, "sleep", for_ever)
    caller = asyncio.ensure_future(manager.token("acme"))
    await waiting.wait()
    await manager.close()
    with pytest.raises(ManagerError):
        await caller
    assert len(server.refreshes()) == 1
    assert (await stored(store)).lease is None


async def test_closing_during_a_request(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """F7: `close` lets a rotation end, and its result is saved."""
    clock.advance(DAY)
    server.order(held_back(server))
    caller = asyncio.ensure_future(manager.token("acme"))
    await server.arrived.wait()
    closing = asyncio.ensure_future(manager.close())
    await until(lambda: manager._tasks.closing)
    server.released.set()
    await closing
    assert (await caller).access_token.reveal().encode() in (await stored(store)).payload


async def test_a_peer_that_commits_during_our_request(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """Within a family a late answer is dropped and not revoked: that would kill what the peer has."""
    clock.advance(DAY)
    server.order(held_back(server))
    caller = asyncio.ensure_future(manager.token("acme"))
    await server.arrived.wait()
    record = await stored(store)
    payload = with_other(record.payload, b'"expires_at":18', b'"expires_at":19')
    await store.swap(attrs.evolve(record, generation=record.generation + 1, payload=payload))
    server.released.set()
    await caller
    assert server.revoked == []
    assert (await stored(store)).generation == record.generation + 1


@pytest.mark.parametrize("answer", [page(502), oauth_error("invalid_request")])
async def test_a_peer_that_commits_while_we_pause(
    manager: TokenManager,
    server: TokenServer,
    store: MemoryStore,
    clock: VirtualClock,
    monkeypatch: pytest.MonkeyPatch,
    answer: object,
) -> None:
    """Before it is sent again, the store is read again."""
    clock.advance(DAY)
    server.order(answer)  # type: ignore[arg-type]
    sleep = clock.sleep

    async def meanwhile(seconds: float) -> None:
        record = await stored(store)
        payload = with_other(record.payload, b'"expires_at":18', b'"expires_at":19')
        await store.swap(attrs.evolve(record, generation=record.generation + 1, payload=payload, lease=None))
        await sleep(seconds)

    monkeypatch.setattr(clock, "sleep", meanwhile)
    await manager.token("acme")
    assert len(server.refreshes()) == 2


async def test_a_second_invalid_request_after_a_peer(
    manager: TokenManager, server: TokenServer, store: MemoryStore, clock: VirtualClock
) -> None:
    """The end is marked only where nobody has written meanwhile."""
    clock.advance(DAY)

    async def lose(form: object, request: object) -> object:
        await store.swap(attrs.evolve(await stored(store), lease=None))
        return await oauth_error("invalid_request")({}, None)  # type: ignore[arg-type]

    server.order(oauth_error("invalid_request"), lose)  # type: ignore[arg-type]
    assert await manager.token("acme")
    assert (await stored(store)).status == "connected"
