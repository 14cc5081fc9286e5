"""What stands in the store for a pending authorization: typed, without state and cookie, and never trusted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tribe_oauth import Client, MemoryStore
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.web._outcome import Outcome
from tribe_oauth.web._pending import LIFETIME, NotPendingError, Pending, _key, cookie_name, keep, take

from ..stored import checked, text_of

CLIENT = Client("id", "secret", redirect_uri="https://app.example/tribe/callback")


def pending() -> Pending:
    return Pending(
        request=CLIENT.authorization_request(organization_id="d41d8cd9"),
        prefix="ann:",
        expected="acme",
        next="/settings",
        link={"again": "acme", "next": "/settings"},
    )


class Watched(MemoryStore):
    """Keeps what was put."""

    kept = b""

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        self.kept = value
        return await super().put(key, value, lives_for=lives_for)


async def test_back_and_forth() -> None:
    """All of it comes back, for the browser that has the cookie; the store has neither state nor cookie nor secret."""
    store, begun = Watched(), pending()
    browser = await keep(store, begun)
    state = begun.request.state
    for hidden in (state, browser, "secret"):
        assert hidden.encode() not in store.kept
    assert await take(store, CLIENT, state, {cookie_name(state, secure=True): browser}, secure=True) == begun


async def put_in_its_place(note: bytes) -> NotPendingError:
    """What comes of a callback whose note is this."""
    store, state = MemoryStore(), "a-state-of-forty-three-characters-and-more-"
    await store.put(_key(state), checked(note), lives_for=LIFETIME)
    with pytest.raises(NotPendingError) as caught:
        await take(store, CLIENT, state, {cookie_name(state, secure=True): "cookie"}, secure=True)
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
    state, kept = begun.request.state, store.kept
    cookies = {cookie_name(state, secure=True): browser}
    flipped = [bytes([*kept[:at], kept[at] ^ 1 << at % 8, *kept[at + 1 :]]) for at in range(len(kept))]
    for note in flipped:
        await store.take(_key(state))
        await store.put(_key(state), note, lives_for=LIFETIME)
        with pytest.raises(NotPendingError) as caught:
            await take(store, CLIENT, state, cookies, secure=True)
        assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_note_under_a_key_that_is_gone() -> None:
    """The same: who began before the keys changed begins once more."""
    inner, begun = MemoryStore(), pending()
    cookie = await keep(EncryptedStore(inner, [generate_key()]), begun)
    state, now = begun.request.state, EncryptedStore(inner, [generate_key()])
    with pytest.raises(NotPendingError) as caught:
        await take(now, CLIENT, state, {cookie_name(state, secure=True): cookie}, secure=True)
    assert caught.value.outcome is Outcome.UNKNOWN


async def a_note() -> dict[str, Any]:
    store = Watched()
    await keep(store, pending())
    note: dict[str, Any] = json.loads(text_of(store.kept))
    return note


FIELDS = ["request", "browser", "prefix", "expected", "next", "link"]
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


async def test_a_whole_note_of_another_browser() -> None:
    """What is right in all of its parts is still for one browser; a hash that is no hash fits none."""
    note = await a_note()
    for browser in (note["browser"], "", "é"):
        assert (
            await put_in_its_place(json.dumps(note | {"browser": browser}).encode())
        ).outcome is Outcome.OTHER_BROWSER
