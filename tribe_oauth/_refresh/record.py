"""What a write means: every change that a record can undergo, as a pure function from record to record.

A record's `payload` holds the tokens of its family and, while a pasted refresh token is being tried, a *candidate*
beside them: it takes the family's place only when the server has accepted it. `spend` says which of the two refresh
tokens a rotation uses; a change applies only while the record still matches it.
"""

from __future__ import annotations

import attrs

from tribe_oauth._oauth.values import Token
from tribe_oauth._oauth.verdict import LONGEST_WAIT
from tribe_oauth._refresh.payload import Candidate, Credential, Payload, decode, encode, fingerprint, readable
from tribe_oauth._refresh.spend import Spend
from tribe_oauth.stores._contract import MOST, Record, Unreadable

MAX_SEEN = 64
"""Hashes of pasted refresh tokens that are remembered for an organization."""


def first_generation(record: Record | None, now: float) -> int:
    """A new family's first: Unix time, so that a store that was emptied cannot make it look older than what it follows.

    Where the generations that were used are ahead of that, the next of them.
    """
    return max(_last_generation(record) + 1, int(now))


def _last_generation(record: Record | None) -> int:
    """The generations that were used; 0 where there is none that a store of ours can have written."""
    return record.generation if record is not None and 0 <= record.generation < MOST - 1 else 0


def in_place_of(lost: Record | None, known: Record) -> Record:
    """What is known of a record, to be written over what the store came back with.

    Its token counts as run out for whoever sees it appear, and would take it for a new one.
    """
    payload = decode(known)
    aged = encode(attrs.evolve(payload, age=payload.lifetime))
    return attrs.evolve(known, version=0 if lost is None else lost.version, payload=aged)


def believable(record: Record, now: float) -> Record:
    """The record without a time to wait for that lies further ahead than any host can have meant: its clock was off.

    The next write mends it.
    """
    if record.not_before <= now + LONGEST_WAIT:
        return record
    return attrs.evolve(record, not_before=now if record.maybe_spent else 0.0)


# The lease


def leased(record: Record, nonce: str, *, now: float) -> Record:
    """Take the lease. One that ran out marks its refresh token as maybe spent: its holder may have sent and died.

    The nonce begins with the family that it was taken for, so that the mark falls on the right refresh token.
    """
    if record.lease is not None:
        record = _marked(record, record.lease.partition(":")[0], now)
    return attrs.evolve(record, lease=nonce)


def marked_maybe_spent(record: Record, spend: Spend, *, now: float) -> Record:
    """The request may have arrived and its answer was not read."""
    return _marked(record, spend.family, now)


def _marked(record: Record, family: str, now: float) -> Record:
    payload = decode(record)
    candidate = payload.candidate
    if candidate is not None and candidate.family == family:
        payload = attrs.evolve(payload, candidate=attrs.evolve(candidate, maybe_spent=True))
        return attrs.evolve(record, payload=encode(payload))
    payload = attrs.evolve(payload, maybe_spent_at=now, maybe_spent_generation=record.generation)
    return attrs.evolve(record, maybe_spent=True, payload=encode(payload))


def postponed(record: Record, *, not_before: float, said: str) -> Record:
    """Give the lease back after a failure; nobody sends before `not_before`. `said`: why, for all processes."""
    payload = encode(attrs.evolve(decode(record), said=said))
    return attrs.evolve(record, lease=None, not_before=not_before, failures=record.failures + 1, payload=payload)


def released(record: Record, *, not_before: float = 0.0) -> Record:
    """Give the lease back without counting a failure."""
    return attrs.evolve(record, lease=None, not_before=max(record.not_before, not_before))


# What an answer changes


def committed(
    record: Record, payload: Payload, spend: Spend, new: Payload, *, due_at: float, nonce: str, now: float, quiet: float
) -> Record:
    """The next generation. The lease of a peer is left alone. `payload` is the record's, `new` what the answer gave."""
    own_lease = record.lease == nonce
    seen, candidate, generation = payload.seen, payload.candidate, record.generation + 1
    if spend.is_candidate:
        generation = first_generation(record, now)
        seen = (*seen, fingerprint(spend.refresh_token))[-MAX_SEEN:]
        maybe_spent = True  # what is not in the record any more, others may have sent
        if candidate is not None and candidate.family == spend.family:
            maybe_spent, candidate = candidate.maybe_spent, None
        payload = attrs.evolve(payload, maybe_spent_generation=generation - 1, maybe_spent_at=now)
    else:
        maybe_spent = record.maybe_spent and not (own_lease and _doubt_is_over(record, payload, now, quiet))
    kept = attrs.evolve(
        new,
        candidate=candidate,
        seen=seen,
        maybe_spent_at=payload.maybe_spent_at if maybe_spent else 0.0,
        maybe_spent_generation=payload.maybe_spent_generation if maybe_spent else 0,
    )
    lease = None if own_lease else record.lease
    return _connected(record, spend.family, generation, kept, due_at, maybe_spent=maybe_spent, lease=lease)


def _doubt_is_over(record: Record, payload: Payload, now: float, quiet: float) -> bool:
    """Whether this is the second clean rotation since a request whose answer was not read, and not too soon after it.

    One is not enough: a server that revokes on reuse can answer a resend with a token that is dead already.
    """
    return record.generation >= payload.maybe_spent_generation + 2 and not 0 <= now - payload.maybe_spent_at < quiet


def refused(record: Record, spend: Spend, cause: str, said: str) -> Record:
    """The server will never take this refresh token again. The record is kept; a candidate is dropped.

    `said`: the server's words.
    """
    payload = decode(record)
    if not spend.is_candidate:
        record = attrs.evolve(record, payload=encode(attrs.evolve(payload, said=said)))
        return attrs.evolve(record, status="reauthorization_required", cause=cause, due_at=None, lease=None)
    if (unread := payload.unread) is not None:  # it stands again as it stood
        stood = Unreadable(unread.payload, "stands as it stood; read it again")
        return attrs.evolve(unread, version=record.version, payload=stood, lease=None)
    was_alone = record.status == "connecting"
    payload = attrs.evolve(payload, candidate=None, said=said if was_alone else payload.said)  # else it is the family's
    status = "disconnected" if was_alone else record.status
    return attrs.evolve(record, status=status, payload=encode(payload), lease=None)


# Connecting and disconnecting


def with_candidate(record: Record | None, organization: str, candidate: Candidate) -> Record:
    """Save a pasted refresh token before it is spent. A family that works goes on working.

    One that cannot be read has to make room, since there is nothing beside which the candidate could be written. It is
    kept for the case that the candidate is refused: this process may only lack a key.
    """
    before = readable(record)
    if record is None or record.status == "disconnected" or before is None:
        payload = Payload(candidate=candidate, unread=_unread(record))
        base = record or Record(organization=organization, status="connecting")
        return attrs.evolve(
            base,
            generation=_last_generation(record),
            status="connecting",
            cause=None,
            due_at=None,
            payload=encode(payload),
            failures=0,
            not_before=0.0,
        )
    return attrs.evolve(record, payload=encode(attrs.evolve(before, candidate=candidate)))


def _unread(record: Record | None) -> Record | None:
    """What may still be read elsewhere: not what no store of ours wrote, which could not be written again."""
    from tribe_oauth.stores._columns import is_sound  # few processes meet such a record, and importing takes time

    if record is None or record.status == "disconnected" or not isinstance(record.payload, Unreadable):
        return None
    kept = attrs.evolve(record, payload=bytes(record.payload))
    return kept if is_sound(kept) else None


def with_secret_of(record: Record, credential: Credential) -> Record | None:
    """The same family with the client's new secret, where the client is the same and its secret another; else None."""
    payload = decode(record)
    cached = payload.credential
    if cached is None or cached == (changed := attrs.evolve(cached, client_secret=credential.client_secret)):
        return None
    if cached.client_id != credential.client_id:
        return None
    return attrs.evolve(record, payload=encode(attrs.evolve(payload, credential=changed)))


def replaced(
    record: Record | None,
    organization: str,
    *,
    family: str,
    credential: Credential,
    token: Token | None,
    lifetime: float,
    due_at: float | None,
    now: float,
) -> Record:
    """A new family that has already proved itself, in one write. What was there before is gone."""
    base = record or Record(organization=organization, status="connected")
    kept = readable(record) or Payload()  # one that cannot be read is not in the way of what replaces it
    payload = Payload(credential=credential, token=token, lifetime=lifetime, seen=kept.seen)
    generation = first_generation(record, now)
    return _connected(base, family, generation, payload, due_at, maybe_spent=False, lease=None)


def _connected(
    record: Record,
    family: str,
    generation: int,
    payload: Payload,
    due_at: float | None,
    *,
    maybe_spent: bool,
    lease: str | None,
) -> Record:
    return Record(
        organization=record.organization,
        version=record.version,
        family=family,
        generation=generation,
        status="connected",
        due_at=due_at,
        payload=encode(payload),
        maybe_spent=maybe_spent,
        lease=lease,
    )


def tombstone(record: Record) -> Record:
    """Not to be used any more; its secrets are still there, to be revoked."""
    return attrs.evolve(
        record,
        status="disconnected",
        cause=None,
        family="",
        generation=record.generation + 1,
        due_at=None,
        lease=None,
    )


def erased(record: Record) -> Record:
    """A tombstone without secrets. Only versions and generations remain, so that none is ever used again."""
    return attrs.evolve(record, payload=b"")
