"""Keeps codes, states and access tokens out of aiohttp's access log, which prints the whole request line."""

from __future__ import annotations

import logging
from typing import Any

from tribe_oauth._redaction import redacted_query


class HideCallbacks(logging.Filter):
    """Masks the values of ``code``, ``state`` and ``access_token`` in every query of a record.

    `setup` adds it to aiohttp's own access logger; add it to the one you pass to ``run_app`` yourself.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """True: every record is logged."""
        record.msg = _masked(record.msg)
        record.args = _masked(record.args)
        for name in ("first_request_line", "request_header", "response_header"):  # aiohttp's extras
            if name in record.__dict__:
                record.__dict__[name] = _masked(record.__dict__[name])
        return True


def _masked(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_masked(item) for item in value)
    if isinstance(value, dict):
        return {name: _masked(item) for name, item in value.items()}
    return redacted_query(value) if isinstance(value, str) else value


def hide_callbacks() -> None:
    """Add the filter to aiohttp's access log, once for all applications."""
    logger = logging.getLogger("aiohttp.access")
    if not any(isinstance(there, HideCallbacks) for there in logger.filters):
        logger.addFilter(HideCallbacks())
