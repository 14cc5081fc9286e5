"""Faults by order: the next answers of an endpoint go wrong, in a named way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final, Literal, get_args

from aiohttp import web
from attrs import Factory, define, field

from tribe_oauth.sandbox._lies import Lie, told

Kind = Literal[
    "delay",
    "cut",
    "status",
    "hang",
    "lost_answer",
    "lost_request",
    "invalid_client",
    "body",
    "drip",
    "database_away",
    "lie",
]
Endpoint = Literal["token", "api", "revoke", "authorize"]
Serve = Callable[[], Awaitable[web.Response]]

_DATABASE: Final[tuple[Endpoint, ...]] = ("token", "revoke")
INVALID_CLIENT: Final = b'{"error":"invalid_client","error_description":"Client authentication failed"}'


@define(eq=False)
class Fault:
    """One order. `times`: how many answers go wrong; None: all until `cancel`. `spares`: so many go well before.

    `organization`: only its answers, as far as the request shows whose they are. `chance`: the probability that an
    answer is hit, drawn for each. Raises ValueError for a kind, an endpoint or a lie that does not exist, and for those
    that do not go together.
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
    lie: Lie | None = None
    spares: int = 0
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
        if self.kind == "database_away" and self.endpoint not in _DATABASE:
            raise ValueError(
                f"database_away is of the authorization server's {' and '.join(_DATABASE)}, both at once: for"
                f" {self.endpoint} order another fault, such as status"
            )

        if (self.kind == "lie") != (self.lie in get_args(Lie)) or (self.lie and self.endpoint != "api"):
            raise ValueError(f"a lie is told by the api: order lie= one of {', '.join(get_args(Lie))}, endpoint='api'")

    def hits_at(self, endpoint: Endpoint) -> bool:
        """Whether it is about the answers of this endpoint."""
        return endpoint in (_DATABASE if self.kind == "database_away" else (self.endpoint,))

    @property
    def pending(self) -> bool:
        """Whether further answers will be hit."""
        return not self._cancelled and (self.times is None or self.hits < self.times)

    async def reached(self) -> None:
        """Wait until an answer was hit; for `lost_answer`, until the request was processed."""
        await self._reached.wait()

    def release(self) -> None:
        """End the wait of the answers that hang: they are served."""
        self._released.set()

    def cancel(self) -> None:
        """Hit no further answer, and release those that hang."""
        self._cancelled = True
        self.release()

    def reach(self) -> None:
        """End the wait of `reached`."""
        self._reached.set()

    async def wait(self) -> None:
        """Hang until released."""
        await self._released.wait()


@define
class Faults:
    """All orders, oldest first. `random` decides where an order has a `chance`."""

    orders: list[Fault] = Factory(list)
    random: Random = Factory(lambda: Random(0))  # noqa: S311 (faults that can be replayed)

    def order(self, fault: Fault) -> Fault:
        """Add an order."""
        self.orders.append(fault)
        return fault

    def take(self, endpoint: Endpoint, organization: str | None = None) -> Fault | None:
        """The oldest order that hits this answer, counted as a hit; None: it is served well."""
        for fault in self.orders:
            if (
                fault.hits_at(endpoint)
                and fault.pending
                and fault.organization in {None, organization}
                and (fault.chance >= 1 or self.random.random() < fault.chance)
            ):
                if fault.spares > 0:
                    fault.spares -= 1
                    continue
                fault.hits += 1
                return fault
        return None

    def end(self) -> None:
        """Cancel all orders, and forget them."""
        for fault in self.orders:
            fault.cancel()
        self.orders.clear()


async def serve(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    """Answer as the fault orders. The second part says whether the client could read the answer to its end."""
    if fault.kind == "lost_answer":
        await answer()
    fault.reach()
    return await _SERVED[fault.kind](fault, request, answer)


def is_open(request: web.Request) -> bool:
    """Whether the client is still connected."""
    return request.transport is not None and not request.transport.is_closing()


def _abort(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _pass(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    """As the server answers by itself."""
    return await answer(), is_open(request)


async def _delay(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    await asyncio.sleep(fault.seconds)
    return await answer(), is_open(request)


async def _hang(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    await fault.wait()
    return await answer(), is_open(request)


async def _lose(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    if fault.hang:
        await fault.wait()
    return _abort(request), False


async def _cut(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    """The headers as they would be, then so many bytes of the body, then nothing."""
    partial, body = await _begun(request, await answer())
    await partial.write(body[: fault.after_bytes])
    _abort(request)
    return partial, False


async def _drip(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    """One byte at a time."""
    slow, body = await _begun(request, await answer())
    for at in range(len(body)):
        await slow.write(body[at : at + 1])
        await asyncio.sleep(fault.seconds)
    return slow, True


async def _begun(request: web.Request, response: web.Response) -> tuple[web.StreamResponse, bytes]:
    """The answer with its headers sent, and the body that is still to be sent."""
    body = response.body or b""  # a 401 has none
    assert isinstance(body, bytes)
    begun = web.StreamResponse(status=response.status, headers=response.headers)
    begun.content_length = len(body)
    await begun.prepare(request)
    return begun, body


async def _lie(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    assert fault.lie is not None
    return told(fault.lie, request, await answer(), fault.hits), is_open(request)


async def _refuse_client(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    return web.Response(status=401, body=INVALID_CLIENT, content_type="application/json"), True


async def _say(fault: Fault, request: web.Request, answer: Serve) -> tuple[web.StreamResponse, bool]:
    """The status and the body that were ordered, in the server's place."""
    headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    status = fault.status or (200 if fault.kind == "body" else 503)
    text = fault.body if fault.body is not None else f"<html><h1>{status}</h1></html>"
    return web.Response(status=status, text=text, content_type=fault.content_type, headers=headers), True


_SERVED: Final[dict[Kind, Callable[[Fault, web.Request, Serve], Awaitable[tuple[web.StreamResponse, bool]]]]] = {
    "delay": _delay,
    "cut": _cut,
    "status": _say,
    "hang": _hang,
    "lost_answer": _lose,
    "lost_request": _lose,
    "invalid_client": _refuse_client,
    "body": _say,
    "drip": _drip,
    "database_away": _pass,
    "lie": _lie,
}
