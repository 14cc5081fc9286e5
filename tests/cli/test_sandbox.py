"""`tribe-oauth sandbox`: it serves, says how to use it, and ends without a trace."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tribe_oauth.cli._app import app
from tribe_oauth.cli._sandbox import sandbox

from ..web.cancelling import nothing_left

COMMAND = [sys.executable, "-m", "tribe_oauth.cli", "sandbox", "--persons", "5", "--organizations", "1"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_serving_a_sandbox(number: signal.Signals, code: int) -> None:
    """It says how to use it, works as it says, and ends on a signal."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = ""
        while "Ctrl-C" not in said:
            said += process.stdout.readline()
        exported = dict(re.findall(r"export (\w+)=(\S+)", said))
        got = subprocess.run(
            [sys.executable, "-m", "tribe_oauth.cli", "get", "Relation_Person", "--top", "2", "--json"],
            env={**os.environ, **exported, "TRIBE_STORE": "memory:"},
            capture_output=True,
            text=True,
            check=True,
        )
        (token,) = re.findall(r"^  Acme: (\S+)$", said, re.MULTILINE)
        pasted = subprocess.run(
            [sys.executable, "-m", "tribe_oauth.cli", "connect", "acme", "--paste"],
            env={**os.environ, **exported},
            input=f"{token}\n",
            capture_output=True,
            text=True,
            check=True,
        )
        process.send_signal(number)
        assert process.wait(10) == code
        assert process.stderr.read() == ""
    assert len(got.stdout.splitlines()) == 2
    assert "connected: acme" in pasted.stdout
    assert not Path(exported["TRIBE_STORE"]).parent.exists()


def test_a_port_that_is_taken() -> None:
    """One clear line, as for every other error."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        result = CliRunner().invoke(app, ["sandbox", "--port", str(busy.getsockname()[1])])
    assert result.exit_code == 2
    (said,) = result.output.splitlines()
    assert "address already in use" in said
    assert said.endswith("choose another --port, or 0 for a free one")


def test_a_profile_that_is_not_there() -> None:
    """The choices are named."""
    result = CliRunner().invoke(app, ["sandbox", "--profile", "hydra-9"])
    assert result.exit_code == 2
    assert "choose one of" in result.output


def test_a_rule_that_is_not_there() -> None:
    """The choices are named."""
    result = CliRunner().invoke(app, ["sandbox", "--rule", "calls=200", "--rule", "paging=links"])
    assert result.exit_code == 2
    assert "choose none or nextLink" in result.output


async def test_cancelled_while_it_serves() -> None:
    """Nothing listens afterwards, and nothing runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    async with nothing_left():
        serving = asyncio.ensure_future(sandbox(port=port, persons=1))
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            await asyncio.sleep(0.01)
        serving.cancel()
        await asyncio.wait({serving})
        assert serving.cancelled()
        writer.close()
    with socket.create_server(("127.0.0.1", port)):
        pass
