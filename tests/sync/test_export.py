from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest

from tribe_oauth import TokenManager, TribeOAuthError, UnknownOrganizationError
from tribe_oauth.errors import ConfigurationError, UnreadableError
from tribe_oauth.odata import ODataError, Page, Query, literal
from tribe_oauth.odata._pages import Reader
from tribe_oauth.sync import Checkpoint, CheckpointError, Event, Outcome, Pace, SinkError, export

from ..manager.helpers import VirtualClock
from .conftest import Kept, World, connected

PEOPLE = "Relation_Person"


async def take(
    world: World, sink: Any, *organizations: str, sets: Sequence[str | Query] = (PEOPLE,), **options: Any
) -> list[Outcome]:
    return await export(world.manager, organizations or list(world.sandbox.organizations), sets, sink, **options)


async def test_everything_of_everybody(world: World) -> None:
    """All rows of all entity sets of all organizations, in the API's order; what came of each."""
    sink = Kept()
    sets = [PEOPLE, "Activity_Appointment"]
    outcomes = await export(world.manager, world.manager.organizations(), sets, sink)
    assert {(it.organization, it.entity_set) for it in outcomes} == {
        (name, entity_set) for name in world.sandbox.organizations for entity_set in sets
    }
    for outcome in outcomes:
        expected = world.expected(outcome.organization, outcome.entity_set)
        assert sink.rows[outcome.organization, outcome.entity_set] == expected
        assert (outcome.rows, outcome.read, outcome.retries, outcome.error) == (len(expected), len(expected), 0, None)
        assert outcome.seconds > 0


async def test_options(world: World) -> None:
    """An entity set can be a query, with all its options."""
    sink = Kept()
    wanted = Query(PEOPLE, select=["ID", "Name"], filter=f"IsActive eq {literal(True)}", orderby="Name desc")
    await take(world, sink, "Acme", sets=[wanted])
    rows = sink.rows["Acme", PEOPLE]
    assert sorted(row["Name"] for row in rows) == sorted(
        row["Name"] for row in world.expected("Acme") if row["IsActive"]
    )
    assert set(rows[0]) == {"ID", "Name"}


async def test_events(world: World) -> None:
    """What happens, as it happens: how many rows, of how many."""
    events: list[Event] = []
    await take(world, Kept(), "Acme", on_event=events.append)
    assert [(it.kind, it.rows, it.total) for it in events] == [
        ("started", 0, None),
        ("page", 10, 25),
        ("page", 20, 25),
        ("page", 25, 25),
        ("finished", 25, 25),
    ]
    assert {(it.organization, it.entity_set, it.error) for it in events} == {("Acme", PEOPLE, None)}


async def test_it_goes_on_where_it_was(world: World) -> None:
    """A sink that keeps the checkpoint with its rows has each row once, whatever ended the first run."""
    sink = Kept(fails_at=2)
    with pytest.raises(OSError, match="the disk is full"):
        await take(world, sink, "Acme")
    assert len(sink.rows["Acme", PEOPLE]) == 20
    sink.fails_at = None
    (outcome,) = await take(world, sink, "Acme")
    assert sink.rows["Acme", PEOPLE] == world.expected("Acme")
    assert (outcome.rows, outcome.read) == (25, 5)
    (outcome,) = await take(world, sink, "Acme")
    assert (outcome.rows, outcome.read) == (25, 0)


@pytest.mark.parametrize("error", [SinkError("no room"), OSError("no room")], ids=repr)
async def test_an_error_of_the_sink_ends_the_export(world: World, error: Exception) -> None:
    """It comes out as it is, of all organizations' concurrent work, and nothing is left under way."""
    before = asyncio.all_tasks()
    with pytest.raises(type(error)) as it:
        await take(world, Kept(fails_at=1, error=error))
    assert it.value is error
    assert {task for task in asyncio.all_tasks() - before if "sync" in repr(task.get_coro())} == set()


@pytest.mark.parametrize("kind", ["started", "page", "finished"])
async def test_an_error_of_the_callback_ends_the_export(world: World, kind: str) -> None:
    """The same; an error of this library's own kind is not taken for an organization's."""

    def refuse(event: Event) -> None:
        if event.kind == kind:
            raise TribeOAuthError("seen enough")

    with pytest.raises(TribeOAuthError, match="seen enough"):
        await take(world, Kept(), "Acme", on_event=refuse)


async def test_named_twice(world: World) -> None:
    """An organization that is named twice is read once: two would write its rows."""
    sink = Kept()
    outcomes = await export(world.manager, ["Acme", "Beta", "Acme"], ["Relation_Person"], sink)
    assert [outcome.organization for outcome in outcomes] == ["Acme", "Beta"]
    assert sink.rows["Acme", "Relation_Person"] == world.expected("Acme")


async def test_a_checkpoint_that_cannot_be_read(world: World) -> None:
    """It is that entity set's failure, and disturbs no other."""

    class Damaged(Kept):
        async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
            if organization == "Beta":
                raise CheckpointError("delete it")
            return await super().begin(organization, entity_set)

    outcomes = await export(world.manager, ["Acme", "Beta", "Cobra"], ["Relation_Person"], Damaged())
    assert [outcome.organization for outcome in outcomes if outcome.error is not None] == ["Beta"]


async def test_a_time_out_of_other_code(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not taken for the API's, and comes out as it is."""

    async def late(self: Reader, position: str | None) -> Page:
        raise TimeoutError("a store's")

    monkeypatch.setattr(Reader, "page", late)
    with pytest.raises(TimeoutError, match="a store's"):
        await export(world.manager, ["Acme"], ["Relation_Person"], Kept())


async def test_an_error_of_begin_ends_the_export(world: World) -> None:
    """A sink that cannot say where it was is not read into."""

    class Forgetful(Kept):
        async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
            raise SinkError("forgotten")

    with pytest.raises(SinkError, match="forgotten"):
        await take(world, Forgetful())


async def test_one_that_fails_disturbs_no_other(world: World) -> None:
    """Neither one that is not connected, nor one whose name is none, nor one that the API refuses."""
    events: list[Event] = []
    refusal = world.sandbox.fault("status", endpoint="api", status=403, times=None, organization="Beta")
    sink = Kept()
    outcomes = await take(world, sink, "Acme", "Beta", "nobody", "", on_event=events.append)
    errors = {it.organization: it.error for it in outcomes}
    assert errors["Acme"] is None
    assert sink.rows["Acme", PEOPLE] == world.expected("Acme")
    assert isinstance(errors["Beta"], ODataError)
    assert isinstance(errors["nobody"], UnknownOrganizationError)
    assert isinstance(errors[""], ConfigurationError)
    assert refusal.hits == 1
    assert {it.organization: it.error for it in events if it.kind == "failed"} == {
        name: error for name, error in errors.items() if error is not None
    }


async def test_a_record_that_cannot_be_read(world: World) -> None:
    """It fails at once, since asking again gives the same; the others are read."""
    store = world.manager.store
    record = await store.load("Beta")
    assert record is not None
    await store.swap(attrs.evolve(record, payload=b"damaged"))
    async with TokenManager(endpoints=world.sandbox.endpoints, store=store) as manager:
        outcomes = await export(manager, world.sandbox.organizations, [PEOPLE], sink := Kept())
    errors = {it.organization: it.error for it in outcomes}
    assert isinstance(errors["Beta"], UnreadableError)
    assert {it.organization: it.retries for it in outcomes} == {"Acme": 0, "Beta": 0, "Cobra": 0}
    assert sink.rows["Acme", PEOPLE] == world.expected("Acme")
    assert sink.rows["Cobra", PEOPLE] == world.expected("Cobra")


FAULTS: dict[str, dict[str, Any]] = {
    "401": {"kind": "status", "status": 401},
    "429": {"kind": "status", "status": 429, "retry_after": 0},
    "503": {"kind": "status", "status": 503},
    "cut": {"kind": "cut", "after_bytes": 100},
    "reset": {"kind": "lost_answer"},
    "cut thrice": {"kind": "cut", "after_bytes": 100, "times": 3},
    "401 thrice": {"kind": "status", "status": 401, "times": 3},
}


@pytest.mark.parametrize("name", FAULTS)
async def test_what_passes_is_survived(world: World, name: str) -> None:
    """The page is read again, and every row is there once."""
    events: list[Event] = []
    fault = world.sandbox.fault(**{"endpoint": "api", "times": 1, **FAULTS[name]})
    sink = Kept()
    (outcome,) = await take(world, sink, "Acme", on_event=events.append)
    assert not fault.pending
    assert sink.rows["Acme", PEOPLE] == world.expected("Acme")
    assert outcome.retries == sum(event.kind == "retried" for event in events)
    assert all(event.error is not None for event in events if event.kind == "retried")


async def test_tokens_that_die_all_the_time() -> None:
    """Tokens rotate in the middle of a read, without any effect on the rows."""
    async with connected(organizations=["Acme"], persons=300, page_size=10) as world:
        sink = Kept()

        def expire(event: Event) -> None:
            if event.kind == "page" and event.rows % 50 == 0:
                world.sandbox.expire("Acme")

        (outcome,) = await take(world, sink, on_event=expire)
    assert sink.rows["Acme", PEOPLE] == world.expected("Acme")
    assert outcome.error is None


async def test_it_gives_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not now is a matter of time: fifteen minutes, then the error is the outcome; what was read stands."""
    clock = VirtualClock()
    monkeypatch.setattr("tribe_oauth.odata._retries.SystemClock", lambda: clock)
    world.sandbox.fault("status", endpoint="api", status=503, times=None, organization="Beta")
    sink = Kept()
    outcomes = await take(world, sink, "Acme", "Beta")
    errors = {it.organization: it.error and str(it.error) for it in outcomes}
    assert errors == {"Acme": None, "Beta": "the API answered 503"}
    assert sum(clock.slept) == pytest.approx(900.0)
    assert [it.retries for it in outcomes] == [0, len(clock.slept)]


async def test_it_gives_up_at_once(world: World) -> None:
    """Where the caller has no time."""
    world.sandbox.fault("status", endpoint="api", status=503, times=None, organization="Beta")
    outcomes = await take(world, Kept(), "Acme", "Beta", give_up_after=0)
    assert [(it.error is None, it.retries) for it in outcomes] == [(True, 0), (False, 0)]


async def test_a_long_pause_frees_the_place(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one organization waits to be asked again, another is read in its place."""
    clock, events = VirtualClock(), list[Event]()
    released = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await asyncio.wait_for(released.wait(), 10)

    def tell(event: Event) -> None:
        events.append(event)
        if (event.kind, event.organization) == ("finished", "Beta"):
            released.set()

    monkeypatch.setattr(clock, "sleep", sleep)
    monkeypatch.setattr("tribe_oauth.odata._retries.SystemClock", lambda: clock)
    world.sandbox.fault("status", endpoint="api", status=503, organization="Acme")
    pace = Pace(organizations=1, patience=0.1)
    outcomes = await take(world, Kept(), "Acme", "Beta", pace=pace, on_event=tell)
    assert [it.error for it in outcomes] == [None, None]
    assert [it.organization for it in events if it.kind == "finished"] == ["Beta", "Acme"]


async def test_a_pause_that_is_too_long(world: World) -> None:
    """An API that asks to wait for a day is a failure."""
    world.sandbox.fault("status", endpoint="api", status=429, retry_after=86_400)
    (outcome,) = await take(world, Kept(), "Acme")
    assert isinstance(outcome.error, ODataError)
    assert outcome.error.retry_after == 86_400
    assert outcome.retries == 0


async def test_no_answer(world: World) -> None:
    """A request that hangs is given up, and sent again."""
    fault = world.sandbox.fault("hang", endpoint="api")
    sink, events = Kept(), list[Event]()
    (outcome,) = await take(world, sink, "Acme", request_timeout=0.2, on_event=events.append)
    assert fault.hits == 1
    assert (outcome.retries, outcome.rows) == (1, 25)
    assert [str(event.error) for event in events if event.error] == [
        "no whole answer came from the API within 0.2 seconds"
    ]


async def test_a_token_endpoint_that_is_down(world: World) -> None:
    """It is waited for, as long as the library itself says."""
    world.sandbox.expire("Acme")
    fault = world.sandbox.fault("status", status=503)
    sink = Kept()
    (outcome,) = await take(world, sink, "Acme")
    assert fault.hits == 1
    assert outcome.error is None
    assert sink.rows["Acme", PEOPLE] == world.expected("Acme")


async def test_another_question_does_not_go_on_there(world: World) -> None:
    """A checkpoint of other options is not continued: rows of two queries would stand in one place."""
    sink = Kept()
    await take(world, sink, "Acme")
    (outcome,) = await take(world, sink, "Acme", sets=[Query(PEOPLE, select=["ID"])])
    assert isinstance(outcome.error, ConfigurationError)
    assert "other options" in str(outcome.error)
    assert len(sink.rows["Acme", PEOPLE]) == 25


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_a_place_that_is_gone(world: World, status: int) -> None:
    """Where the API no longer knows the link that an earlier run stopped at, the error says what to do."""
    sink = Kept(fails_at=1)
    with pytest.raises(OSError, match="full"):
        await take(world, sink, "Acme")
    sink.fails_at = None
    world.sandbox.fault("status", endpoint="api", status=status)
    (outcome,) = await take(world, sink, "Acme")
    assert isinstance(outcome.error, ODataError)
    assert outcome.error.status == status
    assert "an earlier run stopped here, and the API no longer knows the link to the next page: restart" in str(
        outcome.error
    )


async def test_a_refusal_in_the_middle_is_none_of_those(world: World) -> None:
    """The same status for a page further on is the API's error."""
    sink = Kept()

    def refuse(event: Event) -> None:
        if event.kind == "started":
            world.sandbox.fault("status", endpoint="api", status=404)

    (outcome,) = await take(world, sink, "Acme", on_event=refuse)
    assert str(outcome.error) == "the API answered 404"


@pytest.mark.parametrize(
    "options",
    [
        {"give_up_after": -1},
        {"give_up_after": float("nan")},
        {"give_up_after": "900"},
        {"request_timeout": 0},
        {"sets": [PEOPLE, Query(PEOPLE)]},
        {"sets": ["/x"]},
        {"sets": [7]},
        {"sets": PEOPLE},
    ],
    ids=repr,
)
async def test_what_is_no_order(world: World, options: dict[str, Any]) -> None:
    """Said before anything is read."""
    with pytest.raises(ConfigurationError):
        await take(world, Kept(), **options)


async def test_one_organization_is_a_list_of_one(world: World) -> None:
    """A key by itself would be taken letter by letter."""
    with pytest.raises(ConfigurationError, match="lists"):
        await export(world.manager, "Acme", [PEOPLE], Kept())


async def test_organizations_are_asked_for_one_by_one(world: World) -> None:
    """Thousands are not held at once: another begins when one has ended."""
    asked: list[str] = []
    sink = Kept()

    async def names() -> AsyncIterator[str]:
        for name in world.sandbox.organizations:
            asked.append(name)
            if len(asked) > 2:
                assert len(sink.rows) >= len(asked) - 2
            yield name

    await export(world.manager, names(), [PEOPLE], sink, pace=Pace(organizations=1, patience=60))
    assert len(asked) == 3


async def test_an_iterator_that_is_no_generator(world: World) -> None:
    """Any async iterator names organizations."""

    class Names:
        def __init__(self) -> None:
            self.left = ["Acme", "Beta"]

        def __aiter__(self) -> Names:
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop(0)

    sink = Kept()
    await export(world.manager, Names(), [PEOPLE], sink)
    assert set(sink.rows) == {("Acme", PEOPLE), ("Beta", PEOPLE)}


async def test_cancelled(world: World) -> None:
    """It ends with nothing under way."""
    fault = world.sandbox.fault("hang", endpoint="api", times=None)
    before = asyncio.all_tasks()
    exporting = asyncio.ensure_future(take(world, Kept()))
    await asyncio.wait_for(fault.reached(), 10)
    exporting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exporting
    assert {task for task in asyncio.all_tasks() - before if "sync" in repr(task.get_coro())} == set()


def test_a_checkpoint_is_plain() -> None:
    """It goes through JSON, or into a row of the user's own database."""
    checkpoint = Checkpoint(organization="a", entity_set="b", query="c", position="d", rows=1)
    assert Checkpoint(**attrs.asdict(checkpoint)) == checkpoint
