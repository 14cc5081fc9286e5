"""What the doctor finds by asking: whether the servers answer, know the client, and give a row of each organization."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator
from email.utils import parsedate_to_datetime
from typing import Any, Final

import attrs
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientError,
    ClientResponse,
    ClientSSLError,
    ClientTimeout,
)

from tribe_oauth import StoreError, Token, TokenManager, TribeOAuthError
from tribe_oauth._manager.middleware import BearerMiddleware, OneToken
from tribe_oauth._manager.settings import Settings
from tribe_oauth._oauth import messages
from tribe_oauth._oauth.client import ClientCredentialsGrant
from tribe_oauth._oauth.endpoint import Answered, Outcome
from tribe_oauth._oauth.messages import Granted, Refused
from tribe_oauth._oauth.values import format_scope, parse_scope
from tribe_oauth._printable import printable
from tribe_oauth._refresh.payload import Payload, decode
from tribe_oauth._refresh.rejections import Acceptance
from tribe_oauth._refresh.token_requests import client_secret
from tribe_oauth._remedies import reason, remedy
from tribe_oauth.cli._finding import Finding, look, ok, wrong
from tribe_oauth.cli._managers import all_of
from tribe_oauth.cli._words import told

PATIENCE: Final = ClientTimeout(total=10)
SKEW: Final = 30.0
"""Seconds between this clock and the server's from which the difference is reported."""
ROW: Final = "/v1/odata/Relation_Person"
AT_ONCE: Final = 10
"""Organizations that are asked at a time."""
_LONGEST: Final = 64 * 1024
"""Bytes that are read of an answer."""
_APPLICATIONS: Final = "Configuration > Applications in Tribe"


async def try_server(manager: TokenManager, what: str, url: str) -> Finding:
    """Whether a server answers there, with any status, and what time it is there. No token is sent."""
    try:
        async with (
            manager._sessions.open(None) as session,
            session.get(url, allow_redirects=False, timeout=PATIENCE) as response,
        ):
            date, status = response.headers.get("Date", ""), response.status
    except (ClientError, TimeoutError) as error:
        return wrong(what, f"{url} does not answer: {_why(error)}")
    try:
        skew = parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        skew = 0.0
    if abs(skew) > SKEW:
        return look(what, f"{url}: its clock is {skew:+.0f} s from this one: set this machine's clock")
    return ok(what, f"{url} answers ({status})")


def _why(error: Exception) -> str:
    """What is between here and the server, and what to do about it."""
    match error:
        case TimeoutError():
            return "nothing came within 10 s; look for a firewall or a proxy between"
        case ClientConnectorCertificateError():
            return f"{reason(error)}; {remedy(error, 'find out who answers there')}"
        case ClientConnectorDNSError():
            return "there is no such name; correct the address, or look at this machine's network"
        case ClientSSLError():
            return "it does not speak TLS; correct the scheme or the port of the address"
    if getattr(error, "errno", None) == errno.ECONNREFUSED:
        return "nothing listens there; correct the address, or start what should"
    return f"the connection failed ({type(error).__name__}); correct the address, or look at network and proxy"


@attrs.frozen
class Trial:
    """`token`: an access token by client credentials, which costs nothing."""

    finding: Finding
    token: Token | None = None


async def try_client(manager: TokenManager, known: Settings) -> Trial:
    """Whether the authorization server knows the client, its secret and its scope: it is asked by client credentials.

    An Application that may not use them proves itself by being told so.
    """
    client, needs_grant = known.client, not known.pasted and await _is_empty(manager)
    scope = known.grant.asked if isinstance(known.grant, ClientCredentialsGrant) else client.scope
    form = messages.client_credentials_request(client.client_id, client.client_secret, scope=scope)
    url = client.endpoints.token_endpoint
    return _judged(await manager._context.endpoint.post(url, form), url, scope, needs_grant=needs_grant)


async def _is_empty(manager: TokenManager) -> bool:
    try:
        return not await manager._organizations.some()
    except StoreError:  # which has a finding of its own
        return False


def _judged(outcome: Outcome, url: str, scope: str, *, needs_grant: bool) -> Trial:
    if not isinstance(outcome, Answered):
        advice = getattr(outcome, "remedy", "") or "look for a firewall or a proxy"
        return Trial(wrong("client", f"a token request got no answer ({outcome.reason}): {advice}"))
    match outcome.reading:
        case Granted(access_token=access_token, scope=granted, expires_in=seconds) if access_token is not None:
            token = Token(access_token=access_token, expires_at=time.time() + seconds, scope=granted)
            return Trial(_granted(scope, granted), token)
        case Refused() as refused:
            return Trial(_refused(refused, scope, needs_grant=needs_grant))
        case reading:
            return Trial(_unreadable(url, outcome.status, getattr(reading, "reason", "")))


def _granted(asked: str, granted: frozenset[str] | None) -> Finding:
    lacking = parse_scope(asked) - (parse_scope(asked) if granted is None else granted)
    if lacking:
        return look("client", f"the server knows it, and does not grant {format_scope(lacking)}: see {_APPLICATIONS}")
    return ok("client", f"the server knows it, and grants {asked}")


def _refused(refused: Refused, scope: str, *, needs_grant: bool) -> Finding:
    said = refused.error + (f": {refused.description}" if refused.description else "")
    if refused.error == "invalid_client":
        return wrong(
            "client",
            f"the server does not take TRIBE_CLIENT_ID with TRIBE_CLIENT_SECRET ({said}): copy both again from"
            f" {_APPLICATIONS}; where they worked before, the server may have a fault, which passes",
        )
    if refused.error == "invalid_scope":
        return wrong(
            "client",
            f"the Application does not have all of the scope {scope!r} ({said}): set TRIBE_SCOPE to what is ticked"
            f" under {_APPLICATIONS}, or tick it there",
        )
    if refused.error in {"unauthorized_client", "invalid_grant"}:  # the latter of Ory Hydra 1.5
        if not needs_grant:
            return ok("client", "the server knows it; it may not use client credentials, and need not")
        return wrong(
            "client",
            f"the server knows it, and it may not use client credentials ({said}): allow it under {_APPLICATIONS}, or"
            " connect by consent ('tribe-oauth login') or by a refresh token ('tribe-oauth connect --paste')",
        )
    return wrong("client", f"the server refuses a token request ({said}): look for a proxy that changes requests")


def _unreadable(url: str, status: int, reason: str) -> Finding:
    if status == 429:
        return look("client", f"{url} has had too many requests (429): try again in some minutes")
    if status >= 500:
        return wrong("client", f"{url} has a fault ({status}): try again later, or ask who runs it")
    return wrong("client", f"{url} is no authorization server ({reason}): correct TRIBE_AUTH_URL")


async def try_organizations(manager: TokenManager, *, api_answers: bool) -> AsyncGenerator[Finding]:
    """How many organizations there are in each state, and why one does not work; a row is asked of each."""
    states: Counter[str] = Counter()
    keys = await all_of(manager)
    for at in range(0, len(keys), AT_ONCE):
        trials = (_try(manager, key, api_answers=api_answers) for key in keys[at : at + AT_ONCE])
        for state, finding in await asyncio.gather(*trials):
            states[state] += 1
            if finding.level != "ok":
                yield finding
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none is connected"
    yield ok("organizations", counts)


async def _try(manager: TokenManager, key: str, *, api_answers: bool) -> tuple[str, Finding]:
    """In which state it is, and what came of its trial."""
    try:
        return await _tried(manager, key, api_answers=api_answers)
    except TribeOAuthError as error:
        return "broken", wrong(f"organization {key}", told(error))


async def _tried(manager: TokenManager, key: str, *, api_answers: bool) -> tuple[str, Finding]:
    what, status = f"organization {key}", await manager.status(key)
    if status.state == "reauthorization_required":
        return status.state, wrong(
            what, f"connect it again with 'tribe-oauth login' or 'tribe-oauth connect --paste' ({status.why})"
        )
    record = await manager.store.load(key)
    payload = Payload() if record is None else decode(record)
    if payload.credential is not None:
        client_secret(manager._context, payload.credential, key)
    if status.state == "backing_off":
        return status.state, look(what, f"waiting to try again: {status.why}")
    token = payload.token
    if payload.credential is not None and payload.credential.kind == "client_credentials":
        token = await manager.token(key)
    if token is None or token.expires_at <= time.time():
        return status.state, look(
            what, "its access token has ended, so that no row is asked for: 'tribe-oauth refresh' gets another"
        )
    return status.state, await try_row(manager, what, token) if api_answers else ok(what, "not asked")


async def try_row(manager: TokenManager, what: str, token: Token) -> Finding:
    """One row of the API, with this very token: none is refreshed for it."""
    acceptance = Acceptance(time.monotonic)
    bearer = BearerMiddleware(OneToken(token), manager._sessions.origin, acceptance)
    try:
        async with (
            manager._sessions.open(bearer) as session,
            session.get(
                ROW, params={"$top": "1", "$select": "ID"}, allow_redirects=False, timeout=PATIENCE
            ) as response,
        ):
            status, content = response.status, await _content(response)
    except (ClientError, TimeoutError) as error:
        return wrong(what, f"the API gives no row: {_why(error)}")
    return _row(what, status, content)


async def _content(response: ClientResponse) -> bytes:
    content = bytearray()
    while len(content) < _LONGEST and (chunk := await response.content.readany()):
        content += chunk
    return bytes(content)


def _row(what: str, status: int, content: bytes) -> Finding:
    answer = _parsed(content)
    if status == 200 and isinstance(answer.get("value"), list):
        return ok(what, "gives rows")
    error = answer.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    said = f"{status}: {printable(message)}" if isinstance(message, str) else str(status)
    if status == 401:
        return wrong(
            what,
            f"the API refuses its token ({said}): it was revoked, or replaced by another program; connect it again",
        )
    if status == 403:
        return wrong(
            what,
            f"it may not be read ({said}): give the Application, and whoever connected it, the right to read persons in"
            " Tribe",
        )
    if status == 429:
        return look(what, "the API has had too many calls (429): try again in some minutes")
    if status >= 500:
        return wrong(what, f"the API has a fault ({said}): try again later")
    return wrong(what, f"what answers is not Tribe's API ({said}): correct TRIBE_API_URL")


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}
