"""A complete application: customers sign in, connect organizations of Tribe CRM, and see their persons.

    python docs/examples/web_app.py --workers 4

serves it at http://127.0.0.1:8080, against an emulated Tribe that it starts too, and that forgets everything when it
ends. With TRIBE_CLIENT_ID and TRIBE_CLIENT_SECRET set, it uses Tribe instead (or the server at TRIBE_AUTH_URL and
TRIBE_API_URL): then give it `--store`, and set APP_SECRET, so that connections and sign-ins survive a restart.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from html import escape
from typing import Any

from aiohttp import web
from yarl import URL

from tribe_oauth import TRIBE, Client, Endpoints, TokenManager, odata
from tribe_oauth import web as tribe_web
from tribe_oauth.stores.sqlite import SQLiteStore

# Who is signed in. A real application has passwords, or another service, behind this.


def seal(account: str) -> str:
    """The value of the sign-in cookie: a name, and a proof that we wrote it."""
    key = os.environ["APP_SECRET"].encode()
    return f"{hmac.new(key, account.encode(), hashlib.sha256).hexdigest()}:{account}"


def account(request: web.Request) -> str | None:
    """The account that this browser signed in to."""
    cookie = request.cookies.get("account", "")
    name = cookie.partition(":")[2]
    return (
        name
        if is_name(name) and hmac.compare_digest(cookie.encode("utf-8", "surrogateescape"), seal(name).encode())
        else None
    )


def is_name(name: str) -> bool:
    """Whether this can be an account."""
    return name.isascii() and name.isalnum() and len(name) <= 40


async def sign_in(request: web.Request) -> web.StreamResponse:
    """Set the cookie, and redirect to the first page."""
    name = str((await request.post()).get("account", "")).strip()
    if not is_name(name):
        raise web.HTTPBadRequest(text="This is no account: use letters and digits, 40 at most.")
    response = web.Response(status=303, headers={"Location": "/"})
    response.set_cookie("account", seal(name), httponly=True, samesite="Lax")
    return response


SIGN_IN = '<form method="post" action="/sign-in"><input name="account" autofocus> <button>Sign in</button></form>'

# Using Tribe


async def home(request: web.Request) -> web.StreamResponse:
    """The organizations of this account, or the sign-in."""
    name = account(request)
    if name is None:
        return page(SIGN_IN)
    links = [
        f'<li><a href="/persons/{escape(organization)}">{escape(organization)}</a></li>'
        async for organization in tribe_web.organizations(request)
    ]
    return page(
        f"<p>Signed in as {escape(name)}.</p><ul>{''.join(sorted(links))}</ul>"
        '<p><a href="/tribe/connect?next=/">Connect an organization</a>'
        ' <a href="/tribe/connections">Connections</a></p>'
    )


async def persons(request: web.Request) -> web.StreamResponse:
    """The persons of one organization."""
    async with tribe_web.session(request, request.match_info["organization"]) as session:
        found = odata.rows(session, "Relation_Person", select=["Name", "EmailAddress"], give_up_after=10)
        rows = [f"<li>{escape(row['Name'])} {escape(row['EmailAddress'] or '')}</li>" async for row in found]
    return page(f"<h1>{len(rows)} persons</h1><ul>{''.join(rows)}</ul>")


def reconnect(request: web.Request, organization: str) -> URL:
    """Where to go with an organization that has to be connected again."""
    return URL("/tribe/connect").with_query(again=organization, next=request.path)


def page(body: str) -> web.Response:
    """A document."""
    text = f'<!doctype html><meta name="viewport" content="width=device-width"><title>Example</title>{body}'
    return web.Response(text=text, content_type="text/html")


def application() -> web.Application:
    """One worker's application. All workers share the store."""
    env, endpoints = os.environ, TRIBE
    if "TRIBE_AUTH_URL" in env:
        endpoints = Endpoints.at(env["TRIBE_AUTH_URL"], env["TRIBE_API_URL"], allow_insecure_loopback=True)
    client = Client(
        env["TRIBE_CLIENT_ID"],
        env["TRIBE_CLIENT_SECRET"],
        redirect_uri=env["TRIBE_REDIRECT_URI"],
        endpoints=endpoints,
    )
    app = web.Application(middlewares=[tribe_web.error_middleware(reconnect=reconnect)])
    tribe_web.setup(app, TokenManager(client, store=SQLiteStore(env["STORE"])), authorize=account)
    app.add_routes([web.get("/", home), web.post("/sign-in", sign_in), web.get("/persons/{organization}", persons)])
    return app


# Processes


def main() -> None:
    """Start the workers, and an emulated Tribe where no other is set; end all of them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--store", help="an SQLite file")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        web.run_app(application(), host="127.0.0.1", port=options.port, reuse_port=True, print=None, shutdown_timeout=5)
        return
    env = {"APP_SECRET": secrets.token_hex(32), **os.environ}
    env.setdefault("TRIBE_REDIRECT_URI", f"http://127.0.0.1:{options.port}/tribe/callback")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as children:
        env["STORE"] = options.store or f"{folder}/example.db"
        if "TRIBE_CLIENT_ID" not in env:
            command = [sys.executable, "-m", "tribe_oauth.sandbox", "--redirect-uri", env["TRIBE_REDIRECT_URI"]]
            command += ["--end-with-stdin"]  # so that it ends even if this process is killed
            env |= settings(start(children, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        command = [sys.executable, __file__, "--worker", f"--port={options.port}"]
        for _ in range(options.workers):
            start(children, command, env=env)
        print(f"http://127.0.0.1:{options.port} (Ctrl-C ends it)", flush=True)
        with suppress(KeyboardInterrupt):
            os.wait()  # for the first that ends: then all do


def start(children: ExitStack, command: list[str], **options: Any) -> subprocess.Popen[str]:
    """A process that is ended, and waited for, with this one."""
    child = subprocess.Popen(command, text=True, **options)
    children.callback(child.wait)
    children.callback(child.terminate)
    return child


def settings(sandbox: subprocess.Popen[str]) -> dict[str, str]:
    """The settings that the emulated Tribe prints when it is ready."""
    assert sandbox.stdout is not None
    ready = json.loads(sandbox.stdout.readline())
    return {
        "TRIBE_CLIENT_ID": ready["client_id"],
        "TRIBE_CLIENT_SECRET": ready["client_secret"],
        "TRIBE_AUTH_URL": ready["base_url"],
        "TRIBE_API_URL": ready["base_url"],
    }


if __name__ == "__main__":
    main()
