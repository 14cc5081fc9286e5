"""``tribe-oauth demo``: the main job in six steps, against a sandbox in a process of its own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import anyio
import attrs
import typer
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table

from tribe_oauth import (
    Client,
    ClientCredentialsGrant,
    ReauthorizationRequired,
    RefreshTokenGrant,
    Token,
    TokenManager,
    TribeOAuthError,
    odata,
)
from tribe_oauth.cli._processes import running
from tribe_oauth.cli._words import console
from tribe_oauth.sandbox import Remote, environment
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
    callers: int
    lines: list[tuple[str, str, float]] = attrs.Factory(list)

    def say(self, text: str) -> None:
        """A paragraph of the story."""
        self.console.print(Padding(text, (0, 0, 0, 2)), highlight=False)

    async def requests(self) -> int:
        """How many token requests the server has seen."""
        return int((await self.tribe.ledger())["token_requests"])


async def demo(
    quiet: Annotated[
        float, typer.Option(help="Seconds after which a lost request is taken not to arrive any more.", min=0)
    ] = 1.0,
    callers: Annotated[int, typer.Option(help="Coroutines that ask for a token at the same time.", min=1)] = 10_000,
    persons: Annotated[int, typer.Option(help="Persons in each organization.", min=1)] = 20_000,
) -> None:
    """Show in a minute what the library does, against an emulated Tribe: no account needed."""
    started, screen = time.perf_counter(), console(otherwise=140)
    logging.getLogger("tribe_oauth").addHandler(logging.NullHandler())  # the story tells what the log would
    with tempfile.TemporaryDirectory(prefix="tribe-oauth-demo-") as folder:
        path = Path(folder) / "tribe.db"
        async with _emulated_tribe(persons) as base, Remote(base) as tribe:
            client = await tribe.client()
            store = SQLiteStore(path, busy_timeout=0.5)  # a successor waits for that too
            async with TokenManager(client, store=store, quiet=quiet) as manager:
                story = Story(screen, tribe, base, client, manager, store, path, callers)
                screen.print(f"An emulated Tribe runs at {base}, in a process of its own.", highlight=False)
                for number, step in enumerate(STEPS, start=1):
                    await _tell(story, number, step)
    _close(screen, story, time.perf_counter() - started)


async def _tell(story: Story, number: int, step: Callable[[Story], Awaitable[str]]) -> None:
    title = (step.__doc__ or "").rstrip(".")
    story.console.print(Rule(f"[bold]{number}. {title}", align="left"))
    started = time.perf_counter()
    outcome = await step(story)
    story.lines.append((title, outcome, time.perf_counter() - started))


@asynccontextmanager
async def _emulated_tribe(persons: int) -> AsyncIterator[str]:
    """An emulated Tribe in a process of its own; its address.

    It ends when its standard input is closed: then it ends too where this process is killed.
    """
    command = (sys.executable, "-m", "tribe_oauth.sandbox", "--end-with-stdin")
    options = ("--latency", "0.1", "--persons", str(persons))
    async with running(*command, *options, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        ready = await process.stdout.readline()
        if not ready:
            raise TribeOAuthError(f"the emulated Tribe did not start: exit status {await process.wait()}")
        yield json.loads(ready)["base_url"]


async def three_ways_in(story: Story) -> str:
    """Three organizations connect, each in its own way."""
    client, manager, tribe = story.client, story.manager, story.tribe
    await manager.connect(APPLICATION, ClientCredentialsGrant(client))
    story.say(f"[cyan]{APPLICATION}[/] by client credentials: server to server, without a consent")
    await manager.connect(PASTED, RefreshTokenGrant(client, await tribe.paste_token(TRIBE_NAMES[PASTED])))
    story.say(f"[cyan]{PASTED}[/] by Quick Setup: a refresh token copied from Tribe")
    request = client.authorization_request()
    callback = await tribe.approve(request.url, organization=TRIBE_NAMES[CONSENTED])
    await manager.connect(CONSENTED, request.grant(callback))
    story.say(f"[cyan]{CONSENTED}[/] by authorization code: a person allowed it in the browser")
    return f"{await story.requests()} token requests"


async def one_request(story: Story) -> str:
    """All callers ask at once."""
    old = await story.manager.token(PASTED)
    await story.tribe.expire(TRIBE_NAMES[PASTED])
    before = await story.requests()
    calls = (story.manager.refresh(PASTED, rejected=old) for _ in range(story.callers))
    tokens = set(await asyncio.gather(*calls))
    made = await story.requests() - before
    story.say(
        f"{story.callers:,} coroutines found their token refused, and asked for another. Token requests that Tribe saw:"
        f" [bold]{made}[/]. Different tokens that they got: [bold]{len(tokens)}[/]."
    )
    return f"{story.callers:,} callers, {made} token request"


async def rotation(story: Story) -> str:
    """A rotation, step by step."""
    table = Table("", "generation", "refresh token (its fingerprint)", "the old one at Tribe")
    old = await story.manager.token(CONSENTED)
    table.add_row("before", *await _seen(story, old, old))
    table.add_row("after", *await _seen(story, await story.manager.refresh(CONSENTED), old))
    story.console.print(Padding(table, (0, 0, 0, 2)))
    story.say("The new one was on disk before any caller got it: without it, the customer would have to consent again.")
    return "replaced, and saved before use"


async def _seen(story: Story, token: Token, old: Token) -> tuple[str, str, str]:
    record = await story.store.load(CONSENTED)
    assert record is not None
    assert token.refresh_token is not None
    assert old.refresh_token is not None
    good = await story.tribe.is_live(old.refresh_token.reveal())
    fingerprint = hashlib.sha256(token.refresh_token.reveal().encode()).hexdigest()[:12]
    return str(record.generation), fingerprint, "good" if good else "dead: it works once"


async def killed_and_recovered(story: Story) -> str:
    """A process is killed in the middle of a rotation."""
    await _kill_in_the_middle(story, PASTED, spent=False)
    started = time.perf_counter()
    token = await story.manager.refresh(PASTED)
    took = time.perf_counter() - started
    assert token.refresh_token is not None
    assert await story.tribe.is_live(token.refresh_token.reveal())
    assert not (await story.tribe.ledger())["spent_twice"]
    story.say(
        f"This process found the dead one's lease in the store, and watched the store until neither its request nor an"
        f" answer that was read and not saved could come any more. Then it sent the same refresh token: [green]{PASTED}"
        f" is connected[/], after {took:.1f} s."
    )
    return "recovered from the store"


async def killed_and_lost(story: Story) -> str:
    """The one loss that no client can prevent, and how it is reported."""
    await _kill_in_the_middle(story, PASTED, spent=True)
    try:
        await story.manager.refresh(PASTED)
    except ReauthorizationRequired as error:
        cause = error.cause
    story.say(
        f"Tribe had spent the refresh token, and its answer was lost: [yellow]{cause}[/]. This is reported once, and"
        " Tribe is not asked again. One line connects the organization:"
    )
    grant = RefreshTokenGrant(story.client, await story.tribe.paste_token(TRIBE_NAMES[PASTED]))
    await story.manager.connect(PASTED, grant)
    story.say(f'[dim]await manager.connect("{PASTED}", RefreshTokenGrant(client, pasted))[/]')
    return f"named: {cause}; connected again"


async def _kill_in_the_middle(story: Story, organization: str, *, spent: bool) -> None:
    """Kill a real process (SIGKILL) whose token request has just reached the server."""
    fault = await story.tribe.fault("lost_answer" if spent else "lost_request", hang=True)
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TRIBE_")},
        **environment(story.base, story.client),
        "TRIBE_STORE": str(story.path),
    }
    command = (sys.executable, "-m", "tribe_oauth.cli", "refresh", organization)
    status: int | None = None
    async with running(*command, end_by=signal.SIGKILL, env=environ) as victim, anyio.create_task_group() as group:

        async def watch() -> None:
            nonlocal status
            status = await victim.wait()
            group.cancel_scope.cancel()

        group.start_soon(watch)
        await fault.reached()
        group.cancel_scope.cancel()
    if status is not None:
        raise TribeOAuthError(f"the process that was to be killed ended by itself: exit status {status}")
    await fault.release()
    moment = (
        "after Tribe had done its work, before the answer was read" if spent else "when its request was on the wire"
    )
    story.say(f"Process {victim.pid} ([dim]tribe-oauth refresh {organization}[/]) was killed (SIGKILL) {moment}.")


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


def _close(screen: Console, story: Story, seconds: float) -> None:
    table = Table("what", "outcome", "seconds", title="What happened", title_justify="left")
    table.columns[2].justify = "right"
    for what, outcome, took in story.lines:
        table.add_row(what, outcome, f"{took:.1f}")
    table.add_section()
    table.add_row("All of it, with an emulated Tribe in a process of its own", "", f"{seconds:.1f}")
    screen.print()
    screen.print(table)
