"""Settings from ``TRIBE_…`` variables: how one is read, and where Tribe is. Imported by `client`, and by `_manager`."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tribe_oauth._hiding import hiding
from tribe_oauth._oauth.values import TRIBE, Endpoints
from tribe_oauth.errors import ConfigurationError

_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})
_MARKS: Final = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""What editors and shells of Windows begin a file with."""


@hiding
def endpoints(environ: Mapping[str, str] | None = None) -> Endpoints:
    """Where Tribe is: ``TRIBE_AUTH_URL`` and ``TRIBE_API_URL``, with ``TRIBE_ALLOW_INSECURE_LOOPBACK``.

    Raises ConfigurationError.
    """
    env = os.environ if environ is None else environ
    auth, api = variable(env, "TRIBE_AUTH_URL"), variable(env, "TRIBE_API_URL")
    if auth is None and api is None:
        return TRIBE
    if auth is None or api is None:
        raise ConfigurationError("only one of TRIBE_AUTH_URL and TRIBE_API_URL is set: set both, or neither")
    allowed = (variable(env, "TRIBE_ALLOW_INSECURE_LOOPBACK") or "").lower()
    if allowed not in _YES | _NO:
        raise ConfigurationError("TRIBE_ALLOW_INSECURE_LOOPBACK is neither yes nor no: set it to 1 or 0")
    with naming("TRIBE_AUTH_URL or TRIBE_API_URL"):
        return Endpoints.at(auth, api, allow_insecure_loopback=allowed in _YES)


@contextmanager
def naming(variables: str) -> Iterator[None]:
    """Say which variables an error of what is made of them is about."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{variables}: {error.problem}", remedy=error.remedy) from None


def needed(env: Mapping[str, str], name: str) -> str:
    """The value of a variable. Raises ConfigurationError where there is none."""
    value = variable(env, name)
    if value is None:
        raise ConfigurationError(f"{name} is not set: set it, or {name}_FILE to the path of a file with its value")
    return value


def variable(env: Mapping[str, str], name: str) -> str | None:
    """The value of a variable or of its file, without white space around it; None where it is absent or empty."""
    value, path = env.get(name), env.get(f"{name}_FILE")
    if value and path:
        raise ConfigurationError(f"{name} and {name}_FILE are both set: unset one of them")
    if path and (value := _content(expanded(f"{name}_FILE", path))) is None:
        raise ConfigurationError(
            f"{name}_FILE: the file cannot be read, or is not text in UTF-8: check its path, its mode and its content"
        )
    return (value or "").strip() or None


def expanded(name: str, path: str) -> Path:
    """A path with the home directory for ``~``: no shell reads most environments. Raises ConfigurationError."""
    try:
        whole = Path(path).expanduser()
    except RuntimeError:
        raise ConfigurationError(f"{name}: there is no home directory for ~: write the whole path") from None
    if not whole.name:
        raise ConfigurationError(f"{name} names no file: write the path of one")
    return whole


def _content(path: Path) -> str | None:
    """None where it cannot be read. The reason is not kept: a decoding error has the content in it."""
    with suppress(OSError, ValueError):
        content = path.read_bytes()
        encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
        return content.decode(encoding)
    return None
