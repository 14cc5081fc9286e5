"""``tribe-oauth doctor``: what one would be asked first by whoever helps. It changes nothing and shows no secret."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from typing import Final

import attrs
import typer
from aiohttp import ClientError, ClientSession, ClientTimeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tribe_oauth import MemoryStore, TokenManager, TokenStore, TribeOAuthError
from tribe_oauth._manager import settings as environment

PATIENCE: Final = ClientTimeout(total=10)
SKEW: Final = 30.0
"""Seconds between this clock and the server's that are worth a word."""

_COLOR: Final = {"ok": "green", "look": "yellow", "wrong": "bold red"}


@attrs.frozen
class Finding:
    """`level`: ok, look (it may be meant) or wrong (it cannot work)."""

    what: str
    level: str
    text: str


async def run(console: Console) -> None:
    """Look at everything; exit with 1 where something is wrong."""
    table = Table("what", "", "found")
    wrong = False
    async for finding in _findings():
        wrong |= finding.level == "wrong"
        table.add_row(finding.what, f"[{_COLOR[finding.level]}]{finding.level}[/]", escape(finding.text))
    console.print(table)
    if wrong:
        raise typer.Exit(1)


async def _findings() -> AsyncIterator[Finding]:
    try:
        settings = environment.read()
        endpoints, client = settings.client.endpoints, settings.client
        store = environment.store(durable=True)
    except TribeOAuthError as error:
        yield Finding("settings", "wrong", str(error))
        return
    way = "Quick Setup" if settings.pasted else "client credentials"
    yield Finding("settings", "ok", f"client {client.client_id}, {way}, organization {settings.organization}")
    yield await _asked("authorization server", endpoints.token_endpoint)
    yield await _asked("API", endpoints.api + "/v1/odata")
    async with TokenManager(client, store=store) as manager:
        for finding in await _kept(manager):
            yield finding


async def _kept(manager: TokenManager) -> list[Finding]:
    found = await _store(manager.store)
    return [found] if found.level == "wrong" else [found, *await _organizations(manager)]


async def _asked(what: str, url: str) -> Finding:
    """Whether anything answers there, and what time it is there. Without a token, and whatever the answer is."""
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
        return Finding(what, "look", f"{url}: its clock is {skew:+.0f} s from this one: have this machine's clock set")
    return Finding(what, "ok", f"{url} answers ({status})")


async def _store(store: TokenStore) -> Finding:
    """Whether it takes a note and gives it back."""
    kind, key = type(store).__name__, f"doctor:{secrets.token_hex(8)}"
    try:
        await store.put(key, b"written", lives_for=60)
        kept = await store.take(key)
    except TribeOAuthError as error:
        return Finding("store", "wrong", str(error))
    if kept != b"written":
        return Finding("store", "wrong", f"{kind} lost what was just written: are there several, or is it not durable?")
    if isinstance(store, MemoryStore):
        return Finding("store", "look", f"{kind}: with this process every refresh token is lost; set TRIBE_STORE")
    return Finding("store", "ok", f"{kind} takes and gives back")


async def _organizations(manager: TokenManager) -> list[Finding]:
    """How many there are in which state, and the reason where one does not work."""
    states: Counter[str] = Counter()
    found: list[Finding] = []
    try:
        keys = sorted([key async for key in manager.organizations()])
    except TribeOAuthError as error:
        return [Finding("organizations", "wrong", str(error))]
    for key in keys:
        try:
            status = await manager.status(key)
        except TribeOAuthError as error:
            found.append(Finding(f"organization {escape(key)}", "wrong", str(error)))
            continue
        states[status.state] += 1
        if status.state == "reauthorization_required":
            found.append(Finding(f"organization {escape(key)}", "wrong", f"has to be connected again ({status.cause})"))
        elif status.state == "backing_off":
            found.append(Finding(f"organization {escape(key)}", "look", f"waiting to try again: {status.cause}"))
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items())) or "none is connected"
    return [*found, Finding("organizations", "ok", told)]
