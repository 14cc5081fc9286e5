"""The examples of docs/webhooks.md, run as they stand."""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType
from typing import Any

import attrs
import pytest
from aiohttp import ClientSession, web

from tribe_oauth import odata
from tribe_oauth import web as tribe_web

from ..serving import served
from ..web.test_webhooks import SECRET, message, signature
from ..writing.tribe import connected
from ..writing.tribe import tribe as serving
from .examples import examples

RECEIVER, VERIFY = examples("webhooks.md")


@attrs.define
class Mirror:
    """Rows by their ID."""

    rows: dict[str, Any] = attrs.field(factory=dict)
    changed: asyncio.Event = attrs.field(factory=asyncio.Event)

    def update(self, key: str, found: list[dict[str, Any]]) -> None:
        self.rows.pop(key, None)
        self.replace([*self.rows.values(), *found])

    def replace(self, rows: list[dict[str, Any]]) -> None:
        self.rows = {row["ID"]: row for row in rows}
        self.changed.set()

    async def change(self) -> None:
        await asyncio.wait_for(self.changed.wait(), 5)
        self.changed.clear()


def execute(source: str, **names: Any) -> dict[str, Any]:
    exec(compile(source, "docs/webhooks.md", "exec"), names)  # noqa: S102 (the page is ours)
    return names


async def send(address: str, body: bytes, secret: str = SECRET) -> int:
    async with (
        ClientSession() as session,
        session.post(address, data=body, headers={"X-Signature": signature(body, secret)}) as response,
    ):
        return response.status


async def test_a_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with a full read, follows hints, and finds out what is gone."""
    mirror = Mirror()
    yours = ModuleType("yourapp")
    yours.mirror, yours.secret = mirror, SECRET  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yourapp", yours)
    monkeypatch.setattr(web, "run_app", lambda app: None)
    async with serving() as tribe, connected(tribe) as session:
        variables = {
            "TRIBE_CLIENT_ID": "id",
            "TRIBE_CLIENT_SECRET": "secret",
            "TRIBE_AUTH_URL": tribe.base,
            "TRIBE_API_URL": tribe.base,
            "TRIBE_ALLOW_INSECURE_LOOPBACK": "1",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        anna = await odata.create(session, "Relation_Person", {"LastName": "Bos"})
        async with served(execute(RECEIVER)["app"]) as base:
            address = f"{base}/tribe/webhooks"
            await mirror.change()
            assert mirror.rows == {anna["ID"]: anna}
            await odata.update(session, "Relation_Person", anna["ID"], {"LastName": "Vos"})
            assert await send(address, message(anna["ID"])) == 200
            await mirror.change()
            assert mirror.rows[anna["ID"]]["LastName"] == "Vos"
            await odata.delete(session, "Relation_Person", anna["ID"])
            assert await send(address, b'{"payload": {"relationshipId": "x"}}') == 200
            assert await send(address, message(anna["ID"], "Update")) == 200  # late, and the right thing is done
            await mirror.change()
            assert mirror.rows == {}
            assert await send(address, message(), "another secret") == 401


async def test_several_organizations() -> None:
    """Each with its own secret, by the path."""

    async def secret_of(organization: str) -> str | None:
        return {"acme": SECRET, "beta": "another"}.get(organization)

    events: asyncio.Queue[tribe_web.WebhookEvent] = asyncio.Queue()
    app = web.Application()
    execute(VERIFY, app=app, tribe_web=tribe_web, handle=events.put, secret_of=secret_of)
    async with served(app) as base:
        sent = [await send(f"{base}/tribe/webhooks/{name}", message()) for name in ("acme", "beta", "gamma")]
        assert sent == [200, 401, 401]
        assert (await asyncio.wait_for(events.get(), 5)).path == {"organization": "acme"}
