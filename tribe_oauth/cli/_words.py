"""How commands say things: errors, times, scopes, states, tables. All text from outside passes through `shown`."""

from __future__ import annotations

import json
import shlex
import sys
import time
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, Final, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tribe_oauth import Status, TribeOAuthError
from tribe_oauth._oauth.values import format_scope
from tribe_oauth._times import relative
from tribe_oauth.errors import Remedy

_COLORS = {"fresh": "green", "stale": "yellow", "backing_off": "yellow"}

COMMANDS: Final[Mapping[Remedy, str]] = {
    Remedy.CONNECT: "'tribe-oauth status' shows what is, 'tribe-oauth connect{named}' connects it",
    Remedy.CONNECT_ONE: "'tribe-oauth connect' connects one",
    Remedy.CONNECT_AGAIN: (
        "run 'tribe-oauth login{named}', or 'tribe-oauth connect{named} --paste' with a new refresh token"
    ),
    Remedy.CHOOSE: "say which one is meant, with --organization or TRIBE_ORGANIZATION_ID",
    Remedy.CREATE_SCHEMA: "run 'tribe-oauth schema' once",
    Remedy.GENERATE_KEY: "'tribe-oauth keygen' makes one",
    Remedy.GIVE_CLIENT: "set TRIBE_CLIENT_ID and TRIBE_CLIENT_SECRET to those of that Application",
    Remedy.GIVE_ENDPOINTS: "set TRIBE_AUTH_URL and TRIBE_API_URL to where it was connected",
    Remedy.SMALLER_PAGES: "ask for less, by --page-size of 'tribe-oauth export', --select of 'tribe-oauth get'",
    Remedy.ALLOW_LOOPBACK: "on this machine, TRIBE_ALLOW_INSECURE_LOOPBACK=1 allows it",
}
"""What Python is told to call, as commands and variables."""

_WIDE: Final = 100_000
"""Columns of an output that is no terminal: nothing is cut or wrapped there."""
_JOINERS: Final = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{SOFT HYPHEN}"


def console(file: TextIO | None = None, *, stderr: bool = False, otherwise: int = _WIDE) -> Console:
    """Where to print. `otherwise`: columns where it is no terminal."""
    found = Console(file=file, stderr=stderr)
    return found if found.is_terminal else Console(file=file, stderr=stderr, width=otherwise)


def note(text: str) -> None:
    """A line that is no result: on standard error."""
    console(stderr=True).print(f"note: {shown(text)}", soft_wrap=True)


def shown(text: str) -> str:
    """Text from outside for a terminal: nothing in it is obeyed, neither as control characters nor as Rich's markup."""
    return escape(harmless(text))


def harmless(text: str) -> str:
    """The text with what a terminal would obey escaped as in JSON: control characters, and what turns the writing."""
    if text.isprintable():
        return text
    return "".join(json.dumps(character)[1:-1] if _is_obeyed(character) else character for character in text)


def _is_obeyed(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and character not in _JOINERS


def told(error: Exception) -> str:
    """What an error says, with commands in place of calls."""
    if not isinstance(error, TribeOAuthError) or error.remedy is None:
        return str(error)
    named = "" if error.organization is None else f" --organization {shlex.quote(error.organization)}"
    return f"{error.problem}: {COMMANDS[error.remedy].format(named=named)}"


def told_time(at: float | None) -> str:
    """A Unix time, in seconds, beside now; nothing for None."""
    return relative(at, time.time())


def told_scope(scope: frozenset[str] | None) -> str:
    """A scope, or that it is not known."""
    return "not known" if scope is None else shown(format_scope(scope))


def told_state(status: Status) -> str:
    """A state, in its color."""
    return f"[{_COLORS.get(status.state, 'bold red')}]{status.state}[/]"


def table(*names: str) -> Table:
    """An empty table. Where a terminal is too narrow, cells go on in the next line: none is cut."""
    made = Table()
    for name in names:
        made.add_column(shown(name), overflow="fold")
    return made


def table_of(rows: Iterable[dict[str, Any]]) -> Table:
    """Rows of the API, a column for each property, without OData's annotations."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row if not name.startswith("@")))
    made = table(*names)
    for row in rows:
        made.add_row(*(shown("" if row.get(name) is None else str(row[name])) for name in names))
    return made


def write_line(text: str) -> None:
    """A line for programs, on standard output, as it is."""
    sys.stdout.write(f"{text}\n")
