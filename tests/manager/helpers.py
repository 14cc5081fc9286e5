"""What the manager's tests share: a clock that is moved by hand, and a token endpoint that says what it is told."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import attrs
from aiohttp import web

from tribe_oauth import Client, Endpoints

Form = Mapping[str, str]
Answer = Callable[[Form, web.Request], Awaitable[web.StreamResponse]]


class VirtualClock:
    """Sleeping moves time and nothing else; but whoever sleeps for long sleeps until a test moves it."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.mono = 5_000.0
        self.chance = 0.5
        self.slept: list[float] = []
        self.sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def random(self) -> float:
        return self.chance

    def jump(self, seconds: float) -> None:
        """Set the wall clock: no time passes."""
        self.wall += seconds

    def advance(self, seconds: float) -> None:
        self.wall += seconds
        self.mono += seconds
        for until, sleeper in self.sleepers:
            if until <= self.mono and not sleeper.done():
                sleeper.set_result(None)

    async def sleep(self, seconds: float) -> None:
        if seconds > 1_000:
            sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.sleepers.append((self.mono + seconds, sleeper))
            await sleeper
            return
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0.001)  # a turn for sockets


@attrs.define
class TokenServer:
    """A token endpoint over a real socket. Answers as ordered, else as a server that rotates strictly."""

    orders: deque[Answer] = attrs.Factory(deque)
    forms: list[dict[str, str]] = attrs.Factory(list)
    revoked: list[str] = attrs.Factory(list)
    revoking: list[int] = attrs.Factory(list)  # statuses of the next answers to revocations
    live: set[str] = attrs.Factory(set)
    access: set[str] = attrs.Factory(set)
    expires_in: int = 86_400
    at_once: int = 0
    most_at_once: int = 0
    base: str = ""
    date: str = ""  # what it says the time is
    api_answers: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
    arrived: asyncio.Event = attrs.Factory(asyncio.Event)
    released: asyncio.Event = attrs.Factory(asyncio.Event)

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints.at(self.base, self.base, allow_insecure_loopback=True)

    def client(self, client_id: str = "client", **options: Any) -> Client:
        options.setdefault("redirect_uri", "https://app.example/callback")
        return Client(client_id, f"secret of {client_id}", endpoints=self.endpoints, **options)

    def paste(self) -> str:
        token = f"pasted-{secrets.token_hex(8)}"
        self.live.add(token)
        return token

    def refreshes(self) -> list[str]:
        return [form["refresh_token"] for form in self.forms if form["grant_type"] == "refresh_token"]

    def order(self, *answers: Answer) -> None:
        self.orders.extend(answers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        self.forms.append(form)
        self.arrived.set()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        answer = self.orders.popleft() if self.orders else self.rotate
        try:
            response = await answer(form, request)
        finally:
            self.at_once -= 1
        response.headers.setdefault("Date", self.date)
        return response

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        form = dict(parse_qsl((await request.read()).decode()))
        if self.revoking:
            return web.Response(status=self.revoking.pop(0))
        self.revoked.append(form["token"])
        self.live.discard(form["token"])
        return web.Response()

    def issue(self, form: Form, **extra: object) -> dict[str, object]:
        """A token answer as Tribe's page shows it; a refresh token is spent for it."""
        self.live.discard(form.get("refresh_token", ""))
        access, successor = f"access-{secrets.token_hex(8)}", f"refresh-{secrets.token_hex(8)}"
        answer: dict[str, object] = {"access_token": access, "token_type": "bearer", "expires_in": self.expires_in}
        self.access.add(access)
        if form["grant_type"] != "client_credentials":
            self.live.add(successor)
            answer["refresh_token"] = successor
        return answer | extra

    async def rotate(self, form: Form, request: web.Request) -> web.StreamResponse:
        if form["grant_type"] == "refresh_token" and form["refresh_token"] not in self.live:
            return web.json_response({"error": "invalid_grant", "error_description": "gone"}, status=400)
        return web.json_response(self.issue(form))

    async def api(self, request: web.Request) -> web.StreamResponse:
        if self.api_answers is not None:
            return await self.api_answers(request)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return web.json_response({"value": []}, status=200 if token in self.access else 401)


def oauth_error(error: str, status: int = 400, description: str = "told so", **headers: str) -> Answer:
    async def answer(form: Form, request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": error, "error_description": description}, status=status, headers=headers)

    return answer


def page(status: int, text: str = "<html>", content_type: str = "text/html", **headers: str) -> Answer:
    async def answer(form: Form, request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, content_type=content_type, headers=headers)

    return answer


def json_answer(answer: dict[str, object]) -> Answer:
    async def answered(form: Form, request: web.Request) -> web.StreamResponse:
        return web.json_response(answer)

    return answered


async def reset(form: Form, request: web.Request) -> web.StreamResponse:
    """Read the request and abort the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def spent_then_reset(server: TokenServer) -> Answer:
    """The worst: the refresh token is spent and the answer lost."""

    async def answer(form: Form, request: web.Request) -> web.StreamResponse:
        server.issue(form)
        return await reset(form, request)

    return answer


def held_back(server: TokenServer) -> Answer:
    """Answer well, when the test says so."""

    async def answer(form: Form, request: web.Request) -> web.StreamResponse:
        await server.released.wait()
        return await server.rotate(form, request)

    return answer


async def until(condition: Callable[[], bool], *, turns: int = 1_000_000) -> None:
    """Let the loop run until something has happened; a bounded number of turns."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")
