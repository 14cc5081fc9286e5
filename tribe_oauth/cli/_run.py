"""From a coroutine function to a command: one clear line for what goes wrong, an exit status for how it ended."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape

from tribe_oauth import TribeOAuthError

Parameters = ParamSpec("Parameters")


def loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The quicker event loop, uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    make: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return make


def command(
    work: Callable[Parameters, Coroutine[Any, Any, None]], *, is_long: bool = False
) -> Callable[Parameters, None]:
    """The command that runs `work` in an event loop of its own; Typer reads its parameters from it as they stand.

    `is_long`: it has enough to do for another event loop to be worth its import.

    It exits with 1 after a TribeOAuthError, which is told on standard error, with 130 after Ctrl-C, 143 after SIGTERM
    and 129 after SIGHUP. Each of these signals cancels `work`, which ends what it started.
    """

    @wraps(work)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            with asyncio.Runner(loop_factory=loop() if is_long else None) as runner:
                runner.run(_until_terminated(work(*arguments, **options)))
        except TribeOAuthError as error:
            Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(128 + signal.SIGINT) from None
        except _TerminatedError as error:
            raise typer.Exit(128 + error.number) from None

    return run


class _TerminatedError(Exception):
    """A signal ended the work. `number`: which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """SIGTERM, and SIGHUP of a terminal that is closed, cancel, as asyncio.run has it for Ctrl-C."""
    task, received = asyncio.current_task(), list[int]()
    assert task is not None

    def terminate(number: int) -> None:
        received.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, terminate, number)
    try:
        await work
    except asyncio.CancelledError:
        if received:
            raise _TerminatedError(received[0]) from None
        raise
