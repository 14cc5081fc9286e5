"""Secrets, tokens, errors: what shows, and what does not (S24)."""

from __future__ import annotations

import copy
import json
import pickle

import attrs
import pytest

from tribe_oauth import Client, RefreshTokenGrant, Secret, Token
from tribe_oauth._oauth.values import format_scope, parse_scope
from tribe_oauth._refresh.payload import Candidate, Credential, Payload
from tribe_oauth._refresh.spend import Spend

CANARY = "canary-7f3a"


def test_a_secret_does_not_show() -> None:
    """S24: masked in every form that ends in a log."""
    secret = Secret(CANARY)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret:>20}", "{}".format(secret), str([secret])):  # noqa: UP032
        assert CANARY not in text
        assert "***" in text
    assert secret.reveal() == CANARY
    assert not hasattr(secret, "__dict__")


def test_a_secret_is_not_written() -> None:
    """S24: neither pickle nor JSON takes it."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(Secret(CANARY), protocol)
    with pytest.raises(TypeError):
        json.dumps({"token": Secret(CANARY)})


def test_a_secret_equals_secrets_only() -> None:
    """Not the text it holds, also where that cannot be encoded; usable in sets, and copied as itself."""
    secret = Secret(CANARY)
    assert secret == Secret(CANARY)
    assert secret != Secret("other")
    assert secret != CANARY
    assert Secret("\udc80") == Secret("\udc80")
    assert {secret, Secret(CANARY)} == {secret}
    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret
    assert not Secret("")


def test_a_secret_is_text() -> None:
    """Bytes or None are a mistake that is named at once."""
    for value in (b"x", None, 7):
        with pytest.raises(TypeError, match="holds a str"):
            Secret(value)  # type: ignore[arg-type]


def test_values_that_hold_secrets() -> None:
    """S24: nothing that has a secret in it shows it."""
    client = Client("id", CANARY, redirect_uri="https://app.example/cb")
    credential = Credential(
        kind="refresh_token", client_id="id", client_secret=Secret(CANARY), token_endpoint="https://t"
    )
    token = Token(access_token=Secret(CANARY), refresh_token=Secret(CANARY), expires_at=1.0)
    request = client.authorization_request()
    grant = request.grant(f"/cb?code={CANARY}&state={request.state}")
    candidate = Candidate(family="c", credential=credential, refresh_token=Secret(CANARY), fingerprint="f")
    values = [
        client, credential, token, grant, candidate, RefreshTokenGrant(client, CANARY),
        Payload(credential=credential, token=token, candidate=candidate),
        Spend("c", 1, credential, token.access_token, False, "c"),
    ]  # fmt: skip
    for value in values:
        assert CANARY not in repr(value)
        assert CANARY not in str(value)
    assert request.state not in repr(request)
    assert request.verifier is not None
    assert request.verifier.reveal() not in repr(request)


def test_values_are_frozen() -> None:
    """A token is what the server gave, for ever."""
    token = Token(access_token=Secret("a"), expires_at=1.0)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        token.expires_at = 2.0  # type: ignore[misc]


def test_scopes() -> None:
    """RFC 6749 §3.3: space-delimited, in any order, with any number of spaces."""
    assert parse_scope(" read  write read ") == frozenset({"read", "write"})
    assert parse_scope("") == frozenset()
    assert format_scope(frozenset({"write", "read"})) == "read write"
