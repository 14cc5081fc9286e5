"""Secrets are planted everywhere, and looked for where strangers keep things (S24, S30).

In a crash reporter that shows the variables of every frame, in gunicorn's access log, and in a log of everything.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest
import typer
from aiohttp import ClientConnectorError, ClientSession, web

import tribe_oauth
from tribe_oauth import (
    Client,
    ClientCredentialsGrant,
    Endpoints,
    MemoryStore,
    RefreshTokenGrant,
    Secret,
    StoreError,
    TokenManager,
    TokenStore,
    TribeOAuthError,
)
from tribe_oauth import web as tribe_web
from tribe_oauth._manager import settings as environment
from tribe_oauth._oauth.environment import endpoints
from tribe_oauth._oauth.values import SecretBytes
from tribe_oauth.cli._organizations import connect, status, token
from tribe_oauth.cli._run import command
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores.encrypted import EncryptedStore
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore
from tribe_oauth.web._loopback import login

from ..manager.helpers import VirtualClock
from ..stores import servers
from ..web.world import Browser, browsing, world
from .reporter import Reporter, reported

CANARY = "canary-8c1f03d2b7"
KEY = base64.b64encode(b"canary-key-canary-key-canary-key").decode()
GOOD_KEY = base64.b64encode(bytes(range(32))).decode()
CLIENT = Client("id", CANARY, redirect_uri="https://app.example/cb")
NOBODY = "127.0.0.1:1"
"""Where nothing listens."""

Act = Callable[[], Awaitable[object]]


def assert_hidden(text: str, *secrets: str) -> None:
    """None of these in it, nor the planted ones."""
    for secret in (CANARY, KEY, *secrets):
        assert len(secret) > 10
        at = text.find(secret)
        assert at < 0, text[max(0, at - 600) : at + 100]


def report_of(act: Callable[[], object]) -> str:
    """What a crash reporter sends of an act that fails."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 (whatever it is)
        act()
    return reported(caught.value)


def test_the_reporter_finds_what_there_is() -> None:
    """The proof of the tests below: an ordinary function, of another's package, gives away what it was called with."""
    assert CANARY in report_of(lambda: int(CANARY))
    assert CANARY in report_of(lambda: attrs.make_class("Key", {"key": attrs.field(converter=int)})(CANARY))
    assert CANARY in report_of(lambda: asyncio.run(_failing(RuntimeError(CANARY))))
    assert CANARY not in report_of(lambda: asyncio.run(_failing(RuntimeError("x"))))


async def _failing(error: Exception) -> None:
    raise error


# Constructors and settings

DSNS = [
    f"postgresql://user:{CANARY}@host/db?nonsense=1",
    f"postgresql://user:{CANARY}@host/db?connect_timeout",
    f"postgresql://user:{CANARY}@[::1",
    f"password={CANARY} host",
]
REDIS_URLS = [
    f"redis://user:{CANARY}@host:port/0",
    f"redis://user:{CANARY}@host/0?socket_timeout=x",
    f"redis://user:{CANARY}@host/0?nonsense=1",
    f"redis+sentinel://user:{CANARY}@host:1",
    f"redis+sentinel://host:1/name?sentinel_password={CANARY}&sentinel_username=u&nonsense=1",
    f"redis+cluster://user:{CANARY}@:1",
    f"nothing://user:{CANARY}@host",
]
SETTINGS = {"TRIBE_CLIENT_ID": "id", "TRIBE_CLIENT_SECRET": CANARY, "TRIBE_REFRESH_TOKEN": CANARY}
ENVIRONMENTS: list[dict[str, str]] = [
    SETTINGS | {"TRIBE_CLIENT_ID": ""},
    SETTINGS | {"TRIBE_CLIENT_SECRET_FILE": f"/no/{CANARY}"},
    SETTINGS | {"TRIBE_CLIENT_SECRET": "", "TRIBE_CLIENT_SECRET_FILE": f"/no/{CANARY}"},
    SETTINGS | {"TRIBE_REFRESH_TOKEN": f"{CANARY} {CANARY}"},
    SETTINGS | {"TRIBE_REDIRECT_URI": "/callback"},
    SETTINGS | {"TRIBE_AUTH_URL": f"https://user:{CANARY}@auth.example"},
    SETTINGS | {"TRIBE_AUTH_URL": f"https://user:{CANARY}@auth.example", "TRIBE_API_URL": "https://api.example"},
    SETTINGS | {"TRIBE_STORE": f"mongodb://user:{CANARY}@host/db"},
    SETTINGS | {"TRIBE_STORE_KEYS": KEY[:-4]},
    SETTINGS | {"TRIBE_STORE_KEYS": f"{GOOD_KEY} {CANARY}"},
    *(SETTINGS | {"TRIBE_STORE": url} for url in (*DSNS[:3], *REDIS_URLS)),
]


@pytest.mark.parametrize(
    "construct",
    [
        lambda: Client("", CANARY),
        lambda: Client("id", CANARY, redirect_uri="/cb"),
        lambda: Client("id", CANARY, scope="\udcff"),
        lambda: RefreshTokenGrant(CLIENT, f"{CANARY}\n"),
        lambda: RefreshTokenGrant(CLIENT, f"{CANARY}\udcff"),
        lambda: Endpoints.at(f"https://user:{CANARY}@auth.example", "https://api.example"),
        lambda: Endpoints.at("https://auth.example", f"https://user:{CANARY}@api.example"),
        lambda: Endpoints.at(f"https://[{CANARY}", "https://api.example"),
        lambda: Endpoints.at(f"ftp://{CANARY}", "https://api.example"),
        lambda: Endpoints.at(None, f"https://user:{CANARY}@api.example"),  # type: ignore[arg-type]
        lambda: Endpoints(authorization_endpoint=f"http://{CANARY}", token_endpoint="https://t", api="https://a"),
        lambda: EncryptedStore(MemoryStore(), [CANARY]),
        lambda: EncryptedStore(MemoryStore(), [GOOD_KEY, KEY[:-4]]),
        lambda: EncryptedStore(MemoryStore(), [Secret(CANARY), 7]),  # type: ignore[list-item]
        *(lambda dsn=dsn: PostgresStore(dsn) for dsn in DSNS),
        *(lambda url=url: RedisStore(url) for url in REDIS_URLS),
        lambda: CLIENT.resume(f'{{"state": "{CANARY}", "verifier": "{CANARY}"}}'),
        lambda: CLIENT.resume(f"[{CANARY}"),
        *(lambda env=env: environment.read(env) for env in ENVIRONMENTS),
        *(lambda env=env: environment.store(env, durable=True) for env in ENVIRONMENTS[7:]),
        lambda: endpoints(ENVIRONMENTS[5]),
    ],
)
def test_what_cannot_be_made(construct: Callable[[], object]) -> None:
    """S30: a setting that cannot work; neither it nor those beside it stand in a frame of the error."""
    assert_hidden(report_of(construct).replace(KEY[:-4], KEY))


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_what_cannot_be_made_from_the_environment(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """S30: the same by the front door."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert_hidden(report_of(TokenManager.from_env).replace(KEY[:-4], KEY))


@pytest.mark.parametrize(
    "query",
    [
        f"?code={CANARY}&state=another-state",
        f"?code={CANARY}&code={CANARY}",
        f"?code={CANARY}%0A&state={{state}}",
        f"?code={CANARY}&state={{state}}&scope=%1B",
        f"?code={CANARY}&state={{state}}&iss=https://evil.example",
        f"?error=access_denied&code={CANARY}&state={{state}}",
    ],
)
def test_a_callback_that_is_refused(query: str) -> None:
    """S30: neither code nor state nor verifier."""
    request = CLIENT.authorization_request()
    assert request.verifier is not None
    text = report_of(lambda: request.grant("https://app.example/cb" + query.format(state=request.state)))
    assert_hidden(text, request.state, request.verifier.reveal())


# Connect and refresh


class Failing(MemoryStore):
    """Fails at one operation, in the way that it is told. It holds its arguments in its frames, as drivers do."""

    def __init__(self, operation: str, error: Exception) -> None:
        super().__init__()
        self.operation, self.error, self.failing = operation, error, True

    def look(self, operation: str) -> None:
        if self.failing and operation == self.operation:
            raise self.error

    async def load(self, organization: str) -> Any:
        self.look("load")
        return await super().load(organization)

    async def swap(self, record: Any, *, lease_for: float | None = None) -> Any:
        self.look("swap")
        return await super().swap(record, lease_for=lease_for)

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        self.look("put")
        return await super().put(key, value, lives_for=lives_for)

    async def take(self, key: str) -> bytes | None:
        self.look("take")
        return await super().take(key)


async def report_of_async(act: Act) -> str:
    """What a crash reporter sends of it; nothing where it does not fail."""
    try:
        await act()
    except (Exception, asyncio.CancelledError) as error:
        return reported(error)
    return ""


@pytest.mark.parametrize(
    "store",
    [
        lambda: PostgresStore(f"postgresql://user:{CANARY}@{NOBODY}/db", timeout=2.0),
        lambda: PostgresStore(f"postgresql://user:{CANARY}@nowhere.invalid/db", timeout=2.0),
        lambda: RedisStore(f"redis://user:{CANARY}@{NOBODY}", timeout=2.0),
        lambda: RedisStore(f"redis+cluster://user:{CANARY}@{NOBODY}", timeout=2.0),
        lambda: RedisStore(f"redis+sentinel://user:{CANARY}@{NOBODY}/name?sentinel_password={CANARY}", timeout=2.0),
        lambda: SQLiteStore("/proc/tribe.db"),
        lambda: Failing("load", StoreError("away")),
        lambda: Failing("swap", StoreError("away")),
        lambda: Failing("swap", RuntimeError("a bug")),
        lambda: Failing("put", KeyError("a bug")),
    ],
)
@pytest.mark.parametrize("encrypted", [False, True])
async def test_a_store_that_is_away(store: Callable[[], TokenStore], encrypted: bool) -> None:
    """S30: connecting, whatever the grant, while the store fails."""
    inner = store()
    async with Sandbox() as sandbox:
        pasted = sandbox.paste_token("Acme")
        client = Client("other", CANARY, redirect_uri="https://app.example/cb", endpoints=sandbox.endpoints)
        async with TokenManager(
            sandbox.client(), store=EncryptedStore(inner, [KEY]) if encrypted else inner, clock=VirtualClock()
        ) as manager:
            for grant in (
                RefreshTokenGrant(sandbox.client(), pasted),
                RefreshTokenGrant(client, CANARY),
                ClientCredentialsGrant(client),
            ):
                text = await report_of_async(lambda grant=grant: manager.connect("acme", grant))  # type: ignore[misc]
                assert text
                assert_hidden(text, pasted, sandbox.client().client_secret.reveal())
            if isinstance(inner, Failing):
                inner.failing = False


async def test_a_password_that_is_wrong(tmp_path: Path) -> None:
    """S30: a server that answers, and refuses: the driver's frames hold the password, ours don't bring them along."""
    with servers.redis("--requirepass", "another-password-of-the-server") as server:
        store = RedisStore(server.url.replace("unix://", f"unix://user:{CANARY}@"))
        text = await report_of_async(lambda: store.put("key", SecretBytes(CANARY.encode()), lives_for=1))
        await store.close()
    assert "StoreError" in text
    assert_hidden(text)


FAULTS: list[dict[str, Any]] = [
    {"kind": "lost_answer"},
    {"kind": "invalid_client"},
    {"kind": "lost_request"},
    {"kind": "status", "status": 500},
    {"kind": "body", "body": f'{{"access_token": "{CANARY}"', "content_type": "application/json"},
    {"kind": "body", "body": f'{{"refresh_token": "{CANARY}"}}', "content_type": "text/html", "status": 403},
    {"kind": "body", "body": f'{{"error": "{CANARY}"}}'.replace(CANARY, "invalid_grant"), "content_type": "text/html"},
]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
async def test_a_token_endpoint_that_fails(fault: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """S30: connecting and refreshing, while the server does not answer as it should."""
    caplog.set_level(logging.DEBUG)
    async with Sandbox() as sandbox:
        client = sandbox.client()
        async with TokenManager(client, clock=VirtualClock(), request_timeout=1.0) as manager:
            before = sandbox.paste_token("Acme")
            held = await manager.connect("acme", RefreshTokenGrant(client, before))
            assert held.refresh_token is not None
            request = client.authorization_request()
            assert request.verifier is not None
            callback = await sandbox.approve(request.url, organization="Beta")
            pasted = sandbox.paste_token("Beta")
            sandbox.fault(**fault, times=None)
            secrets = [before, pasted, held.access_token.reveal(), held.refresh_token.reveal(), request.state]
            secrets += [request.verifier.reveal(), client.client_secret.reveal(), code_of(callback)]
            acts: list[Act] = [
                lambda: asyncio.wait_for(manager.refresh("acme"), 3),
                lambda: asyncio.wait_for(manager.connect("beta", request.grant(callback)), 3),
                lambda: asyncio.wait_for(manager.connect("gamma", RefreshTokenGrant(client, pasted)), 3),
                lambda: asyncio.wait_for(manager.connect("delta", ClientCredentialsGrant(client)), 3),
            ]
            texts = [await report_of_async(act) for act in acts]
    assert any(texts)
    for text in (*texts, caplog.text, str([vars(record) for record in caplog.records])):
        assert_hidden(text, *secrets)


def code_of(callback: str) -> str:
    return dict(parse_qsl(urlsplit(callback).query))["code"]


# The web


@contextmanager
def listened() -> Iterator[Reporter]:
    """A reporter that hears all of the process, down to DEBUG."""
    reporter, root = Reporter(), logging.getLogger()
    before = root.level
    root.addHandler(reporter)
    root.setLevel(logging.DEBUG)
    try:
        yield reporter
    finally:
        root.removeHandler(reporter)
        root.setLevel(before)


def about(request: web.Request) -> str:
    """What reporters send of a request, when they send it: its address, in all the forms that it can be asked for."""
    return repr([request, request.path_qs, request.raw_path, request.query_string, request.url, dict(request.query)])


@pytest.mark.parametrize(
    ("failing", "outcome"),
    [
        ("find", "failed"),
        ("take", None),
        ("put", None),
        ("swap", "connected-unsaved"),
        ("invalid_client", "failed"),
        ("scope", "failed"),
        ("authorize", None),
    ],
)
async def test_a_web_application_that_fails(failing: str, outcome: str | None) -> None:
    """S30: a reporter that hears the log and looks at the request, through each way in which a callback can fail."""
    store = Failing(failing, ZeroDivisionError("a bug"))
    store.failing = False

    async def find(session: ClientSession) -> str:
        raise ZeroDivisionError

    def authorize(request: web.Request) -> str:
        store.look("authorize")
        return "ann"

    looked: list[str] = []

    def build(_app: web.Application, manager: TokenManager) -> web.Application:
        app = web.Application(middlewares=[looking(looked)])
        options: dict[str, Any] = {"find": find} if failing == "find" else {}
        tribe_web.setup(app, manager, authorize=authorize, **options)
        return app

    with listened() as reporter:
        manager = {"clock": VirtualClock()}
        async with world(store=store, build=build, manager=manager) as there, browsing(there) as browser:
            secrets = await started(browser)
            store.failing = True
            if failing == "invalid_client":
                there.sandbox.fault("invalid_client", times=None)
            url = secrets.pop("url")
            seen = await browser.get(url.replace("scope=read", "scope=admin%20read") if failing == "scope" else url)
            store.failing = False
            assert (seen.status, seen.outcome if outcome else None) == ((303, outcome) if outcome else (500, None))
            secrets["client secret"] = there.client.client_secret.reveal()
    assert reporter.reports or outcome
    for text in (*looked, *reporter.reports, *reporter.heard):
        assert_hidden(text, *secrets.values())


def looking(looked: list[str]) -> Any:
    """A middleware of a reporter: it sees what is raised, and the request as it is afterwards."""

    @web.middleware
    async def look(request: web.Request, handler: Any) -> web.StreamResponse:
        try:
            response: web.StreamResponse = await handler(request)
        except Exception as error:
            looked.append(reported(error))
            raise
        finally:
            looked.append(about(request) if "callback" in request.path else "")
        return response

    return look


async def started(browser: Browser) -> dict[str, str]:
    """A flow up to its callback: its `url`, and what is secret of it."""
    callback = await browser.consent(await browser.start())
    query = dict(parse_qsl(urlsplit(callback).query))
    cookies = {cookie.key: cookie.value for cookie in browser.session.cookie_jar if "flow" in cookie.key}
    store = browser.world.manager.store
    assert isinstance(store, MemoryStore)
    verifiers = [note["request"]["verifier"] for note in map(json_of, store._notes.values()) if "request" in note]
    return {"url": callback, "code": query["code"], "state": query["state"], **cookies, "verifier": verifiers[-1]}


def json_of(note: tuple[bytes, float]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(note[0][8:])  # behind its check value
    except ValueError:
        return {}
    return found


@pytest.mark.parametrize("fault", ["invalid_client", "lost_answer", "denied"])
async def test_a_login_here_that_fails(fault: str) -> None:
    """S30: the command line's own listener; the error comes out of the future that the callback was put into."""
    async with Sandbox(redirect_uri="http://127.0.0.1/callback") as sandbox:
        if fault != "denied":
            sandbox.fault(fault, times=None)  # type: ignore[arg-type]
        client, urls = sandbox.client(), asyncio.Queue[str]()
        async with TokenManager(client, clock=VirtualClock()) as manager:
            task = asyncio.ensure_future(
                report_of_async(
                    lambda: login(
                        client,
                        lambda grant: manager.connect("acme", grant),
                        show=urls.put_nowait,
                        show_problem=print,
                        pasted=asyncio.Queue[str]().get,
                    )
                )
            )
            callback = await sandbox.approve(await urls.get(), deny=fault == "denied")
            async with ClientSession() as session, session.get(callback) as response:
                assert response.status >= 400
            text = await task
    query = dict(parse_qsl(urlsplit(callback).query))
    assert "TribeOAuth" in text or "CallbackError" in text or "TokenEndpointError" in text
    assert_hidden(text, client.client_secret.reveal(), query["state"], query.get("code", query["state"]))


# The command line


@pytest.mark.parametrize(
    "env",
    [
        {"TRIBE_STORE": f"postgresql://user:{CANARY}@{NOBODY}/db"},
        {"TRIBE_STORE": f"redis://user:{CANARY}@{NOBODY}"},
        {"TRIBE_STORE": f"nothing://user:{CANARY}@host"},
        {"TRIBE_STORE_KEYS": f"{KEY},{CANARY}"},
        {
            "TRIBE_AUTH_URL": f"http://{NOBODY}",
            "TRIBE_API_URL": f"http://{NOBODY}",
            "TRIBE_ALLOW_INSECURE_LOOPBACK": "1",
        },
        {"TRIBE_AUTH_URL": f"https://user:{CANARY}@auth.example", "TRIBE_API_URL": "https://api.example"},
    ],
    ids=range(6),
)
@pytest.mark.parametrize("work", [connect, status, token])
def test_a_command_that_fails(
    work: Any, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """S30: what a person sees, and what a reporter that hangs on the process would send."""
    for name, value in ({"TRIBE_STORE": str(tmp_path / "tribe.db"), "TRIBE_STORE_KEYS": KEY} | SETTINGS | env).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(typer.Exit) as caught:
        command(work)("acme")
    assert_hidden(reported(caught.value))
    said = capfd.readouterr()
    assert "Error" in said.err
    assert_hidden(said.out + said.err)


# A log of everything


@asynccontextmanager
async def stores(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[TokenStore]:
    """A store whose address has a password in it."""
    store: TokenStore
    if kind == "postgres":
        store = PostgresStore(request.getfixturevalue("database").replace("postgres:@", f"postgres:{CANARY}@"))
        await store.create_schema()
        yield store
        await store.close()
    elif kind == "redis":
        with servers.redis("--requirepass", CANARY, "--appendonly", "yes", "--appendfsync", "always") as server:
            store = RedisStore(server.url.replace("unix://", f"unix://:{CANARY}@"))
            yield store
            await store.close()
    else:
        store = SQLiteStore(tmp_path / "tribe.db")
        yield EncryptedStore(store, [KEY]) if kind == "encrypted" else store
        await store.close()


@pytest.mark.parametrize("kind", ["sqlite", "encrypted", "postgres", "redis"])
async def test_a_log_of_everything(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """S24, S30: every logger at DEBUG, the event loop in its debug mode: connect, refresh, fail, read, disconnect."""
    loop = asyncio.get_running_loop()
    with listened() as reporter:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.005  # steps of tasks are logged, with the futures that they wait for
        secrets: list[str] = []
        async with (
            stores(kind, tmp_path, request) as store,
            world(store=store, manager={"clock": VirtualClock()}) as there,
            browsing(there) as browser,
        ):
            sandbox, manager = there.sandbox, there.manager
            for faults in ([], ["invalid_client"], ["lost_answer"]):
                for fault in faults:
                    sandbox.fault(fault)  # type: ignore[arg-type]
                callback = await browser.consent(await browser.start())
                secrets += [value for name, value in parse_qsl(urlsplit(callback).query) if name in {"code", "state"}]
                for _ in range(2):
                    await browser.get(callback, headers={"Referer": callback})
                await browser.get(there.path("outcome/failed"), headers={"Referer": callback})
            acme = f"ann:{sandbox.organizations['Acme']}"
            pasted = sandbox.paste_token("Beta", client=there.client)
            await manager.connect("beta", RefreshTokenGrant(there.client, pasted))
            before = [await manager.token(acme), await manager.token("beta")]
            after = [await manager.refresh(acme), await manager.refresh("beta")]
            async with manager.session(acme) as session, session.get("/v1/odata/Relation_Person") as response:
                assert response.status == 200
            other = Client("other", CANARY, endpoints=there.client.endpoints)
            with pytest.raises(TribeOAuthError):
                await manager.connect("gamma", ClientCredentialsGrant(other))
            with pytest.raises(TribeOAuthError):
                await manager.connect("gamma", RefreshTokenGrant(other, CANARY))
            await manager.disconnect("beta")
            for held in (*before, *after):
                assert held.refresh_token is not None
                secrets += [held.access_token.reveal(), held.refresh_token.reveal()]
            secrets += [pasted, there.client.client_secret.reveal()]
            secrets += [cookie.value for cookie in browser.session.cookie_jar if "flow" in cookie.key]
        loop.set_debug(False)
    assert any("asyncio" in line for line in reporter.heard)
    assert any("aiohttp.access" in line for line in reporter.heard)
    for text in (*reporter.heard, *reporter.reports):
        assert_hidden(text, *secrets)


# Another's server


@asynccontextmanager
async def gunicorn(folder: Path, port: int, env: dict[str, str]) -> AsyncIterator[None]:
    """Gunicorn with aiohttp's worker and an access log of all that it can have, until it answers."""
    wanted = '%a %t "%r" %s %b "%{Referer}i" "%{Cookie}i" "%{Location}o" "%{Set-Cookie}o" "%{User-Agent}i"'
    errors = (folder / "stderr.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gunicorn", "served:application", "--pythonpath", str(Path(__file__).parent)),
        *("--worker-class", "aiohttp.GunicornWebWorker", "--bind", f"127.0.0.1:{port}", "--no-control-socket"),
        *("--access-logfile", str(folder / "access.log"), "--access-logformat", wanted),
        *("--error-logfile", str(folder / "error.log"), "--log-level", "debug"),
        env=os.environ | env | {"PYTHONASYNCIODEBUG": "1", "PYTHONPATH": str(Path(tribe_oauth.__file__).parents[1])},
        cwd=folder,
        stderr=errors,
    )
    errors.close()
    try:
        async with asyncio.timeout(30), ClientSession() as session:
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/sign-in"):
                        break
                except ClientConnectorError:
                    assert process.returncode is None, (folder / "stderr.log").read_text()
                    await asyncio.sleep(0.05)  # until it listens
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def test_gunicorns_access_log(tmp_path: Path) -> None:
    """S11, S30: the whole line of each request, Referer, cookies and redirects too, and all that the process logs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}/tribe"
    async with Sandbox(redirect_uri=f"{address}/callback") as sandbox:
        client = sandbox.client()
        env = {"ID": client.client_id, "SECRET": client.client_secret.reveal(), "STORE": str(tmp_path / "tribe.db")}
        env |= {"ORIGIN": client.endpoints.api, "REDIRECT_URI": f"{address}/callback"}
        secrets = [client.client_secret.reveal()]
        async with gunicorn(tmp_path, port, env):
            there = Elsewhere(sandbox, address)
            async with browsing(there) as browser, browsing(there, None) as stranger:  # type: ignore[arg-type]
                for fault in ("", "invalid_client"):
                    if fault:
                        sandbox.fault("invalid_client")
                    callback = await browser.consent(await browser.start())
                    query = dict(parse_qsl(urlsplit(callback).query))
                    secrets += [query["code"], query["state"]]
                    seen = await stranger.get(callback)  # a scanner of links, which the application sends to sign in
                    assert seen.location.startswith("/sign-in?next=")
                    await stranger.get(seen.location)
                    async with browser.session.head(callback) as response:
                        assert response.status == 405
                    await browser.get(callback, headers={"Sec-Purpose": "prefetch"})
                    for _ in range(2):
                        seen = await browser.get(callback, headers={"Referer": callback})
                        assert seen.outcome == "connected"  # after `invalid_client` the code is sent again
                    await browser.get(seen.location, headers={"Referer": callback})
                secrets += [cookie.value for cookie in browser.session.cookie_jar if "flow" in cookie.key]
    log = (tmp_path / "access.log").read_text()
    assert "/tribe/callback/?code=***" in log
    assert "tribe-flow-" in log
    assert len(secrets) == 7
    for file in ("access.log", "error.log", "stderr.log"):
        assert_hidden((tmp_path / file).read_text(), *secrets)


@attrs.frozen
class Elsewhere:
    """What a browser has to know of an application in another process."""

    sandbox: Sandbox
    address: str

    def path(self, name: str) -> str:
        return f"/tribe/{name}"
