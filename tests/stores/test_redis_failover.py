"""Redis that moves: behind a name, in a cluster, as Sentinel says. What is owed is saved where it went."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

import attrs
import pytest
from redis.crc import key_slot

from tribe_oauth import RefreshTokenGrant, StoreError, TokenManager
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record
from tribe_oauth.stores._redis_pool import LONGEST_LIFE
from tribe_oauth.stores._redis_servers import ClusterServers, OneServer
from tribe_oauth.stores._redis_url import read_url
from tribe_oauth.stores.contract import KEYS, StoreContract, due, listed, put, record
from tribe_oauth.stores.redis import RedisStore

from . import redis_servers, servers
from .redis_servers import Node, Watched
from .trouble import RedisTrouble

Result = TypeVar("Result")


async def at_last(call: Callable[[], Awaitable[Result]]) -> Result:
    """What a call gives when the servers have agreed on who is who: it is made until it does not fail."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except StoreError:
                await asyncio.sleep(0.01)


async def saved(store: RedisStore, stored: Record) -> Record:
    """Save, as one does who owes it: until it is there."""
    found = await at_last(lambda: store.swap(stored)) or await at_last(lambda: store.load(stored.organization))
    assert found is not None
    return found


# A name


@pytest.fixture
def pair() -> Iterator[tuple[Node, Node]]:
    """A primary and its replica."""
    with redis_servers.node() as primary, redis_servers.node() as replica:
        replica.ask("REPLICAOF", "127.0.0.1", primary.port)
        replica.until("INFO", "replication", answers=lambda info: info["master_link_status"] == "up")
        yield primary, replica


def turned_round(pair: tuple[Node, Node]) -> None:
    """The replica is the primary now, and the other way round."""
    primary, replica = pair
    offset = primary.ask("INFO", "replication")["master_repl_offset"]
    replica.until("INFO", "replication", answers=lambda info: info["slave_repl_offset"] >= offset)
    replica.ask("REPLICAOF", "NO", "ONE")
    primary.ask("REPLICAOF", "127.0.0.1", replica.port)
    primary.until("INFO", "replication", answers=lambda info: info["master_link_status"] == "up")


async def test_a_primary_that_became_a_replica(pair: tuple[Node, Node]) -> None:
    """One call fails, with the reason; the next asks for the name again, whichever connection it would have got."""
    async with servers.forwarder(("127.0.0.1", pair[0].port)) as (between, port):
        store = RedisStore(f"redis://127.0.0.1:{port}")
        stored = await put(store, record())
        await asyncio.gather(*(store.load("acme") for _ in range(8)))
        assert between.accepted == 8
        turned_round(pair)
        between.target = ("127.0.0.1", pair[1].port)
        with pytest.raises(StoreError, match=r"can only be read there \(READONLY\): after a fail-over"):
            await store.swap(stored)
        again = await put(store, attrs.evolve(stored, payload=b"new"))
        for _ in range(9):
            assert await store.load("acme") == again
        await store.close()


async def test_a_rotation_in_flight_is_saved(pair: tuple[Node, Node]) -> None:
    """The server answered, the store cannot be written where it was: the token is in the new one in seconds."""
    async with servers.forwarder(("127.0.0.1", pair[0].port)) as (between, port), Sandbox() as sandbox:
        client, store = sandbox.client(), RedisStore(f"redis://127.0.0.1:{port}")
        async with TokenManager(client, store=store) as manager:
            await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
            fault = sandbox.fault("hang")
            refreshing = asyncio.ensure_future(manager.refresh("acme"))
            await fault.reached()
            await asyncio.to_thread(turned_round, pair)
            between.target = ("127.0.0.1", pair[1].port)
            fault.cancel()
            token = await refreshing
        await store.close()
        store = RedisStore(f"redis://127.0.0.1:{pair[1].port}")
        async with TokenManager(client, store=store) as manager:
            assert await manager.token("acme") == token
        await store.close()
        assert sandbox.ledger.spent_twice() == ()


@pytest.mark.parametrize(
    "error",
    [
        "-READONLY You can't write against a read only replica.",
        "-ERR Error running script (call to f_1): @user_script:5: -READONLY You can't write against a read only",
        "-LOADING Redis is loading the dataset in memory",
        "-MASTERDOWN Link with MASTER is down",
        "-CLUSTERDOWN The cluster is down",
        "-NOREPLICAS Not enough good replicas to write.",
        "-MOVED 3999 127.0.0.1:6381",
        "-ASK 3999 127.0.0.1:6381",
        "-TRYAGAIN Multiple keys request during rehashing of slot",
        "-OOM command not allowed when used memory > 'maxmemory'",
        "-ERR canary",
    ],
)
async def test_errors_that_a_server_sends(error: str) -> None:
    """Each has all connections opened anew, those in use after their use; none of its words is shown."""
    failing = False

    def answer(command: list[bytes]) -> bytes | None:
        if command[0] != b"EVALSHA":
            return None
        return error.encode() + b"\r\n" if failing else b"$-1\r\n"

    async with redis_servers.scripted(answer) as port:
        store = RedisStore(f"redis://127.0.0.1:{port}?protocol=2")
        await asyncio.gather(*(store.load("acme") for _ in range(8)))
        assert isinstance(store._servers, OneServer)
        pool = store._servers._pool
        connections = [connection for connection, _ in pool._idle]
        assert connections
        failing = True
        with pytest.raises(StoreError) as raised:
            await store.load("acme")
        assert "canary" not in str(raised.value)
        assert pool._idle == []
        assert not any(connection.is_connected for connection in connections)
        failing = False
        assert await store.load("acme") is None
        await store.close()


async def test_a_name_that_is_moved_while_nothing_is_asked(pair: tuple[Node, Node]) -> None:
    """A server that goes on, alone: after a while no connection is used that may lead to it."""
    async with servers.forwarder(("127.0.0.1", pair[0].port)) as (between, port):
        store = RedisStore(f"redis://127.0.0.1:{port}")
        await put(store, record())
        turned_round(pair)
        pair[0].ask("REPLICAOF", "NO", "ONE")
        between.target = ("127.0.0.1", pair[1].port)
        other = RedisStore(f"redis://127.0.0.1:{pair[1].port}")
        stored = await put(other, record("beta"))
        await other.close()
        assert await store.load("beta") is None
        assert isinstance(store._servers, OneServer)
        pool = store._servers._pool
        opened = [until - LONGEST_LIFE for _, until in pool._idle]
        assert all(time.monotonic() - 60 < at <= time.monotonic() for at in opened)
        pool._idle = [(connection, until - LONGEST_LIFE) for connection, until in pool._idle]
        assert await store.load("beta") == stored
        await store.close()


async def test_connections_that_lead_nowhere(pair: tuple[Node, Node]) -> None:
    """Half-open ones cost one time-out together, not one each."""
    async with servers.forwarder(("127.0.0.1", pair[0].port)) as (between, port):
        store = RedisStore(f"redis://127.0.0.1:{port}", timeout=0.3)
        stored = await put(store, record())
        await asyncio.gather(*(store.load("acme") for _ in range(8)))
        with pair[0].server.frozen():
            with pytest.raises(StoreError, match=r"did not answer within 0\.3 s"):
                await store.load("acme")
            between.target = ("127.0.0.1", pair[1].port)
            assert await store.load("acme") == attrs.evolve(stored)
        await store.close()


async def test_a_server_that_accepts_and_never_answers(pair: tuple[Node, Node]) -> None:
    """When the name leads elsewhere, so does the store."""
    async with servers.forwarder("nowhere") as (between, port):
        store = RedisStore(f"redis://127.0.0.1:{port}", timeout=0.2)
        with pytest.raises(StoreError, match=r"look whether it runs"):
            await store.load("acme")
        between.target = ("127.0.0.1", pair[0].port)
        assert await store.load("acme") is None
        await store.close()


# A cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Node]]:
    """Three servers; the tests leave the slots where they were."""
    with redis_servers.cluster() as nodes:
        yield nodes


def url_of(*nodes: Node) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


@pytest.fixture
async def store(cluster: list[Node]) -> AsyncIterator[RedisStore]:
    for node in cluster:
        node.ask("FLUSHALL")
    store = RedisStore(url_of(*cluster))
    yield store
    await store.close()


class TestRedisStoreOnACluster(RedisTrouble, StoreContract):
    @pytest.fixture
    async def store(self, cluster: list[Node]) -> AsyncIterator[RedisStore]:
        self.servers = [node.server for node in cluster]
        for node in cluster:
            node.ask("FLUSHALL")
        store = RedisStore(url_of(cluster[1]))
        yield store
        await store.close()


async def test_all_servers_are_used(cluster: list[Node], store: RedisStore) -> None:
    """Organizations are on all three, and a listing finds them all, in order where there is one."""
    for number in range(100):
        await put(store, record(f"org {number}", due_at=float(100 - number)))
    assert sorted(await listed(store)) == sorted(f"org {number}" for number in range(100))
    assert await due(store, 50.0) == [f"org {number}" for number in range(99, 49, -1)]
    assert all(node.ask("DBSIZE") > 10 for node in cluster)


def migrate(slot: int, source: Node, target: Node, nodes: list[Node]) -> Iterator[None]:
    """Move a slot and its keys, in steps: announced; the keys moved; the end."""
    ids = {node: node.ask("CLUSTER MYID").decode() for node in (source, target)}
    target.ask("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    source.ask("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    yield
    for key in source.ask("CLUSTER GETKEYSINSLOT", slot, 1_000):
        source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 1_000)
    yield
    for node in (target, source, *nodes):
        node.ask("CLUSTER SETSLOT", slot, "NODE", ids[target])
    yield


async def test_a_slot_that_moves(cluster: list[Node], store: RedisStore) -> None:
    """ASK while it is on its way, MOVED when it has arrived: followed, by an operation under way too."""
    await put(store, record("first"))  # the map is known
    stored = await put(store, record(due_at=1.0))
    slot = key_slot(store._record("acme").encode())
    source = owner(cluster, slot)
    target = cluster[(cluster.index(source) + 1) % 3]
    for _ in migrate(slot, source, target, cluster):
        assert await store.load("acme") == stored
        stored = await put(store, stored)
    assert isinstance(store._servers, ClusterServers)
    assert store._servers._moved[slot] == ("127.0.0.1", target.port)
    assert await due(store, 2.0) == ["acme"]
    for _ in migrate(slot, target, source, cluster):
        assert await store.load("acme") == stored


def owner(nodes: list[Node], slot: int) -> Node:
    """The server that has a slot."""
    for first, last, (_, port, *_), *_ in nodes[0].ask("CLUSTER SLOTS"):
        if first <= slot <= last:
            return next(node for node in nodes if node.port == port)
    raise LookupError


async def test_a_first_record_while_its_slot_moves(cluster: list[Node], store: RedisStore) -> None:
    """Keys that are not there yet make the servers say TRYAGAIN: the call waits until the slot has arrived."""
    slot = key_slot(store._record("new").encode())
    source = owner(cluster, slot)
    target = cluster[(cluster.index(source) + 1) % 3]
    moving = migrate(slot, source, target, cluster)
    next(moving)
    saving = asyncio.ensure_future(store.swap(record("new")))
    done, _ = await asyncio.wait([saving], timeout=0.2)
    assert done == set()
    next(moving)
    next(moving)
    stored = await saving
    assert stored is not None
    assert await store.load("new") == stored
    for _ in migrate(slot, target, source, cluster):
        pass


async def test_a_cluster_that_fails_over() -> None:
    """The primary of a slot is killed: its replica takes the slot, and what is owed is saved there."""
    with redis_servers.cluster(replica=True) as nodes:
        store = RedisStore(url_of(*nodes[:2]), timeout=2.0)
        keys = [f"org {number}" for number in range(20)]
        stored = {key: await saved(store, record(key)) for key in keys}
        slots = {key: key_slot(store._record(key).encode()) for key in keys}
        of_first = [key for key in keys if owner(nodes, slots[key]) == nodes[0]]
        assert of_first
        nodes[0].server.kill()
        for key in of_first:
            with_new = attrs.evolve(stored[key], payload=b"new")
            assert (await saved(store, with_new)).payload == b"new"
        assert sorted(await at_last(lambda: listed(store))) == sorted(keys)
        await store.close()
        nodes[0].server.start()


async def test_a_cluster_whose_first_server_is_gone(cluster: list[Node]) -> None:
    """The others know as much; one that accepts and never answers costs a share of the time."""
    async with servers.forwarder("nowhere") as (_, silent):
        seeds = f"127.0.0.1:9,127.0.0.1:{silent},127.0.0.1:{cluster[2].port}"
        store = RedisStore(f"redis+cluster://{seeds}", timeout=2.0)
        for key in KEYS:
            assert await store.load(key) is None
        await store.close()
        gone = RedisStore(f"redis+cluster://127.0.0.1:9,127.0.0.1:{silent}", timeout=0.6)
        for _ in range(2):
            with pytest.raises(StoreError, match="look whether it runs"):
                await gone.load("acme")
        await gone.close()


async def test_a_slot_that_nobody_has(cluster: list[Node]) -> None:
    """Said, with the remedy."""
    with redis_servers.node("--cluster-enabled", "yes") as alone:
        store = RedisStore(url_of(alone))
        with pytest.raises(StoreError, match=r"no server of the Redis cluster has slot \d+: look at CLUSTER INFO"):
            await store.load("acme")
        alone.ask("CLUSTER ADDSLOTS", 1)
        with pytest.raises(StoreError, match=r"no server of the Redis cluster has slot \d+: look at CLUSTER INFO"):
            await store.load("acme")
        await store.close()


async def test_redirects_without_an_end() -> None:
    """Two servers that each name the other are no reason to ask for ever."""
    asked = 0

    def answer(command: list[bytes]) -> bytes | None:
        nonlocal asked
        if command[0] == b"EVALSHA":
            asked += 1
            return f"-MOVED 1 127.0.0.1:{port}\r\n".encode()
        if command[0] == b"CLUSTER":  # without a host: the one that was asked
            return f"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$-1\r\n:{port}\r\n".encode()
        return None

    async with redis_servers.scripted(answer) as port:
        store = RedisStore(f"redis+cluster://127.0.0.1:{port}?protocol=2")
        with pytest.raises(StoreError, match="Redis failed"):
            await store.load("acme")
        assert asked == 100
        await store.close()


# Sentinel


async def test_as_sentinel_says() -> None:
    """A fail-over by order, and one after a kill: what is owed is saved where Sentinel says."""
    with redis_servers.watched() as watched:
        await asyncio.to_thread(watched.until_known)
        store = RedisStore(f"redis+sentinel://127.0.0.1:9,127.0.0.1:{watched.port}/tribe", timeout=2.0)
        stored = await put(store, record())
        await asyncio.gather(*(store.load("acme") for _ in range(8)))
        watched.replica.until("EXISTS", store._record("acme"), answers=bool)
        await asyncio.to_thread(watched.fail_over)
        await asyncio.to_thread(
            watched.primary.until, "INFO", "replication", answers=lambda info: info["role"] == "slave"
        )
        stored = await saved(store, attrs.evolve(stored, payload=b"new"))
        assert stored.payload == b"new"
        assert watched.replica.ask("ROLE")[0] == b"master"
        await store.close()


async def test_a_master_that_is_killed() -> None:
    """The same where nobody ordered it, with a rotation in flight."""
    with redis_servers.watched() as watched:
        await asyncio.to_thread(watched.until_known)
        async with Sandbox() as sandbox:
            client, store = sandbox.client(), RedisStore(watched.url, timeout=2.0)
            async with TokenManager(client, store=store) as manager:
                await manager.connect("acme", RefreshTokenGrant(client, sandbox.paste_token("Acme")))
                first = await store.load("acme")
                assert first is not None
                fault = sandbox.fault("hang")
                refreshing = asyncio.ensure_future(manager.refresh("acme"))
                await fault.reached()
                await asyncio.to_thread(watched.primary.server.kill)
                fault.cancel()
                token = await refreshing
                replica = RedisStore(f"redis://127.0.0.1:{watched.replica.port}")
                async with asyncio.timeout(30):
                    while (found := await replica.load("acme")) is None or found.generation == first.generation:
                        pass
                async with TokenManager(client, store=replica) as other:
                    assert await other.token("acme") == token
                await replica.close()
            await store.close()
            assert sandbox.ledger.spent_twice() == ()
        watched.primary.server.start()


async def test_a_name_that_no_sentinel_knows() -> None:
    """Said, with the remedy."""
    with redis_servers.watched() as watched:
        store = RedisStore(watched.url.replace("/tribe", "/other"))
        for _ in range(2):
            with pytest.raises(StoreError, match="no Sentinel knows a master of the name that the URL ends with"):
                await store.load("acme")
        await store.close()


async def test_a_sentinel_that_has_not_heard_of_it(watched: Watched) -> None:
    """It names a replica: nothing is read there, and nothing written."""
    store = RedisStore(watched.url)
    watched.ask("SENTINEL REMOVE", "tribe")
    watched.ask("SENTINEL MONITOR", "tribe", "127.0.0.1", str(watched.replica.port), "1")
    with pytest.raises(StoreError, match="a fail-over may be under way"):
        await store.load("acme")
    await store.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    with redis_servers.watched() as watched:
        yield watched


async def test_a_sentinel_with_a_password(watched: Watched) -> None:
    """Sentinel's user is not the servers'; and a server that does not tell its role is believed to be the master."""
    watched.primary.ask("ACL", "SETUSER", "tribe", "on", ">p@ss", "~*", "+@all", "-role")
    watched.ask("SENTINEL", "SET", "tribe", "auth-user", "default")
    watched.ask("ACL", "SETUSER", "default", "resetpass", ">s/cret")
    servers_url = watched.url.replace("//", "//tribe:p%40ss@") + "?db=3&sentinel_password=s%2Fcret"
    store = RedisStore(servers_url)
    stored = await put(store, record())
    assert await store.load("acme") == stored
    assert watched.primary.ask("INFO", "keyspace")["db3"]["keys"] > 0
    await store.close()


# URLs


def test_what_a_url_says() -> None:
    """Default ports, IPv6, TLS, credentials and options reach each server."""
    place = read_url("rediss+cluster://u:p%40@[::1],h:7000?ssl_check_hostname=false", 1.0)
    assert place.seeds == (("::1", 6379), ("h", 7000))
    assert place.url_at(("::1", 6379)) == "rediss://u:p%40@[::1]:6379?ssl_check_hostname=false"
    place = read_url("redis+sentinel://u:p@h,i:7/tribe?db=1&sentinel_username=s%40&x=1", 1.0)
    assert (place.kind, place.master, place.seeds) == ("sentinel", "tribe", (("h", 26379), ("i", 7)))
    assert place.url_at(("a", 1)) == "redis://u:p@a:1?db=1&x=1"
    assert place.sentinel_url_at(("a", 1)) == "redis://s%40:@a:1?x=1"
    assert "p" not in repr(place)[1:] or "password" not in repr(place)


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://h,",
        "redis+cluster://h:canary",
        "redis+cluster://h/1",
        "redis+sentinel://h",
        "redis+sentinel://h/",
        "redis+sentinel://h/a/b",
        "redis+cluster://h?canary=1",
        "redis+canary://h",
    ],
)
def test_urls_that_cannot_be_read(url: str) -> None:
    """S24: refused where they are given."""
    with pytest.raises(ConfigurationError, match=r"redis\+cluster://host:port,host:port") as error:
        RedisStore(url)
    assert "canary" not in str(error.value)
