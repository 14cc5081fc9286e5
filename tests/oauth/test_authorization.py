"""The authorization request and its callback, built and read in a pair (S1, S3, S4, S5)."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from urllib.parse import parse_qs, urlsplit

import pytest

from tribe_oauth import (
    AuthorizationRequest,
    CallbackError,
    Client,
    Secret,
)
from tribe_oauth._oauth.authorization import authorization_url
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth.errors import ConfigurationError

REDIRECT_URI = "https://app.example/callback"


@pytest.fixture
def client() -> Client:
    return Client("client", "secret", redirect_uri=REDIRECT_URI)


@pytest.fixture
def request_(client: Client) -> AuthorizationRequest:
    return client.authorization_request()


def query(url: str) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(urlsplit(url).query, strict_parsing=True).items()}


def test_the_url(client: Client) -> None:
    """Tribe's page: the six parameters, and PKCE."""
    request = client.authorization_request(organization_id="a-uuid", scope="read offline")
    assert request.url.startswith("https://auth.tribecrm.nl/oauth2/auth?")
    sent = query(request.url)
    assert sent.pop("code_challenge")
    assert sent == {
        "client_id": "client",
        "redirect_uri": REDIRECT_URI,
        "state": request.state,
        "response_type": "code",
        "scope": "read offline",
        "organization_id": "a-uuid",
        "code_challenge_method": "S256",
    }
    assert "%20" in request.url


def test_what_is_optional_is_left_out(client: Client) -> None:
    """S3: no organization unless one is named; PKCE can be switched off."""
    request = client.authorization_request(pkce=False)
    assert set(query(request.url)) == {"client_id", "redirect_uri", "state", "response_type", "scope"}
    assert query(request.url)["scope"] == "read write offline"


def test_an_endpoint_with_a_query() -> None:
    """RFC 6749 §3.1: what the endpoint's URL has already is kept."""
    url = authorization_url("https://a.example/x?tenant=7", client_id="c", redirect_uri="r", scope="s", state="t")
    assert query(url)["tenant"] == "7"
    assert query(url)["client_id"] == "c"


def test_the_state(client: Client) -> None:
    """S1: 256 random bits, another for each request."""
    states = {client.authorization_request().state for _ in range(100)}
    assert len(states) == 100
    assert all(len(base64.urlsafe_b64decode(state + "=")) == 32 for state in states)


def test_where_randomness_comes_from(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1, S3: from `secrets`, and enough of it."""
    drawn = []

    def token_urlsafe(nbytes: int) -> str:
        drawn.append(nbytes)
        return f"drawn-{len(drawn)}"

    monkeypatch.setattr("secrets.token_urlsafe", token_urlsafe)
    request = client.authorization_request()
    assert (request.state, request.verifier) == ("drawn-1", Secret("drawn-2"))
    assert min(drawn) >= 32


def test_how_the_state_is_compared(request_: AuthorizationRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1: in constant time, the state that came with the one of this request, and by nothing else."""
    compared = []

    def compare_digest(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return True

    monkeypatch.setattr("hmac.compare_digest", compare_digest)
    assert request_.grant("/callback?code=c0de&state=forged")
    assert compared == [(b"forged", request_.state.encode())]


def test_the_verifier(client: Client, request_: AuthorizationRequest) -> None:
    """S3: S256, a verifier for each flow, 43 characters or more; it is not in the URL."""
    assert request_.verifier is not None
    verifier = request_.verifier.reveal()
    assert 43 <= len(verifier) <= 128
    digest = hashlib.sha256(verifier.encode()).digest()
    assert query(request_.url)["code_challenge"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert verifier not in request_.url
    assert client.authorization_request().verifier != request_.verifier


@pytest.mark.parametrize(
    "shape",
    [
        "https://app.example/callback/?code=c0de&scope=read%20write&state={}",
        "https://app.example/callback?code=c0de&scope=read+write&state={}",
        "http://inside:8080/callback/?code=c0de&scope=read%20write&state={}",
        "/callback/?state={}&scope=read+write&code=c0de",
        "/callback?state={}&scope=read+write&code=c0de&session_state=x&iss=https://auth.tribecrm.nl",
        "/callback?state={}&scope=read+write&code=c0de&iss=https%3A%2F%2Fauth.tribecrm.nl%2F",
    ],
)
def test_callbacks_that_belong(request_: AuthorizationRequest, shape: str) -> None:
    """Tribe's slash or none, a plus or %20, behind a proxy, in any order, whole or without the host."""
    grant = request_.grant(shape.format(request_.state))
    assert grant.granted == frozenset({"read", "write"})
    assert b"code=c0de" in grant.body()
    assert grant.client is request_.client
    assert grant.asked == frozenset({"read", "write", "offline"})


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        ("/callback?code=c0de", "state is not the one"),
        ("/callback?code=c0de&state=", "state is not the one"),
        ("/callback?code=c0de&state=forged", "state is not the one"),
        ("/callback?code=c0de&state=\udc80", "state is not the one"),
        ("/callback?code=c0de&state={}&state=x", "parameter twice"),
        ("/callback?code=a&code=b&state={}", "parameter twice"),
        ("/callback?state={}", "no usable code"),
        ("/callback?code=&state={}", "no usable code"),
        ("/callback?code=a%0Ab&state={}", "no usable code"),
        ("/callback?code={long}&state={}", "no usable code"),
        ("/callback?code=c0de&state={}&scope=%1B[31m", "a scope that cannot be one"),
        ("/callback?code=c0de&state={}&scope=lire%C3%A9", "a scope that cannot be one"),
        ("/callback?code=c0de%00&state={}", "no usable code"),
        ("/other?code=c0de&state={}", "another path"),
        ("/Callback?code=c0de&state={}", "another path"),
        ("?code=c0de&state={}", "another path"),
        ("", "another path"),
        ("/callback?code=c0de&state={}&iss=https://evil.example", "another authorization server"),
        ("/callback?error=access_denied&state={}", "consent was not given: access_denied"),
        ("/callback?error=access_denied&code=c0de&state={}", "consent was not given"),
        ("/callback?error=x%1B[31m&error_description=%0AINFO forged&state={}", r"x\x1b[31m \nINFO forged"),
        ("http://[::1/callback?code=c0de&state={}", "cannot be read"),
        ("/callback?" + "&".join(f"x{n}=1" for n in range(60)), "cannot be read"),
    ],
)
def test_callbacks_that_do_not(request_: AuthorizationRequest, callback: str, said: str) -> None:
    """S1, S4, S10, S18: each refused, in one clear sentence with nothing of the query but the server's words."""
    url = callback.replace("{long}", "x" * 9000).replace("{}", request_.state)
    with pytest.raises(CallbackError) as error:
        request_.grant(url)
    assert said in str(error.value)
    assert "c0de" not in str(error.value)
    assert request_.state not in str(error.value)


def test_the_state_comes_before_the_error(request_: AuthorizationRequest) -> None:
    """S2: an error for another request is not this request's error."""
    with pytest.raises(CallbackError, match="state") as error:
        request_.grant("/callback?error=access_denied&state=forged")
    assert error.value.error is None


def test_the_servers_error_is_there(request_: AuthorizationRequest) -> None:
    """For those who want to know which; made printable (S18)."""
    with pytest.raises(CallbackError) as error:
        request_.grant(f"/callback?error=scope_denied&state={request_.state}")
    assert error.value.error == "scope_denied"
    with pytest.raises(CallbackError) as error:
        request_.grant(f"/callback?error=%0Aforged{'%20x' * 150}&state={request_.state}")
    assert error.value.error == r"\nforged" + " x" * 46 + "…"


def test_a_redirect_uri_with_a_query() -> None:
    """What the registered URI has already is no parameter of the answer, whatever it is called."""
    client = Client("client", "secret", redirect_uri="https://app.example/callback?tenant=7&scope=&code=y")
    request = client.authorization_request()
    answer = f"scope=read&code=c0de&state={request.state}"
    for callback in (f"/callback/?tenant=7&scope=&code=y&{answer}", f"/callback?{answer}"):
        grant = request.grant(callback)
        assert grant.granted == frozenset({"read"})
        assert b"code=c0de" in grant.body()


@pytest.mark.parametrize("redirect_uri", ["https://app.example", "https://app.example/"])
def test_a_redirect_uri_without_a_path(redirect_uri: str) -> None:
    """The root, with and without its slash."""
    request = Client("client", "secret", redirect_uri=redirect_uri).authorization_request()
    for callback in ("https://app.example", "https://app.example/", "/", ""):
        assert request.grant(f"{callback}?code=c0de&state={request.state}")


def test_there_is_one_door() -> None:
    """The types don't let anybody skip the check of the state."""
    with pytest.raises(TypeError, match="only"):
        AuthorizationCodeGrant(object(), None, None)  # type: ignore[arg-type]


def test_a_code_is_used_once(request_: AuthorizationRequest) -> None:
    """S6: the second time is an error; where the first never left, it is not."""
    grant = request_.grant(f"/callback?code=c0de&state={request_.state}")
    first = grant.body()
    with pytest.raises(CallbackError, match="used already"):
        grant.body()
    grant.give_back()
    assert grant.body() == first


def test_another_process_goes_on(client: Client, request_: AuthorizationRequest) -> None:
    """A request can be kept as text and resumed; with another client, or damaged, it is refused."""
    for request in (request_, client.authorization_request(pkce=False, organization_id="x")):
        assert client.resume(request.keep()) == request
    stranger = Client("stranger", "secret", redirect_uri=REDIRECT_URI)
    with pytest.raises(ConfigurationError, match="another client"):
        stranger.resume(request_.keep())
    assert "secret" not in request_.keep()


def test_a_kept_request_that_is_damaged(client: Client, request_: AuthorizationRequest) -> None:
    """Refused at once, not at the callback: what is missing, or is of another type; PKCE is not lost in silence."""
    good: dict[str, object] = json.loads(request_.keep())
    damaged = [{name: good[name] for name in good if name != left_out} for left_out in good]
    wrong: list[object] = [7, [], True]
    damaged += [good | {name: value} for name in good for value in wrong]
    damaged += [good | {name: None} for name in ("client_id", "redirect_uri", "state", "scope")]
    damaged += [good | {name: "ü"} for name in ("state", "verifier")]
    texts = [json.dumps(values) for values in damaged]
    texts += ["", "{}", "[]", "7", "null", "[" * 100_000, request_.keep()[:-5], "\ud800"]
    for text in texts:
        with pytest.raises(ConfigurationError, match="kept with keep"):
            client.resume(text)


def test_callbacks_never_surprise(request_: AuthorizationRequest) -> None:
    """Whatever a browser brings, it is a grant or a CallbackError."""
    chance = random.Random(11)
    good = f"https://app.example/callback/?code=c0de&scope=read%20write&state={request_.state}&iss=https://auth.tribecrm.nl"
    for _ in range(5_000):
        text = list(good)
        for _ in range(chance.randint(1, 6)):
            text[chance.randrange(len(text))] = chance.choice("&=?%/:#[]@+\0\n\udc80ü0a;")
        try:
            request_.grant("".join(text))
        except CallbackError:
            continue
