"""What stands in the store for a pending authorization: typed, without state and cookie, and never trusted."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs
import pytest

from tribe_oauth import Client, MemoryStore, Secret
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.web import _pending
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pending import (
    LIFETIME,
    MAX_PENDING,
    Ended,
    NotPendingError,
    Pending,
    _key,
    end,
    keep,
    take,
    under_way,
)

from ..stored import checked, text_of

CLIENT = Client("id", "secret", redirect_uri="https://app.example/tribe/callback")
STATE, BROWSER = Secret("a-state-of-forty-three-characters-and-more-"), Secret("cookie")


def pending() -> Pending:
    return Pending(
        request=CLIENT.authorization_request(organization_id="d41d8cd9"),
        account="",
        prefix="ann:",
        expected="acme",
        next="/settings",
        link={"again": "acme", "next": "/settings"},
    )


class Watched(MemoryStore):
    """Keeps what was put."""

    kept = b""

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        self.kept = value if key.startswith("authorization:") else self.kept
        return await super().put(key, value, lives_for=lives_for)


async def test_back_and_forth() -> None:
    """All of it comes back, for the browser that has the cookie; the store has neither state nor cookie nor secret."""
    store, begun = Watched(), pending()
    browser = await keep(store, begun)
    state = Secret(begun.request.state)
    for hidden in (state.reveal(), browser.reveal(), "secret"):
        assert hidden.encode() not in store.kept
    assert await take(store, CLIENT, state, browser) == begun


async def put_in_its_place(note: bytes) -> NotPendingError:
    """What comes of a callback whose note is this."""
    store = MemoryStore()
    await store.put(_key(STATE, BROWSER), checked(note), lives_for=LIFETIME)
    with pytest.raises(NotPendingError) as caught:
        await take(store, CLIENT, STATE, BROWSER)
    return caught.value


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"{",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"request":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"request": NaN}',
    ],
    ids=lambda note: repr(note[:20]),
)
async def test_what_is_no_note(note: bytes) -> None:
    """The link does not work any more; no raw error, and nothing of the note in this one."""
    error = await put_in_its_place(note)
    assert error.outcome is Outcome.UNKNOWN
    assert str(error) == "unknown"


async def test_a_note_that_is_not_as_it_was_written() -> None:
    """One flipped bit, of the prefix too, which tells whose it is: the flow ends, though it is this browser's."""
    store = Watched()
    begun = pending()
    browser = await keep(store, begun)
    state, kept = Secret(begun.request.state), store.kept
    flipped = [bytes([*kept[:at], kept[at] ^ 1 << at % 8, *kept[at + 1 :]]) for at in range(len(kept))]
    for note in flipped:
        await store.take(_key(state, browser))
        await store.put(_key(state, browser), note, lives_for=LIFETIME)
        with pytest.raises(NotPendingError) as caught:
            await take(store, CLIENT, state, browser)
        assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_note_under_a_key_that_is_gone() -> None:
    """The same: who began before the keys changed begins once more."""
    inner, begun = MemoryStore(), pending()
    browser = await keep(EncryptedStore(inner, [generate_key()]), begun)
    state, now = Secret(begun.request.state), EncryptedStore(inner, [generate_key()])
    with pytest.raises(NotPendingError) as caught:
        await take(now, CLIENT, state, browser)
    assert caught.value.outcome is Outcome.UNKNOWN


async def a_note() -> dict[str, Any]:
    store = Watched()
    await keep(store, pending())
    note: dict[str, Any] = json.loads(text_of(store.kept))
    return note


FIELDS = ["request", "account", "prefix", "expected", "next", "link"]
OF_THE_REQUEST = ["client_id", "redirect_uri", "verifier", "scope", "organization_id"]


async def test_the_fields_are_all_there() -> None:
    """The tests below go through every field that is stored."""
    note = await a_note()
    assert set(note) == set(FIELDS)
    assert set(note["request"]) == {*OF_THE_REQUEST, "state"}


@pytest.mark.parametrize("value", [7, True, ["x"], {"x": 1}, [[["x"]]], "\ud800"], ids=repr)
@pytest.mark.parametrize("field", FIELDS)
async def test_a_field_of_another_type(field: str, value: object) -> None:
    """A number is not taken for text, a list not for a link; a lone surrogate is no text."""
    note = await a_note() | {field: value}
    assert (await put_in_its_place(json.dumps(note).encode())).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("link", [{"next": 7}, {"next": None}, {"\ud800": "x"}, {"next": "\ud800"}], ids=repr)
async def test_a_link_of_another_type(link: object) -> None:
    """Names and values of a link are text."""
    note = await a_note() | {"link": link}
    assert (await put_in_its_place(json.dumps(note).encode())).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("value", [7, True, ["x"], {"x": 1}], ids=repr)
@pytest.mark.parametrize("field", OF_THE_REQUEST)
async def test_a_request_of_another_type(field: str, value: object) -> None:
    """The same for what the authorization request has."""
    note = await a_note()
    note["request"][field] = value
    assert (await put_in_its_place(json.dumps(note).encode())).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("field", [*FIELDS, *OF_THE_REQUEST])
async def test_a_field_that_is_missing(field: str) -> None:
    """Nothing is guessed."""
    note = await a_note()
    (note if field in note else note["request"]).pop(field)
    assert (await put_in_its_place(json.dumps(note).encode())).outcome is Outcome.UNKNOWN


async def test_what_came_of_it() -> None:
    """Whoever comes once more reads it, any number of times; another browser or state finds nothing."""
    store, begun = MemoryStore(), pending()
    browser, state = await keep(store, begun), Secret(begun.request.state)
    await take(store, CLIENT, state, browser)
    await under_way(store, state, browser)
    ended = Ended(outcome="denied", next=None, link={"again": "acme"})
    await end(store, state, browser, ended)
    for _ in range(3):
        assert await take(store, CLIENT, state, browser) == ended
    for strange in ((state, BROWSER), (STATE, browser)):
        with pytest.raises(NotPendingError, match="unknown"):
            await take(store, CLIENT, *strange)


@pytest.mark.parametrize(
    "altered", [{"outcome": "none of ours"}, {"outcome": 7}, {"next": "\ud800"}, {"link": {"\ud800": "x"}}], ids=repr
)
async def test_an_outcome_that_was_altered(altered: dict[str, Any]) -> None:
    """It is no outcome of ours: the link does not work any more."""
    note = {"outcome": "connected", "next": None, "link": {}} | altered
    assert (await put_in_its_place(json.dumps(note).encode())).outcome is Outcome.UNKNOWN


async def test_a_second_callback_waits_for_the_first() -> None:
    """While the first is worked on, the second waits; then it has the same outcome."""
    store, begun = MemoryStore(), pending()
    browser, state = await keep(store, begun), Secret(begun.request.state)
    await take(store, CLIENT, state, browser)
    await under_way(store, state, browser)
    second = [asyncio.ensure_future(take(store, CLIENT, state, browser)) for _ in range(20)]
    await asyncio.wait(second, timeout=0.25)
    ended = Ended(outcome="connected", next="/x", link={})
    await end(store, state, browser, ended)
    assert await asyncio.gather(*second) == [ended] * 20


async def test_a_first_callback_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process was killed: the second is told to try again."""
    monkeypatch.setattr(_pending, "_PATIENCE", 0.2)
    store, begun = MemoryStore(), pending()
    browser, state = await keep(store, begun), Secret(begun.request.state)
    await take(store, CLIENT, state, browser)
    await under_way(store, state, browser)
    with pytest.raises(NotPendingError, match="unavailable"):
        await take(store, CLIENT, state, browser)


async def test_a_look_that_is_put_back_late() -> None:
    """Whatever two callbacks do to the note in between each other's calls, the outcome stands at the end."""

    class Late(MemoryStore):
        """Before the outcome is put, a second callback puts back what it looked at."""

        late = True

        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            if self.late and b"outcome" in value:
                self.late = False
                await super().put(key, b"under way", lives_for=100)
            return await super().put(key, value, lives_for=lives_for)

    store, begun = Late(), pending()
    browser, state = await keep(store, begun), Secret(begun.request.state)
    await take(store, CLIENT, state, browser)
    await under_way(store, state, browser)
    ended = Ended(outcome="connected", next=None, link={})
    await end(store, state, browser, ended)
    assert await take(store, CLIENT, state, browser) == ended


# Room


async def test_an_account_has_so_many() -> None:
    """The oldest of its flows give way; those of other accounts do not. An outcome is not kept for what gave way."""
    store, begun = MemoryStore(), [pending() for _ in range(MAX_PENDING + 10)]
    other = attrs.evolve(pending(), account="bob:")
    of_other = await keep(store, other)
    browsers = [await keep(store, one) for one in begun]
    assert len(store._notes) == MAX_PENDING + 1 + 2  # and a list for each account
    states = [Secret(one.request.state) for one in begun]
    assert await take(store, CLIENT, Secret(other.request.state), of_other) == other
    for number in (10, MAX_PENDING + 9):
        assert await take(store, CLIENT, states[number], browsers[number]) == begun[number]
    for number in (0, 9):
        with pytest.raises(NotPendingError, match="unknown"):
            await take(store, CLIENT, states[number], browsers[number])
    await end(store, states[0], browsers[0], Ended(outcome="connected", next=None, link={}))
    assert len(store._notes) == MAX_PENDING + 1 + 2 - 3  # those that were taken


async def test_many_at_once() -> None:
    """Two hundred links that one account opens at the same time: the bound holds, and the list loses none."""

    class Slow(MemoryStore):
        """Others come in between any two calls."""

        async def take(self, key: str) -> bytes | None:
            await asyncio.sleep(0)
            return await super().take(key)

        async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
            await asyncio.sleep(0)
            return await super().put(key, value, lives_for=lives_for)

    store = Slow()
    await asyncio.gather(*(keep(store, pending()) for _ in range(200)))
    kept = {key for key in store._notes if key.startswith("authorization:")}
    (listed,) = [value for key, (value, _) in store._notes.items() if key.startswith("consents:")]
    assert len(kept) <= MAX_PENDING
    assert kept == set(listed.decode().split())


async def test_a_list_that_was_altered() -> None:
    """What is no key of a flow in it is passed over."""
    store = MemoryStore()
    await keep(store, pending())
    (listed,) = [key for key in store._notes if key.startswith("consents:")]
    await store.take(listed)
    await store.put(listed, b"\xff pasted:x code:y", lives_for=100)
    await store.put("pasted:x", b"acme", lives_for=100)
    for _ in range(MAX_PENDING + 5):
        await keep(store, pending())
    assert await store.take("pasted:x") == b"acme"
