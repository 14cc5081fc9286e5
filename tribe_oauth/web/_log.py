"""Keeps codes, states, cookies of flows and access tokens out of the logs and reports of others.

Twice, since nobody knows all that reads a request. A filter masks the records of the server's access log, whatever its
name is: aiohttp's, gunicorn's, one's own. And a callback's own request forgets its query as soon as it was read: what
is asked for it later (an access logger of one's own class, a crash reporter) finds it masked.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from aiohttp import web
from yarl import URL

from tribe_oauth._redaction import redacted_query

_ACCESS_LOGS: Final = ("aiohttp.access", "gunicorn.access")
_WITH_A_URL: Final = ("_message", "_rel_url", "_cache")
"""Where aiohttp's request has its URL. It has no other way to change it."""


class HideCallbacks(logging.Filter):
    """Masks the values of ``code``, ``state`` and ``access_token`` in every URL of a record, and the cookies of flows.

    `setup` adds it to the access logs of aiohttp and gunicorn, and to the one that the server uses, whatever its name.
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


def hide_callbacks(*loggers: logging.Logger) -> None:
    """Add the filter to these, by default to the access logs that are known by name; once for all applications."""
    for logger in loggers or map(logging.getLogger, _ACCESS_LOGS):
        if not any(isinstance(there, HideCallbacks) for there in logger.filters):
            logger.addFilter(HideCallbacks())


async def hide_in_use(request: web.Request, response: web.StreamResponse) -> None:
    """Add the filter to the access log that this server writes to, right before its line is written."""
    log = getattr(request.protocol, "access_log", None)
    if isinstance(log, logging.Logger):
        hide_callbacks(log)


def forget_secrets(request: web.Request) -> None:
    """Mask the query of a request that was read, for all that look at it from now on."""
    clean = request.clone(rel_url=URL(redacted_query(str(request.rel_url)), encoded=True))
    for name in _WITH_A_URL:
        setattr(request, name, getattr(clean, name))
