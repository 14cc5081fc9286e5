"""The consent page: one self-contained document, no script, light and dark."""

from __future__ import annotations

from html import escape
from string import Template
from urllib.parse import urlencode

from aiohttp import web

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

SCOPES = {
    "read": ("Read your data", "Persons, organizations, relationships and activities"),
    "write": ("Change your data", "Create, change and delete on your behalf"),
    "offline": ("Stay connected", "Go on working when you are not signed in"),
}

_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1d2433; --soft: #5d6880; --paper: #fff; --desk: #eef1f7; --line: #d9dfeb;
        --accent: #3156d3; --on-accent: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf6; --soft: #9aa6c0; --paper: #1b2130; --desk: #10141e;
        --line: #313a50; --accent: #8ea8ff; --on-accent: #0d1430; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1.25rem; background: var(--desk);
       color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { width: 100%; max-width: 27rem; background: var(--paper); border: 1px solid var(--line); border-radius: 1rem;
       padding: 2rem; box-shadow: 0 12px 40px rgb(10 20 60 / 12%); }
.mark { width: 2.75rem; height: 2.75rem; border-radius: .8rem; background: var(--accent); color: var(--on-accent);
        display: grid; place-items: center; font-weight: 700; font-size: 1.3rem; }
h1 { font-size: 1.3rem; line-height: 1.3; margin: 1rem 0 .25rem; }
p { margin: 0 0 1.25rem; color: var(--soft); }
code { font-size: .9em; overflow-wrap: anywhere; }
fieldset { border: 0; margin: 0 0 1.25rem; padding: 0; }
legend, .label { font-weight: 600; margin-bottom: .4rem; padding: 0; display: block; }
select { width: 100%; padding: .65rem .75rem; font: inherit; color: inherit; background: var(--paper);
         border: 1px solid var(--line); border-radius: .6rem; }
.scope { display: flex; gap: .75rem; padding: .7rem 0; border-top: 1px solid var(--line); }
.scope:first-of-type { border-top: 0; }
.scope input { width: 1.15rem; height: 1.15rem; margin-top: .2rem; accent-color: var(--accent); flex: none; }
.scope small { display: block; color: var(--soft); }
.buttons { display: flex; gap: .75rem; }
button { flex: 1; padding: .75rem; font: inherit; font-weight: 600; border-radius: .6rem; cursor: pointer;
         border: 1px solid var(--line); background: transparent; color: inherit; }
button.allow { background: var(--accent); border-color: var(--accent); color: var(--on-accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
footer { margin-top: 1.5rem; font-size: .85rem; color: var(--soft); }
</style></head><body><main><div class="mark" aria-hidden="true">T</div>$body
<footer>Sandbox: an emulated Tribe with generated data.</footer></main></body></html>
""")

_FORM = Template("""
<h1>Connect <code>$client</code> to your organization?</h1>
<p>It asks for access to Tribe CRM. You can take this back at any time.</p>
<form method="post" action="?$query">
<fieldset><label class="label" for="organization">Organization</label>
<select id="organization" name="organization">$organizations</select></fieldset>
<fieldset><legend>It may</legend>$scopes</fieldset>
<div class="buttons"><button name="decision" value="deny">Deny</button>
<button class="allow" name="decision" value="allow">Allow</button></div>
</form>""")

_SCOPE = Template(
    '<label class="scope"><input type="checkbox" name="scope" value="$scope" checked>'
    "<span>$title<small>$detail</small></span></label>"
)


def page(query: dict[str, str], client_id: str, organizations: dict[str, str], scopes: list[str]) -> web.Response:
    """The page that asks the person at the browser for consent. `organizations`: from the value sent to the name."""
    choices = "".join(f'<option value="{escape(key)}">{escape(name)}</option>' for key, name in organizations.items())
    ticks = "".join(_tick(scope) for scope in scopes)
    body = _FORM.substitute(
        client=escape(client_id), query=escape(urlencode(query)), organizations=choices, scopes=ticks
    )
    return _html("Connect to Tribe", body)


def _tick(scope: str) -> str:
    title, detail = SCOPES.get(scope, (scope, ""))
    return _SCOPE.substitute(scope=escape(scope), title=escape(title), detail=escape(detail))


def problem(title: str, text: str) -> web.Response:
    """A page that says what is wrong. Not a redirect: an attacker may have written its target (RFC 6749 §4.1.2.1)."""
    return _html(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>", status=400)


def _html(title: str, body: str, status: int = 200) -> web.Response:
    text = _PAGE.substitute(title=escape(title), body=body)
    return web.Response(text=text, status=status, content_type="text/html", headers=HEADERS)
