"""Standard input, read without holding up the event loop or the end of the process."""

from __future__ import annotations

import asyncio
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TextIO

_LOCAL_MODES: Final = 3
"""Where `termios.tcgetattr` has the flags that ECHO is one of."""


async def line() -> str:
    """The next line with its line break; the empty text at the end of the input."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def deliver(text: str) -> None:
        if not found.done():
            found.set_result(text)

    def read() -> None:
        text = _next_line(sys.stdin)
        with suppress(RuntimeError):  # the loop is closed: nothing waits for the line any more
            loop.call_soon_threadsafe(deliver, text)

    in_background(read)
    return await found


def _next_line(stream: TextIO | None) -> str:
    if stream is None:
        return ""  # the process was started without a standard input
    # The stream as it is, and not the buffer under it: Python aborts at its end where a thread waits inside that one.
    try:
        return stream.readline()
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}\n"  # nothing that is pasted has it, so it is refused like other wrong text
    except OSError:  # it cannot be read, or not any more
        return ""


async def hidden_line(prompt: str) -> str:
    """A line that a terminal does not show while it is typed. Without a terminal, the next line of the input."""
    if sys.stdin is None or not sys.stdin.isatty():
        return await line()
    with _without_echo(sys.stdin.fileno()):
        sys.stderr.write(prompt)
        sys.stderr.flush()
        text = await line()
    sys.stderr.write("\n")
    return text


@contextmanager
def _without_echo(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    hidden = [*before]
    hidden[_LOCAL_MODES] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSAFLUSH, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)


def in_background(work: Callable[..., object], *arguments: object) -> None:
    """Run it in a thread that the end of the process does not wait for: a person may never press Enter."""
    threading.Thread(target=work, args=arguments, daemon=True).start()
