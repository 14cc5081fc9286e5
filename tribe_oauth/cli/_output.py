"""What commands write to standard output and standard error: whole, or the command fails and says so.

Python's own text streams drop what an unbuffered or non-blocking output does not take at once, and find a full disk at
their end, with a traceback.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from tribe_oauth._remedies import reason, remedy
from tribe_oauth._whole import write_whole
from tribe_oauth.cli._exit import Exit


class OutputRefusedError(OSError):
    """The output was not taken. One class for all reasons: what handles BrokenPipeError itself would say too little."""


class _Whole(io.RawIOBase):
    """The bytes of a stream. The first write that fails is an error; what comes after it is thrown away.

    `raw` None: the process was started without this stream; its number may be another file's by now.
    """

    def __init__(self, raw: io.FileIO | None) -> None:
        self._raw = raw
        self.refused: OutputRefusedError | None = None

    def fileno(self) -> int:
        if self._raw is None:
            raise io.UnsupportedOperation("fileno")
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw is not None and self._raw.isatty()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        if self.refused is None:
            with self._refusals():
                if self._raw is None:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                write_whole(self._raw, bytes(content))
        return len(content)

    def check(self) -> None:
        """See that all was taken. A network file system may say no only when a file is closed."""
        if self._raw is not None and self.refused is None:
            with self._refusals():
                os.close(os.dup(self._raw.fileno()))
        if self.refused is not None:
            raise self.refused

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.refused = OutputRefusedError(error.errno, error.strerror)
            raise self.refused from None


@contextmanager
def whole_output() -> Iterator[None]:
    """While it lasts, standard output and standard error take everything, however slowly, or raise OutputRefusedError.

    Where something was not taken, the process ends with a line that says why; without one where a reader has gone, as
    other tools do before `head`.
    """
    before = sys.stdout, sys.stderr
    output, errors = _whole(sys.stdout), _whole(sys.stderr)
    if errors is not None and sys.stderr is None:
        errors.refused = OutputRefusedError(errno.EBADF, os.strerror(errno.EBADF))  # whoever closed it wants nothing
    sys.stdout, sys.stderr = _text(output, sys.stdout), _text(errors, sys.stderr)
    try:
        try:
            yield
        except SystemExit as ended:
            if ended.code:
                raise  # the command has said why
        sys.stdout.flush()
        if output is not None:
            output.check()
    except OutputRefusedError as refused:
        if refused.errno != errno.EPIPE:
            with contextlib.suppress(OutputRefusedError):
                advice = remedy(refused, "find out where it leads to")
                sys.stderr.write(f"standard output cannot be written ({reason(refused)}): {advice}\n")
        raise SystemExit(Exit.FAILED) from None
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OutputRefusedError):
                stream.flush()
        sys.stdout, sys.stderr = before


def _whole(stream: TextIO | None) -> _Whole | None:
    """What can take the place of a stream under its text; None for one in memory, which needs nothing."""
    if stream is None:
        return _Whole(None)
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return _Whole(raw) if isinstance(raw, io.FileIO) else None


def _text(whole: _Whole | None, stream: Any) -> Any:
    """A text stream as the one before, on other bytes."""
    if whole is None:
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(whole),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors=getattr(stream, "errors", "backslashreplace"),
        line_buffering=getattr(stream, "line_buffering", False) or getattr(stream, "write_through", False),
    )
