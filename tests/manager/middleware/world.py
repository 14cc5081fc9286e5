"""An API that wants a token, another origin that must not see it, and a source of tokens: all over real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol

import attrs
from aiohttp import ClientMiddlewareType, ClientSession, TCPConnector, web
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tribe_oauth import Secret, Token, TribeOAuthError
from tribe_oauth._refresh.rejections import Acceptance, Belief

HUNG = 5.0  # seconds after which a check is taken to hang
MANY = 10  # token requests that nobody needs in one check

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Source(Protocol):
    """What a middleware under test is given: a `TokenSource`, the API, and the address that naive ones refresh at."""

    api: URL
    token_url: URL
    acceptance: Acceptance

    def cached(self) -> Token | None: ...
    async def token(
        self, *, rejected: Token | None = None, belief: Belief = Belief.POSSIBLE, lasting: bool = False
    ) -> Token: ...


Factory = Callable[[Source], ClientMiddlewareType]


@attrs.frozen
class Seen:
    """A request as it reached a server."""

    method: str
    target: str
    authorization: str | None
    body: bytes

    @classmethod
    async def read(cls, request: web.Request) -> Seen:
        authorization = ", ".join(request.headers.getall("Authorization", [])) or None
        return cls(request.method, request.path_qs, authorization, await request.read())


class Origin:
    """A server that keeps what it is sent. It wants the current token under /v1/ and sends on whoever asks for /go."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.seen: list[Seen] = []
        self.answer: Answer | None = None
        self.impatient = False  # whether it refuses before it has asked for the body
        self.port = 0

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> URL:
        return URL(f"http://{host}:{self.port}{path}", encoded=True)

    @property
    def authorizations(self) -> list[str | None]:
        return [seen.authorization for seen in self.seen]

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        if self.impatient and request.headers["Authorization"] != f"Bearer {self.world.valid}":
            refusal = web.Response(status=401)
            refusal.force_close()  # the body may still come, and is not the next request (RFC 9110 §10.1.1)
            return refusal
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.answer is not None:
            return await self.answer(request)
        seen = await Seen.read(request)
        self.seen.append(seen)
        if request.path == "/go":
            return web.Response(status=int(request.query["status"]), headers={"Location": request.query["to"]})
        if request.path.startswith("/v1/") and seen.authorization != f"Bearer {self.world.valid}":
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"}, text="who are you?")
        return web.Response(body=seen.body, headers={"Content-Type": "application/octet-stream"})


class World:
    """`api` and `other` are two origins. The source holds token 1, which is what the API wants until a test says no."""

    def __init__(self) -> None:
        self.api = Origin(self)
        self.other = Origin(self)
        self.token_requests: list[Seen] = []
        self.token_status = 200
        self.token_asked = asyncio.Event()
        self.token_may_go = asyncio.Event()
        self.token_may_go.set()
        self.issued = 1
        self.valid = "token-1"
        self.stack = AsyncExitStack()

    async def issue(self, request: web.Request) -> web.Response:
        """The token endpoint: each request a new token, and the one that the API wants from then on."""
        self.token_requests.append(await Seen.read(request))
        self.token_asked.set()
        await self.token_may_go.wait()
        # What asks without end is given a token in the end: its check fails rather than the test run.
        status = self.token_status if len(self.token_requests) < MANY else 200
        self.issued += status == 200
        return web.json_response({"access_token": f"token-{self.issued}"}, status=status)

    def expire(self) -> None:
        """The API takes no token any more but the next one."""
        self.valid = f"token-{self.issued + 1}"


class Counted(Acceptance):
    """Counts what was accepted, too."""

    times = 0

    def accepted(self, token: Token, path: str) -> None:
        self.times += 1
        super().accepted(token, path)


class FakeSource:
    """Refreshes in a task of its own, as the promise of `TokenSource` has it."""

    def __init__(self, world: World, session: ClientSession) -> None:
        self.world = world
        self.session = session
        self.api = world.api.url()
        self.token_url = world.api.url("/token")
        self.current = _token("token-1")
        self.lasting: list[bool] = []
        self.beliefs: list[Belief] = []
        self.refreshes = 0
        self.now = 0.0
        self.acceptance: Acceptance = Counted(lambda: self.now)
        self.flight: asyncio.Task[Token] | None = None

    def cached(self) -> Token | None:
        """Never: every check sees what it is asked for. The manager's own source has one, in its own tests."""
        return None

    async def token(
        self, *, rejected: Token | None = None, belief: Belief = Belief.POSSIBLE, lasting: bool = False
    ) -> Token:
        if rejected is None:
            self.lasting.append(lasting)
            return self.current
        self.beliefs.append(belief)
        self.refreshes += 1
        if self.current.access_token == rejected.access_token:
            if self.flight is None:
                self.flight = asyncio.create_task(self._refresh())
            return await asyncio.shield(self.flight)
        return self.current

    async def _refresh(self) -> Token:
        async with self.session.post(self.token_url) as response:
            answer = await response.json()
        self.flight = None
        if response.status != 200:
            raise TribeOAuthError("the token endpoint refused")
        self.current = _token(answer["access_token"])
        return self.current


@attrs.frozen
class Scene:
    """What a check works with. `session` has the middleware under test, and one connection: one that is held shows."""

    world: World
    source: FakeSource
    middleware: ClientMiddlewareType
    session: ClientSession

    @property
    def api(self) -> Origin:
        return self.world.api

    @property
    def other(self) -> Origin:
        return self.world.other

    @property
    def accepted(self) -> int:
        assert isinstance(self.source.acceptance, Counted)
        return self.source.acceptance.times

    def another_session(self, **options: Any) -> ClientSession:
        options.setdefault("middlewares", [self.middleware])
        return ClientSession(self.api.url(), connector=self.session.connector, connector_owner=False, **options)


class Loopback(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0),
        ]

    async def close(self) -> None:
        """Nothing is cached."""


def _token(access_token: str) -> Token:
    return Token(access_token=Secret(access_token), expires_at=time.time() + 3600)


@asynccontextmanager
async def scene(make: Factory, api: Callable[[Origin], URL] = lambda origin: origin.url()) -> AsyncIterator[Scene]:
    """Two servers and a session with one connection to each, for the time of a check. A check that hangs fails.

    `api`: where the middleware believes the API to be.
    """
    world = World()
    async with AsyncExitStack() as stack, asyncio.timeout(HUNG):
        for origin in (world.api, world.other):
            origin.port = await _serve(origin, world, stack)
        source = FakeSource(world, await stack.enter_async_context(ClientSession()))
        source.api = api(world.api)
        middleware = make(source)
        connector = TCPConnector(limit=1, resolver=Loopback())
        session = ClientSession(world.api.url(), connector=connector, middlewares=[middleware])
        yield Scene(world, source, middleware, await stack.enter_async_context(session))


async def _serve(origin: Origin, world: World, stack: AsyncExitStack) -> int:
    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/token", world.issue)
    app.router.add_route("*", "/{path:.*}", origin.handle, expect_handler=origin.expect)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port: int = runner.addresses[0][1]
    return port
