"""Where the versions of the authorization server differ."""

from __future__ import annotations

import json
import time
from email.utils import parsedate_to_datetime

import pytest

from tribe_oauth.sandbox import PROFILES, Sandbox

from .servers import serve

MALFORMED = (400, "invalid_grant", "malformed or not valid.")
NO_HINT = (400, "invalid_grant", "was issued to another client")
INACTIVE = (401, "token_inactive", "Token validation failed.")
USED = (400, "invalid_grant", "The refresh token was already used.")
EXPIRED = (400, "invalid_request", "exactly whitelisted the redirect_uri you specified.")
EXPIRED_1_11 = (400, "invalid_grant", "was issued to another client.")
EXPIRED_2_3 = (400, "invalid_grant", "The refresh token expired.")

# What a spent refresh token gets; then its family's own; then each of them once more; and one that has expired. The
# last part is the end of the description, or the hint.
REFUSED = {
    "hydra-1.5": (NO_HINT, None, NO_HINT, EXPIRED),
    "hydra-1.10": (INACTIVE, INACTIVE, EXPIRED_1_11, EXPIRED),
    "hydra-1.11": (INACTIVE, INACTIVE, EXPIRED_1_11, EXPIRED_1_11),
    "hydra-2.3": (USED, MALFORMED, MALFORMED, EXPIRED_2_3),
    "strict": (USED, MALFORMED, MALFORMED, EXPIRED),
}
STANDARD = (
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is"
    " invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to"
    " another client"
)


def matches(said: tuple[int, dict[str, object]], expected: tuple[int, str, str]) -> bool:
    """Whether an answer is refused in this way."""
    status, answer = said
    text = str(answer.get("error_hint", answer["error_description"]))
    return (status, answer["error"]) == expected[:2] and text.endswith(expected[2])


@pytest.mark.parametrize("name", PROFILES)
async def test_reuse(name: str) -> None:
    """A spent refresh token is used again: refused, and from 1.10 on the end of its family and its access token."""
    spent, own, once_more, _ = REFUSED[name]
    async with serve(name) as server:
        assert server.sandbox is not None
        ledger = server.sandbox.ledger
        _, first = await server.refresh()
        _, second = await server.refresh(first["refresh_token"])
        assert matches(await server.refresh(), spent)
        assert len(ledger.reused()) == len(ledger.spent_twice()) == 1
        (family,) = ledger.families("Acme")
        assert family.live is (own is None)
        assert ledger.is_live(second["refresh_token"]) is (own is None)
        assert (await server.get("/v1/odata/", second["access_token"]))[0] == (200 if own is None else 401)
        if own is None:
            assert (await server.refresh(second["refresh_token"]))[0] == 200
        else:
            assert matches(await server.refresh(second["refresh_token"]), own)
            assert matches(await server.refresh(second["refresh_token"]), once_more)
        assert matches(await server.refresh(), once_more)


@pytest.mark.parametrize("name", PROFILES)
async def test_reuse_by_another_client(name: str) -> None:
    """The same for a spent token; one that was never spent is refused, and lives."""
    async with serve(name) as server:
        sandbox = server.sandbox
        assert sandbox is not None
        stranger = sandbox.client(scope="read offline")
        theirs = {"client_id": stranger.client_id, "client_secret": stranger.client_secret.reveal()}
        form = {"grant_type": "refresh_token", "refresh_token": server.refresh_token, **theirs}
        _, answer = await server.token(**form)
        assert answer["error"] == "invalid_grant"
        assert "does not match the ID" in str(answer)
        _, answer = await server.refresh()
        assert matches(await server.token(**form), REFUSED[name][0])
        assert sandbox.ledger.is_live(answer["refresh_token"]) is (name == "hydra-1.5")


@pytest.mark.parametrize("name", PROFILES)
async def test_an_expired_refresh_token(name: str) -> None:
    """Unused for too long: 1.5 and 1.10 call it an invalid request."""
    now = [time.time()]
    async with serve(name, clock=lambda: now[0]) as server:
        now[0] += 31 * 86_400
        assert matches(await server.refresh(), REFUSED[name][3])


@pytest.mark.parametrize("name", PROFILES)
async def test_the_form_of_an_error(name: str) -> None:
    """The hint has its own member, or stands behind 236 characters of every description; not all forbid caching."""
    async with serve(name) as server:
        form = {**server.credentials, "grant_type": "refresh_token", "refresh_token": "never-was"}
        said = await server.post("/oauth2/token", form)
        answer = json.loads(said.text)
        assert len(STANDARD) == 236
        assert answer["error_description"].startswith(STANDARD)
        assert "error_hint" not in answer
        assert ("status_code" in answer) == (name == "hydra-1.5")
        assert ("Cache-Control" in said.headers) == (name not in {"hydra-1.5", "strict"})
        answer = json.loads((await server.post("/oauth2/token", {})).text)
        assert ("error_hint" in answer) == (name == "hydra-1.5")
        assert answer.get("error_hint", answer["error_description"]).endswith("The POST body can not be empty.")


@pytest.mark.parametrize("name", PROFILES)
async def test_the_form_of_a_token(name: str) -> None:
    """87 characters, and a prefix in newer versions; scope and lifetime in every answer."""
    async with serve(name, seed=3) as server:
        assert server.sandbox is not None
        prefix = "ory_{}_" if name in {"hydra-2.3", "strict"} else ""
        lifetimes, spent = set(), server.refresh_token
        for _ in range(12):
            _, answer = await server.refresh(spent)
            spent = answer["refresh_token"]
            for kind, token in (("at", answer["access_token"]), ("rt", spent)):
                assert token.startswith(prefix.format(kind))
                assert len(token) == len(prefix.format(kind)) + 87
            assert answer["scope"] == "read write offline"
            lifetimes.add(answer["expires_in"])
        assert lifetimes == {86_399, 86_400}


@pytest.mark.parametrize("name", PROFILES)
async def test_a_grant_type_that_the_client_may_not_use(name: str) -> None:
    """1.5 calls it an invalid grant; nothing is spent."""
    async with serve(name) as server:
        assert server.sandbox is not None
        client = server.sandbox.client(grant_types=["client_credentials"])
        theirs = {"client_id": client.client_id, "client_secret": client.client_secret.reveal()}
        pasted = server.sandbox.paste_token("Acme", client=client)
        status, answer = await server.token(grant_type="refresh_token", refresh_token=pasted, **theirs)
        error = "invalid_grant" if name == "hydra-1.5" else "unauthorized_client"
        assert (status, answer["error"]) == (400, error)
        quoted = '"refresh_token"' if name == "hydra-1.5" else "'refresh_token'"
        said = str(answer.get("error_hint", answer["error_description"]))
        assert said.endswith(f"The OAuth 2.0 Client is not allowed to use authorization grant {quoted}.")
        assert server.sandbox.ledger.is_live(pasted)
        assert (await server.token(grant_type="client_credentials", **theirs))[0] == 200


@pytest.mark.parametrize("name", PROFILES)
async def test_a_scope_that_is_taken_from_the_application(name: str) -> None:
    """A refresh is refused for it, with the scope's name; nothing is spent, and given back, it works again."""
    async with serve(name) as server:
        assert server.sandbox is not None
        application = server.sandbox._authority.applications[server.client_id]
        allowed, application.scope = application.scope, frozenset({"read", "offline"})
        status, answer = await server.refresh()
        assert (status, answer["error"]) == (400, "invalid_scope")
        assert "The OAuth 2.0 Client is not allowed to request scope 'write'." in str(answer)
        application.scope = allowed
        assert (await server.refresh())[0] == 200


@pytest.mark.parametrize("name", PROFILES)
async def test_a_get_of_the_token_endpoint(name: str) -> None:
    """405 up to 2.3; later ones answer with 404 and HTML."""
    async with serve(name) as server:
        said = await server.ask("GET", "/oauth2/token")
        assert said.status == (404 if name == "strict" else 405)
        assert said.headers["Content-Type"].startswith("text/html" if name == "strict" else "text/plain")


@pytest.mark.parametrize("name", PROFILES)
async def test_a_refresh_that_asks_for_less(name: str) -> None:
    """The scope that is asked for is ignored: all that was granted is granted again."""
    async with serve(name) as server:
        form = {"grant_type": "refresh_token", "refresh_token": server.refresh_token, "scope": "read"}
        assert (await server.token(**form))[1]["scope"] == "read write offline"


async def test_the_servers_clock() -> None:
    """The date of each answer, and what tokens are worth, follow the sandbox's clock."""
    now = [1_000_000_000.0]
    async with serve("strict", clock=lambda: now[0]) as server:
        assert server.sandbox is not None
        for path in ("/oauth2/token", "/v1/odata/", "/nothing"):
            said = await server.ask("GET", path)
            assert parsedate_to_datetime(said.headers["Date"]).timestamp() == now[0]
            now[0] += 3600
        _, answer = await server.refresh()
        now[0] += 86_399
        assert server.sandbox.ledger.is_live(answer["access_token"])
        now[0] += 1
        assert not server.sandbox.ledger.is_live(answer["access_token"])
        assert (await server.get("/v1/odata/", answer["access_token"]))[0] == 401


@pytest.mark.parametrize("name", PROFILES)
async def test_refreshing_with_a_redirect_uri(name: str) -> None:
    """Measured versions ignore it; the severest profile refuses one for a pasted token, as Tribe's page can be read."""
    async with serve(name) as server:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": server.refresh_token,
            "redirect_uri": "https://x.example",
        }
        status, answer = await server.token(**form)
        assert (status == 200) is (name != "strict")
        if name == "strict":
            assert answer["error"] == "invalid_grant"
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
