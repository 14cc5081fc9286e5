"""The application: all commands, in the order in which the help lists them."""

from __future__ import annotations

import typer

from tribe_oauth.cli._demo import demo
from tribe_oauth.cli._doctor import doctor
from tribe_oauth.cli._export import export
from tribe_oauth.cli._get import get
from tribe_oauth.cli._login import login
from tribe_oauth.cli._organizations import connect, disconnect, refresh, rekey, status, token
from tribe_oauth.cli._run import command
from tribe_oauth.cli._sandbox import sandbox

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "OAuth 2.0 for Tribe CRM. Settings come from the environment: TRIBE_CLIENT_ID, TRIBE_CLIENT_SECRET and other"
        " variables that begin with TRIBE_."
    ),
)
for _work in (
    *(demo, sandbox),
    *(connect, login, status, token, refresh, disconnect),
    *(get, export),
    *(doctor, rekey),
):
    app.command()(command(_work, is_long=_work is export))
