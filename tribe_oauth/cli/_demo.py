"""`tribe-oauth demo`: the main job, told in seven steps against a sandbox in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import attrs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table

from tribe_oauth import (
    Client,
    ClientCredentialsGrant,
    ReauthorizationRequired,
    RefreshTokenGrant,
    Secret,
    TokenManager,
    odata,
)
from tribe_oauth.sandbox import Remote
from tribe_oauth.stores.sqlite import SQLiteStore

APPLICATION, PASTED, CONSENTED = "acme", "bakkerij", "cobra"
TRIBE_NAMES: Final = {APPLICATION: "Acme", PASTED: "Bakkerij Bos", CONSENTED: "Cobra Logistiek"}


@attrs.define
class Story:
    """What the steps share."""

    console: Console
    tribe: Remote
    base: str
    client: Client
    manager: TokenManager
    store: SQLiteStore
    path: Path
    quiet: float
    callers: int
    lines: list[tuple[str, str, float]] = attrs.Factory(list)

    def say(self, text: str) -> None:
        """A line of the story."""
        self.console.print(f"  {text}", highlight=False)

    async def requests(self) -> int:
        """How many token requests the server has seen."""
        return int((await self.tribe.ledger())["token_requests"])


async def run(console: Console, *, quiet: float, callers: int, persons: int) -> None:
    """Tell it all. Everything started here is ended here."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tribe-oauth-demo-") as folder:
        path = Path(folder) / "tribe.db"
        async with _tribe(persons) as base, Remote(base) as tribe:
            client = await tribe.client()
            store = SQLiteStore(path)
            async with TokenManager(client, store=store, quiet=quiet) as manager:
                story = Story(console, tribe, base, client, manager, store, path, quiet, callers)
                for number, step in enumerate(STEPS, start=1):
                    await _tell(story, number, step)
    _close(console, story, time.perf_counter() - started)


async def _tell(story: Story, number: int, step: Callable[[Story], Awaitable[str]]) -> None:
    title = (step.__doc__ or "").rstrip(".")
    story.console.print(Rule(f"[bold]{number}. {title}", align="left"))
    started = time.perf_counter()
    outcome = await step(story)
    story.lines.append((title, outcome, time.perf_counter() - started))


@asynccontextmanager
async def _tribe(persons: int) -> AsyncIterator[str]:
    """An emulated Tribe in a process of its own; its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tribe_oauth.sandbox", "--latency", "0.1", "--persons", str(persons)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield json.loads(await process.stdout.readline())["base_url"]
    finally:
        process.terminate()
        await process.wait()


async def three_ways_in(story: Story) -> str:
    """Three organizations connect, each in its own way."""
    client, manager, tribe = story.client, story.manager, story.tribe
    await manager.connect(APPLICATION, ClientCredentialsGrant(client))
    story.say(f"[cyan]{APPLICATION}[/] by client credentials: server to server, nobody has to consent")
    await manager.connect(PASTED, RefreshTokenGrant(client, await tribe.paste_token(TRIBE_NAMES[PASTED])))
    story.say(f"[cyan]{PASTED}[/] by Quick Setup: a refresh token copied from Tribe")
    request = client.authorization_request()
    callback = await tribe.approve(request.url, organization=TRIBE_NAMES[CONSENTED])
    await manager.connect(CONSENTED, request.grant(callback))
    story.say(f"[cyan]{CONSENTED}[/] by authorization code: somebody allowed it in the browser")
    return f"{await story.requests()} token requests"


async def one_request(story: Story) -> str:
    """Everybody asks at once."""
    old = await story.manager.token(PASTED)
    await story.tribe.expire(TRIBE_NAMES[PASTED])
    before = await story.requests()
    calls = (story.manager.refresh(PASTED, rejected=old) for _ in range(story.callers))
    tokens = set(await asyncio.gather(*calls))
    made = await story.requests() - before
    story.say(
        f"{story.callers:,} coroutines found their token refused, and asked for another: Tribe saw [bold]{made}[/]"
    )
    story.say(f"token request, and all of them got the same {'token' if len(tokens) == 1 else 'tokens (a defect!)'}")
    return f"{story.callers:,} callers, {made} token request"


async def rotation(story: Story) -> str:
    """A rotation, seen from near."""
    table = Table("", "generation", "refresh token (its fingerprint)", "the old one at Tribe")
    for moment in ("before", "after"):
        token, record = await story.manager.token(CONSENTED), await story.store.load(CONSENTED)
        assert token.refresh_token is not None
        assert record is not None
        held = token.refresh_token if moment == "before" else held  # noqa: F821 (set in the first round)
        state = "good" if await story.tribe.is_live(held.reveal()) else "dead: it works once"
        table.add_row(moment, str(record.generation), _fingerprint(token.refresh_token), state)
        if moment == "before":
            await story.manager.refresh(CONSENTED)
    story.console.print(table)
    story.say("The new one was on disk before anybody saw it: whoever loses it, loses the customer.")
    return "replaced, and saved before use"


def _fingerprint(secret: Secret) -> str:
    return hashlib.sha256(secret.reveal().encode()).hexdigest()[:12]


async def killed_and_recovered(story: Story) -> str:
    """A process is killed in the middle of a rotation."""
    await _kill_in_the_middle(story, PASTED, spent=False)
    started = time.perf_counter()
    token = await story.manager.refresh(PASTED)
    took = time.perf_counter() - started
    alive = token.refresh_token is not None and await story.tribe.is_live(token.refresh_token.reveal())
    twice = (await story.tribe.ledger())["spent_twice"]
    story.say(
        f"This process found its lease in the store, waited {story.quiet:g} s until the dead one's request could not"
    )
    story.say(f"arrive any more, and sent the same refresh token: [green]{PASTED} is connected[/], after {took:.1f} s.")
    return "recovered from the store" if alive and not twice else "NOT recovered: a defect"


async def killed_and_lost(story: Story) -> str:
    """The one loss that no client can prevent, and how it is told."""
    await _kill_in_the_middle(story, PASTED, spent=True)
    try:
        await story.manager.refresh(PASTED)
    except ReauthorizationRequired as error:
        story.say(
            f"Tribe had spent the refresh token, and nobody read the answer: [yellow]{error.cause}[/], said once,"
        )
        story.say("and Tribe is not asked again. One line connects it:")
        grant = RefreshTokenGrant(story.client, await story.tribe.paste_token(TRIBE_NAMES[PASTED]))
        await story.manager.connect(PASTED, grant)
        story.say(f'[dim]await manager.connect("{PASTED}", RefreshTokenGrant(client, pasted))[/]')
        return f"named: {error.cause}; connected again"
    return "not noticed: a defect"


async def _kill_in_the_middle(story: Story, organization: str, *, spent: bool) -> None:
    """SIGKILL for a real process whose token request has just reached the server."""
    fault = await story.tribe.fault("lost_answer" if spent else "lost_request", hang=True)
    victim = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tribe_oauth.cli._victim"),
        *(str(story.path), story.base, story.client.client_id, organization),
        env={**os.environ, "TRIBE_CLIENT_SECRET": story.client.client_secret.reveal()},
    )
    try:
        await fault.reached()
    finally:
        victim.kill()
        await victim.wait()
    await fault.release()
    moment = (
        "after Tribe had done its work, before the answer was read" if spent else "when its request was on the wire"
    )
    story.say(f"Process {victim.pid} was killed (SIGKILL) {moment}.")


async def read_everything(story: Story) -> str:
    """All persons of all organizations, at once."""
    columns = (TextColumn("  {task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=story.console) as progress:
        counts = await asyncio.gather(*(_read(story, progress, organization) for organization in TRIBE_NAMES))
    return f"{sum(counts):,} persons"


async def _read(story: Story, progress: Progress, organization: str) -> int:
    task, rows = progress.add_task(organization, total=None), 0
    async with story.manager.session(organization) as session:
        async for page in odata.pages(session, "Relation_Person", select=["ID", "Name"], count=True):
            rows += len(page.rows)
            progress.update(task, total=page.count, completed=rows)
    return rows


STEPS: Final = (three_ways_in, one_request, rotation, killed_and_recovered, killed_and_lost, read_everything)


def _close(console: Console, story: Story, seconds: float) -> None:
    table = Table("what", "outcome", "seconds", title="What happened", title_justify="left")
    table.columns[2].justify = "right"
    for what, outcome, took in story.lines:
        table.add_row(what, outcome, f"{took:.1f}")
    table.add_section()
    table.add_row("All of it, with an emulated Tribe in a process of its own", "", f"{seconds:.1f}")
    console.print()
    console.print(table)
