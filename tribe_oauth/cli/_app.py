"""The application: all commands, in the order in which the help lists them."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from tribe_oauth.cli._demo import demo
from tribe_oauth.cli._doctor import doctor
from tribe_oauth.cli._exit import MEANINGS
from tribe_oauth.cli._export import export
from tribe_oauth.cli._get import get
from tribe_oauth.cli._login import login
from tribe_oauth.cli._organizations import connect, disconnect, refresh, status, token
from tribe_oauth.cli._run import command
from tribe_oauth.cli._sandbox import sandbox
from tribe_oauth.cli._store import keygen, rekey, schema
from tribe_oauth.cli._words import write_line

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "OAuth 2.0 for Tribe CRM. Settings come from the environment: TRIBE_CLIENT_ID, TRIBE_CLIENT_SECRET and other"
        " variables that begin with TRIBE_."
    ),
    epilog="Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + ".",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        write_line(f"tribe-oauth {version('tribe-oauth')}")
        raise typer.Exit


@app.callback()
def _options(
    show: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version, and end.")
    ] = False,
) -> None:
    pass


for _work in (
    *(demo, sandbox),
    *(connect, login, status, token, refresh, disconnect),
    *(get, export),
    *(doctor, schema, keygen, rekey),
):
    app.command()(command(_work, is_long=_work is export))
