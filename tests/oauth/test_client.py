"""Clients, grants and endpoints: what cannot be is refused at once, with its remedy (S4, S13, S20)."""

from __future__ import annotations

import pytest

from tribe_oauth import STAGING, TRIBE, CallbackError, Client, Endpoints, RefreshTokenGrant
from tribe_oauth.errors import ConfigurationError

REDIRECT_URI = "https://app.example/callback"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"client_id": ""}, "client_id is empty"),
        ({"client_secret": ""}, "client_secret is empty"),
        ({"redirect_uri": "/callback"}, "absolute URL"),
        ({"redirect_uri": "https://app.example/#x"}, "without a fragment"),
        ({"redirect_uri": "http://[::1"}, "not a URL"),
        ({"redirect_uri": "https://app.example/\udcff"}, "not a URL"),
        ({"client_id": "\udcff"}, "not text in UTF-8"),
        ({"client_secret": "\udcff"}, "not text in UTF-8"),
        ({"scope": "\udcff"}, "not text in UTF-8"),
    ],
)
def test_clients_that_cannot_be(options: dict[str, str], said: str) -> None:
    """Each mistake is named with its remedy, and without the secret."""
    with pytest.raises(ConfigurationError, match=said):
        Client(**({"client_id": "id", "client_secret": "secret"} | options))  # type: ignore[arg-type]


def test_a_code_grant_needs_a_redirect_uri() -> None:
    """Without one there is nothing to come back to."""
    with pytest.raises(ConfigurationError, match="pass the one registered"):
        Client("id", "secret").authorization_request()


@pytest.mark.parametrize("text", ["", " ", "a b", "token\n", "\u200btoken", "token…", "\udcff", "x" * 9000])
def test_a_refresh_token_that_cannot_be(text: str) -> None:
    """A variable that is set to nothing, or something copied along with it, are common mistakes."""
    with pytest.raises(ConfigurationError, match="copy it from"):
        RefreshTokenGrant(Client("id", "secret"), text)


def test_where_tribe_is() -> None:
    """The page's addresses, and their staging twins."""
    assert TRIBE.token_endpoint == "https://auth.tribecrm.nl/oauth2/token"
    assert TRIBE.revocation_endpoint == "https://auth.tribecrm.nl/oauth2/revoke"
    assert STAGING.api == "https://api-staging.tribecrm.nl"
    assert TRIBE.issuer == "https://auth.tribecrm.nl"


def test_endpoints_of_ones_own() -> None:
    """S4: without revocation, and with an issuer that is not the authorization endpoint's origin."""
    endpoints = Endpoints(
        authorization_endpoint="https://login.example/auth",
        token_endpoint="https://login.example/token",
        api="https://api.example/",
        issuer="https://issuer.example/tribe",
    )
    assert endpoints.revocation_endpoint is None
    request = Client("id", "secret", redirect_uri=REDIRECT_URI, endpoints=endpoints).authorization_request()
    assert request.url.startswith("https://login.example/auth?")
    answer = f"/callback?code=c0de&state={request.state}&iss="
    assert request.grant(f"{answer}https://issuer.example/tribe")
    for other in ("https://login.example", "https://issuer.example", ""):
        with pytest.raises(CallbackError, match="another authorization server"):
            request.grant(answer + other)


@pytest.mark.parametrize("host", ["127.0.0.1:80", "[::1]:80", "localhost"])
def test_http_on_loopback(host: str) -> None:
    """S13: plain http on loopback only, and only on request."""
    assert Endpoints.at(f"http://{host}", f"http://{host}/", allow_insecure_loopback=True).api == f"http://{host}"
    with pytest.raises(ConfigurationError, match="set allow_insecure_loopback"):
        Endpoints.at(f"http://{host}", f"http://{host}")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://auth.example", "has to be https"),
        ("ftp://127.0.0.1", "has to be https"),
        ("auth.example", "absolute URL"),
        ("https://user@auth.example", "without user name"),
        ("https://auth.example:port", "not a URL"),
        ("https://auth..example", "not a URL"),
        (f"https://{'x' * 64}.example", "not a URL"),
        ("https://auth.example#here", "without user name and fragment"),
        ("http://127.0.0.1.evil.example", "has to be https"),
        ("http://[::2]", "has to be https"),
    ],
)
def test_endpoints_that_cannot_be(url: str, said: str) -> None:
    """S13: whatever a secret would be sent to is looked at before."""
    with pytest.raises(ConfigurationError, match=said):
        Endpoints.at(url, "https://api.example", allow_insecure_loopback=True)


def test_the_api_is_an_origin() -> None:
    """S20: tokens go to an origin; a path would promise more than is kept."""
    for api in ("https://api.example/v1", "https://api.example?tenant=7"):
        with pytest.raises(ConfigurationError, match="leave the path out"):
            Endpoints.at("https://auth.example", api)
