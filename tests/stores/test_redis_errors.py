"""What a Redis server can be that is not what the URL says, and what it can refuse: with the remedy (S24, F4)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from redis.exceptions import AuthenticationError

from tribe_oauth import StoreError
from tribe_oauth.stores._redis_errors import code_of, store_error
from tribe_oauth.stores.contract import due, listed, put, record
from tribe_oauth.stores.redis import RedisStore, _bucket

from . import redis_servers, servers
from .redis_servers import Node, Watched
from .servers import RedisServer
from .trouble import is_altered


def test_what_has_no_code() -> None:
    """A password that is asked for; and what is a StoreError already, which stays as it is."""
    assert code_of(AuthenticationError("Authentication required.")) == "NOAUTH"
    told = StoreError("told")
    assert store_error(told, 1.0) is told


async def refused(url: str, match: str, *, timeout: float = 10.0) -> None:
    """Reading and writing fail with these words, and without anything secret."""
    store = RedisStore(url, timeout=timeout)
    for call in (store.load("acme"), store.swap(record())):
        with pytest.raises(StoreError, match=match) as error:
            await call
        assert "canary" not in str(error.value)
        assert error.value.__cause__ is None
        assert error.value.__suppress_context__
    await store.close()


# The wrong kind of server


async def test_a_sentinel_as_a_server() -> None:
    with redis_servers.watched() as watched:
        await refused(f"redis://127.0.0.1:{watched.port}", r"names a Sentinel.*write redis\+sentinel://host:26379/name")


async def test_a_server_as_a_sentinel() -> None:
    with redis_servers.node() as node:
        await refused(f"redis+sentinel://127.0.0.1:{node.port}/tribe", "no Sentinel: write redis://host:port")


async def test_a_server_as_a_cluster() -> None:
    with redis_servers.node() as node:
        await refused(f"redis+cluster://127.0.0.1:{node.port}", "is no cluster: write redis://host:port")


async def test_a_server_of_a_cluster_as_a_server() -> None:
    with redis_servers.cluster() as nodes:
        stores = [RedisStore(f"redis://127.0.0.1:{node.port}") for node in nodes[:2]]
        found = await asyncio.gather(*(store.load("acme") for store in stores), return_exceptions=True)
        said = [str(error) for error in found if isinstance(error, StoreError)]
        assert said  # the slot is at most in one of the two
        assert all("names one server of a cluster (MOVED)" in each and "redis+cluster://" in each for each in said)
        for store in stores:
            await store.close()


# Who may do what


@pytest.fixture
def guarded() -> Iterator[Node]:
    with redis_servers.node("--requirepass", "s3cret-canary") as node:
        yield node


async def test_passwords(guarded: Node) -> None:
    """None where one is wanted, a wrong one, and one where none is wanted."""
    await refused(f"redis://127.0.0.1:{guarded.port}", r"wants a password \(NOAUTH\): put it into the URL")
    await refused(f"redis://:canary@127.0.0.1:{guarded.port}", r"refused user and password \(WRONGPASS\)")
    await refused(f"redis://canary:canary@127.0.0.1:{guarded.port}", r"refused user and password \(WRONGPASS\)")
    with redis_servers.node() as open_to_all:
        await refused(
            f"redis://:canary@127.0.0.1:{open_to_all.port}?protocol=2", "wants no password, and the URL has one"
        )


async def test_a_sentinels_password(watched: Watched) -> None:
    """It is another than that of the servers, and the error says which of the two is refused."""
    watched.ask("ACL", "SETUSER", "default", "resetpass", ">s3cret")
    await refused(watched.url, r"Sentinel refused user and password.*sentinel_password=")
    await refused(f"{watched.url}?sentinel_password=canary", r"Sentinel refused user and password")


@pytest.fixture
def watched() -> Iterator[Watched]:
    with redis_servers.watched() as watched:
        yield watched


@pytest.mark.parametrize(
    "rules",
    [
        ["~*", "+@all", "-eval", "-evalsha"],
        ["~other:*", "+@all"],
        ["~*", "+@all", "-hget", "-hmget"],
        ["~*", "+@all", "-time"],
    ],
)
async def test_what_a_user_may_not(rules: list[str]) -> None:
    """Of commands, of keys, and of what a script calls."""
    with redis_servers.node() as node:
        node.ask("ACL", "SETUSER", "guest", "on", ">canary", *rules)
        await refused(f"redis://guest:canary@127.0.0.1:{node.port}", r"does not allow its user to do this \(NOPERM\)")


async def test_what_a_user_needs(caplog: pytest.LogCaptureFixture) -> None:
    """The permissions that the error names are enough."""
    caplog.set_level(logging.WARNING)
    with redis_servers.node("--maxmemory-policy", "noeviction") as node:
        rules = "~tribe_oauth:* +@scripting +@read +@write +time +role +info +config|get"
        node.ask("ACL", "SETUSER", "tribe", "on", ">p", *rules.split())
        store = RedisStore(f"redis://tribe:p@127.0.0.1:{node.port}")
        stored = await put(store, record(due_at=1.0))
        assert await store.load("acme") == stored
        assert await listed(store) == await due(store, 2.0) == ["acme"]
        assert await store.put("note", b"value", lives_for=10) == b"value"
        assert await store.take("note") == b"value"
        await store.close()
    assert caplog.messages == []


# TLS


@asynccontextmanager
async def with_tls(node: Node, authority: trustme.CA) -> AsyncIterator[int]:
    """The server behind TLS; the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    between = servers.Forwarder(("127.0.0.1", node.port))
    listening = await asyncio.start_server(between.serve, "127.0.0.1", 0, ssl=context)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await between.close()


async def test_tls_here_and_none_there() -> None:
    """The server waits for the end of what it takes for a line."""
    with redis_servers.node() as node:
        await refused(
            f"rediss://127.0.0.1:{node.port}", "did not answer .* rediss:// needs a port with TLS", timeout=0.5
        )


async def test_none_here_and_tls_there() -> None:
    """The server hangs up."""
    with redis_servers.node() as node:
        async with with_tls(node, trustme.CA()) as port:
            await refused(f"redis://127.0.0.1:{port}", r"whether that port has TLS \(then write rediss://\)")


async def test_an_answer_in_tls() -> None:
    """Or says so, in a way that only TLS understands."""
    async with redis_servers.scripted(lambda _: b"\x15\x03\x01\x00\x02\x02\x46\r\n") as port:
        await refused(f"redis://127.0.0.1:{port}", "does not speak Redis's protocol.*rediss:// where that port has TLS")


async def test_a_certificate_that_nobody_knows(tmp_path: Path) -> None:
    """And one that is known works."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with redis_servers.node() as node:
        async with with_tls(node, authority) as port:
            await refused(f"rediss://127.0.0.1:{port}", "its certificate is refused.*SSL_CERT_FILE.*ssl_ca_certs")
            store = RedisStore(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/ca.pem")
            assert await store.load("acme") is None
            await store.close()


# What a server cannot do now


async def test_a_full_server(redis_server: RedisServer) -> None:
    """Reading goes on."""
    with redis_servers.node() as node:
        store = RedisStore(f"redis://127.0.0.1:{node.port}")
        stored = await put(store, record(due_at=1.0))
        node.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError, match=r"Redis is full \(OOM\): raise its maxmemory"):
            await store.swap(stored)
        assert await store.load("acme") == stored
        node.ask("CONFIG", "SET", "maxmemory", "0")
        await put(store, stored)
        await store.close()


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ("MISCONF Redis is configured to save RDB snapshots canary", r"writes \(MISCONF\): look at its log"),
        ("LOADING Redis is loading the dataset in memory", r"still loading what it has \(LOADING\): wait"),
        ("BUSY Redis is busy running a script.", r"script of another program \(BUSY\)"),
        ("NOSCRIPT No matching script.", r"knows no scripts \(NOSCRIPT\): name the server itself"),
        ("MASTERDOWN Link with MASTER is down", r"without its primary \(MASTERDOWN\)"),
        ("CLUSTERDOWN Hash slot not served", r"cluster is not whole \(CLUSTERDOWN\)"),
        ("NOREPLICAS Not enough good replicas to write.", r"too few replicas"),
        ("ERR max number of clients reached", r"no connection left \(MAXCLIENTS\)"),
        ("ERR unknown command `EVALSHA`, with args beginning with: canary", r"does not allow .*\(NOPERM\)"),
        ("ERR Client sent AUTH, but no password is set", "wants no password"),
        ("ERR canary", r"Redis failed \(ResponseError\)"),
    ],
)
async def test_what_a_server_says(said: str, match: str) -> None:
    def answer(command: list[bytes]) -> bytes | None:
        return f"-{said}\r\n".encode() if command[0] in {b"EVALSHA", b"EVAL"} else None

    async with redis_servers.scripted(answer) as port:
        await refused(f"redis://127.0.0.1:{port}?protocol=2", match)


async def test_what_is_no_redis() -> None:
    """A server of another kind answers in another language."""
    async with redis_servers.scripted(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        await refused(f"redis://127.0.0.1:{port}", "does not speak Redis's protocol: look at host and port")


def test_errors_without_a_code() -> None:
    """An error that is none of the server's has the name of its type."""
    assert code_of(ValueError("canary")) == "ValueError"
    assert code_of(ssl.SSLError("canary")) == "TLS"


# What stands in it


async def test_keys_of_another_type(redis_server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A record is named; an index is left out of listings, and no record is written half."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    stored = await put(store, record(due_at=1.0))
    others = [f"org {number}" for number in range(20) if _bucket(f"org {number}") != _bucket("acme")]
    for key in others:
        await put(store, record(key, due_at=1.0))
    index, key = store._indexes(_bucket("acme"))[0], store._record("acme")
    for index in store._indexes(_bucket("acme")):
        await store._call(index, "RENAME", index, f"{index} away")
        await store._call(index, "SET", index, "canary")
        with pytest.raises(StoreError, match=r"organization 'acme': a key .* of another type \(WRONGTYPE\)") as error:
            await store.swap(stored)
        assert error.value.organization == "acme"
        assert await store.load("acme") == stored
        assert sorted(await listed(store)) == sorted(others) or index == store._indexes(_bucket("acme"))[0]
        assert set(others) <= set(await due(store, 2.0))
        assert "organizations were left out whose index" in caplog.text
        await store._call(index, "RENAME", f"{index} away", index)
    stored = await put(store, stored)
    await store._call(key, "DEL", key)
    await store._call(key, "SET", key, "canary")
    for call in (store.load("acme"), store.swap(stored)):
        with pytest.raises(StoreError, match="organization 'acme'") as error:
            await call
        assert error.value.organization == "acme"
    await store.close()


@pytest.mark.parametrize("score", ["5", "-5", "inf"])
async def test_scores_that_something_else_wrote(
    score: str, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Pages of an index in another order have no end: it is read whole, and each organization is listed once."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    same = [key for number in range(3_000) if _bucket(key := f"org {number}") == 7]
    assert len(same) > 20
    for key in same:
        await put(store, record(key))
    _, index = store._indexes(7)
    for odd in (same[0], same[-1], same[len(same) // 2]):
        await store._call(index, "ZADD", index, score, odd)
    async with asyncio.timeout(30):
        assert sorted(await listed(store)) == sorted(same)
    assert "has scores that something else wrote" in caplog.text
    await store.close()


async def test_an_order_that_is_altered_amid_pages(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing ends, whatever becomes of the index meanwhile."""
    monkeypatch.setattr("tribe_oauth.stores.redis.PAGE", 3)
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    same = sorted(key for number in range(2_000) if _bucket(key := f"org {number}") == 7)
    for key in same:
        await put(store, record(key))
    _, index = store._indexes(7)
    listing = store.organizations()
    assert [await anext(listing) for _ in range(3)] == same[:3]
    await store._call(index, "ZADD", index, -5, same[-1], -4, same[-2], -3, same[0])
    async with asyncio.timeout(30):
        found = [key async for key in listing]
    assert len(found) < len(same)
    await store.close()


async def test_an_odd_order_amid_pages(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is met after pages that were in order: nobody twice, nobody left out."""
    monkeypatch.setattr("tribe_oauth.stores.redis.PAGE", 3)
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    same = sorted(key for number in range(2_000) if _bucket(key := f"org {number}") == 7)
    for key in same:
        await put(store, record(key))
    _, index = store._indexes(7)
    await store._call(index, "ZADD", index, 5, same[1])
    async with asyncio.timeout(30):
        assert sorted(await listed(store)) == same
    await store.close()


@pytest.mark.parametrize("field", ["version", "fields", "payload", "lease_end", "lease_for"])
@pytest.mark.parametrize(
    "value", [b"\xff", b"canary", b"", b"nan", b"1e999", b"[" * 100_000, b" 1", b"9" * 5_000, None]
)
async def test_fields_that_something_else_wrote(field: str, value: bytes | None, redis_server: RedisServer) -> None:
    """One error, and what is there stays as it is; None: it is missing."""
    store = RedisStore(redis_server.url, prefix=uuid.uuid4().hex)
    stored = await put(store, record(lease="nonce", due_at=1.0), lease_for=100)
    key = store._record("acme")
    command = ("HDEL", key, field) if value is None else ("HSET", key, field, value)
    await store._call(key, *command)
    if field == "payload" and value is not None:
        assert (await store.load("acme")) is not None  # any bytes: what they mean is said where they are read
    elif field.startswith("lease") and value == b" 1":
        assert (await store.load("acme")) is not None  # a number
    else:
        await is_altered(store)
    if field.startswith("lease") and value != b" 1":
        with pytest.raises(StoreError, match="of organization 'acme' cannot be read: it was altered"):
            await store.swap(stored)
    await store.close()
