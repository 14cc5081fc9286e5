"""Whether the URL of a request came encoded, told by who sends it to the middleware that it passes through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_AS_IT_IS: Final = ContextVar("tribe_oauth_url_as_it_is", default=False)


@contextmanager
def as_it_is() -> Iterator[None]:
    """Requests that are made in this block have URLs that are sent as they are."""
    _AS_IT_IS.set(True)
    try:
        yield
    finally:
        _AS_IT_IS.set(False)  # not `reset`: an abandoned generator is ended in another context


def is_as_it_is() -> bool:
    """Whether a request is made in such a block."""
    return _AS_IT_IS.get()
