"""Where Tribe's contract departs from a generic client, row by row, as far as the protocol goes."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
from aiohttp import web

from tribe_oauth import Client, ClientCredentialsGrant, Endpoints, Secret, Token, TokenManager
from tribe_oauth._oauth.endpoint import Answered, TokenEndpoint
from tribe_oauth._oauth.messages import (
    Granted,
    client_credentials_request,
    read_answer,
    refresh_request,
    revocation_request,
)
from tribe_oauth._oauth.verdict import Verdict, judge
from tribe_oauth._refresh.payload import Candidate, Credential, Payload, decode, encode
from tribe_oauth._refresh.record import committed, with_candidate
from tribe_oauth._refresh.spend import spend_of
from tribe_oauth.stores import Record

from .servers import FORM, Raw, Serve, good

REDIRECT_URI = "https://app.example/callback"
SECRET = Secret("secret")


def client_at(redirect_uri: str = REDIRECT_URI) -> Client:
    return Client("id", "secret", redirect_uri=redirect_uri)


def form(body: bytes) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(body.decode("ascii"), strict_parsing=True).items()}


def tribes(**changes: object) -> Granted:
    """The page's answer."""
    answer = {"access_token": "at", "token_type": "bearer", "expires_in": 86400, "refresh_token": "rt"} | changes
    body = json.dumps({name: value for name, value in answer.items() if value is not None}).encode()
    reading = read_answer(200, "application/json", body)
    assert isinstance(reading, Granted)
    return reading


@pytest.mark.parametrize(
    "redirect_uri", [REDIRECT_URI, REDIRECT_URI + "/", REDIRECT_URI + "?tenant=7", "https://app.example", "http://[::1]:8/c"]
)  # fmt: skip
def test_the_exchange_has_the_redirect_uri(redirect_uri: str) -> None:
    """S5: the identical one, to the letter, of the authorization request; one switch leaves it out."""
    without = Client("id", "secret", redirect_uri=redirect_uri, redirect_uri_in_exchange=False)
    for client, expected in ((client_at(redirect_uri), redirect_uri), (without, None)):
        request = client.authorization_request()
        (asked,) = parse_qs(urlsplit(request.url).query)["redirect_uri"]
        assert asked == redirect_uri
        sent = form(request.grant(f"{redirect_uri.partition('?')[0]}?code=c&state={request.state}").body())
        assert sent.get("redirect_uri") == expected


@pytest.mark.parametrize("in_exchange", [True, False])
def test_a_refresh_after_a_code_has_the_redirect_uri(in_exchange: bool) -> None:
    """S5: the one used at authorization, also where the exchange went without it."""
    client = Client("id", "secret", redirect_uri=REDIRECT_URI, redirect_uri_in_exchange=in_exchange)
    request = client.authorization_request()
    grant = request.grant(f"/callback?code=c&state={request.state}")
    assert grant.redirect_uri == REDIRECT_URI
    body = refresh_request("id", SECRET, refresh_token=Secret("r"), redirect_uri=grant.redirect_uri)
    assert form(body)["redirect_uri"] == REDIRECT_URI


def test_quick_setup_has_no_redirect_uri() -> None:
    """Not for the pasted token, nor for its successors, although the client has one."""
    credential = Credential(kind="refresh_token", client_id="id", token_endpoint="https://t", redirect_uri=None)
    candidate = Candidate(family="c", credential=credential, refresh_token=Secret("pasted"), fingerprint="f")
    record = with_candidate(None, "acme", candidate)
    for number, refresh_token in enumerate(["pasted", "rt1", "rt2"]):
        spend = spend_of(record, decode(record), candidate=number == 0)
        assert spend is not None
        assert spend.refresh_token == Secret(refresh_token)
        redirect_uri = spend.credential.redirect_uri
        body = refresh_request("id", SECRET, refresh_token=spend.refresh_token, redirect_uri=redirect_uri)
        assert set(form(body)) == {"grant_type", "refresh_token", "client_id", "client_secret"}
        token = Token(access_token=Secret("at"), refresh_token=Secret(f"rt{number + 1}"), expires_at=1.0)
        new = Payload(credential=spend.credential, token=token, lifetime=1.0)
        record = committed(record, decode(record), spend, new, due_at=1.0, nonce="n", now=1.0, quiet=1.0)


@pytest.mark.parametrize("registered", [REDIRECT_URI, REDIRECT_URI + "/"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_the_callbacks_slash(registered: str, slash: str) -> None:
    """Accepted with and without; what is sent is what was registered."""
    request = client_at(registered).authorization_request()
    query = f"code=c&scope=read write offline&state={request.state}"
    grant = request.grant(f"{REDIRECT_URI}{slash}?{query}")
    assert form(grant.body())["redirect_uri"] == registered
    assert parse_qs(urlsplit(request.url).query)["redirect_uri"] == [registered]


def test_the_granted_scope() -> None:
    """It may be a subset: the token answer's, else the callback's, else not known; never what was asked for."""
    request = client_at().authorization_request(scope="read write offline")
    less = request.grant(f"/callback/?code=c&scope=read%20offline&state={request.state}")
    assert less.granted == frozenset({"read", "offline"})
    assert less.asked == frozenset({"read", "write", "offline"})
    assert request.grant(f"/callback/?code=c&state={request.state}").granted is None
    assert tribes(scope="read offline").scope == frozenset({"read", "offline"})


def test_an_answer_without_scope_and_organization() -> None:
    """Complete as it is; what it does not say is not made up."""
    reading = tribes()
    assert reading.scope is None
    assert reading.complaints == ()
    assert "organization" not in {field.name for field in attrs.fields(Granted)}


def test_the_state_is_long() -> None:
    """S1: 256 bits, far above the 8 characters that the page asks for."""
    assert len(client_at().authorization_request().state) == 43


def test_the_client_is_in_the_body() -> None:
    """Id and secret, in every kind of request; no Basic authentication."""
    request = client_at().authorization_request()
    bodies = [
        request.grant(f"/callback?code=c&state={request.state}").body(),
        refresh_request("id", SECRET, refresh_token=Secret("r"), redirect_uri=None),
        client_credentials_request("id", SECRET, scope="read"),
        revocation_request("id", SECRET, token=Secret("r")),
    ]
    for body in bodies:
        assert (form(body)["client_id"], form(body)["client_secret"]) == ("id", "secret")


async def test_no_basic_authentication(endpoint: TokenEndpoint) -> None:
    """Nothing on the wire but the form says who asks."""
    async with Raw(nothing) as raw:
        await endpoint.post(raw.url, FORM)
    (heard,) = raw.heard
    assert b"authorization:" not in heard.lower()
    assert heard.endswith(b"\r\n\r\n" + FORM)


async def nothing(*_: object) -> None:
    """Close without an answer."""


def test_client_credentials_get_no_refresh_token() -> None:
    """`offline` is asked for as the page has it, and its answer without a refresh token is a whole one."""
    client = Client("id", "secret")
    body = client_credentials_request("id", SECRET, scope=ClientCredentialsGrant(client).asked)
    assert set(form(body)["scope"].split()) == {"read", "write", "offline"}
    reading = tribes(refresh_token=None)
    assert reading.access_token == Secret("at")
    assert reading.refresh_token is None
    assert reading.complaints == ()
    assert judge(Answered(reading, 200, None)) is Verdict.COMMIT
    assert ClientCredentialsGrant(client, scope="write  read").asked == "read write"


async def test_client_credentials_can_be_sent_again(serve: Serve) -> None:
    """There is no limit: what was lost is asked for once more, although the first may have arrived."""
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(await request.read())
        assert request.transport is not None
        if len(seen) == 1:
            request.transport.abort()
        return await good(request)

    origin = (await serve(handler)).removesuffix("/oauth2/token")
    client = Client("id", "secret", endpoints=Endpoints.at(origin, origin, allow_insecure_loopback=True))
    async with TokenManager(client) as manager:
        token = await manager.connect("acme", ClientCredentialsGrant(client))
    assert token.access_token == Secret("at")
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_a_refresh_token_is_replaced() -> None:
    """What comes back is what is spent next, as a new generation."""
    credential = Credential(kind="refresh_token", client_id="id", token_endpoint="https://t", redirect_uri=REDIRECT_URI)
    candidate = Candidate(family="c", credential=credential, refresh_token=Secret("first"), fingerprint="f")
    record = with_candidate(None, "acme", candidate)
    spend = spend_of(record, decode(record), candidate=True)
    assert spend is not None
    token = Token(access_token=Secret("at"), refresh_token=Secret("second"), expires_at=1.0)
    new = Payload(credential=spend.credential, token=token, lifetime=1.0)
    after = committed(record, decode(record), spend, new, due_at=1.0, nonce="n", now=1.0, quiet=1.0)
    assert after.generation == record.generation + 1
    following = spend_of(after, decode(after), candidate=False)
    assert following is not None
    assert following.refresh_token == Secret("second")
    assert b"first" not in after.payload


@pytest.mark.parametrize("token_type", ["bearer", "Bearer", "BEARER"])
def test_bearer_in_any_case(token_type: str) -> None:
    """S17: compared without case; what it was is not kept, so that nobody can echo it."""
    reading = tribes(token_type=token_type)
    assert reading == tribes()
    assert reading.complaints == ()


def test_each_organization_its_own_client() -> None:
    """A record carries the client that a grant brought, with its secret; the manager's own has no secret there."""
    of_its_own = Credential(
        kind="client_credentials", client_id="acme-id", client_secret=SECRET, token_endpoint="https://t"
    )
    for credential in (of_its_own, attrs.evolve(of_its_own, client_id="beta-id", client_secret=None)):
        candidate = Candidate(family="c", credential=credential, refresh_token=Secret("r"), fingerprint="f")
        record = with_candidate(Record(organization="x", status="disconnected"), "x", candidate)
        kept = decode(attrs.evolve(record, payload=encode(decode(record)))).candidate
        assert kept is not None
        assert kept.credential == credential
