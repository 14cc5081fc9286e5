"""Token requests as bytes: the form body, always (S3, S5)."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest

from tribe_oauth import Secret
from tribe_oauth._oauth.messages import client_credentials_request, code_request, refresh_request, revocation_request

ID, SECRET = "client", Secret("s3cret &=+%ü")


def form(body: bytes) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(body.decode("ascii"), strict_parsing=True).items()}


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


@pytest.mark.parametrize(
    "text",
    ["a b", "a+b", "a&client_id=evil", "a=b", "a%2Bb", "100%", "a;b", "ü€😀", "a\r\nb", "\0", "/?#[]@!$'()*,", "~._-"],
)
def test_characters_are_only_characters(text: str) -> None:
    """RFC 6749 Appendix B: whatever a value has in it, it arrives as it was, and adds no field."""
    sent = form(code_request(text, Secret(text), code=Secret(text), redirect_uri=text, verifier=Secret(text)))
    assert sent.pop("grant_type") == "authorization_code"
    assert set(sent) == {"client_id", "client_secret", "code", "redirect_uri", "code_verifier"}
    assert set(sent.values()) == {text}


def test_a_form_does_not_show() -> None:
    """S24: a request has the client's secret in it, and stands in the frames of tracebacks."""
    body = refresh_request(ID, Secret("canary"), refresh_token=Secret("canary"), redirect_uri=None)
    assert form(body)["client_secret"] == "canary"
    for shown in (repr(body), str(body), repr([body])):
        assert "canary" not in shown
