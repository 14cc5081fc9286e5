"""Codes: the callback that brings one, what proves that it is used by its client, and what a second use ends."""

from __future__ import annotations

import time
from urllib.parse import parse_qs, urlsplit

import pytest

from tribe_oauth.sandbox import PROFILES

from .servers import Server, serve


async def code_for(server: Server, *, pkce: bool = True) -> dict[str, str]:
    """The form of a token request with a fresh code."""
    sandbox = server.sandbox
    assert sandbox is not None
    request = sandbox.client().authorization_request(pkce=pkce)
    callback = parse_qs(urlsplit(await sandbox.approve(request.url, organization="New one")).query)
    form = {
        "grant_type": "authorization_code",
        "code": callback["code"][0],
        "redirect_uri": "https://app.example/callback",
    }
    return {**form, "code_verifier": request.verifier.reveal()} if request.verifier is not None else form


async def refused(server: Server, form: dict[str, str]) -> str:
    """The text of an answer that refuses a code."""
    status, answer = await server.token(**form)
    assert (status, answer["error"]) == (400, "invalid_grant")
    return f"{answer['error_description']} {answer.get('error_hint')}"


@pytest.mark.parametrize("name", PROFILES)
async def test_the_callback(name: str) -> None:
    """Tribe's page: a slash, then code, scope and state; the versions differ in the status and in writing a space."""
    async with serve(name) as server:
        assert server.sandbox is not None
        request = server.sandbox.client().authorization_request()
        decision = {"organization": server.sandbox.organizations["Acme"], "decision": "allow"}
        form = [*decision.items(), ("scope", "read"), ("scope", "offline")]
        said = await server.ask("POST", urlsplit(request.url)._replace(scheme="", netloc="").geturl(), data=form)
        callback = urlsplit(said.headers["Location"])
        assert callback.path == "/callback/"
        assert said.status == (302 if name in {"hydra-1.5", "hydra-1.10"} else 303)
        assert ("scope=read%20offline" if name == "hydra-1.5" else "scope=read+offline") in callback.query
        query = parse_qs(callback.query)
        assert set(query) == {"code", "scope", "state"}
        assert query["state"] == [request.state]


@pytest.mark.parametrize("name", PROFILES)
async def test_an_error_at_the_callback(name: str) -> None:
    """A state of less than 8 characters comes back as invalid_state, with the hint where the version has it."""
    async with serve(name) as server:
        query = (
            f"client_id={server.client_id}&redirect_uri=https://app.example/callback&response_type=code&state=1234567"
        )
        said = await server.ask("GET", f"/oauth2/auth?{query}")
        answer = parse_qs(urlsplit(said.headers["Location"]).query)
        assert answer["error"] == ["invalid_state"]
        assert ("error_hint" in answer) == (name == "hydra-1.5")
        assert "at least be 8 characters" in str(answer)
        assert answer["state"] == ["1234567"]


@pytest.mark.parametrize("name", PROFILES)
async def test_a_code_is_exchanged_once(name: str) -> None:
    """A second time, everything that came from it dies, its rotations too: a reloaded callback page is enough."""
    async with serve(name) as server:
        sandbox = server.sandbox
        assert sandbox is not None
        form = await code_for(server)
        status, first = await server.token(**form)
        assert status == 200
        (family,) = sandbox.ledger.families("New one")
        assert (family.origin, family.live) == ("code", True)
        redirect_uri = {"redirect_uri": form["redirect_uri"]}
        _, second = await server.token(grant_type="refresh_token", refresh_token=first["refresh_token"], **redirect_uri)
        assert sandbox.ledger.is_live(second["refresh_token"])
        for _ in range(2):
            assert "The authorization code has already been used." in await refused(server, form)
            assert not sandbox.ledger.is_live(second["refresh_token"])
            assert not sandbox.ledger.is_live(second["access_token"])
        assert sandbox.ledger.spent_twice() == ()
        assert len(sandbox.ledger.reused()) == 1


@pytest.mark.parametrize("name", PROFILES)
async def test_a_code_survives_a_wrong_redirect_uri(name: str) -> None:
    """Without one, with a wrong one, from another client: invalid_grant, and the right request is still good."""
    async with serve(name) as server:
        assert server.sandbox is not None
        form = await code_for(server)
        without = {name: value for name, value in form.items() if name != "redirect_uri"}
        for wrong in (without, {**form, "redirect_uri": "https://x.example"}):
            assert "does not match the one from the authorize request" in await refused(server, wrong)
        stranger = server.sandbox.client(scope="read")
        theirs = {"client_id": stranger.client_id, "client_secret": stranger.client_secret.reveal()}
        assert "Client ID from this request does not match the one from the authorize" in await refused(
            server, {**form, **theirs}
        )
        await refused(server, {**form, "code": "never-was"})
        assert (await server.token(**form))[0] == 200


@pytest.mark.parametrize("name", PROFILES)
async def test_a_wrong_verifier_burns_the_code(name: str) -> None:
    """After a wrong one, or none, the right one is refused too."""
    async with serve(name) as server:
        for verifier, said in (("x" * 43, "did not match the code verifier"), ("", "must be at least 43 characters")):
            form = await code_for(server)
            assert said in await refused(server, {**form, "code_verifier": verifier})
            assert "Unable to find initial PKCE data" in await refused(server, form)


@pytest.mark.parametrize("name", PROFILES)
async def test_a_verifier_without_a_challenge(name: str) -> None:
    """Refused; before 2.3 it burns the code."""
    async with serve(name) as server:
        form = await code_for(server, pkce=False)
        assert "Unable to find initial PKCE data" in await refused(server, {**form, "code_verifier": "x" * 43})
        assert (await server.token(**form))[0] == (200 if name == "hydra-2.3" else 400)


async def test_a_late_code() -> None:
    """A code lives ten minutes."""
    now = [time.time()]
    async with serve("strict", clock=lambda: now[0]) as server:
        form = await code_for(server)
        now[0] += 601
        await refused(server, form)
