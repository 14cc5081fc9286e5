"""``tribe-oauth doctor``: what anyone who helps would ask first. It shows no secret and makes no token request."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Final

import attrs
import typer
from aiohttp import ClientError, ClientSession, ClientTimeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tribe_oauth import MemoryStore, TokenManager, TokenStore, TribeOAuthError
from tribe_oauth.cli._managers import all_of, settings, stored

PATIENCE: Final = ClientTimeout(total=10)
SKEW: Final = 30.0
"""Seconds between this clock and the server's from which the difference is reported."""

_COLOR: Final = {"ok": "green", "look": "yellow", "wrong": "bold red"}


@attrs.frozen
class Finding:
    """`level`: ok, look (it may be intended) or wrong (it cannot work)."""

    what: str
    level: str
    text: str


async def doctor() -> None:
    """Check settings, servers, clock, store and organizations; exit with 1 where something is wrong."""
    table = Table("what", "", "found")
    wrong = False
    async with aclosing(_findings()) as findings:
        async for finding in findings:
            wrong |= finding.level == "wrong"
            level = f"[{_COLOR[finding.level]}]{finding.level}[/]"
            table.add_row(escape(finding.what), level, escape(finding.text))
    Console().print(table)
    if wrong:
        raise typer.Exit(1)


async def _findings() -> AsyncGenerator[Finding]:
    try:
        known = settings()
    except TribeOAuthError as error:
        yield Finding("settings", "wrong", str(error))
        return
    client = known.client
    way = "Quick Setup" if known.pasted else "client credentials"
    yield Finding("settings", "ok", f"client {client.client_id}, {way}, organization {known.organization}")
    yield await _check_server("authorization server", client.endpoints.token_endpoint)
    yield await _check_server("API", client.endpoints.api + "/v1/odata")
    async with stored(known) as manager:
        found = await _check_store(manager.store)
        yield found
        if found.level != "wrong":
            for finding in await _check_organizations(manager):
                yield finding


async def _check_server(what: str, url: str) -> Finding:
    """Whether a server answers there, with any status, and what time it is there. No token is sent."""
    try:
        async with (
            ClientSession(timeout=PATIENCE) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            date, status = response.headers.get("Date", ""), response.status
    except (ClientError, TimeoutError) as error:
        return Finding(what, "wrong", f"{url} does not answer ({type(error).__name__}): check network, name and proxy")
    try:
        skew = parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        skew = 0.0
    if abs(skew) > SKEW:
        return Finding(what, "look", f"{url}: its clock is {skew:+.0f} s from this one: set this machine's clock")
    return Finding(what, "ok", f"{url} answers ({status})")


async def _check_store(store: TokenStore) -> Finding:
    """Whether the store takes a note and gives it back."""
    kind, key = type(store).__name__, f"doctor:{secrets.token_hex(8)}"
    try:
        await store.put(key, b"written", lives_for=60)
        kept = await store.take(key)
    except TribeOAuthError as error:
        return Finding("store", "wrong", str(error))
    if kept != b"written":
        return Finding(
            "store",
            "wrong",
            f"{kind} lost what was just written: refresh tokens would be lost too; check that it is durable, and that"
            " TRIBE_STORE leads to one server",
        )
    if isinstance(store, MemoryStore):
        return Finding("store", "look", f"{kind}: every refresh token is lost when this process ends; set TRIBE_STORE")
    return Finding("store", "ok", f"{kind} keeps what it is given")


async def _check_organizations(manager: TokenManager) -> list[Finding]:
    """How many organizations there are in each state, and why one does not work."""
    states: Counter[str] = Counter()
    found: list[Finding] = []
    try:
        keys = await all_of(manager)
    except TribeOAuthError as error:
        return [Finding("organizations", "wrong", str(error))]
    for key in keys:
        try:
            status = await manager.status(key)
        except TribeOAuthError as error:
            found.append(Finding(f"organization {key}", "wrong", str(error)))
            continue
        states[status.state] += 1
        if status.state == "reauthorization_required":
            found.append(Finding(f"organization {key}", "wrong", f"connect it again ({status.why})"))
        elif status.state == "backing_off":
            found.append(Finding(f"organization {key}", "look", f"waiting to try again: {status.why}"))
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none is connected"
    return [*found, Finding("organizations", "ok", told)]
