"""Faults by order: the next answers of an endpoint go wrong, in a named way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, Literal, get_args

from aiohttp import web
from attrs import Factory, define, field

Kind = Literal["delay", "cut", "status", "hang", "lost_answer", "lost_request", "invalid_client", "body", "drip"]
Endpoint = Literal["token", "api", "revoke", "authorize"]
Serve = Callable[[], Awaitable[web.Response]]

INVALID_CLIENT: Final = b'{"error":"invalid_client","error_description":"Client authentication failed"}'


@define(eq=False)
class Fault:
    """One order. `times`: how many answers go wrong; None: all until `cancel`.

    `organization`: only its answers, where it is known whose they are. `chance`: of each answer to be hit, drawn anew.
    """

    kind: Kind
    endpoint: Endpoint = "token"
    times: int | None = 1
    seconds: float = 0.0
    after_bytes: int = 0
    status: int | None = None
    retry_after: str | int | None = None
    body: str | None = None
    content_type: str = "text/html"
    hang: bool = False
    organization: str | None = None
    chance: float = 1.0
    hits: int = field(default=0, init=False)
    _reached: asyncio.Event = field(factory=asyncio.Event, init=False)
    _released: asyncio.Event = field(factory=asyncio.Event, init=False)
    _cancelled: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no fault {self.kind!r}: choose one of {', '.join(get_args(Kind))}")
        if self.endpoint not in get_args(Endpoint):
            raise ValueError(f"no endpoint {self.endpoint!r}: choose one of {', '.join(get_args(Endpoint))}")

    @property
    def pending(self) -> bool:
        """Whether the next answer will be hit."""
        return not self._cancelled and (self.times is None or self.hits < self.times)

    async def reached(self) -> None:
        """Wait until an answer was hit; for one that gets lost, until the request was processed."""
        await self._reached.wait()

    def release(self) -> None:
        """Let answers that hang go on."""
        self._released.set()

    def cancel(self) -> None:
        """No further answer is hit; what hangs goes on."""
        self._cancelled = True
        self.release()

    def reach(self) -> None:
        """The moment that `reached` waits for."""
        self._reached.set()

    async def wait(self) -> None:
        """Hang until released."""
        await self._released.wait()


@define
class Faults:
    """The orders that stand, oldest first."""

    orders: list[Fault] = Factory(list)
    random: Random = Factory(lambda: Random(0))  # noqa: S311 (faults that can be replayed)

    def order(self, fault: Fault) -> Fault:
        """Add one."""
        self.orders.append(fault)
        return fault

    def take(self, endpoint: Endpoint, organization: str | None = None) -> Fault | None:
        """The order for this answer, if one stands."""
        for fault in self.orders:
            if (
                fault.endpoint == endpoint
                and fault.pending
                and fault.organization in {None, organization}
                and (fault.chance >= 1 or self.random.random() < fault.chance)
            ):
                fault.hits += 1
                return fault
        return None

    def release(self) -> None:
        """Let everything go."""
        for fault in self.orders:
            fault.cancel()


async def serve(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    """Answer badly. The second part says whether the client could read the answer to its end."""
    if fault.kind == "lost_answer":
        await answer()
    fault.reach()
    match fault.kind:
        case "delay":
            await asyncio.sleep(fault.seconds)
            return await answer(), is_open(request)
        case "hang":
            await fault.wait()
            return await answer(), is_open(request)
        case "lost_request" | "lost_answer":
            if fault.hang:
                await fault.wait()
            return _abort(request), False
        case "cut":
            return await _cut(request, await answer(), fault.after_bytes), False
        case "drip":
            return await _drip(request, await answer(), fault.seconds), True
        case "invalid_client":
            return web.Response(status=401, body=INVALID_CLIENT, content_type="application/json"), True
        case _:  # status, body
            headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            status = fault.status or (200 if fault.kind == "body" else 503)
            text = fault.body if fault.body is not None else f"<html><h1>{status}</h1></html>"
            return web.Response(status=status, text=text, content_type=fault.content_type, headers=headers), True


def is_open(request: web.Request) -> bool:
    """Whether there is still somebody to answer."""
    return request.transport is not None and not request.transport.is_closing()


def _abort(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cut(request: web.Request, response: web.Response, after_bytes: int) -> web.StreamResponse:
    """The headers as they would be, then so many bytes of the body, then nothing."""
    body = response.body or b""  # a 401 has none
    assert isinstance(body, bytes)
    partial = web.StreamResponse(status=response.status, headers=response.headers)
    partial.content_length = len(body)
    await partial.prepare(request)
    await partial.write(body[:after_bytes])
    _abort(request)
    return partial


async def _drip(request: web.Request, response: web.Response, seconds: float) -> web.StreamResponse:
    """One byte at a time."""
    body = response.body or b""  # a 401 has none
    assert isinstance(body, bytes)
    slow = web.StreamResponse(status=response.status, headers=response.headers)
    slow.content_length = len(body)
    await slow.prepare(request)
    for at in range(len(body)):
        await slow.write(body[at : at + 1])
        await asyncio.sleep(seconds)
    return slow
