"""What a write means: connecting, disconnecting, and all of it in any order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import attrs
import pytest

from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh.payload import Payload, decode, encode
from tribe_oauth._refresh.spend import matches, nonce_for
from tribe_oauth.stores import Record, Unreadable

from ..stored import text_of
from .records import BROUGHT, OWN, commit, connected, pasted, spend, token, trying


def test_the_first_candidate() -> None:
    """An organization that was not there, or was disconnected, is being connected; generations go on."""
    first = record_.with_candidate(None, "acme", pasted())
    assert (first.status, first.version, first.generation, first.due_at) == ("connecting", 0, 0, None)
    gone = record_.erased(record_.tombstone(connected(failures=7, not_before=99.0, cause="x")))
    again = record_.with_candidate(gone, "acme", pasted())
    assert (again.status, again.version, again.generation, again.cause) == ("connecting", 3, 5, None)
    assert (again.failures, again.not_before) == (0, 0.0)
    assert decode(first) == decode(again) == Payload(candidate=pasted())


def test_a_candidate_beside_a_chain() -> None:
    """Nothing of the family changes."""
    before = connected(failures=2, not_before=9.0, lease="peer")
    after = record_.with_candidate(before, "acme", pasted())
    assert attrs.evolve(after, payload=before.payload) == before
    assert decode(after) == attrs.evolve(decode(before), candidate=pasted())


def test_a_candidate_in_place_of_what_cannot_be_read() -> None:
    """It makes room, and stands again as it stood where the candidate is refused, and another one after it."""
    unread = connected(payload=Unreadable(b"sealed", "has no key; give it"), lease="peer", cause="x", failures=2)
    trying_first = record_.with_candidate(unread, "acme", pasted())
    assert (trying_first.status, trying_first.generation, trying_first.due_at) == ("connecting", 4, None)
    trying_next = attrs.evolve(record_.with_candidate(trying_first, "acme", pasted("c3", "next")), version=8)
    for tried in (trying_first, trying_next):
        refused = record_.refused(tried, spend(tried, candidate=True), "because", "")
        assert refused == attrs.evolve(unread, version=tried.version, lease=None)
        assert isinstance(refused.payload, Unreadable)
    assert commit(trying_next, spend(trying_next, candidate=True)).generation > 4
    assert b"sealed" not in commit(trying_next, spend(trying_next, candidate=True)).payload


def test_a_candidate_in_place_of_damage() -> None:
    """What nobody can read any more is not kept; nor what was removed."""
    for before in (connected(payload=b"damaged"), record_.tombstone(connected(payload=Unreadable(b"sealed", "")))):
        tried = record_.with_candidate(before, "acme", pasted())
        assert decode(tried) == Payload(candidate=pasted())
        assert record_.refused(tried, spend(tried, candidate=True), "because", "").status == "disconnected"


def test_a_clients_new_secret() -> None:
    """Taken over for the same client; not where it is the same, for another client, or where there is no family."""
    changed = record_.with_secret_of(connected(), BROUGHT)
    assert changed is not None
    assert decode(changed) == attrs.evolve(
        decode(connected()), credential=attrs.evolve(OWN, client_secret=BROUGHT.client_secret)
    )
    assert record_.with_secret_of(connected(), OWN) is None
    assert record_.with_secret_of(connected(), attrs.evolve(BROUGHT, client_id="other")) is None
    assert record_.with_secret_of(connected(payload=b""), BROUGHT) is None


@pytest.mark.parametrize("before", [None, connected(maybe_spent=True, lease="peer", failures=2), trying()])
def test_a_new_chain(before: Record | None) -> None:
    """In one write; of what was there before, only numbers and what was pasted are kept."""
    after = record_.replaced(
        before, "acme", family="c7", credential=BROUGHT, token=token(7), lifetime=60.0, due_at=None, now=2.0
    )  # fmt: skip
    seen = () if before is None else ("f0",)
    assert after == Record(
        organization="acme",
        version=0 if before is None else 3,
        family="c7",
        generation=2 if before is None else 5,
        status="connected",
        payload=encode(Payload(credential=BROUGHT, token=token(7), lifetime=60.0, seen=seen)),
    )


def test_disconnecting() -> None:
    """First nobody uses it, then its secrets go; no late answer fits, and its numbers are never used again."""
    before = trying(connected(lease="peer", cause="x"))
    dead = record_.tombstone(before)
    assert (dead.status, dead.family, dead.generation, dead.lease, dead.due_at) == ("disconnected", "", 5, None, None)
    assert dead.payload == before.payload
    assert not matches(dead, spend(before))
    assert not matches(dead, spend(before, candidate=True))
    erased = record_.erased(dead)
    assert erased == attrs.evolve(dead, payload=b"")
    assert decode(erased) == Payload()


def test_in_any_order() -> None:
    """Generations never go back, a family has its tokens, and only what begins a new generation replaces them."""
    chance = random.Random(42)
    record = record_.with_candidate(None, "acme", pasted())
    for number in range(5_000):
        before = record
        record = chance.choice(steps(record, number))(record)
        assert record.generation >= before.generation
        cached, kept = decode(before), decode(record)
        if record.generation == before.generation and before.status not in {"connecting", "disconnected"}:
            assert kept.token == cached.token
            assert record.family == before.family
        if record.status in {"connected", "reauthorization_required"}:
            assert kept.token is not None
            assert kept.credential is not None
        if record.status == "connecting":
            assert kept.candidate is not None
        if before.maybe_spent and not record.maybe_spent:
            assert record.generation > before.generation
        json.loads(text_of(record.payload) if record.payload else b"{}")


def steps(record: Record, number: int) -> list[Callable[[Record], Record]]:
    """What can happen to a record now."""
    payload, family = decode(record), f"n{number}"

    def paste(record: Record) -> Record:
        return record_.with_candidate(record, "acme", pasted(family=family, refresh_token=family))

    def replace(record: Record) -> Record:
        return record_.replaced(
            record, "acme", family=family, credential=OWN, token=token(number), lifetime=9.0, due_at=9.0, now=1.0
        )  # fmt: skip

    possible: list[Callable[[Record], Record]] = [paste, replace]
    if record.status == "disconnected":
        return [*possible, record_.erased]
    possible.append(record_.tombstone)
    spends = [spend(record, candidate=True)] if payload.candidate is not None else []
    if payload.token is not None:
        spends.append(spend(record))
    for spent in spends:
        nonce = nonce_for(spent, family)
        possible += [
            lambda record, nonce=nonce: record_.leased(record, nonce, now=1.0),  # type: ignore[misc]
            lambda record, spent=spent: record_.marked_maybe_spent(record, spent, now=1.0),  # type: ignore[misc]
            lambda record, spent=spent: record_.refused(record, spent, "because", "why"),  # type: ignore[misc]
            lambda record, spent=spent: commit(record, spent, nonce=record.lease or "n"),  # type: ignore[misc]
        ]
    return [
        *possible,
        lambda record: record_.postponed(record, not_before=1.0, said="why"),
        lambda record: record_.released(record),
    ]
