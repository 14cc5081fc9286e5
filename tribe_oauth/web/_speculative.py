"""Requests that a browser sends before its person asked for the page, which may never happen: they change nothing."""

from __future__ import annotations

from typing import Final

from aiohttp import web

_HEADERS: Final = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
"""Of the Fetch standard, of older browsers, of Safari and of Firefox."""
_WORDS: Final = ("prefetch", "prerender", "preview")


def is_speculative(request: web.Request) -> bool:
    """Whether a browser prefetches or prerenders.

    It throws away an answer with an error's status, and asks again when the person opens the page.
    """
    purposes = " ".join(value for name in _HEADERS for value in request.headers.getall(name, [])).lower()
    return any(word in purposes for word in _WORDS)
