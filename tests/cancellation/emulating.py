"""Scenarios of the sandbox, in this process and by its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import ClientSession

from tribe_oauth.sandbox import Fault, Remote, RemoteFault, Sandbox

from .harness import Subject, scenario
from .leaks import Snapshot
from .worlds import Place


def _sandbox() -> Sandbox:
    return Sandbox(organizations=["acme"], persons=1)


@scenario("Sandbox.__aenter__")
async def enter(place: Place) -> AsyncIterator[Subject]:
    before, sandbox, entered = Snapshot.take(), _sandbox(), False

    async def run() -> None:
        nonlocal entered
        await sandbox.__aenter__()
        entered = True

    yield Subject(run=run, owns=before, frees="everything if cut")
    if entered:
        await sandbox.__aexit__(None, None, None)


@scenario("Sandbox.__aexit__: idle")
async def leave(place: Place) -> AsyncIterator[Subject]:
    before = Snapshot.take()
    sandbox = await _sandbox().__aenter__()
    yield Subject(run=lambda: sandbox.__aexit__(None, None, None), owns=before, frees="everything")


@scenario("Sandbox.__aexit__: answers are on their way")
async def leave_busy(place: Place) -> AsyncIterator[Subject]:
    async with ClientSession() as session:
        before = Snapshot.take()
        sandbox = await _sandbox().__aenter__()
        fault = sandbox.fault("hang")
        asked = asyncio.ensure_future(session.post(sandbox.endpoints.token_endpoint, data={"grant_type": "none"}))
        await fault.reached()
        yield Subject(run=lambda: sandbox.__aexit__(None, None, None), owns=before, frees="everything")
        asked.cancel()
        await asyncio.wait({asked})


@asynccontextmanager
async def _asking() -> AsyncIterator[tuple[Sandbox, str]]:
    """A sandbox, and the address of its consent page."""
    async with _sandbox() as sandbox:
        yield sandbox, sandbox.client().authorization_request().url


@scenario("Sandbox.approve")
async def approve(place: Place) -> AsyncIterator[Subject]:
    async with _asking() as (sandbox, url):
        yield Subject(run=lambda: sandbox.approve(url), owns=Snapshot.take(), frees="everything")


@scenario("Sandbox.delivered")
async def delivered(place: Place) -> AsyncIterator[Subject]:
    async with _sandbox() as sandbox:
        yield Subject(run=sandbox.delivered, owns=Snapshot.take(), frees="everything")


# By its address


@asynccontextmanager
async def _remote() -> AsyncIterator[tuple[Sandbox, Remote]]:
    async with _sandbox() as sandbox, Remote(sandbox.base) as remote:
        yield sandbox, remote


@scenario("Remote.__aenter__")
async def remote_enter(place: Place) -> AsyncIterator[Subject]:
    async with _sandbox() as sandbox:
        before, remote = Snapshot.take(), Remote(sandbox.base)
        yield Subject(run=remote.__aenter__, owns=before, frees="everything if cut")
        await remote.__aexit__(None, None, None)


@scenario("Remote.__aexit__")
async def remote_leave(place: Place) -> AsyncIterator[Subject]:
    async with _sandbox() as sandbox:
        before, remote = Snapshot.take(), Remote(sandbox.base)
        await remote.__aenter__()
        await remote.organizations()
        yield Subject(run=lambda: remote.__aexit__(None, None, None), owns=before, frees="everything")


@scenario("Remote.approve")
async def remote_approve(place: Place) -> AsyncIterator[Subject]:
    async with _asking() as (sandbox, url), Remote(sandbox.base) as remote:
        yield Subject(run=lambda: remote.approve(url), owns=Snapshot.take(), frees="everything")


ORDERS: Final[dict[str, Callable[[Remote], Coroutine[Any, Any, object]]]] = {
    "organizations": lambda remote: remote.organizations(),
    "client": lambda remote: remote.client(organization="beta"),
    "paste_token": lambda remote: remote.paste_token("acme"),
    "expire": lambda remote: remote.expire("acme"),
    "ledger": lambda remote: remote.ledger(events=3),
    "write": lambda remote: remote.write("acme", "POST", "Note", {"Content": "x"}),
    "rows": lambda remote: remote.rows("acme", "Relation_Person"),
    "calls": lambda remote: remote.calls(),
    "deliveries": lambda remote: remote.deliveries(),
    "is_live": lambda remote: remote.is_live("no token"),
    "fault": lambda remote: remote.fault("status", status=503),
}


def _order(name: str, run: Callable[[Remote], Coroutine[Any, Any, object]]) -> None:
    async def open_world(place: Place) -> AsyncIterator[Subject]:
        async with _remote() as (_sandbox, remote):
            yield Subject(run=lambda: run(remote), owns=Snapshot.take(), after=remote.organizations)

    scenario(f"Remote.{name}")(open_world)


for _name, _run in ORDERS.items():
    _order(_name, _run)


# Faults


def _end_of_fault(name: str, run: Callable[[RemoteFault], Coroutine[Any, Any, object]]) -> None:
    async def open_world(place: Place) -> AsyncIterator[Subject]:
        async with _remote() as (sandbox, remote):
            fault = await remote.fault("hang")
            async with _hit(sandbox):
                yield Subject(run=lambda: run(fault), after=remote.organizations)
                await fault.cancel()

    scenario(f"RemoteFault.{name}")(open_world)


@asynccontextmanager
async def _hit(sandbox: Sandbox) -> AsyncIterator[None]:
    """A request that a fault is there for."""

    async def ask() -> None:
        url, form = sandbox.endpoints.token_endpoint, {"grant_type": "none"}
        async with ClientSession() as session, session.post(url, data=form) as response:
            await response.read()

    asked = asyncio.ensure_future(ask())
    try:
        yield
        await asked
    finally:
        asked.cancel()
        await asyncio.wait({asked})


_end_of_fault("reached", lambda fault: fault.reached())
_end_of_fault("release", lambda fault: fault.release())
_end_of_fault("cancel", lambda fault: fault.cancel())


def _wait_for_fault(name: str, run: Callable[[Fault], Coroutine[Any, Any, object]]) -> None:
    async def open_world(place: Place) -> AsyncIterator[Subject]:
        async with _sandbox() as sandbox:
            fault = sandbox.fault("hang")
            async with _hit(sandbox):
                asyncio.get_running_loop().call_later(0.05, fault.release)
                yield Subject(run=lambda: run(fault))
                fault.release()

    scenario(f"Fault.{name}")(open_world)


_wait_for_fault("reached", lambda fault: fault.reached())
_wait_for_fault("wait", lambda fault: fault.wait())
