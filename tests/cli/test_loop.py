"""Which event loop a long command has."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace

import pytest

from tribe_oauth.cli._run import command, loop


def test_uvloop_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is used for long commands, and for no others; nobody needs it."""
    made = []

    def new_event_loop() -> asyncio.AbstractEventLoop:
        made.append(asyncio.new_event_loop())
        return made[-1]

    async def work() -> None:
        pass

    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(new_event_loop=new_event_loop))
    command(work)()
    assert not made
    command(work, is_long=True)()
    assert len(made) == 1
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop() is None
