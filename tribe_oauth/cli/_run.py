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


def command(work: Callable[Parameters, Coroutine[Any, Any, None]]) -> Callable[Parameters, None]:
    """The command that runs `work` in an event loop of its own; Typer reads its parameters from it as they stand.

    It exits with 1 after a TribeOAuthError, which is told on standard error, with 130 after Ctrl-C and with 143 after
    SIGTERM. Both signals cancel `work`, which ends what it started.
    """

    @wraps(work)
    def run(*arguments: Parameters.args, **options: Parameters.kwargs) -> None:
        try:
            asyncio.run(_until_terminated(work(*arguments, **options)))
        except TribeOAuthError as error:
            Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: {escape(str(error))}", soft_wrap=True)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            raise typer.Exit(128 + signal.SIGINT) from None
        except asyncio.CancelledError:
            raise typer.Exit(128 + signal.SIGTERM) from None

    return run


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """SIGTERM cancels, as asyncio.run has it for Ctrl-C."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await work
