"""Keeps codes and states out of aiohttp's access log, which prints the whole request line."""

from __future__ import annotations

import logging
import re
from typing import Any

_SECRET = re.compile(r"(?<=[?&])(code|state)=[^&\s\"]*")


class HideCallbacks(logging.Filter):
    """Takes ``code`` and ``state`` out of every query in a record.

    `setup` adds it to aiohttp's own access logger; add it to the one you pass to ``run_app`` yourself.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """True: every record is logged."""
        record.msg = _hidden(record.msg)
        record.args = _hidden(record.args)
        for name in ("first_request_line", "request_header", "response_header"):  # aiohttp's extras
            if name in record.__dict__:
                record.__dict__[name] = _hidden(record.__dict__[name])
        return True


def _hidden(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_hidden(item) for item in value)
    if isinstance(value, dict):
        return {name: _hidden(item) for name, item in value.items()}
    return _SECRET.sub(r"\1=***", value) if isinstance(value, str) else value


def hide_callbacks() -> None:
    """Put the filter before aiohttp's access log, once."""
    logger = logging.getLogger("aiohttp.access")
    if not any(isinstance(there, HideCallbacks) for there in logger.filters):
        logger.addFilter(HideCallbacks())
