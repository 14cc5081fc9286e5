"""Times in HTTP headers, Retry-After and Date, read in one way for the token endpoint and for the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

LONGEST: Final = 86_400.0
"""Seconds: a server that asks for more is taken to ask for this."""


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from 0 to `LONGEST`, of either form; None where the header is absent or says nothing usable.

    A date is compared with the answer's own ``Date``, so that no clock but the server's matters; without that, it says
    nothing usable.
    """
    retry_after = headers.get("Retry-After", "").strip()
    try:
        if retry_after.isascii() and retry_after.isdecimal():
            seconds = float(retry_after)
        else:
            seconds = (_moment(retry_after) - _moment(headers.get("Date", ""))).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), LONGEST)


def read_date(headers: Mapping[str, str]) -> float | None:
    """The Unix time that the server says it is (RFC 9110 §6.6.1); None where it does not."""
    try:
        return _moment(headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return None


def _moment(date: str) -> datetime:
    """Any of the three forms of RFC 9110 §5.6.7; the one without a zone is UTC like the others."""
    moment = parsedate_to_datetime(date)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
