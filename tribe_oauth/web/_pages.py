"""What customers see: self-contained documents, no script, light and dark, readable on a phone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Final

import attrs
from aiohttp import web

from tribe_oauth import Status
from tribe_oauth._oauth.values import format_scope
from tribe_oauth._times import relative
from tribe_oauth.web._outcome import Outcome

_STYLE: Final = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

_STATES: Final = {
    "fresh": ("good", "connected"),
    "stale": ("good", "connected, token due"),
    "backing_off": ("wait", "waiting to try again"),
    "reauthorization_required": ("bad", "has to be connected again"),
}


@attrs.frozen(kw_only=True)
class Connection:
    """One organization. `status` is None where its record cannot be read; then `error` says why."""

    organization: str
    status: Status | None
    error: str | None
    reconnect: str


@attrs.frozen(kw_only=True)
class Connections:
    """What the page shows.

    A form posts to `action` with the fields of `hidden`, an `organization`, and a `do` that is ``refresh`` or
    ``disconnect``. `connect`, `earlier` and `later` are addresses; None where there is nothing to link to.
    """

    rows: tuple[Connection, ...]
    total: int
    now: float
    action: str
    hidden: Mapping[str, str]
    connect: str | None
    earlier: str | None
    later: str | None


@attrs.frozen(kw_only=True)
class Links:
    """Where an outcome's page links to; None: no link. `again`: to start once more; `onward`: to continue."""

    again: str | None = None
    onward: str | None = None
    connections: str | None = None


class Pages:
    """The pages. To put your own in place, override a method and pass an instance to `setup`.

    The headers of such a page (not to be stored, nothing from elsewhere) are added to the response, where it does not
    have them.
    """

    async def outcome(self, request: web.Request, outcome: Outcome, links: Links) -> web.StreamResponse:
        """The page of an outcome."""
        words = outcome.words
        again = "Connect again" if outcome.connected else "Try again"
        ways = [(links.onward, "Continue"), (links.again, again), (links.connections, "See connections")]
        there = [(address, label) for address, label in ways if address is not None]
        buttons = [
            f'<a class="button{"" if number else " first"}" href="{escape(address)}">{label}</a>'
            for number, (address, label) in enumerate(there)
        ]
        mark = "good" if outcome.connected else "bad"
        body = _OUTCOME.substitute(
            mark=mark,
            sign="✓" if outcome.connected else "!",
            title=escape(words.title),
            text=escape(words.text),
            links="".join(buttons),
        )
        return page(words.title, body, status=words.status, narrow=True)

    async def connections(self, request: web.Request, view: Connections) -> web.StreamResponse:
        """The page with all connections."""
        rows = "".join(_row(connection, view) for connection in view.rows)
        table = _TABLE.substitute(rows=rows) if rows else '<p class="empty">No organization is connected yet.</p>'
        turns = [
            f'<a class="button" href="{escape(address)}">{label}</a>'
            for address, label in ((view.earlier, "Earlier"), (view.later, "Later"))
            if address is not None
        ]
        connect = "" if view.connect is None else f'<a class="button first" href="{escape(view.connect)}">Connect</a>'
        body = _CONNECTIONS.substitute(total=view.total, connect=connect, table=table, turns="".join(turns))
        return page("Connections", body)


def _row(connection: Connection, view: Connections) -> str:
    status = connection.status
    hidden = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in {**view.hidden, "organization": connection.organization}.items()
    )
    mark, state = ("bad", "cannot be read") if status is None else _STATES[status.state]
    return _ROW.substitute(
        _times(status, view.now),
        organization=escape(connection.organization),
        mark=mark,
        state=state,
        error=f'<small class="error">{escape(connection.error)}</small>' if connection.error else "",
        first=" first" if mark == "bad" else "",
        refresh="" if mark == "bad" else '<button name="do" value="refresh">Refresh now</button>',
        action=escape(view.action),
        hidden=hidden,
        reconnect=escape(connection.reconnect),
    )


def _times(status: Status | None, now: float) -> dict[str, str]:
    if status is None:
        return {"scope": "", "age": "", "next": ""}
    return {
        "scope": "not known" if status.scope is None else escape(format_scope(status.scope)),
        "age": relative(status.refreshed_at, now),
        "next": relative(status.next_attempt_at, now),
    }


def page(title: str, body: str, *, status: int = 200, narrow: bool = False) -> web.Response:
    """A whole document. `body` is HTML."""
    text = _PAGE.substitute(title=escape(title), style=_STYLE, kind="narrow" if narrow else "wide", body=body)
    response = web.Response(text=text, status=status, content_type="text/html")
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


_PAGE: Final = Template(
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1"><title>$title</title>'
    '<style>$style</style></head>\n<body><main class="$kind">$body</main></body></html>\n'
)

_OUTCOME: Final = Template(
    '<div class="sign $mark" aria-hidden="true">$sign</div><h1>$title</h1><p>$text</p><p class="links">$links</p>'
)

_CONNECTIONS: Final = Template(
    "<header><div><h1>Connections</h1><p>Organizations in Tribe CRM: $total</p></div>$connect</header>$table"
    '<p class="links">$turns</p>'
)

_TABLE: Final = Template(
    "<table><thead><tr><th>Organization</th><th>State</th><th>Permissions</th><th>Token fetched</th>"
    '<th>Next refresh</th><th><span class="unseen">Actions</span></th></tr></thead><tbody>$rows</tbody></table>'
)

_ROW: Final = Template("""
<tr><th scope="row">$organization</th>
<td data-label="State"><span class="state $mark">$state</span>$error</td>
<td data-label="Permissions">$scope</td><td data-label="Token fetched">$age</td><td data-label="Next refresh">$next</td>
<td class="actions"><div><a class="button$first" href="$reconnect">Reconnect</a>
<form method="post" action="$action">$hidden$refresh
<details><summary class="button">Disconnect</summary>
<p>It stops working at once. To use it again, someone has to connect it again.</p>
<button class="danger" name="do" value="disconnect">Disconnect it</button></details></form>
</div></td></tr>""")
