"""The commands: settings from the environment, one clear line for what goes wrong, no secret on the screen."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tribe_oauth import RefreshTokenGrant, Status, TokenManager, TribeOAuthError, odata
from tribe_oauth._manager import settings as environment
from tribe_oauth._oauth.values import format_scope
from tribe_oauth._times import relative
from tribe_oauth.cli import _export
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sandbox import PROFILES, Sandbox

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="OAuth 2.0 for Tribe CRM. Settings come from TRIBE_CLIENT_ID, TRIBE_CLIENT_SECRET and their friends.",
)

Organization = Annotated[str | None, typer.Argument(help="Which organization; by default the one of the environment.")]


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(_until_terminated(work))
    except TribeOAuthError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        raise typer.Exit(128 + signal.SIGINT) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """SIGTERM ends it as Ctrl-C does: what was started here is ended here, and nothing under way is cut off."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work


def _stored() -> TokenManager:
    """A manager on the store, for an organization that is named or for all of them."""
    return TokenManager(environment.read().client, store=environment.store(durable=True))


def _manager(organization: str | None) -> TokenManager:
    return TokenManager.from_env() if organization is None else _stored()


@app.command()
def demo(
    quiet: Annotated[
        float, typer.Option(help="Seconds after which a lost request cannot arrive any more.", min=0)
    ] = 1.0,
    callers: Annotated[int, typer.Option(help="Coroutines that ask at once.", min=1)] = 10_000,
    persons: Annotated[int, typer.Option(help="Persons in each organization.", min=1)] = 20_000,
) -> None:
    """The whole story in a minute, against an emulated Tribe: no account needed."""
    from tribe_oauth.cli._demo import run

    _run(run(Console(), quiet=quiet, callers=callers, persons=persons))


@app.command()
def sandbox(
    port: Annotated[int, typer.Option(help="0: a free one.", min=0, max=65_535)] = 0,
    profile: Annotated[str, typer.Option(help=f"One of {', '.join(PROFILES)}.")] = "strict",
    seed: Annotated[int, typer.Option(help="Of the generated data.")] = 0,
    organizations: Annotated[int, typer.Option(min=1)] = 3,
    persons: Annotated[int, typer.Option(help="In each organization.", min=0)] = 250,
    redirect_uri: Annotated[
        str, typer.Option(help="Registered with the Application; on 127.0.0.1 any port will do.")
    ] = "http://127.0.0.1/callback",
) -> None:
    """Serve an emulated Tribe on this machine, and say how to use it."""
    if profile not in PROFILES:
        raise typer.BadParameter(f"choose one of {', '.join(PROFILES)}", param_hint="--profile")
    emulated = Sandbox(
        port=port,
        profile=profile,
        seed=seed,
        organizations=organizations,
        persons=persons,
        redirect_uri=redirect_uri,
    )
    _run(_serve(emulated))


async def _serve(sandbox: Sandbox) -> None:
    console = Console()
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(sandbox)
        except OSError as error:
            raise ConfigurationError(f"{error.strerror}: choose another --port, or 0 for a free one") from None
        console.print(f"An emulated Tribe is at [bold]{sandbox.base}[/]. It has: {', '.join(sandbox.organizations)}.")
        console.print("In another terminal:\n")
        for name, value in sandbox.environment.items():
            console.print(f"  export {name}={value}", highlight=False, soft_wrap=True)
        console.print("  tribe-oauth get Relation_Person --top 5\n")
        console.print("Ctrl-C ends it.")
        await asyncio.Event().wait()


@app.command()
def connect(
    organization: Organization = None,
    paste: Annotated[bool, typer.Option("--paste", help="Ask for a refresh token (Quick Setup).")] = False,
) -> None:
    """Connect an organization: by TRIBE_REFRESH_TOKEN, or one that is asked for; without, by client credentials."""
    _run(_connect(organization, _pasted() if paste else None))


def _pasted() -> str:
    """A refresh token from the keyboard, unseen, or from a pipe."""
    if sys.stdin.isatty():
        return str(typer.prompt("Refresh token", hide_input=True))
    return sys.stdin.readline().strip()


async def _connect(organization: str | None, refresh_token: str | None) -> None:
    settings = environment.read()
    grant = settings.grant if refresh_token is None else RefreshTokenGrant(settings.client, refresh_token)
    key = organization or settings.organization
    async with _stored() as manager:
        await manager.connect(key, grant)
        Console().print(f"connected: {escape(key)}")


@app.command()
def login(
    organization: Organization = None,
    pin: Annotated[str | None, typer.Option(help="Tribe's id of the organization that has to consent.")] = None,
    browser: Annotated[bool, typer.Option(help="Open a browser; the address is printed in any case.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the consent.", min=1)] = 600.0,
) -> None:
    """Connect an organization by consent in a browser on this machine, or by the address it ended at."""
    from tribe_oauth.cli._login import run

    settings = environment.read()
    key = organization or settings.organization
    _run(run(_stored(), settings.client, key, pin=pin, browser=browser, timeout=timeout))


@app.command()
def disconnect(organization: Annotated[str, typer.Argument(help="Which organization.")]) -> None:
    """Revoke a connection and forget it."""
    _run(_disconnect(organization))


async def _disconnect(organization: str) -> None:
    async with _stored() as manager:
        await manager.disconnect(organization)
        Console().print(f"disconnected: {escape(organization)}")


@app.command()
def rekey() -> None:
    """Seal the store anew under the newest key of TRIBE_STORE_KEYS; may be stopped, and run again."""
    _run(_rekey())


async def _rekey() -> None:
    store = environment.store(durable=True)
    rekey = getattr(store, "rekey", None)  # an EncryptedStore's, which needs an extra
    if rekey is None:
        raise ConfigurationError(
            "TRIBE_STORE_KEYS is not set: set it to the new key and the old ones, the newest first"
        )
    try:
        changed = await rekey()
    finally:
        await store.close()
    Console().print(f"{changed} records are under the newest key now; the older keys can go")


@app.command()
def status(organization: Organization = None) -> None:
    """How the stored organizations stand, without asking Tribe."""
    _run(_status(organization))


async def _status(organization: str | None) -> None:
    table = Table("organization", "state", "token", "next attempt", "cause")
    async with _stored() as manager:
        keys = [organization] if organization else [key async for key in manager.organizations()]
        for key in sorted(keys):
            found = await manager.status(key)
            table.add_row(escape(key), _state(found), _in(found.expires_at), _in(found.next_attempt_at), found.cause)
    Console().print(table if keys else "no organization is connected")


def _state(status: Status) -> str:
    color = {"fresh": "green", "stale": "yellow", "backing_off": "yellow"}.get(status.state, "bold red")
    return f"[{color}]{status.state}[/]"


def _in(at: float | None) -> str:
    """A time as people say it."""
    return relative(at, time.time())


@app.command()
def doctor() -> None:
    """Look at settings, servers, clock, store and organizations; say what is wrong."""
    from tribe_oauth.cli._doctor import run

    _run(run(Console()))


@app.command()
def token(
    organization: Organization = None,
    reveal: Annotated[bool, typer.Option("--reveal", help="Print the access token itself, and nothing else.")] = False,
) -> None:
    """Get an access token; say how long it lives, or print it."""
    _run(_token(organization, reveal=reveal, refresh=False))


@app.command()
def refresh(organization: Organization = None) -> None:
    """Refresh an access token although none is due."""
    _run(_token(organization, reveal=False, refresh=True))


async def _token(organization: str | None, *, reveal: bool, refresh: bool) -> None:
    async with _manager(organization) as manager:
        token = await (manager.refresh(organization) if refresh else manager.token(organization))
    if reveal:
        sys.stdout.write(token.access_token.reveal() + "\n")
        return
    scope = "not known" if token.scope is None else format_scope(token.scope)
    Console().print(f"an access token that ends {_in(token.expires_at)}; scope: {escape(scope)}")


@app.command()
def get(
    path: Annotated[str, typer.Argument(help="Below /v1/odata, as in Relation_Person.")],
    organization: Annotated[str | None, typer.Option(help="Which organization.")] = None,
    top: Annotated[int, typer.Option(help="How many rows at most.", min=1)] = 20,
    select: Annotated[str, typer.Option(help="Properties, with commas between.")] = "",
    filter_: Annotated[str | None, typer.Option("--filter", help="An OData filter.")] = None,
    orderby: Annotated[str, typer.Option(help="Properties to order by, with commas between.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, a line for each row.")] = False,
) -> None:
    """Read rows from Tribe's API."""
    options = {"select": _list(select), "filter": filter_, "orderby": _list(orderby), "top": top}
    _run(_get(organization, path, options, as_json=as_json))


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


async def _get(organization: str | None, path: str, options: dict[str, Any], *, as_json: bool) -> None:
    rows: list[dict[str, Any]] = []
    async with _manager(organization) as manager, manager.session(organization) as session:
        async for page in odata.pages(session, path, **options):
            rows += page.rows
            if len(rows) >= options["top"]:
                break
    rows = rows[: options["top"]]
    if as_json:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
        return
    names = list(dict.fromkeys(name for row in rows for name in row if not name.startswith("@")))
    table = Table(*map(escape, names))
    for row in rows:
        table.add_row(*(escape("" if row.get(name) is None else str(row[name])) for name in names))
    Console().print(table if rows else "no rows")


_export.add_to(app, _run)
