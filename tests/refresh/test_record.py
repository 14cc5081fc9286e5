"""What a write means: spending, leases, maybe_spent, commits and refusals, row by row."""

from __future__ import annotations

import attrs
import pytest

from tribe_oauth import Secret
from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh.payload import Payload, decode, encode, fingerprint
from tribe_oauth._refresh.record import MAX_SEEN, first_generation
from tribe_oauth._refresh.spend import Spend, matches, may_be_spent, nonce_for, spend_of, takes_answer
from tribe_oauth.stores import Record

from .records import BROUGHT, NOW, OWN, commit, connected, pasted, spend, token, trying

# What is spent


def test_what_a_flight_spends() -> None:
    """The family's own refresh token, or the candidate's; none where the candidate has gone."""
    both = trying()
    assert spend(both) == Spend("c1", 4, OWN, Secret("rt1"), False, "c1")
    assert spend(both, candidate=True) == Spend("c2", 4, BROUGHT, Secret("pasted"), True, "c1")
    assert spend_of(connected(), decode(connected()), candidate=True) is None


@pytest.mark.parametrize(
    ("record", "fits"),
    [
        (None, False),
        (connected(), True),
        (connected(status="reauthorization_required"), True),
        (connected(lease="peer", version=9, failures=3), True),
        (connected(generation=5), False),
        (connected(family="c9"), False),
        (connected(status="disconnected"), False),
    ],
)
def test_whether_a_result_belongs(record: Record | None, fits: bool) -> None:
    """Chain and generation decide, whoever holds the lease and whatever the status says."""
    assert matches(record, spend(connected())) is fits
    assert takes_answer(record, spend(connected())) is (fits or record is None)


def test_whether_a_candidate_is_the_one_to_use() -> None:
    """It is the one that was sent, and no other answer came between."""
    spent = spend(trying(), candidate=True)
    assert matches(trying(), spent)
    assert not matches(connected(), spent)
    assert not matches(trying(connected(generation=5)), spent)
    assert not matches(record_.with_candidate(connected(), "acme", pasted(family="c3")), spent)


FIRST = record_.with_candidate(None, "acme", pasted())


@pytest.mark.parametrize(
    ("tried", "found", "belongs"),
    [
        (trying(), trying(connected(generation=5)), True),  # the old family was refreshed meanwhile
        (trying(), connected(generation=6), True),  # and the candidate dropped, or lost by the store
        (trying(), record_.with_candidate(connected(), "acme", pasted(family="c3")), True),  # pasted while it was sent
        (trying(), connected(family="c3", generation=5), False),  # that one took the family's place
        (trying(), connected(family="c2", generation=5), False),  # a peer was answered
        (trying(), record_.tombstone(trying()), False),
        (trying(), connected(generation=3), True),  # an older copy was put back
        (FIRST, attrs.evolve(FIRST, status="disconnected", payload=b""), True),  # refused to a peer, who came later
        (FIRST, record_.tombstone(FIRST), False),
        (FIRST, connected(), False),
        (FIRST, trying(), True),  # a host wrote back the family that the store had lost
    ],
)
def test_whether_a_candidates_answer_belongs(tried: Record, found: Record, belongs: bool) -> None:
    """Unless another connection took its place, or somebody disconnected. What went on beside it does not matter."""
    assert takes_answer(found, spend(tried, candidate=True)) is belongs


def test_what_is_written_over_an_older_copy() -> None:
    """All that is known; but whoever sees it appear does not take its token for one that was issued just now."""
    for lost, version in ((None, 0), (connected(version=7, generation=2), 7)):
        written = record_.in_place_of(lost, connected(lease="n"))
        assert attrs.evolve(written, payload=b"") == connected(version=version, lease="n", payload=b"")
        assert decode(written) == attrs.evolve(decode(connected()), age=100.0)


def test_a_new_family_is_newer_than_all_before() -> None:
    """Also where the store was emptied between; and where a clock was behind."""
    assert first_generation(None, 0.5) == 1
    assert first_generation(None, NOW) == NOW
    assert first_generation(connected(), NOW) == NOW
    assert first_generation(connected(generation=9000), NOW) == 9001


# The lease, and what may be spent


def test_taking_a_lease() -> None:
    """A free one is taken without more; one that ran out marks the refresh token that it was taken for."""
    nonce = nonce_for(spend(connected()), "r")
    free = record_.leased(connected(), nonce, now=NOW)
    assert (free.lease, free.maybe_spent) == ("c1:r", False)
    taken_over = record_.leased(free, "c1:s", now=NOW)
    assert (taken_over.lease, taken_over.maybe_spent) == ("c1:s", True)
    candidates = record_.leased(attrs.evolve(trying(), lease="c2:r"), "c2:s", now=NOW)
    assert (candidates.lease, candidates.maybe_spent) == ("c2:s", False)
    assert may_be_spent(candidates, spend(candidates, candidate=True))
    assert not may_be_spent(candidates, spend(candidates))


def test_maybe_spent() -> None:
    """It falls on what was sent, family or candidate, and on the family where the candidate has gone."""
    both = trying()
    own, tried = spend(both), spend(both, candidate=True)
    after_own = record_.marked_maybe_spent(both, own, now=NOW)
    after_tried = record_.marked_maybe_spent(both, tried, now=NOW)
    assert may_be_spent(after_own, own)
    assert not may_be_spent(after_own, tried)
    assert may_be_spent(after_tried, tried)
    assert not may_be_spent(after_tried, own)
    assert not may_be_spent(connected(), tried)
    assert record_.marked_maybe_spent(connected(), tried, now=NOW).maybe_spent


def test_giving_a_lease_back() -> None:
    """A failure is counted and its time set; without one, an earlier time is not forgotten."""
    cached = connected(lease="c1:r", failures=2, not_before=50.0)
    failed = record_.postponed(cached, not_before=70.0, said="why")
    assert (failed.lease, failed.failures, failed.not_before) == (None, 3, 70.0)
    assert attrs.evolve(record_.released(cached), lease="c1:r") == cached
    assert record_.released(cached, not_before=60.0).not_before == 60.0
    assert record_.released(cached, not_before=40.0).not_before == 50.0


# Answers


def test_a_commit() -> None:
    """The next generation: new tokens, everything of the failures before gone, the credential and the history kept."""
    before = connected(
        lease="n", status="reauthorization_required", cause="lost rotation", failures=3, not_before=5.0, due_at=None
    )
    after = commit(before, spend(before))
    assert after == attrs.evolve(
        before,
        generation=5,
        status="connected",
        cause=None,
        failures=0,
        not_before=0.0,
        lease=None,
        due_at=1900.0,
        payload=encode(Payload(credential=OWN, token=token(2), lifetime=50.0, age=1.5, seen=("f0",), issued_at=900.0)),
    )


@pytest.mark.parametrize(
    ("marked", "lease", "passed", "after"),
    [
        (None, "n", 60.0, (False, None)),
        (4, "n", 60.0, (True, None)),
        (3, "n", 60.0, (True, None)),
        (2, "n", 60.0, (False, None)),
        (2, "n", 9.0, (True, None)),
        (2, "n", -1e8, (False, None)),
        (2, "peer", 60.0, (True, "peer")),
        (2, None, 60.0, (True, None)),
        (None, "peer", 60.0, (False, "peer")),
    ],
)
def test_what_is_maybe_spent_at_a_commit(
    marked: int | None, lease: str | None, passed: float, after: tuple[bool, str | None]
) -> None:
    """It ends with the second clean rotation, after `quiet`, with the lease still one's own; a peer's is left alone."""
    before = connected(lease=lease)
    if marked is not None:
        earlier = attrs.evolve(before, generation=marked)
        before = attrs.evolve(record_.marked_maybe_spent(earlier, spend(earlier), now=NOW - passed), generation=4)
    committed = commit(before, spend(before))
    assert (committed.maybe_spent, committed.lease) == after
    assert (decode(committed).maybe_spent_generation > 0) == after[0]


def test_a_candidate_that_may_be_spent() -> None:
    """Its answer came to a resend: the family that begins with it may be dead already, until two clean rotations."""
    before = trying()
    before = record_.marked_maybe_spent(before, spend(before, candidate=True), now=NOW)
    record = commit(attrs.evolve(before, lease="n"), spend(before, candidate=True))
    marks = [record.maybe_spent]
    for _ in range(2):
        record = commit(attrs.evolve(record, lease="n"), spend(record), now=NOW + 60)
        marks.append(record.maybe_spent)
    assert marks == [True, True, False]


def test_a_candidate_that_proved_itself() -> None:
    """It takes the family's place, with its own credential and maybe_spent, and is remembered as seen."""
    before = attrs.evolve(trying(), maybe_spent=True, lease="n")
    after = commit(before, spend(before, candidate=True))
    payload = decode(after)
    assert (after.family, after.generation, after.maybe_spent) == ("c2", NOW, False)
    assert payload == Payload(
        credential=BROUGHT,
        token=token(2),
        lifetime=50.0,
        age=1.5,
        seen=("f0", fingerprint(Secret("pasted"))),
        issued_at=900.0,
    )


def test_a_chain_renewed_beside_a_candidate() -> None:
    """The candidate stays to be tried."""
    before = trying()
    assert decode(commit(before, spend(before))).candidate == pasted()


def test_what_was_pasted_is_remembered_to_a_bound() -> None:
    """The youngest, so many."""
    record = connected()
    for number in range(MAX_SEEN + 5):
        record = record_.with_candidate(record, "acme", pasted(family=f"c{number}", refresh_token=f"g{number}"))
        record = commit(record, spend(record, candidate=True))
    seen = decode(record).seen
    assert len(seen) == MAX_SEEN
    assert seen[-1] == fingerprint(Secret(f"g{MAX_SEEN + 4}"))


@pytest.mark.parametrize(("maybe_spent", "cause"), [(False, "expired"), (True, "lost rotation")])
def test_a_refusal(maybe_spent: bool, cause: str) -> None:
    """Marked with its cause; the tokens are kept, the lease is given back, nothing is due any more."""
    before = connected(maybe_spent=maybe_spent, lease="n")
    after = record_.refused(before, spend(before), cause, "why")
    assert decode(after) == attrs.evolve(decode(before), said="why")
    marked = attrs.evolve(before, status="reauthorization_required", cause=cause, due_at=None, lease=None)
    assert after == attrs.evolve(marked, payload=after.payload)


@pytest.mark.parametrize(
    ("before", "status"),
    [
        (trying(), "connected"),
        (trying(connected(status="reauthorization_required")), "reauthorization_required"),
        (record_.with_candidate(None, "acme", pasted()), "disconnected"),
    ],
)
def test_a_refused_candidate(before: Record, status: str) -> None:
    """It is dropped; what worked goes on working, and what never did is gone."""
    after = record_.refused(attrs.evolve(before, lease="n"), spend(before, candidate=True), "refused", "why")
    assert (after.status, after.lease, after.family) == (status, None, before.family)
    said = "why" if status == "disconnected" else decode(before).said  # else the words are about another token
    assert decode(after) == attrs.evolve(decode(before), candidate=None, said=said)
