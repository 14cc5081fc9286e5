"""Errors without the frames that they came through, for what is given secrets. May be imported by every room.

A crash reporter shows the local variables of every frame of a traceback. The text of our errors says what happened and
what to do; the frames between the caller and the line that noticed it would only add the values that were given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tribe_oauth.errors import TribeOAuthError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")
Class = TypeVar("Class", bound=type)


def hiding(call: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """The same function; an error of it comes straight from here, where no variable holds what was given."""

    @wraps(call)
    def hidden(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        try:
            return call(*arguments, **options)
        except Exception as error:
            failure = error.again() if isinstance(error, TribeOAuthError) else error.with_traceback(None)
        del arguments, options
        failure.__cause__ = failure.__context__ = None  # they have frames too
        try:
            raise failure from None
        finally:
            del failure  # its traceback has this frame, which would keep both

    return hidden


def hiding_init(made: Class) -> Class:
    """The same class, whose constructor is one that hides."""
    made.__init__ = hiding(made.__init__)  # type: ignore[misc]
    return made
