"""Settings from the environment, for `TokenManager.from_env` and for the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import attrs

from tribe_oauth._hiding import hiding
from tribe_oauth._oauth.client import Client, ClientCredentialsGrant, Grant, RefreshTokenGrant
from tribe_oauth._oauth.values import TRIBE, Endpoints
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.stores import MemoryStore, TokenStore

_YES, _NO = frozenset({"1", "true", "yes", "on"}), frozenset({"", "0", "false", "no", "off"})


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Settings:
    """One organization's settings.

    `pasted`: the grant is a refresh token from the environment. `store`: the only one that was made for these settings;
    it opens nothing before it is first used.
    """

    client: Client
    organization: str
    grant: Grant
    pasted: bool
    store: TokenStore


@hiding
def read(environ: Mapping[str, str] | None = None, *, durable: bool = False) -> Settings:
    """Read ``TRIBE_…``; each variable also as ``…_FILE``, a path. Raises ConfigurationError.

    Where no store is named, a refresh token from the environment gets a file, since it works only once; client
    credentials get this process's memory, or a file where `durable`.
    """
    env = os.environ if environ is None else environ
    client = Client(
        _needed(env, "TRIBE_CLIENT_ID"),
        _needed(env, "TRIBE_CLIENT_SECRET"),
        redirect_uri=_variable(env, "TRIBE_REDIRECT_URI"),
        scope=_variable(env, "TRIBE_SCOPE") or "read write offline",
        endpoints=endpoints(env),
    )
    refresh_token = _variable(env, "TRIBE_REFRESH_TOKEN")
    grant = RefreshTokenGrant(client, refresh_token) if refresh_token else ClientCredentialsGrant(client)
    return Settings(
        client=client,
        organization=_variable(env, "TRIBE_ORGANIZATION_ID") or "default",
        grant=grant,
        pasted=refresh_token is not None,
        store=store(env, durable=durable or refresh_token is not None),
    )


@hiding
def endpoints(environ: Mapping[str, str] | None = None) -> Endpoints:
    """Where Tribe is: ``TRIBE_AUTH_URL`` and ``TRIBE_API_URL``, with ``TRIBE_ALLOW_INSECURE_LOOPBACK``.

    Raises ConfigurationError.
    """
    env = os.environ if environ is None else environ
    auth, api = _variable(env, "TRIBE_AUTH_URL"), _variable(env, "TRIBE_API_URL")
    if auth is None and api is None:
        return TRIBE
    if auth is None or api is None:
        raise ConfigurationError("only one of TRIBE_AUTH_URL and TRIBE_API_URL is set: set both, or neither")
    allowed = (_variable(env, "TRIBE_ALLOW_INSECURE_LOOPBACK") or "").lower()
    if allowed not in _YES | _NO:
        raise ConfigurationError("TRIBE_ALLOW_INSECURE_LOOPBACK is neither yes nor no: set it to 1 or 0")
    return Endpoints.at(auth, api, allow_insecure_loopback=allowed in _YES)


@hiding
def store(environ: Mapping[str, str] | None = None, *, durable: bool) -> TokenStore:
    """The store that ``TRIBE_STORE`` names: a path, ``sqlite:…``, a URL of PostgreSQL or Redis, or ``memory:``.

    Those of Redis are ``redis://…``, ``redis+cluster://…`` and ``redis+sentinel://…``, with ``rediss`` for TLS. Where
    it is not set: a file under the user's state directory if `durable`, else this process's memory. With
    ``TRIBE_STORE_KEYS``, everything stored is encrypted. Raises ConfigurationError.
    """
    env = os.environ if environ is None else environ
    keys = _variable(env, "TRIBE_STORE_KEYS")
    if keys is None:
        return _store(env, durable)
    try:
        from tribe_oauth.stores.encrypted import EncryptedStore, read_keys
    except ImportError as error:
        raise ConfigurationError(f"TRIBE_STORE_KEYS: {error}") from None
    return EncryptedStore(_store(env, durable), read_keys(keys))


def _store(env: Mapping[str, str], durable: bool) -> TokenStore:
    named = _variable(env, "TRIBE_STORE")
    if named == "memory:" or (named is None and not durable):
        return MemoryStore()
    from tribe_oauth.stores.sqlite import SQLiteStore

    if named is None:
        return SQLiteStore(_state_directory(env) / "tribe-oauth" / "tokens.db")
    scheme, colon, path = named.partition(":")
    if colon and scheme == "sqlite":
        return SQLiteStore(path.removeprefix("//"))
    if "://" not in named:
        return SQLiteStore(named)
    try:
        if scheme in {"postgresql", "postgres"}:
            from tribe_oauth.stores.postgres import PostgresStore

            return PostgresStore(named)
        if scheme.partition("+")[0] in {"redis", "rediss", "unix"}:
            from tribe_oauth.stores.redis import RedisStore

            return RedisStore(named)
    except ImportError as error:
        raise ConfigurationError(f"TRIBE_STORE: {error}") from None
    raise ConfigurationError(
        f"TRIBE_STORE: there is no store for {scheme}: set a path, or a URL of PostgreSQL or Redis"
    )


def _state_directory(env: Mapping[str, str]) -> Path:
    """The user's own, by the XDG Base Directory Specification."""
    try:
        return Path(env.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    except RuntimeError:  # of a user id without a name, as containers have
        raise ConfigurationError(
            "TRIBE_STORE is not set, and this user has no home directory for a file: set TRIBE_STORE to a path or a URL"
        ) from None


def _needed(env: Mapping[str, str], name: str) -> str:
    value = _variable(env, name)
    if value is None:
        raise ConfigurationError(f"{name} is not set: set it, or {name}_FILE to the path of a file with its value")
    return value


def _variable(env: Mapping[str, str], name: str) -> str | None:
    """The value of a variable or of its file, without white space around it; None where it is absent or empty."""
    value, path = env.get(name), env.get(f"{name}_FILE")
    if value and path:
        raise ConfigurationError(f"{name} and {name}_FILE are both set: unset one of them")
    if path and (value := _content(path)) is None:
        raise ConfigurationError(
            f"{name}_FILE: the file cannot be read, or is not text in UTF-8: check its path, its mode and its content"
        )
    return (value or "").strip() or None


def _content(path: str) -> str | None:
    """None where it cannot be read. The reason is not kept: a decoding error has the content in it."""
    with suppress(OSError, ValueError):
        return Path(path).read_text(encoding="utf-8")
    return None
