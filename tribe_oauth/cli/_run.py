"""From a coroutine function to a command: one clear line for what goes wrong, an exit code for how it ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from types import FrameType
from typing import Any, Final, NoReturn, ParamSpec

import typer

from tribe_oauth import TribeOAuthError
from tribe_oauth.cli._exit import Exit, exit_for
from tribe_oauth.cli._words import console, shown, told

Parameters = ParamSpec("Parameters")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE: Final = 1.0
"""Seconds after which a person who wants it to end is told why it does not."""


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

    It exits as `Exit` says; a TribeOAuthError is told on standard error. Ctrl-C, SIGTERM, and SIGHUP of a terminal that
    is closed cancel `work`, which ends what it started. The next one ends the process at once.
    """

    @wraps(work)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            with asyncio.Runner(loop_factory=loop() if is_long else None) as runner:
                runner.run(_until_ended(work(*arguments, **options)))
        except TribeOAuthError as error:
            console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: {shown(told(error))}", soft_wrap=True)
            raise typer.Exit(exit_for(error)) from None
        except KeyboardInterrupt:  # before the loop listened to it
            raise typer.Exit(Exit.INTERRUPTED) from None
        except _EndedError as error:
            raise typer.Exit(128 + error.number) from None

    return run


class _EndedError(Exception):
    """A signal ended the work. `number`: which."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


async def _until_ended(work: Coroutine[Any, Any, None]) -> None:
    loop, task, received = asyncio.get_running_loop(), asyncio.current_task(), list[int]()
    assert task is not None

    def end(number: int) -> None:
        received.append(number)
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, _end_at_once)  # not by the loop, which may be busy
        if sys.stderr.isatty():
            loop.call_later(
                PATIENCE, _say, "it ends when what was sent is answered and saved; once more ends it at once"
            )
        task.cancel()

    for number in _SIGNALS:
        loop.add_signal_handler(number, end, number)
    try:
        await work
    except asyncio.CancelledError:
        raise _EndedError(received[0] if received else signal.SIGINT) from None


def _end_at_once(number: int, _frame: FrameType | None) -> NoReturn:
    """End the process now, whatever waits; a progress bar may have hidden the cursor.

    The word goes past Python's streams, which the signal may have interrupted in the middle of a write.
    """
    try:
        errors = sys.stderr.fileno()
        shown_again = f"{chr(27)}[?25h" if os.isatty(errors) else ""
        os.write(errors, f"\n{shown_again}ended at once: what was sent and not saved yet may be lost\n".encode())
    finally:
        os._exit(128 + number)


def _say(text: str) -> None:
    sys.stderr.write(f"\n{text}\n")
    sys.stderr.flush()
