"""A sandbox on a thread and a loop of its own, since commands bring theirs."""

from __future__ import annotations

import os
import threading
from asyncio import Event, new_event_loop
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tribe_oauth.sandbox import Sandbox


@contextmanager
def served(sandbox: Sandbox) -> Iterator[Sandbox]:
    loop, ended = new_event_loop(), Event()

    async def serve() -> None:
        async with sandbox:
            ready.set()
            await ended.wait()

    ready = threading.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield sandbox
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


def use(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """What a user would export for it, and nothing else."""
    for name in [name for name in os.environ if name.startswith("TRIBE_")]:
        monkeypatch.delenv(name)
    for name, value in sandbox.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRIBE_STORE", str(store))
