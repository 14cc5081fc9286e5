"""What a write means: spending, leases, maybe_spent, commits and refusals, row by row."""

from __future__ import annotations

import attrs
import pytest

from tribe_oauth import Secret
from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh.payload import Payload, decode, encode
from tribe_oauth._refresh.record import MAX_SEEN, Spend
from tribe_oauth.stores import Record

from .records import BROUGHT, OWN, commit, connected, pasted, spend, token, trying

# What is spent


def test_what_a_flight_spends() -> None:
    """The family's own refresh token, or the candidate's; none where the candidate has gone."""
    both = trying()
    assert spend(both) == Spend("c1", 4, OWN, Secret("rt1"), False)
    assert spend(both, candidate=True) == Spend("c2", 4, BROUGHT, Secret("pasted"), True)
    assert record_.spend_of(connected(), decode(connected()), candidate=True) is None


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
    assert record_.matches(record, spend(connected())) is fits


def test_whether_a_candidates_result_belongs() -> None:
    """The candidate is the one that was sent, and no other answer came between."""
    spent = spend(trying(), candidate=True)
    assert record_.matches(trying(), spent)
    assert not record_.matches(connected(), spent)
    assert not record_.matches(trying(connected(generation=5)), spent)
    assert not record_.matches(record_.with_candidate(connected(), "acme", pasted(family="c3")), spent)


# Lease and doubt


def test_taking_a_lease() -> None:
    """A free one is taken without more; one that ran out leaves doubt on the refresh token it was taken for."""
    nonce = record_.nonce_for(spend(connected()), "r")
    free = record_.leased(connected(), nonce)
    assert (free.lease, free.maybe_spent) == ("c1:r", False)
    taken_over = record_.leased(free, "c1:s")
    assert (taken_over.lease, taken_over.maybe_spent) == ("c1:s", True)
    candidates = record_.leased(attrs.evolve(trying(), lease="c2:r"), "c2:s")
    assert (candidates.lease, candidates.maybe_spent) == ("c2:s", False)
    assert record_.may_be_spent(candidates, spend(candidates, candidate=True))
    assert not record_.may_be_spent(candidates, spend(candidates))


def test_doubt() -> None:
    """It falls on what was sent, family or candidate, and on the family where the candidate has gone."""
    both = trying()
    own, tried = spend(both), spend(both, candidate=True)
    after_own, after_tried = record_.marked_maybe_spent(both, own), record_.marked_maybe_spent(both, tried)
    assert record_.may_be_spent(after_own, own)
    assert not record_.may_be_spent(after_own, tried)
    assert record_.may_be_spent(after_tried, tried)
    assert not record_.may_be_spent(after_tried, own)
    assert not record_.may_be_spent(connected(), tried)
    assert record_.marked_maybe_spent(connected(), tried).maybe_spent


def test_giving_a_lease_back() -> None:
    """A failure is counted and its time set; without one, an earlier time is not forgotten."""
    cached = connected(lease="c1:r", failures=2, not_before=50.0)
    failed = record_.postponed(cached, not_before=70.0)
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
        payload=encode(Payload(credential=OWN, token=token(2), lifetime=50.0, age=1.5, seen=("f0",))),
    )


@pytest.mark.parametrize(
    ("maybe_spent", "lease", "began_maybe_spent", "after"),
    [
        (True, "n", False, (False, None)),
        (True, "n", True, (True, None)),
        (True, "peer", False, (True, "peer")),
        (True, None, False, (True, None)),
        (False, "n", False, (False, None)),
        (False, "peer", True, (False, "peer")),
    ],
)
@pytest.mark.parametrize("candidate", [False, True])
def test_doubt_and_lease_at_a_commit(
    maybe_spent: bool, lease: str | None, began_maybe_spent: bool, after: tuple[bool, str | None], candidate: bool
) -> None:
    """Doubt ends only where there was none at begin and the lease is still one's own; a peer's lease is left alone."""
    before = trying()
    if maybe_spent:
        before = record_.marked_maybe_spent(before, spend(before, candidate=candidate))
    before = attrs.evolve(before, lease=lease)
    committed = commit(before, spend(before, candidate=candidate), may_be_spent=began_maybe_spent)
    assert (committed.maybe_spent, committed.lease) == after


def test_a_candidate_that_proved_itself() -> None:
    """It takes the family's place, with its own credential and maybe_spent, and is remembered as seen."""
    before = attrs.evolve(trying(), maybe_spent=True, lease="n")
    after = commit(before, spend(before, candidate=True))
    payload = decode(after)
    assert (after.family, after.generation, after.maybe_spent) == ("c2", 5, False)
    assert payload == Payload(credential=BROUGHT, token=token(2), lifetime=50.0, age=1.5, seen=("f0", "f2"))


def test_a_chain_renewed_beside_a_candidate() -> None:
    """The candidate stays to be tried."""
    before = trying()
    assert decode(commit(before, spend(before))).candidate == pasted()


def test_what_was_pasted_is_remembered_to_a_bound() -> None:
    """The youngest, so many."""
    record = connected()
    for number in range(MAX_SEEN + 5):
        record = record_.with_candidate(record, "acme", pasted(family=f"c{number}", fingerprint=f"g{number}"))
        record = commit(record, spend(record, candidate=True))
    seen = decode(record).seen
    assert len(seen) == MAX_SEEN
    assert seen[-1] == f"g{MAX_SEEN + 4}"


@pytest.mark.parametrize(("maybe_spent", "cause"), [(False, "revoked or expired"), (True, "lost rotation")])
def test_a_refusal(maybe_spent: bool, cause: str) -> None:
    """Marked with its cause; the tokens are kept, the lease is given back, nothing is due any more."""
    before = connected(maybe_spent=maybe_spent, lease="n")
    after = record_.refused(before, spend(before))
    assert after == attrs.evolve(before, status="reauthorization_required", cause=cause, due_at=None, lease=None)


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
    after = record_.refused(attrs.evolve(before, lease="n"), spend(before, candidate=True))
    assert (after.status, after.lease, after.family) == (status, None, before.family)
    assert decode(after) == attrs.evolve(decode(before), candidate=None)
