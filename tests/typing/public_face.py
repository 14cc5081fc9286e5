"""The public face as a type checker sees it. Checked, not run."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Mapping
from typing import Any, BinaryIO, assert_type
from uuid import UUID

import attrs
from aiohttp import ClientMiddlewareType, ClientSession, web

from tribe_oauth import (
    AuthorizationRequest,
    Client,
    ClientCredentialsGrant,
    MemoryStore,
    RateLimit,
    RefreshTokenGrant,
    Secret,
    Status,
    Token,
    TokenManager,
    TokenStore,
    TribeOAuthError,
    odata,
    sync,
)
from tribe_oauth import web as tribe_web
from tribe_oauth.sandbox import ApiRules, Sandbox
from tribe_oauth.stores.encrypted import EncryptedStore
from tribe_oauth.stores.sqlite import SQLiteStore


@attrs.frozen
class Row:
    ID: str


async def everything() -> None:
    client = Client("id", "secret", redirect_uri="https://app.example/callback")
    assert_type(client.client_secret, Secret)
    assert_type(Client.from_env(), Client)
    request = client.authorization_request(organization_id=None, scope="read", pkce=False)
    assert_type(request, AuthorizationRequest)
    store: TokenStore = MemoryStore()
    store = SQLiteStore("path")
    store = EncryptedStore(store, ["key", Secret("key")])
    limit = RateLimit(calls=1000, seconds=60, share=0.9, longest_wait=30)
    await TokenManager(client, rate_limit=None).close()
    async with TokenManager(
        client, store=store, leeway=1.0, quiet=1.0, proxy="http://proxy", rate_limit=limit
    ) as manager:
        assert_type(manager, TokenManager)
        assert_type(await manager.connect("a", request.grant("url")), Token)
        await manager.connect("a", ClientCredentialsGrant(client, scope="read"))
        await manager.connect("a", RefreshTokenGrant(client, "token"))
        token = await manager.token()
        assert_type(token.access_token.reveal(), str)
        assert_type(token.refresh_token, Secret | None)
        assert_type(token.scope, frozenset[str] | None)
        assert_type(await manager.refresh("a", rejected=token), Token)
        assert_type(await manager.status(), Status)
        organizations: AsyncIterator[str] = manager.organizations()
        assert_type([organization async for organization in organizations], list[str])
        assert_type(await manager.warm_up(concurrency=1), Mapping[str, Token | TribeOAuthError])
        assert_type(manager.session("a"), ClientSession)
        assert_type(manager.session("a", background=True), ClientSession)
        assert_type(manager.middleware("a", background=True), ClientMiddlewareType)
        assert_type(manager.middleware(), ClientMiddlewareType)
        assert_type(manager.client, Client | None)
        assert_type(manager.store, TokenStore)
        assert_type(await manager.connect(tribe_web.organization_id, request.grant("url")), Token)
    async with TokenManager.from_env() as manager, Sandbox(api=ApiRules()) as sandbox:
        assert_type(sandbox.client(), Client)
        assert_type(sandbox.paste_token("Acme"), str)
        assert_type(await sandbox.approve("url"), str)
        assert_type(sandbox.write("Acme", "DELETE", "Note(x)"), dict[str, Any] | None)


async def handler(request: web.Request) -> web.StreamResponse:
    async with tribe_web.session(request, "organization") as session:
        assert_type(session, ClientSession)
    assert_type([organization async for organization in tribe_web.organizations(request)], list[str])
    assert_type(request.config_dict[tribe_web.MANAGER], TokenManager)
    return web.Response()


def account(request: web.Request) -> str | None:
    return request.cookies.get("account")


async def may(request: web.Request) -> bool:
    return account(request) == "operator"


def way(request: web.Request, organization: str) -> str:
    return f"/tribe/connect?again={organization}"


async def page(request: web.Request, organization: str) -> web.StreamResponse:
    return web.Response(text=organization)


def application() -> None:
    web.Application(middlewares=[tribe_web.error_middleware(), tribe_web.error_middleware(reconnect=way)])
    web.Application(middlewares=[tribe_web.error_middleware(reconnect=page)])
    tribe_web.setup(web.Application(), TokenManager(), authorize=account)
    tribe_web.setup(web.Application(), TokenManager(), authorize=may, find=None, path="/tribe", pages=tribe_web.Pages())


async def writes(session: ClientSession) -> None:
    assert_type(await odata.create(session, "x", Row("1")), dict[str, Any])
    assert_type(await odata.update(session, "x", UUID(int=1), {"a": None}, give_up_after=1), dict[str, Any])
    await odata.delete(session, "x", "1")
    await odata.link(session, "x", "1", "Person", UUID(int=1))
    assert_type(await odata.call(session, "x", {"a": 1}, select=["ID"], type=Row), Row | None)
    assert_type(await odata.call(session, "x"), Any)
    file: BinaryIO = io.BytesIO()
    await odata.upload(session, "x", "1", "Picture", odata.File(file, name="x", mime_type="image/png"))
    async with odata.download(session, "x") as download:
        assert_type([block async for block in download], list[bytes])
        assert_type(download.size, int | None)
    try:
        assert_type((await odata.own_organization(session)).name, str | None)
    except odata.UnknownOutcomeError as error:
        assert_type(error.look_up, odata.Query | None)


async def handle(event: tribe_web.WebhookEvent) -> int:
    assert_type(event.change, tribe_web.Change | None)
    return 1


async def genuine(request: web.Request, body: bytes) -> bool:
    return tribe_web.Signature("X", "secret", Secret("secret"))(request, body)


def hooks() -> None:
    tribe_web.webhooks(web.Application(), "/x", handle, verify=tribe_web.Signature("X", "secret"))
    tribe_web.webhooks(web.Application(), "/x", handle, verify=genuine, max_bytes=1, at_once=1, waiting=1)


async def rows(session: ClientSession, manager: TokenManager) -> None:
    assert_type([row async for row in odata.rows(session, "x")], list[dict[str, Any]])
    assert_type([row async for row in odata.rows(session, "x", type=Row)], list[Row])
    query = odata.Query("x", top=1)
    assert_type([row async for row in odata.rows(session, query, give_up_after=1.0)], list[dict[str, Any]])
    assert_type([row async for row in odata.rows(session, "x", top=1, key="No", type=Row)], list[Row])
    assert_type([page async for page in odata.pages(session, query, give_up_after=0)], list[odata.Page])
    assert_type(await odata.entity(session, "x(1)"), dict[str, Any] | None)
    assert_type(await odata.entity(session, "x(1)", type=Row), Row | None)
    assert_type(await odata.count(session, "x", filter="y"), int)
    assert_type(await odata.metadata(session), str)
    async for page in odata.pages(session, odata.Query("x").path, count=True, page_size=10, start=None):
        assert_type(page.next, str | None)
    async with sync.JSONLinesFolder("out") as folder:
        sink: sync.Sink = folder
        assert_type(await sync.export(manager, ["a"], ["x", odata.Query("x")], sink), list[sync.Outcome])
        await sync.export(manager, manager.organizations(), ["x"], sink, pace=sync.Pace(most=1), give_up_after=60)
        await sync.export(manager, ["a"], ["x"], sink, on_event=print)
