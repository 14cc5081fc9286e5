"""A receiver of Tribe's webhooks for an aiohttp.web application: verify, answer, and only then handle."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
from aiohttp import web

from tribe_oauth._printable import printable
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.web._events import read_event
from tribe_oauth.web._waiting import Handle, Waiting

logger = logging.getLogger("tribe_oauth.web.webhooks")

Verify = Callable[[web.Request, bytes], bool | Awaitable[bool]]

MAX_BYTES: Final = 2**20
PATIENCE: Final = 10.0
"""Seconds in which a body has to come."""


def webhooks(
    app: web.Application,
    path: str,
    handle: Handle,
    *,
    verify: Verify,
    max_bytes: int = MAX_BYTES,
    at_once: int = 10,
    waiting: int = 10_000,
) -> None:
    """Receive Tribe's webhooks at this path of an application: the address that is given to Tribe has to lead there.

    `verify` is given the request and its body as it came, and returns whether the message is genuine: a `Signature`, or
    a function of your own, which may be a coroutine function. What it does not accept is answered 401, and the log
    ``tribe_oauth.web.webhooks`` says which headers it had. A body of more than `max_bytes` is refused.

    A genuine message is answered 200 at once, whatever its form. Afterwards `handle`, a coroutine function, is called
    with its `WebhookEvent`: `at_once` at a time, those of the same entity one after the other; what it raises is
    logged. An event that says the same as one that still waits is not handled twice. `waiting`: events that may wait;
    while there are more, the answer is 503, so that Tribe may send it again. Those that wait are lost with the process.

    A message is a hint, and these are no feed: keep a periodic read beside them. Raises ConfigurationError.
    """
    for name, number in (("max_bytes", max_bytes), ("at_once", at_once), ("waiting", waiting)):
        if not isinstance(number, int) or number < 1:
            raise ConfigurationError(f"{name} is a whole number, at least 1")
    if not callable(verify):
        raise ConfigurationError(
            "verify is a Signature with the webhook's secret, or a function that says whether a message is genuine"
        )
    events = Waiting(handle, at_once, waiting)
    app.cleanup_ctx.append(events.run)
    app.router.add_post(path, _Receiver(verify, events, max_bytes).receive)


@attrs.frozen
class _Receiver:
    verify: Verify
    events: Waiting
    max_bytes: int

    async def receive(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if not await self._is_genuine(request, body):
            logger.warning(
                "a message to %s was refused: verify() does not accept it. It has these headers: %s",
                request.path,
                printable(", ".join(request.headers), 500),
            )
            raise web.HTTPUnauthorized(text="The signature is missing or wrong.")
        event = read_event(body, request.match_info)
        if event is None:
            logger.error("a genuine message to %s is no JSON object: nothing was done with it", request.path)
            raise web.HTTPBadRequest(text="This is no JSON object.")
        if not self.events.add(event):
            logger.warning("%d events wait already: a message to %s was answered 503", len(self.events), request.path)
            raise web.HTTPServiceUnavailable(text="Too many events are waiting.", headers={"Retry-After": "60"})
        return web.Response()

    async def _is_genuine(self, request: web.Request, body: bytes) -> bool:
        found = self.verify(request, body)
        return (await found if inspect.isawaitable(found) else found) is True

    async def _body(self, request: web.Request) -> bytes:
        """The bytes that were sent, and not more of them than allowed. Raises HTTPException."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise web.HTTPUnsupportedMediaType(text="Send the body as it is.")  # its signature is of what was sent
        announced, body = request.content_length or 0, bytearray()
        try:
            async with asyncio.timeout(PATIENCE):
                while max(announced, len(body)) <= self.max_bytes and (block := await request.content.readany()):
                    body += block
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="The body did not come.") from None
        except (ConnectionError, web.RequestPayloadError):  # else anybody could fill the log with tracebacks
            raise web.HTTPBadRequest(text="The body broke off.") from None
        if max(announced, len(body)) > self.max_bytes:
            raise web.HTTPRequestEntityTooLarge(self.max_bytes, max(announced, len(body)))
        return bytes(body)
