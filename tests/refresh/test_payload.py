"""What is stored of a family: there and back, or a clear error (S25)."""

from __future__ import annotations

import math
import random
from typing import Any

import attrs
import pytest

from tribe_oauth import Secret
from tribe_oauth._refresh.payload import Payload, decode, encode, fingerprint, readable
from tribe_oauth._refresh.record import first_generation, with_candidate
from tribe_oauth._refresh.spend import spend_of
from tribe_oauth.errors import StoreError, UnreadableError
from tribe_oauth.stores import Unreadable

from ..stored import checked, with_other
from .records import BROUGHT, OWN, connected, pasted, token


@pytest.mark.parametrize(
    "payload",
    [
        Payload(),
        Payload(credential=OWN, token=token(), lifetime=1.5, candidate=pasted(), seen=("a", "b")),
        Payload(credential=BROUGHT, token=attrs.evolve(token(), refresh_token=None, scope=None)),
        Payload(credential=attrs.evolve(BROUGHT, client_secret=Secret('ü " \\ \0 😀'), scope="read write")),
    ],
    ids=range(4),
)
def test_there_and_back(payload: Payload) -> None:
    """What is stored is what was there, byte for byte the same each time."""
    stored = encode(payload)
    assert decode(connected(payload=stored)) == payload
    assert encode(decode(connected(payload=stored))) == stored


def test_nothing_stored() -> None:
    """A record without a payload has nothing to use."""
    assert decode(connected(payload=b"")) == Payload()


def test_a_damaged_payload() -> None:
    """Whatever is stored there: what it was, or a StoreError that names the organization and the remedy."""
    chance, good = random.Random(23), encode(Payload(credential=BROUGHT, token=token()))
    complaints, damaged = set(), 0
    bodies = [b"7", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"token": {"access_token": 7}}', b'{"candidate": []}']
    for _ in range(2_000):
        body = bytearray(good)
        for _ in range(chance.randint(1, 5)):
            body[chance.randrange(len(body))] = chance.choice(b'{}[]",:0e\\\xff\0nx')
        bodies.append(bytes(body))
    for text in bodies:
        try:
            assert isinstance(decode(connected(payload=text)), Payload)
        except StoreError as error:
            complaints.add((error.organization, str(error)))
            damaged += 1
    ((organization, said),) = complaints
    assert organization == "acme"
    assert "restore it from a backup, or connect the organization again" in said
    assert damaged > 1_000


@pytest.mark.parametrize("half", [rb"\ud83d", rb"\ude00 \ud83d"])
def test_half_a_character(half: bytes) -> None:
    """It could be read, and neither be sent nor written again; nor is a text that only looks so too deep."""
    whole = encode(Payload(credential=attrs.evolve(BROUGHT, client_id="a😀b")))
    assert readable(connected(payload=whole)) is not None
    for damaged in (with_other(whole, rb"\ud83d\ude00", half), checked(b"[" * 100_000 + half)):
        with pytest.raises(UnreadableError, match="it was damaged"):
            decode(connected(payload=damaged))


def test_a_flipped_bit() -> None:
    """One bit that is not as it was written, wherever, in a token's text too, is damage: nothing of it goes out."""
    good = encode(Payload(credential=BROUGHT, token=token(), candidate=pasted(), seen=("a",)))
    for bit in range(8 * len(good)):
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UnreadableError, match="it was damaged"):
            decode(connected(payload=bytes(flipped)))


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 9, 100])
def test_a_payload_without_its_beginning_or_end(cut: int) -> None:
    """The same for what was cut; all of it gone is a family without a refresh token."""
    good = encode(Payload(credential=BROUGHT, token=token()))
    for part in (good[:cut], good[cut + 1 :]):
        record = connected(payload=part)
        with pytest.raises(UnreadableError):
            spend_of(record, decode(record), candidate=False)


@pytest.mark.parametrize("changes", [{"status": "odd"}, {"not_before": math.inf}, {"generation": -1}])
def test_what_is_replaced_by_what_is_pasted(changes: dict[str, Any]) -> None:
    """What no store of ours wrote is not kept beside it: it could not be written again."""
    odd = attrs.evolve(connected(), payload=Unreadable(b"x", "was damaged"), **changes)
    assert decode(with_candidate(odd, "acme", pasted())) == Payload(candidate=pasted())


@pytest.mark.parametrize("generation", [-1, -(2**52), 2**53, 2**70])
def test_what_is_no_generation(generation: int) -> None:
    """A store of a user's own may not look at what it has: such a record is damaged, and can be replaced."""
    odd = connected(generation=generation)
    with pytest.raises(UnreadableError, match="organization 'acme' cannot be read: it was altered by something else"):
        decode(odd)
    assert first_generation(odd, 1.8e9) == 1_800_000_000
    assert decode(with_candidate(odd, "acme", pasted())).candidate == pasted()


def test_what_can_be_read() -> None:
    """Who can go on without asks for it: None of no record and of a damaged one, and no error."""
    assert readable(None) is None
    assert readable(connected(payload=b"x")) is None
    assert readable(connected(payload=Unreadable(b"", "was lost; find it"))) is None
    assert readable(connected()) == decode(connected())


def test_fingerprints() -> None:
    """One for each token, the same for ever, and not the token."""
    assert fingerprint(Secret("a")) == fingerprint(Secret("a"))
    assert fingerprint(Secret("a")) != fingerprint(Secret("b"))
    assert len(fingerprint(Secret("a"))) == 64
