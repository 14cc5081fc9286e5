"""Token requests and answers as bytes (S7, S14 to S19, S25)."""

from __future__ import annotations

import json
import random
import traceback
from typing import Any
from urllib.parse import parse_qs

import pytest

from tribe_oauth import Secret
from tribe_oauth._protocol import (
    DEFAULT_EXPIRES_IN,
    MAX_ANSWER_BYTES,
    MAX_EXPIRES_IN,
    Granted,
    Refused,
    Unreadable,
    client_credentials_request,
    code_request,
    printable,
    read_answer,
    refresh_request,
    revocation_request,
)

ID, SECRET = "client", Secret("s3cret &=+%ü")
GOOD: dict[str, Any] = {"access_token": "at", "token_type": "bearer", "expires_in": 86400, "refresh_token": "rt"}


def form(body: bytes) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(body.decode("ascii"), strict_parsing=True).items()}


def read(answer: object, status: int = 200, content_type: str = "application/json") -> Granted | Refused | Unreadable:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_answer(status, content_type, body)


def granted(**changes: object) -> Granted:
    answer = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    reading = read(answer)
    assert isinstance(reading, Granted)
    return reading


# Requests: client id and secret in the body, always (Tribe's page)


def test_the_exchange_of_a_code() -> None:
    """S5, S3: with the identical redirect_uri and the verifier, where there are such."""
    body = code_request(ID, SECRET, code=Secret("c"), redirect_uri="https://app.example/cb", verifier=Secret("v"))
    assert form(body) == {
        "grant_type": "authorization_code",
        "client_id": ID,
        "client_secret": SECRET.reveal(),
        "code": "c",
        "redirect_uri": "https://app.example/cb",
        "code_verifier": "v",
    }
    plain = form(code_request(ID, SECRET, code=Secret("c"), redirect_uri=None, verifier=None))
    assert set(plain) == {"grant_type", "client_id", "client_secret", "code"}


def test_a_refresh_after_a_code() -> None:
    """Tribe's page: the redirect URI of the authorization is sent."""
    body = refresh_request(ID, SECRET, refresh_token=Secret("r"), redirect_uri="https://app.example/cb")
    assert form(body)["redirect_uri"] == "https://app.example/cb"


def test_a_refresh_after_quick_setup() -> None:
    """Tribe's page: no redirect URI."""
    assert form(refresh_request(ID, SECRET, refresh_token=Secret("r"), redirect_uri=None)) == {
        "grant_type": "refresh_token",
        "client_id": ID,
        "client_secret": SECRET.reveal(),
        "refresh_token": "r",
    }


def test_client_credentials_and_revocation() -> None:
    """The scope can be set; a revocation says what it revokes."""
    assert form(client_credentials_request(ID, SECRET, scope="read write"))["scope"] == "read write"
    assert form(revocation_request(ID, SECRET, token=Secret("r")))["token"] == "r"


# Answers


def test_tribes_answer() -> None:
    """As the page shows it."""
    assert granted() == Granted(access_token=Secret("at"), refresh_token=Secret("rt"), expires_in=86400, scope=None)


@pytest.mark.parametrize("token_type", ["bearer", "Bearer", "BEARER"])
def test_the_token_type_has_no_case(token_type: str) -> None:
    """S17: RFC 6749 §5.1."""
    assert granted(token_type=token_type).complaints == ()


@pytest.mark.parametrize("token_type", ["mac", "", None, 7, ...])
def test_another_token_type(token_type: object) -> None:
    """S17: such an access token is not used; the refresh token beside it is kept."""
    reading = granted(token_type=token_type)
    assert reading.access_token is None
    assert reading.refresh_token == Secret("rt")
    assert "token type" in reading.complaints[0]
    assert isinstance(
        read({"access_token": "at", "token_type": token_type if token_type is not ... else None}), Unreadable
    )


@pytest.mark.parametrize("absent", [{"refresh_token": ...}, {"refresh_token": None}])
def test_no_new_refresh_token(absent: dict[str, Any]) -> None:
    """S19: None here; the old one is kept."""
    assert granted(**absent).refresh_token is None


@pytest.mark.parametrize("value", ["", " ", "a b", "ä", "a\n", "x" * 8193, 7, True, ["rt"], {}])
def test_refresh_tokens_that_cannot_be(value: object) -> None:
    """S17: visible ASCII, 8 KiB at most; else it is not known what was issued."""
    reading = read(GOOD | {"refresh_token": value})
    assert isinstance(reading, Unreadable)
    assert "unreadable refresh token" in reading.reason


@pytest.mark.parametrize("value", ["", "a b", "a=b", "ä", "a\r\nX: y", "x" * 8193, 7, None, ...])
def test_access_tokens_that_cannot_be(value: object) -> None:
    """S17: RFC 6750's characters; nothing that could break a header."""
    reading = granted(access_token=value)
    assert reading.access_token is None
    assert reading.complaints == ("no readable access token",)
    assert reading.refresh_token == Secret("rt")


@pytest.mark.parametrize("value", ["x" * 8192, "A-z0._~+/=="])
def test_tokens_that_can_be(value: str) -> None:
    """S17: up to 8 KiB, all characters of b64token."""
    assert granted(access_token=value).access_token == Secret(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (86400, 86400),
        ("3600", 3600),
        (1, 1),
        (10**12, MAX_EXPIRES_IN),
        (10**400, MAX_EXPIRES_IN),
        (..., DEFAULT_EXPIRES_IN),
    ],
)
def test_expires_in(value: object, seconds: int) -> None:
    """S16: an integer or digits; 30 days at most; absent: a cautious default."""
    reading = granted(expires_in=value)
    assert reading.expires_in == seconds
    assert type(reading.expires_in) is int
    assert reading.complaints == ()


@pytest.mark.parametrize("value", [0, -1, True, False, 3600.9, "", "-5", "0", "1e3", "٣", [], "9" * 5000])
def test_expires_in_that_cannot_be(value: object) -> None:
    """S16: complained of; the token is used for the cautious default."""
    reading = granted(expires_in=value)
    assert reading.expires_in == DEFAULT_EXPIRES_IN
    assert reading.complaints == ("an absurd expires_in",)


def test_scope() -> None:
    """The granted scope where the answer has one."""
    assert granted(scope="read offline").scope == frozenset({"read", "offline"})
    assert granted(scope=7).complaints == ("a scope that is not text",)


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", " Application/JSON "])
def test_content_types(content_type: str) -> None:
    """S14: JSON, with parameters and in any case."""
    assert isinstance(read(GOOD, content_type=content_type), Granted)


@pytest.mark.parametrize("content_type", ["text/html", "", "text/json", "application/x-www-form-urlencoded"])
def test_content_types_that_are_not_json(content_type: str) -> None:
    """S14: what does not say that it is JSON is not read."""
    assert isinstance(read(GOOD, content_type=content_type), Unreadable)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"<html>",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"access_token": NaN}',
        b'{"a": Infinity}',
        b'{"access_token": "a", "access_token": "b"}',
        b'{"a": {"b": 1, "b": 2}}',
        b"[" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"a": "' + b"x" * MAX_ANSWER_BYTES + b'"}',
        b'{"expires_in": ' + b"9" * 5000 + b"}",
    ],
    ids=range(15),
)
def test_bodies_that_cannot_be_read(body: bytes) -> None:
    """S14, S15: cut, deep, doubled, huge or strange: one clear reason, never a RecursionError."""
    reading = read(body)
    assert isinstance(reading, Unreadable)
    assert reading.status == 200
    assert len(reading.reason) < 100


def test_error_answers() -> None:
    """RFC 6749 §5.2, with Hydra's additions ignored."""
    body = {"error": "invalid_grant", "error_description": "gone", "error_hint": "x", "status_code": 400}
    assert read(body, status=400) == Refused(status=400, error="invalid_grant", description="gone")
    assert read({"error": "x", "error_description": 7}, status=401) == Refused(status=401, error="x", description="")


@pytest.mark.parametrize(
    ("body", "status"),
    [({"error": ""}, 400), ({"error": 7}, 400), ({}, 400), ({"error": "x"}, 302), ({"error": "x"}, 201), (GOOD, 201)],
)
def test_error_answers_that_are_none(body: object, status: int) -> None:
    """Only a parsed OAuth error says anything about an organization."""
    assert isinstance(read(body, status=status), Unreadable)


def test_words_from_outside() -> None:
    """S18: cut, and fit for a log line: no control character, no line of its own, no direction override."""
    assert printable("a\nb\x1b[31m\u202e\x00") == r"a\nb\x1b[31m\u202e\x00"
    assert printable("x" * 300) == "x" * 200 + "…"
    reading = read({"error": "e\n" * 300, "error_description": "d\r\n" * 300}, status=400)
    assert isinstance(reading, Refused)
    assert reading.error.isprintable()
    assert reading.description.isprintable()


def test_answers_never_surprise() -> None:
    """S15: whatever the bytes are, one of three values comes of them."""
    chance = random.Random(5)
    good = json.dumps(GOOD).encode()
    for _ in range(20_000):
        body = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            body[chance.randrange(len(body))] = chance.choice(b'{}[]",:\\\0\xff019eE-nult x')
        status = chance.choice([200, 200, 400, 401, 503])
        reading = read_answer(status, "application/json", bytes(body))
        if isinstance(reading, Granted):
            assert reading.access_token or reading.refresh_token


def test_no_secret_in_what_goes_wrong() -> None:
    """S25: neither the reason nor any chained error has the body in it."""
    reading = read(b'{"access_token": "canary", ')
    assert isinstance(reading, Unreadable)
    assert "canary" not in reading.reason
    assert "canary" not in traceback.format_exc()
