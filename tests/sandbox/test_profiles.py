"""Where the versions of the authorization server differ."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from tribe_oauth.sandbox import PROFILES, Sandbox

from .servers import serve

RESPONSES = {
    "hydra-1.5": (400, "invalid_grant", False),
    "hydra-1.10": (401, "token_inactive", True),
    "hydra-2.3": (400, "invalid_grant", True),
    "strict": (400, "invalid_grant", True),
}


@pytest.mark.parametrize("name", PROFILES)
async def test_reuse(name: str) -> None:
    """A rotated refresh token is used again: refused, and mostly the end of its family."""
    code, error, revokes = RESPONSES[name]
    async with serve(name) as server:
        assert server.sandbox is not None
        _, first = await server.refresh()
        status, answer = await server.refresh()
        assert (status, answer["error"]) == (code, error)
        assert ("status_code" in answer) == (name == "hydra-1.5")
        assert server.sandbox.ledger.reused()
        assert server.sandbox.ledger.is_live(first["refresh_token"]) is not revokes
        assert (await server.refresh(first["refresh_token"]))[0] == (code if revokes else 200)


@pytest.mark.parametrize("name", PROFILES)
async def test_two_at_once(name: str) -> None:
    """One wins; the losers get what their version says, and do not harm the winner."""
    async with serve(name, latency=0.05) as server:
        results = await asyncio.gather(*(server.refresh(server.refresh_token) for _ in range(4)))
        winners = [answer for status, answer in results if status == 200]
        assert len(winners) == 1
        losers = {(status, answer["error"]) for status, answer in results if status != 200}
        expected = {(400, "invalid_request")} | ({(500, "server_error")} if name == "hydra-1.10" else set())
        assert losers == expected
        assert server.sandbox is not None
        assert server.sandbox.ledger.is_live(winners[0]["refresh_token"])


@pytest.mark.parametrize("name", PROFILES)
async def test_an_expired_refresh_token(name: str) -> None:
    """Unused for too long: 1.5 calls it an invalid request."""
    now = [time.time()]
    async with serve(name, clock=lambda: now[0]) as server:
        now[0] += 31 * 86_400
        _, answer = await server.refresh()
        assert answer["error"] == ("invalid_request" if name == "hydra-1.5" else "invalid_grant")


async def test_a_family_that_died_while_it_was_rotating() -> None:
    """Reuse seen during a rotation ends that rotation too."""
    async with serve("strict", latency=0.05) as server:
        _, first = await server.refresh()
        rotating = asyncio.ensure_future(server.refresh(first["refresh_token"]))
        await asyncio.sleep(0.01)
        await server.refresh()
        assert (await rotating)[0] == 400


@pytest.mark.parametrize("name", PROFILES)
async def test_a_code(name: str) -> None:
    """Exchanged once, with its verifier and redirect URI; a second time, everything that came of it dies."""
    async with serve(name) as server:
        sandbox = server.sandbox
        assert sandbox is not None
        request = sandbox.client().authorization_request()
        callback = urlsplit(await sandbox.approve(request.url, organization="New one", scopes=["read", "offline"]))
        assert callback.path == "/callback/"
        assert ("+" in callback.query) == (name != "strict")
        query = parse_qs(callback.query)
        assert query["state"] == [request.state]
        assert set(query["scope"][0].split()) == {"read", "offline"}
        assert request.verifier is not None
        form = {
            "grant_type": "authorization_code",
            "code": query["code"][0],
            "redirect_uri": "https://app.example/callback",
            "code_verifier": request.verifier.reveal(),
        }
        for wrong in ({"code_verifier": "x"}, {"redirect_uri": "https://x.example"}, {"code": "x"}):
            assert (await server.token(**(form | wrong)))[1]["error"] == "invalid_grant"
        status, answer = await server.token(**form)
        assert status == 200
        (family,) = sandbox.ledger.families("New one")
        assert (family.origin, family.live) == ("code", True)
        assert (await server.token(**form))[1]["error"] == "invalid_grant"
        assert (await server.token(**form))[1]["error"] == "invalid_grant"
        assert not sandbox.ledger.is_live(answer["refresh_token"])


async def test_a_late_code() -> None:
    """A code lives ten minutes."""
    now = [time.time()]
    async with serve("strict", clock=lambda: now[0]) as server:
        assert server.sandbox is not None
        request = server.sandbox.client().authorization_request(pkce=False)
        code = parse_qs(urlsplit(await server.sandbox.approve(request.url)).query)["code"][0]
        now[0] += 601
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": "https://app.example/callback"}
        assert (await server.token(**form))[1]["error"] == "invalid_grant"


async def test_refreshing_with_a_redirect_uri() -> None:
    """The severest profile refuses one for a pasted token, and wants it for one that came of a code."""
    async with serve("strict") as server:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": server.refresh_token,
            "redirect_uri": "https://x.example",
        }
        assert (await server.token(**form))[1]["error"] == "invalid_grant"
        assert (await server.refresh())[0] == 200


async def test_scopes() -> None:
    """Without `offline` no refresh token; a scope that the Application does not have is refused; `read` is needed."""
    async with serve("strict") as server:
        sandbox = server.sandbox
        assert sandbox is not None
        client = sandbox.client(scope="write", redirect_uri=None)
        server.client_id, server.client_secret = client.client_id, client.client_secret.reveal()
        status, answer = await server.token(grant_type="client_credentials", scope="write")
        assert status == 200
        assert (await server.get("/v1/odata/Relation_Person", answer["access_token"]))[0] == 403
        assert (await server.token(grant_type="client_credentials", scope="read"))[1]["error"] == "invalid_scope"
        assert (await server.refresh(sandbox.paste_token("Acme")))[1]["error"] == "invalid_grant"
        assert "refresh_token" not in (await server.refresh(sandbox.paste_token("Acme", client=client)))[1]


async def test_an_application_without_an_organization() -> None:
    """Client credentials act for one organization; an Application without one has none to act for."""
    async with Sandbox(organizations=0) as sandbox:
        from aiohttp import ClientSession

        client = sandbox.client()
        form = {
            "grant_type": "client_credentials",
            "client_id": client.client_id,
            "client_secret": client.client_secret.reveal(),
        }
        async with ClientSession() as session, session.post(f"{sandbox.base}/oauth2/token", data=form) as response:
            assert (await response.json())["error"] == "unauthorized_client"


async def test_revoking_needs_the_client() -> None:
    """Only who it was issued to can revoke; an access token takes its family along."""
    async with serve("strict") as server:
        sandbox = server.sandbox
        assert sandbox is not None
        _, answer = await server.refresh()
        stranger = sandbox.client(scope="read")
        credentials = {"client_id": server.client_id, "client_secret": server.client_secret}
        for form, status, live in (
            ({**credentials, "client_secret": "wrong"}, 401, True),
            ({"client_id": stranger.client_id, "client_secret": stranger.client_secret.reveal()}, 200, True),
            (credentials, 200, False),
            (credentials, 200, False),
        ):
            body = {"token": answer["access_token"] if live else answer["refresh_token"], **form}
            if not live:
                body["token"] = answer["access_token"]
            async with server.session.post(f"{server.auth}/oauth2/revoke", data=body) as response:
                assert response.status == status
            assert sandbox.ledger.is_live(answer["refresh_token"]) is live


async def test_expiring_access_tokens() -> None:
    """By order of a test, before their time; those of other organizations live on."""
    async with serve("strict") as server:
        sandbox = server.sandbox
        assert sandbox is not None
        _, answer = await server.refresh()
        _, other = await server.refresh(sandbox.paste_token("Other"))
        for _ in range(2):
            sandbox.expire("Acme")
        assert not sandbox.ledger.is_live(answer["access_token"])
        assert sandbox.ledger.is_live(other["access_token"])
        assert not sandbox.ledger.is_live("never was")


def test_a_profile_that_is_not_there() -> None:
    """The choices are named."""
    with pytest.raises(ValueError, match=r"choose one of hydra-1\.5, hydra-1\.10"):
        Sandbox(profile="hydra-9")


async def test_a_doubled_parameter() -> None:
    """RFC 6749 §3.2: none more than once."""
    async with serve("strict") as server:
        body = f"grant_type=client_credentials&grant_type=x&client_id={server.client_id}"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with server.session.post(f"{server.auth}/oauth2/token", data=body, headers=headers) as response:
            assert (await response.json())["error"] == "invalid_request"


async def test_the_ledger() -> None:
    """Counts, offences and events; never a token."""
    async with serve("strict") as server:
        assert server.sandbox is not None
        ledger = server.sandbox.ledger
        _, answer = await server.refresh()
        await server.refresh()
        await server.token(grant_type="password")
        assert (ledger.token_requests, ledger.count("refresh_token"), ledger.count("unknown")) == (3, 2, 1)
        assert ledger.spent_twice() == ledger.reused()
        assert ledger.undelivered() == ()
        kinds = [event.kind for event in ledger.events]
        assert kinds[-2:] == ["refused", "answered"]
        assert len(ledger.dump()) == len(kinds) == ledger.summary()["events"]
        assert ledger.tail(2) == ledger.dump()[-2:]
        assert answer["access_token"] not in str(ledger.dump())
