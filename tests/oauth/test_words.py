"""A server's words: what is kept of them, what is left out, and what they are about (S18, S24)."""

from __future__ import annotations

import json
import time

import pytest

from tribe_oauth import CallbackError, Client, Secret
from tribe_oauth._oauth.endpoint import Answered
from tribe_oauth._oauth.explanation import Asked, code_refused, error_for
from tribe_oauth._oauth.messages import Refused, code_request, read_answer, refresh_request
from tribe_oauth._oauth.verdict import Verdict, cause_of, judge
from tribe_oauth._oauth.words import MAX_WORDS, about
from tribe_oauth.errors import CLIENT_REFUSED, GRANT_TYPE, OTHER_CLIENT, PKCE, REDIRECT_URI, REVOKED, SCOPE

GRANT = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is"
    " invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to"
    " another client"
)
REQUEST = (
    "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than"
    " once, or is otherwise malformed"
)
REQUEST_HINT = (
    "Make sure that the various parameters are correct, be aware of case sensitivity and trim your parameters. Make"
    " sure that the client you are using has exactly whitelisted the redirect_uri you specified."
)


def words(members: dict[str, object], sent: bytes = b"") -> str:
    """What is kept of an error with these members."""
    body = json.dumps({"error": "invalid_grant"} | members).encode()
    reading = read_answer(400, "application/json", body, sent=sent)
    assert isinstance(reading, Refused)
    return reading.description


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        ({"error_description": GRANT}, ""),
        ({"error_description": f"{GRANT}."}, ""),
        ({"error_description": f"{GRANT}. The refresh token expired."}, "The refresh token expired."),
        ({"error_description": GRANT, "error_hint": "The refresh token expired."}, "The refresh token expired."),
        ({"error_hint": "only a hint"}, "only a hint"),
        ({"error_description": f"{REQUEST}. {REQUEST_HINT}"}, ""),
        ({"error_description": REQUEST, "error_hint": REQUEST_HINT}, ""),
        ({"error_description": f"{REQUEST}. The POST body can not be empty."}, "The POST body can not be empty."),
        (
            {
                "error_description": "Token is inactive because it is malformed, expired or otherwise invalid. Token"
                " validation failed."
            },
            "",
        ),
        ({"error_description": "words of its own", "error_hint": 7}, "words of its own"),
        ({"error_description": None, "error_hint": ["x"]}, ""),
        ({}, ""),
    ],
    ids=range(12),
)
def test_only_what_helps_is_kept(members: dict[str, object], kept: str) -> None:
    """The sentence that stands in every such error is left out, wherever the version puts what is behind it."""
    assert words(members) == kept


@pytest.mark.parametrize("character", ["x ", "\x1b", "\u202e", "\U000e0001", "é "])
def test_words_are_bounded(character: str) -> None:
    """S18: 600 printable characters, counted as they are shown, however much the server says."""
    kept = words({"error_description": f"{GRANT}. {character * 4_000}"})
    assert kept.isprintable()
    assert len(kept) == MAX_WORDS + 1
    assert kept.endswith("…")


def test_600_characters_are_kept() -> None:
    """S18: behind the standard sentence, to the last one."""
    said = "word " * 119 + "last."
    assert words({"error_description": f"{GRANT}. {said}"}) == said
    assert len(said) == 600


SECRET = "s3cret/+ &=<canary>%"


@pytest.mark.parametrize(
    "echo",
    [
        SECRET,
        "s3cret%2F%2B%20%26%3D%3Ccanary%3E%25",
        "s3cret%2F%2B+%26%3D%3Ccanary%3E%25",
        "s3cret/+ &amp;=&lt;canary&gt;%",
        f"s3cret/+ {REQUEST}. &=<canary>%",
    ],
)
def test_an_echo_in_another_writing(echo: str) -> None:
    """S18, S24: percent-encoded as it was sent, in two ways, for HTML, or around a sentence that is left out."""
    sent = refresh_request("id", Secret(SECRET), refresh_token=Secret("refresh-token"), redirect_uri=None)
    for name in ("error_description", "error_hint"):
        kept = words({name: f"no {echo} here"}, sent)
        assert "canary" not in kept or "&=<canary>" not in kept.replace(" ", "")
        assert SECRET not in kept
        assert kept.startswith("no ")
        assert kept.endswith(" here")


@pytest.mark.parametrize(
    "token",
    [
        "ory_rt_" + "a" * 8,
        "ory_at_" + "aB3-_" * 8 + "." + "aB3-_" * 8,
        "aB3-_" * 8 + "." + "aB3-_" * 8,
        "e" * 36 + "." + "p" * 60 + "." + "s" * 43,
        "0123456789abcdef" * 4,
    ],
)
def test_tokens_of_others(token: str) -> None:
    """S18, S24: what was not sent by us and cannot be a word is masked as well: a token, a key, a hash."""
    kept = words({"error_description": f"token '{token}' is not known"})
    assert kept == "token '***' is not known"


@pytest.mark.parametrize(
    "said",
    [
        "client 12345678-1234-1234-1234-123456789abc may not",
        "https://app.example/oauth/callback/tribe?tenant=7 is not registered",
        "scope 'read write offline' is not allowed",
    ],
)
def test_what_is_no_secret(said: str) -> None:
    """Ids, addresses and scopes help, and stay."""
    assert words({"error_description": said}) == said


def test_an_endless_sentence() -> None:
    """S18: the beginnings of a thousand standard sentences are read in no time."""
    began = time.perf_counter()
    words({"error_description": "The provided authorization grant (e.g., " * 1_600})
    assert time.perf_counter() - began < 0.5


# What they are about

CLIENT_ID = "The OAuth 2.0 Client ID from this request does not match"


@pytest.mark.parametrize(
    ("error", "said", "cause"),
    [
        ("invalid_grant", f"{CLIENT_ID} the ID during the initial token issuance.", OTHER_CLIENT),
        ("invalid_grant", f"{CLIENT_ID} the one from the authorize request.", OTHER_CLIENT),
        ("invalid_request", f"{CLIENT_ID} the one from the authorize request.", OTHER_CLIENT),
        ("invalid_grant", 'The "redirect_uri" from this request does not match the one from', REDIRECT_URI),
        ("invalid_grant", "The 'redirect_uri' from this request does not match the one from", REDIRECT_URI),
        ("invalid_grant", "The PKCE code challenge did not match the code verifier.", PKCE),
        ("invalid_grant", "The PKCE code verifier must be at least 43 characters.", PKCE),
        ("invalid_grant", "Unable to find initial PKCE data tied to this request", PKCE),
        (
            "invalid_grant",
            'The OAuth 2.0 Client is not allowed to use authorization grant "refresh_token".',
            GRANT_TYPE,
        ),
        ("unauthorized_client", "", GRANT_TYPE),
        ("unsupported_grant_type", "", GRANT_TYPE),
        ("invalid_scope", "", SCOPE),
        ("scope_not_granted", "", SCOPE),
        ("invalid_client", "", CLIENT_REFUSED),
        ("invalid_client", "The PKCE code verifier", CLIENT_REFUSED),
        ("invalid_grant", "", None),
        ("invalid_grant", "The refresh token was already used.", None),
        ("invalid_grant", "The refresh token is malformed or not valid.", None),
        ("invalid_grant", "The authorization code has already been used.", None),
        ("token_inactive", "", None),
        ("server_error", "The PKCE code verifier", None),
        ("invalid_grant", GRANT, None),
    ],
)
def test_what_a_refusal_is_about(error: str, said: str, cause: str | None) -> None:
    """The sentences of all versions; the standard one, where it was not left out, is about nothing."""
    assert about(error, said) == cause


def test_a_standard_sentence_that_is_not_known() -> None:
    """In other words of a server or a translation, it does not hide that a refresh token is dead."""
    said = f"[E42] {GRANT.replace('(e.g., ', '(')}."
    outcome = Answered(Refused(status=400, error="invalid_grant", description=said), 400, None)
    assert judge(outcome) is Verdict.DEAD
    assert cause_of(outcome, maybe_spent=False, old=False) == REVOKED


@pytest.mark.parametrize("status", [429, 500, 503])
def test_words_of_a_server_that_is_busy(status: int) -> None:
    """Whatever they are about, the status says that it is not now."""
    said = f"{CLIENT_ID} the ID during the initial token issuance."
    outcome = Answered(Refused(status=status, error="invalid_grant", description=said), status, None)
    assert judge(outcome) is (Verdict.NOT_NOW if status == 429 else Verdict.MAYBE_SPENT)


# What to do


def refused(error: str, said: str = "") -> Answered:
    return Answered(Refused(status=400, error=error, description=said), 400, None)


def test_client_credentials_whose_scope_is_called_a_grant() -> None:
    """Tribe was seen to call a scope that an Application does not have, `offline`, an invalid grant."""
    asked = Asked(grant_type="client_credentials", client_id="id", scope="read offline")
    error = error_for("acme", asked, refused("invalid_grant"), None)
    assert error.cause == SCOPE
    assert "asked for 'read offline'" in str(error)
    assert "connect it again" not in str(error)


@pytest.mark.parametrize("error", ["a_code_of_its_own", "invalid_request_uri"])
def test_what_nobody_knows(error: str) -> None:
    """A code that is not known, or words that cannot be about this request: where to look, and no guess."""
    for said in ("", f"{CLIENT_ID} anything"):
        asked = Asked(grant_type="client_credentials", client_id="id", scope="read")
        told = error_for("acme", asked, refused(error, said), None)
        assert told.cause is None
        assert "check the Application's settings in Tribe" in str(told)


def test_a_cause_without_a_remedy_of_its_own() -> None:
    """Another Application's client credentials there are none: the general remedy, then."""
    asked = Asked(grant_type="client_credentials", client_id="id")
    told = error_for("acme", asked, refused("invalid_grant", f"{CLIENT_ID} anything"), None)
    assert told.cause == OTHER_CLIENT
    assert "check the Application's settings in Tribe" in str(told)


def test_a_code_that_was_used() -> None:
    """The server's words, and no cause of ours."""
    asked = Asked(grant_type="authorization_code", client_id="id")
    told = code_refused(None, asked, refused("invalid_grant", "The authorization code has already been used."))
    assert told.cause is None
    assert "(invalid_grant: The authorization code has already been used.): a code works once" in str(told)


def test_braces_are_only_characters() -> None:
    """In a client id, a scope or the server's words."""
    asked = Asked(grant_type="client_credentials", client_id="{0}", scope="{x}")
    told = error_for("acme", asked, refused("invalid_scope", "{client_id!r} {}"), None)
    assert "(invalid_scope: {client_id!r} {})" in str(told)
    assert "'{x}'" in str(told)
    assert "'{0}'" in str(told)


# The callback


def callback(query: str) -> CallbackError:
    request = Client("id", "secret", redirect_uri="https://app.example/cb", scope="read write").authorization_request()
    with pytest.raises(CallbackError) as error:
        request.grant(f"/cb/?{query.replace('STATE', request.state)}&state={request.state}")
    assert request.state not in str(error.value)
    return error.value


def test_the_hint_of_a_callback() -> None:
    """Behind a sentence of 150 characters, or in a member of its own: it is told, and the sentence is not."""
    hint = "Clients must use code_challenge_method=S256, plain is not allowed."
    for query in (f"error_description={REQUEST}. {hint}", f"error_description={REQUEST}&error_hint={hint}"):
        error = callback(f"error=invalid_request&{query}")
        assert str(error) == f"consent was not given: invalid_request {hint}"


def test_a_callback_that_repeats_secrets() -> None:
    """S11, S24: neither state nor code of the request comes out, nor a token of anybody."""
    error = callback("error=STATE&error_description=no STATE, no code-canary, no ory_ac_abc&code=code-canary")
    assert str(error) == "consent was not given: *** no ***, no ***, no ***"
    assert error.error == "***"


def test_a_code_that_cannot_be_encoded() -> None:
    """S15: beside an error, it surprises nobody."""
    assert callback("error=access_denied&code=\udc80").error == "access_denied"


def test_what_tells_clients_apart() -> None:
    """A client's mark is the same in all its requests, another for another secret, and hides both."""
    from tribe_oauth._oauth.messages import client_mark

    refresh = refresh_request("id", Secret("canary"), refresh_token=Secret("client_id=x"), redirect_uri=None)
    code = code_request("id", Secret("canary"), code=Secret("c"), redirect_uri=None, verifier=None)
    other = code_request("id", Secret("canary2"), code=Secret("c"), redirect_uri=None, verifier=None)
    assert client_mark(refresh) == client_mark(code) != client_mark(other)
    assert b"canary" not in client_mark(code)
