"""Webhooks: who hears of what, signed, over real sockets; twice, late, out of order, and not at all."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from aiohttp import web

from tribe_oauth.sandbox import _webhooks

from ..serving import served
from .test_writing import PEOPLE, Api, calling


@attrs.define
class Receiver:
    """Keeps what comes."""

    url: str = ""
    status: int = 200
    came: list[tuple[dict[str, str], bytes]] = attrs.field(factory=list)

    @property
    def payloads(self) -> list[dict[str, Any]]:
        """In the order in which they came."""
        return [json.loads(body)["payload"] for _, body in self.came]

    async def take(self, request: web.Request) -> web.Response:
        self.came.append((dict(request.headers), await request.read()))
        return web.Response(status=self.status)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver, app = Receiver(), web.Application()
    app.router.add_post("/hook", receiver.take)
    async with served(app) as address:
        receiver.url = f"{address}/hook"
        yield receiver


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def hook(api: Api, receiver: Receiver, entity_type: str = "Relation.Person", **more: Any) -> dict[str, Any]:
    body = {"url": receiver.url, "entityType": entity_type, **more}
    status, made = await api.ask("POST", "webhooks", body)
    assert status == 201
    answer: dict[str, Any] = made
    return answer


async def created(api: Api, times: int) -> list[str]:
    """The IDs of persons that are created."""
    return [(await api.wrote("POST", PEOPLE, {"LastName": f"No. {number}"}))["ID"] for number in range(times)]


async def test_made_listed_and_removed(receiver: Receiver) -> None:
    """By the API; the secret is told once."""
    async with calling() as api:
        made = await hook(api, receiver, headers={"X-Own": "1"})
        listed = {name: value for name, value in made.items() if name != "secret"}
        assert await api.ask("GET", "webhooks") == (200, [listed])
        assert (await api.get("Webhook"))["value"] == [{"ID": made["id"], "Url": receiver.url}]
        await created(api, 1)
        await api.sandbox.delivered()
        assert receiver.came[0][0]["X-Own"] == "1"
        assert (await api.ask("DELETE", f"webhooks/{made['id']}"))[0] == 204
        assert (await api.ask("DELETE", f"webhooks/{made['id']}"))[0] == 404
        assert (await api.ask("GET", f"webhooks/{made['id']}"))[0] == 405
        await created(api, 1)
        await api.sandbox.delivered()
        assert len(receiver.came) == 1


@pytest.mark.parametrize(
    "body",
    [
        [],
        {"url": "http://example.com/hook", "entityType": "Relation.Person"},
        {"url": "https://example.com/hook", "entityType": "Nothing"},
        {"url": "https://example.com/hook", "entityType": "Relation.Person", "headers": {"X": 1}},
        {"url": "https://example.com/hook", "entityType": "Relation.Person", "headers": []},
        {"url": "https://example.com/hook", "entityType": "Relation.Person", "headers": {"X:": "1"}},
        {"url": "https://example.com/hook", "entityType": "Relation.Person", "headers": {"X": "1\r\nY: 2"}},
    ],
)
async def test_what_is_refused(body: Any) -> None:
    """What is no HTTPS URL, unless it is on this machine; an unknown type; headers that are none."""
    async with calling() as api:
        assert (await api.ask("POST", "webhooks", body))[0] == 400


async def test_nothing_leaves_the_machine() -> None:
    """A webhook for another one is made, and gets nothing."""
    async with calling() as api:
        await hook(api, Receiver("https://example.com/hook"))
        await created(api, 1)
        await api.sandbox.delivered()
        assert [delivery.sent for delivery in api.sandbox.deliveries] == [False]


@pytest.mark.parametrize("form", ["typed", "wrapped"])
async def test_messages(receiver: Receiver, form: Any) -> None:
    """Of what is created, changed, linked and deleted, signed over the bytes; a deletion is told nowhere else."""
    async with calling(webhook_header="X-Own-Signature", webhook_payload=form) as api:
        made = await hook(api, receiver, "Relation")
        (person,) = await created(api, 1)
        await api.wrote("PUT", f"{PEOPLE}({person})", {"Address": None})
        await api.wrote("DELETE", f"{PEOPLE}({person})")
        await api.wrote("POST", "Note", {"Content": "of another type"})
        await api.sandbox.delivered()
        said = [next(iter(it.items())) if form == "wrapped" else (it["type"], it) for it in receiver.payloads]
        kinds = ["EntityCreation", "EntityUpdate", "RelationshipCreation", "EntityDeletion"]
        assert [name for name, _ in said] == [f"{kind}Mutation" for kind in kinds]
        assert [fields.get("entityId") for _, fields in said] == [person, person, None, person]
        assert {fields["entityType"] for _, fields in said} == {"Relation.Person"}
        for headers, body in receiver.came:
            assert json.loads(body)["webhookId"] == made["id"]
            digest = hmac.new(made["secret"].encode(), body, hashlib.sha512).digest()
            assert base64.b64decode(headers["X-Own-Signature"]) == digest
        assert [it.status for it in api.sandbox.deliveries] == [200] * 4


async def test_twice_out_of_order_and_not_at_all(receiver: Receiver) -> None:
    """By the rules' chances; what was lost is known to the sandbox."""
    async with calling(webhook_twice=0.5, webhook_lost=0.2, webhook_late=0.05, webhook_order="shuffled") as api:
        await hook(api, receiver)
        people = await created(api, 40)
        await api.sandbox.delivered()
        came = [payload["entityId"] for payload in receiver.payloads]
        lost = [delivery.id for delivery in api.sandbox.deliveries if not delivery.sent]
        assert lost
        assert sorted({*came, *lost}) == sorted(people)
        assert not {*came} & {*lost}
        assert len(came) > len({*came})
        assert list(dict.fromkeys(came)) != [person for person in people if person in came]


async def test_nobody_takes_them(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is refused, or that nobody answers, is not sent again; what waits is bounded."""
    async with calling() as api:
        await hook(api, receiver)
        receiver.status = 500
        await created(api, 1)
        await api.sandbox.delivered()
        receiver.url = receiver.url.replace("/hook", "/nothing")
        async with receiving() as gone:
            await hook(api, gone)
        await created(api, 1)
        await api.sandbox.delivered()
        assert [delivery.status for delivery in api.sandbox.deliveries] == [500, 500, None]
        monkeypatch.setattr(_webhooks, "WAITING", 0)
        await created(api, 1)
        assert [delivery.sent for delivery in api.sandbox.deliveries[3:]] == [False, False]


async def test_the_sandbox_is_left_while_messages_wait() -> None:
    """It ends at once, and nothing is sent afterwards."""
    async with receiving() as receiver, calling(webhook_late=60) as api:
        await hook(api, receiver)
        await created(api, 1)
        await asyncio.sleep(0)
    assert receiver.came == []
