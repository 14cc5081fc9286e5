"""Records in the states that the tests begin with."""

from __future__ import annotations

from typing import Any

import attrs

from tribe_oauth import Secret, Token
from tribe_oauth._refresh import record as record_
from tribe_oauth._refresh.payload import Candidate, Credential, Payload, decode, encode, fingerprint
from tribe_oauth._refresh.spend import Spend, spend_of
from tribe_oauth.stores import Record

OWN = Credential(kind="refresh_token", client_id="id", token_endpoint="https://auth/token", redirect_uri="https://cb")
BROUGHT = attrs.evolve(OWN, client_secret=Secret("s3cret"), redirect_uri=None)


def token(number: int = 1) -> Token:
    return Token(
        access_token=Secret(f"at{number}"),
        refresh_token=Secret(f"rt{number}"),
        expires_at=1000.0,
        scope=frozenset({"write", "read"}),
    )


def connected(**changes: Any) -> Record:
    """A family that works."""
    payload = Payload(credential=OWN, token=token(), lifetime=100.0, seen=("f0",))
    record = Record(organization="acme", version=3, family="c1", generation=4, status="connected", due_at=900.0)
    return attrs.evolve(record, **({"payload": encode(payload)} | changes))


def pasted(family: str = "c2", refresh_token: str = "pasted") -> Candidate:
    secret = Secret(refresh_token)
    return Candidate(family=family, credential=BROUGHT, refresh_token=secret, fingerprint=fingerprint(secret))


def trying(record: Record | None = None) -> Record:
    """A family that works, and a pasted refresh token that is being tried beside it."""
    return record_.with_candidate(record or connected(), "acme", pasted())


def spend(record: Record, *, candidate: bool = False) -> Spend:
    spent = spend_of(record, decode(record), candidate=candidate)
    assert spent is not None
    return spent


NOW, QUIET = 5000.0, 10.0


def commit(record: Record, spent: Spend, *, nonce: str = "n", now: float = NOW) -> Record:
    new = Payload(credential=spent.credential, token=token(2), lifetime=50.0, age=1.5, issued_at=900.0)
    return record_.committed(record, decode(record), spent, new, due_at=1900.0, nonce=nonce, now=now, quiet=QUIET)
