"""Token answers as bytes: granted, refused, or unreadable (S14 to S19, S25)."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tribe_oauth import Secret
from tribe_oauth._oauth.messages import (
    DEFAULT_EXPIRES_IN,
    MAX_ANSWER_BYTES,
    MAX_EXPIRES_IN,
    Granted,
    Refused,
    Unreadable,
    read_answer,
    refresh_request,
)
from tribe_oauth._printable import printable

GOOD: dict[str, Any] = {"access_token": "at", "token_type": "bearer", "expires_in": 86400, "refresh_token": "rt"}


def read(answer: object, status: int = 200, content_type: str = "application/json") -> Granted | Refused | Unreadable:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return read_answer(status, content_type, body)


def granted(**changes: object) -> Granted:
    answer = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    reading = read(answer)
    assert isinstance(reading, Granted)
    return reading


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


@pytest.mark.parametrize("absent", [{"refresh_token": ...}, {"refresh_token": None}, {"refresh_token": ""}])
def test_no_new_refresh_token(absent: dict[str, Any]) -> None:
    """S19: None here; the old one is kept."""
    assert granted(**absent).refresh_token is None


@pytest.mark.parametrize("value", [" ", "a b", "ä", "a\n", "x" * 8193, 7, True, ["rt"], {"a": "rt"}])
def test_refresh_tokens_that_cannot_be(value: object) -> None:
    """S17: visible ASCII, 8 KiB at most; else it is not known what was issued."""
    reading = read(GOOD | {"refresh_token": value})
    assert isinstance(reading, Unreadable)
    assert "unreadable refresh token" in reading.reason
    assert reading.status == 200


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
        (10**12, 30 * 86_400),
        (10**400, 30 * 86_400),
        (..., 300),
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


@pytest.mark.parametrize(("digits", "seconds"), [("9" * 5000, MAX_EXPIRES_IN), ("-" + "9" * 5000, DEFAULT_EXPIRES_IN)])
def test_more_digits_than_python_reads(digits: str, seconds: int) -> None:
    """S16: an absurd lifetime does not cost the tokens that stand beside it."""
    reading = read(json.dumps(GOOD).replace("86400", digits).encode())
    assert isinstance(reading, Granted)
    assert reading.refresh_token == Secret("rt")
    assert reading.expires_in == seconds


def test_scope() -> None:
    """The granted scope where the answer has one."""
    assert granted(scope="read offline").scope == frozenset({"read", "offline"})
    assert granted(scope="").scope == frozenset()


@pytest.mark.parametrize("scope", [7, [], "read\x1b[31m", "read\noffline", "lire:é", "\ud800"])
def test_scopes_that_cannot_be(scope: object) -> None:
    """RFC 6749 §3.3: complained of, and not known; it would stand in errors and logs."""
    reading = granted(scope=scope)
    assert reading.scope is None
    assert reading.complaints == ("a scope that cannot be one",)
    assert reading.refresh_token == Secret("rt")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", " Application/JSON "])
def test_content_types(content_type: str) -> None:
    """S14: JSON, with parameters and in any case."""
    assert isinstance(read(GOOD, content_type=content_type), Granted)


@pytest.mark.parametrize("content_type", ["text/html", "", "text/json", "application/x-www-form-urlencoded"])
def test_content_types_that_are_not_json(content_type: str) -> None:
    """S14: what does not say that it is JSON is not read, except for a new refresh token and what is beside it."""
    assert isinstance(read(GOOD | {"refresh_token": None}, content_type=content_type), Unreadable)
    reading = read(GOOD, content_type=content_type)
    assert isinstance(reading, Granted)
    assert reading.refresh_token == Secret("rt")
    assert reading.complaints == ("HTTP 200 that is not JSON",)


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
        b"\xef\xbb\xbf{}",
        json.dumps(GOOD).encode("utf-16"),
    ],
    ids=range(17),
)
def test_bodies_that_cannot_be_read(body: bytes) -> None:
    """S14, S15: cut, deep, doubled, huge or strange: one clear reason, never a RecursionError."""
    reading = read(body)
    assert isinstance(reading, Unreadable)
    assert reading.status == 200
    assert len(reading.reason) < 100


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ('"access_token": "other"', "a name twice"),
        ('"x": {"y": 1, "y": 1}', "a name twice"),
        ('"x": NaN', "NaN"),
        ('"x": [-Infinity]', "-Infinity"),
    ],
    ids=range(4),
)
def test_what_spoils_a_good_answer(beside: str, said: str) -> None:
    """S15: what is in doubt is not used, and the reason is told; a refresh token that is beyond doubt is kept."""
    without = json.dumps({name: value for name, value in GOOD.items() if name != "refresh_token"})
    reading = read(f"{without[:-1]}, {beside}}}".encode())
    assert isinstance(reading, Unreadable)
    assert said in reading.reason
    kept = read(f"{json.dumps(GOOD)[:-1]}, {beside}}}".encode())
    assert isinstance(kept, Granted)
    assert kept.refresh_token == Secret("rt")
    assert kept.access_token == (None if "access_token" in beside else Secret("at"))
    assert said in kept.complaints[-1]


@pytest.mark.parametrize(("opening", "closing"), [("[" * 30_000, "]" * 30_000), ('{"y":' * 10_000 + "1", "}" * 10_000)])
def test_depth_beside_a_good_answer(opening: str, closing: str) -> None:
    """S15: as deep as 64 KiB allow: too deep for this Python, or read past without harm."""
    reading = read(f'{json.dumps(GOOD)[:-1]}, "x": {opening}{closing}}}'.encode())
    assert isinstance(reading, Granted)
    assert reading.refresh_token == Secret("rt")
    assert reading.complaints in ((), ("HTTP 200, JSON that cannot be read",))


def test_error_answers() -> None:
    """RFC 6749 §5.2, with Hydra's hint behind the description."""
    body = {"error": "invalid_grant", "error_description": "gone", "error_hint": "x", "status_code": 400}
    assert read(body, status=400) == Refused(status=400, error="invalid_grant", description="gone x")
    assert read({"error": "x", "error_description": 7}, status=401) == Refused(status=401, error="x", description="")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": ""}, 400),
        ({"error": 7}, 400),
        ({}, 400),
        ({"error": "x"}, 302),
        ({"error": "x"}, 201),
        (GOOD | {"refresh_token": None}, 201),
    ],
)
def test_error_answers_that_are_none(body: object, status: int) -> None:
    """Only a parsed OAuth error says anything about an organization."""
    assert isinstance(read(body, status=status), Unreadable)


def test_words_from_outside() -> None:
    """S18: cut, and fit for a log line: no control character, no line of its own, no direction override."""
    assert printable("a\nb\x1b[31m\u202e\x00") == r"a\nb\x1b[31m\u202e\x00"
    assert printable("x" * 200) == "x" * 200
    assert printable("x" * 201) == "x" * 200 + "…"
    reading = read({"error": "e\n" * 300, "error_description": "d\r\n" * 300}, status=400)
    assert isinstance(reading, Refused)
    assert reading.error.isprintable()
    assert reading.description.isprintable()


def test_an_echo_is_masked() -> None:
    """S18, S24: a server that repeats what it refuses does not make it public."""
    sent = refresh_request(
        "the-client", Secret("sec ret&canary"), refresh_token=Secret("refresh-canary"), redirect_uri=None
    )
    body = {
        "error": "invalid_grant refresh-canary",
        "error_description": "word " * 39 + "refresh-canary of the-client, sec ret&canary, was used",
    }
    reading = read_answer(400, "application/json", json.dumps(body).encode(), sent=sent)
    assert isinstance(reading, Refused)
    assert reading.error == "invalid_grant ***"
    assert reading.description.startswith("word " * 39 + "***")
    body["error_description"] = "refresh-canary of the-client, sec ret&canary, was used"
    reading = read_answer(400, "application/json", json.dumps(body).encode(), sent=sent)
    assert isinstance(reading, Refused)
    assert reading.description == "*** of the-client, ***, was used"


@pytest.mark.parametrize(("secret", "said"), [("12345678", "no ***"), ("1234567", "no 1234567")])
def test_what_is_too_short_to_be_a_secret(secret: str, said: str) -> None:
    """S18: eight characters are masked; fewer are in many a word, and masking them would garble it."""
    sent = refresh_request("id", Secret(secret), refresh_token=Secret("x"), redirect_uri=None)
    reading = read_answer(400, "application/json", json.dumps({"error": f"no {secret}"}).encode(), sent=sent)
    assert isinstance(reading, Refused)
    assert reading.error == said


ABSENT = object()
VALUES: list[object] = [ABSENT, None, True, False, 0, -1, 7, 1.5, 10**400, [], [1], {}, {"a": {}}]
VALUES += ["", "x", "a b", "\ud800", "\x1b[31m", "ä" * 9000, "bearer", "1e3"]


def test_answers_never_surprise() -> None:
    """S15: whatever the fields are, one of three values comes of them, and it is one that can be used."""
    chance = random.Random(5)
    fields = ["access_token", "token_type", "expires_in", "refresh_token", "scope", "error", "error_description"]
    for _ in range(20_000):
        answer = GOOD | {chance.choice(fields): chance.choice(VALUES) for _ in range(chance.randint(1, 4))}
        body = json.dumps({name: value for name, value in answer.items() if value is not ABSENT}).encode()
        check(read_answer(chance.choice([200, 200, 302, 400, 401, 503]), "application/json", body))


def test_bytes_never_surprise() -> None:
    """S15: the same for any bytes."""
    chance = random.Random(6)
    good = json.dumps(GOOD | {"scope": "read", "error": "e", "error_description": "d"}).encode()
    for _ in range(20_000):
        body = bytearray(good)
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(body))
            body[at : at + chance.randint(0, 2)] = [chance.choice(b'{}[]",:\\\0\xff019eE-nult x')]
        check(read_answer(chance.choice([200, 200, 400, 401, 503]), "application/json", bytes(body)))


def check(reading: Granted | Refused | Unreadable) -> None:
    match reading:
        case Granted():
            assert reading.access_token or reading.refresh_token
            assert 0 < reading.expires_in <= MAX_EXPIRES_IN
            assert all(token.isprintable() for token in reading.scope or ())
            assert all(map(str.isprintable, reading.complaints))
        case Refused():
            assert reading.error
            assert (reading.error + reading.description).isprintable()
        case Unreadable():
            assert reading.reason.isprintable()
