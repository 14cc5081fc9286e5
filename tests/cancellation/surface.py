"""What there is to be cut: the public coroutines of the library, found by looking at it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

import tribe_oauth

NOT_AWAITED_BY_USERS: Final = {"tribe_oauth.cli", "tribe_oauth.pytest_plugin", "tribe_oauth.stores.contract"}
"""The command line, and what a test runner calls."""
_CONTEXT: Final = frozenset({"__aenter__", "__aexit__"})
_AWAITED: Final = ("AsyncIterator", "AsyncGenerator", "Awaitable", "Coroutine", "AbstractAsyncContextManager")


def public_coroutines() -> set[str]:
    """All of them: ``module.function`` and ``Class.method``, asynchronous generators and context managers included."""
    return {name for module in _public_modules() for name in _of(module)}


def _public_modules() -> Iterator[ModuleType]:
    yield tribe_oauth
    for found in pkgutil.walk_packages(tribe_oauth.__path__, "tribe_oauth."):
        inside = any(found.name == name or found.name.startswith(f"{name}.") for name in NOT_AWAITED_BY_USERS)
        if not inside and not any(part.startswith("_") for part in found.name.split(".")):
            yield importlib.import_module(found.name)


def _of(module: ModuleType) -> Iterator[str]:
    for name in getattr(module, "__all__", None) or _own(module):
        thing = getattr(module, name)
        if inspect.isclass(thing):
            if not getattr(thing, "_is_protocol", False):
                yield from (f"{name}.{method}" for method in _methods(thing))
        elif _suspends(thing):
            yield f"{module.__name__.rpartition('.')[2]}.{name}"


def _own(module: ModuleType) -> list[str]:
    """The public names of a module that does not list them: what it defines."""
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    ]


def _methods(thing: type[Any]) -> Iterator[str]:
    for parent in thing.__mro__:
        if parent.__module__.split(".")[0] == "tribe_oauth":
            for name, member in vars(parent).items():
                if (name in _CONTEXT or not name.startswith("_")) and _suspends(member):
                    yield name


def _suspends(thing: Any) -> bool:
    """A coroutine function, an asynchronous generator's, or a plain one that says that it returns such a thing."""
    function = (
        inspect.unwrap(getattr(thing, "__func__", thing)) if callable(thing) or hasattr(thing, "__func__") else None
    )
    if not inspect.isfunction(function):
        return False
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        return True
    return str(function.__annotations__.get("return", "")).startswith(_AWAITED)
