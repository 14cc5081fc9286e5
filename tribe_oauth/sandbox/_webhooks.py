"""Webhooks: who wants to hear of what, and messages that come, over real sockets, as the rules have it.

One task sends, one message after the other; what nobody takes in `PATIENCE` seconds is given up, and no more than
`WAITING` messages wait. Nothing is sent to other machines. Imported by `_odata` and by `_server`.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from aiohttp import ClientError, ClientSession, ClientTimeout
from attrs import Factory, define, frozen

from tribe_oauth._shield import run_uninterrupted
from tribe_oauth.sandbox._model import BY_TYPE, ENTITY_SETS
from tribe_oauth.sandbox._problems import ProblemError
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._writing import Event

PATIENCE: Final = 5.0
WAITING: Final = 100_000

_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,100}")


@frozen
class Webhook:
    """One that was made. `entity_type`: with dots; entities of the types below it are told of, too."""

    id: str
    url: str
    entity_type: str
    secret: str
    headers: dict[str, str]

    def shown(self) -> dict[str, Any]:
        """As it is listed. Only who makes it learns the secret."""
        return {"id": self.id, "url": self.url, "entityType": self.entity_type, "headers": self.headers}


@frozen
class Delivery:
    """What became of a message. `status`: what it was answered with; None: nobody answered, or it was never sent."""

    webhook: str
    mutation: str
    id: str
    status: int | None
    sent: bool


@frozen
class _Message:
    webhook: Webhook
    event: Event


@define(eq=False)
class Webhooks:
    """Those of all organizations."""

    rules: ApiRules
    chance: Random
    made: dict[str, dict[str, Webhook]] = Factory(dict)
    deliveries: list[Delivery] = Factory(list)
    _waiting: list[_Message] = Factory(list)
    _news: asyncio.Event = Factory(asyncio.Event)
    _idle: asyncio.Event = Factory(asyncio.Event)

    def make(self, organization: str, body: Any) -> dict[str, Any]:
        """Make one. The answer has its secret. Raises ProblemError."""
        if not isinstance(body, dict):
            raise ProblemError(400, "The body is a JSON object")
        url, entity_type, headers = str(body.get("url")), str(body.get("entityType")), body.get("headers", {})
        if not _is_allowed(url):
            raise ProblemError(400, "url is an HTTPS URL")
        if entity_type not in BY_TYPE:
            raise ProblemError(400, f"Entity type not found: {entity_type}")
        if not _are_headers(headers):
            raise ProblemError(400, "headers are names with texts")
        guid = str(UUID(int=self.chance.getrandbits(128), version=4))
        webhook = Webhook(guid, url, entity_type, f"{self.chance.getrandbits(256):064x}", headers)
        self.made.setdefault(organization, {})[guid] = webhook
        return {**webhook.shown(), "secret": webhook.secret}

    def of(self, organization: str) -> list[dict[str, Any]]:
        """Those of an organization."""
        return [webhook.shown() for webhook in self.made.get(organization, {}).values()]

    def remove(self, organization: str, guid: str) -> None:
        """Remove one. Raises ProblemError where there is none."""
        if self.made.get(organization, {}).pop(guid, None) is None:
            raise ProblemError(404, "There is no such webhook")

    def tell(self, organization: str, events: list[Event]) -> None:
        """Have messages of what happened wait to be sent, as often as the rules say; or not at all."""
        webhooks = self.made.get(organization, {}).values()
        for message in (_Message(webhook, event) for event in events for webhook in webhooks if _hears(webhook, event)):
            lost = self.chance.random() < self.rules.webhook_lost or len(self._waiting) >= WAITING
            if lost or not _is_here(message.webhook.url):
                self._note(message, None, sent=False)
                continue
            for _ in range(1 + (self.chance.random() < self.rules.webhook_twice)):
                shuffled = self.rules.webhook_order == "shuffled"
                at = self.chance.randint(0, len(self._waiting)) if shuffled else len(self._waiting)
                self._waiting.insert(at, message)
                self._idle.clear()
                self._news.set()

    def _note(self, message: _Message, status: int | None, *, sent: bool) -> None:
        event = message.event
        self.deliveries.append(Delivery(message.webhook.id, event.mutation, event.id, status, sent))

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send what waits, until the end."""
        self._news, self._idle = asyncio.Event(), asyncio.Event()  # of this event loop
        self._news.set()
        session = ClientSession(timeout=ClientTimeout(total=PATIENCE))
        task = asyncio.create_task(self._send_all(session))
        try:
            yield
        finally:
            await run_uninterrupted(_end(session, task))

    async def delivered(self) -> None:
        """Wait until no message waits any more."""
        await self._idle.wait()

    async def _send_all(self, session: ClientSession) -> None:
        while True:
            await self._news.wait()
            while self._waiting:
                await asyncio.sleep(self.chance.uniform(0, self.rules.webhook_late))
                await self._send(session, self._waiting.pop(0))
            self._news.clear()
            self._idle.set()

    async def _send(self, session: ClientSession, message: _Message) -> None:
        webhook, event = message.webhook, message.event
        body = json.dumps({"webhookId": webhook.id, "payload": self._payload(event)}).encode()
        signature = base64.b64encode(hmac.digest(webhook.secret.encode(), body, "sha512")).decode()
        headers = {**webhook.headers, "Content-Type": "application/json", self.rules.webhook_header: signature}
        try:
            async with session.post(webhook.url, data=body, headers=headers, allow_redirects=False) as response:
                self._note(message, response.status, sent=True)
        except (ClientError, TimeoutError):
            self._note(message, None, sent=True)

    def _payload(self, event: Event) -> dict[str, Any]:
        """How a payload names its kind and its type is not known; its IDs are documented."""
        of = "relationshipId" if event.mutation.startswith("Relationship") else "entityId"
        said = {"entityType": ENTITY_SETS[event.entity_set].type_name, of: event.id}
        return {event.mutation: said} if self.rules.webhook_payload == "wrapped" else {"type": event.mutation, **said}


async def _end(session: ClientSession, task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
    await session.close()


def _hears(webhook: Webhook, event: Event) -> bool:
    return ENTITY_SETS[event.entity_set] in BY_TYPE[webhook.entity_type].concrete


def _is_allowed(url: str) -> bool:
    """HTTPS; on this machine, HTTP will do."""
    scheme = url.partition(":")[0]
    return scheme == "https" or (scheme == "http" and _is_here(url))


def _is_here(url: str) -> bool:
    return urlsplit(url).hostname in {"127.0.0.1", "::1", "localhost"}


def _are_headers(headers: Any) -> bool:
    if not isinstance(headers, dict):
        return False
    return all(isinstance(it, str) and it.isprintable() and _NAME.fullmatch(name) for name, it in headers.items())
