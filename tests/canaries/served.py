"""An application for a server of another's: `gunicorn served:application`. It logs everything there is to log."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

from tribe_oauth import Client, Endpoints, TokenManager
from tribe_oauth import web as tribe_web
from tribe_oauth.stores.sqlite import SQLiteStore

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def sign_in_first(request: web.Request, handler: Handler) -> web.StreamResponse:
    """As many applications have it: whoever is not signed in is sent to a page, which knows where to go on."""
    if "account" not in request.cookies and request.path != "/sign-in":
        raise web.HTTPSeeOther(f"/sign-in?next={request.rel_url}")
    return await handler(request)


async def sign_in(request: web.Request) -> web.Response:
    """The page."""
    return web.Response(text="Sign in")


async def application() -> web.Application:
    """One worker's application."""
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG)
    origin = os.environ["ORIGIN"]
    endpoints = Endpoints.at(origin, origin, allow_insecure_loopback=True)
    client = Client(
        os.environ["ID"], os.environ["SECRET"], redirect_uri=os.environ["REDIRECT_URI"], endpoints=endpoints
    )
    app = web.Application(middlewares=[sign_in_first])
    app.router.add_get("/sign-in", sign_in)
    manager = TokenManager(client, store=SQLiteStore(os.environ["STORE"]))
    tribe_web.setup(app, manager, authorize=lambda request: request.cookies.get("account"))
    return app
