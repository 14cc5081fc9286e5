"""The refresh token that a rotation uses: whether it is still the one to use, and whether its answer belongs here."""

from __future__ import annotations

import attrs

from tribe_oauth._oauth.values import Secret
from tribe_oauth._refresh.payload import Credential, Payload, decode, readable
from tribe_oauth.stores._contract import Record, unreadable


@attrs.frozen(repr=False)
class Spend:
    """A refresh token about to be used: the family's own, or the candidate's. `stored_family`: the record's."""

    family: str
    generation: int
    credential: Credential
    refresh_token: Secret
    is_candidate: bool
    stored_family: str


def spend_of(record: Record, payload: Payload, *, candidate: bool) -> Spend | None:
    """The refresh token that a rotation would use; None where there is no candidate any more.

    Raises UnreadableError for a family without one: something else than this library has written its record.
    """
    if candidate:
        tried = payload.candidate
        if tried is None:
            return None
        return Spend(tried.family, record.generation, tried.credential, tried.refresh_token, True, record.family)
    credential, token = payload.credential, payload.token
    if credential is None or token is None or token.refresh_token is None:
        raise unreadable(record.organization, "has no refresh token; restore it from a backup")
    return Spend(record.family, record.generation, credential, token.refresh_token, False, record.family)


def matches(record: Record | None, spend: Spend) -> bool:
    """Whether this refresh token is still the one to use."""
    if record is None or record.generation != spend.generation:
        return False
    if spend.is_candidate:
        return _has_candidate(record, spend)
    return record.family == spend.family and record.status != "disconnected"


def _has_candidate(record: Record, spend: Spend) -> bool:
    candidate = (readable(record) or Payload()).candidate
    return candidate is not None and candidate.family == spend.family


def takes_answer(record: Record | None, spend: Spend) -> bool:
    """Whether the answer to this refresh token belongs into the record, whoever has the lease, whatever the status.

    A record that is absent or older is one of a store that lost something: a disconnect leaves a tombstone. A candidate
    that was answered takes the place of the family beside which it was tried, also where a peer went on with that one,
    and where what is stored cannot be read by now.
    """
    if record is None or is_lost(record, spend) or matches(record, spend):
        return True
    if not spend.is_candidate:
        return False
    if record.status != "disconnected" and _has_candidate(record, spend):
        return True
    return record.family == spend.stored_family and (record.family != "" or record.generation == spend.generation)


def is_lost(record: Record | None, spend: Spend) -> bool:
    """Whether the store has less than it had when this was read: it was emptied, or an older copy was put back."""
    return record is None or record.generation < spend.generation


def nonce_for(spend: Spend, random_part: str) -> str:
    """A lease's nonce."""
    return f"{spend.family}:{random_part}"


def may_be_spent(record: Record, spend: Spend) -> bool:
    """Whether this refresh token may have been spent already."""
    if spend.is_candidate:
        candidate = decode(record).candidate
        return candidate is not None and candidate.maybe_spent
    return record.maybe_spent


def may_still_arrive(record: Record, spend: Spend) -> bool:
    """Whether a request with this refresh token may still arrive, of a rotation that is over.

    How long ago that was is not known here: the wall clocks of two hosts differ.
    """
    return may_be_spent(record, spend) and (spend.is_candidate or record.not_before > 0)
