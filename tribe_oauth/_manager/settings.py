"""Settings from the environment, for `TokenManager.from_env` and for the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import attrs

from tribe_oauth._hiding import hiding
from tribe_oauth._oauth.client import Client, ClientCredentialsGrant, Grant, RefreshTokenGrant
from tribe_oauth._oauth.environment import expanded, naming, variable
from tribe_oauth._oauth.values import Secret, secret
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.stores import MemoryStore, TokenStore

DEFAULT: Final = "default"
"""Key of the environment's own organization where TRIBE_ORGANIZATION_ID is not set."""

_SCHEMES: Final = {
    "sqlite": "sqlite:/path/to/tribe.db",
    "memory": "memory:",
    "postgresql": "postgresql://user:password@host/database",
    "postgres": "postgresql://user:password@host/database",
    "redis": "redis://host:port",
    "rediss": "rediss://host:port",
    "unix": "unix:///path/to/redis.sock",
}


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Settings:
    """One organization's settings.

    `organization`: TRIBE_ORGANIZATION_ID, where it is set. `pasted`: the grant is a refresh token from the environment.
    `store`: the only one that was made for these settings; it opens nothing before it is first used.
    """

    client: Client
    organization: str | None
    grant: Grant
    pasted: bool
    store: TokenStore
    proxy: Secret | None

    @property
    def own(self) -> str:
        """Key of the organization that these are the settings of."""
        return self.organization or DEFAULT


@hiding
def read(environ: Mapping[str, str] | None = None, *, durable: bool = False) -> Settings:
    """Read ``TRIBE_…``; each variable also as ``…_FILE``, a path. Raises ConfigurationError.

    Where no store is named it is the file under the user's state directory: where that is there, where `durable`, and
    for a refresh token from the environment, since it works only once. Else it is this process's memory.
    """
    env = os.environ if environ is None else environ
    client, proxy = Client.from_env(env), variable(env, "TRIBE_PROXY")
    refresh_token = variable(env, "TRIBE_REFRESH_TOKEN")
    with naming("TRIBE_REFRESH_TOKEN"):
        grant: Grant = RefreshTokenGrant(client, refresh_token) if refresh_token else ClientCredentialsGrant(client)
    return Settings(
        client=client,
        organization=variable(env, "TRIBE_ORGANIZATION_ID"),
        grant=grant,
        pasted=refresh_token is not None,
        store=store(env, durable=durable or refresh_token is not None),
        proxy=None if proxy is None else secret(proxy),
    )


@hiding
def store(environ: Mapping[str, str] | None = None, *, durable: bool) -> TokenStore:
    """The store that ``TRIBE_STORE`` names: a path, ``sqlite:…``, a URL of PostgreSQL or Redis, or ``memory:``.

    Those of Redis are ``redis://…``, ``redis+cluster://…`` and ``redis+sentinel://…``, with ``rediss`` for TLS. Where
    it is not set: as `read` says. With ``TRIBE_STORE_KEYS``, everything stored is encrypted. Raises ConfigurationError.
    """
    env = os.environ if environ is None else environ
    keys = variable(env, "TRIBE_STORE_KEYS")
    if keys is None:
        return plain_store(env, durable=durable)
    try:
        from tribe_oauth.stores.encrypted import EncryptedStore, read_keys
    except ImportError as error:
        raise ConfigurationError(f"TRIBE_STORE_KEYS: {error}") from None
    with naming("TRIBE_STORE_KEYS"):
        return EncryptedStore(plain_store(env, durable=durable), read_keys(keys))


@hiding
def plain_store(environ: Mapping[str, str] | None = None, *, durable: bool) -> TokenStore:
    """The same without encryption: where things are kept, and not what they mean. Raises ConfigurationError."""
    env = os.environ if environ is None else environ
    named = variable(env, "TRIBE_STORE")
    path = _path(env, named, durable=durable)
    if path is not None:
        from tribe_oauth.stores.sqlite import SQLiteStore

        return SQLiteStore(path)
    if named is None or named == "memory:":
        return MemoryStore()
    scheme = named.partition(":")[0]
    with naming("TRIBE_STORE"):
        return _server(scheme, named)


@hiding
def store_path(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file that connections are kept in where they have to last; None: it is no file. Raises ConfigurationError."""
    env = os.environ if environ is None else environ
    return _path(env, variable(env, "TRIBE_STORE"), durable=True)


@hiding
def missing_store(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file that TRIBE_STORE names, where nothing is there. Raises ConfigurationError."""
    env = os.environ if environ is None else environ
    named = variable(env, "TRIBE_STORE")
    path = None if named is None else _path(env, named, durable=True)
    return None if path is None or os.path.lexists(path) else path


def _path(env: Mapping[str, str], named: str | None, *, durable: bool) -> Path | None:
    if named is None:
        return _state_file(env, durable=durable)
    scheme, colon, path = named.partition(":")
    if colon and scheme == "sqlite":
        return expanded("TRIBE_STORE", path.removeprefix("//"))
    if named == "memory:" or path.startswith("//"):
        return None
    if example := _SCHEMES.get(scheme.lower().partition("+")[0]):  # a file of that name would be made
        raise ConfigurationError(f"TRIBE_STORE: {scheme!r} begins no path: write {example}")
    return expanded("TRIBE_STORE", named)


def _server(scheme: str, named: str) -> TokenStore:
    try:
        if scheme in {"postgresql", "postgres"}:
            from tribe_oauth.stores.postgres import PostgresStore

            return PostgresStore(named)
        if scheme.partition("+")[0] in {"redis", "rediss", "unix"}:
            from tribe_oauth.stores.redis import RedisStore

            return RedisStore(named)
    except ImportError as error:
        raise ConfigurationError(str(error)) from None
    raise ConfigurationError(f"there is no store for {scheme}: set a path, or a URL of PostgreSQL or Redis")


def _state_file(env: Mapping[str, str], *, durable: bool) -> Path | None:
    """The one in the user's state directory, by the XDG Base Directory Specification; one that is there, or any."""
    try:
        given = Path(env.get("XDG_STATE_HOME", ""))
        folder = given if given.is_absolute() else Path.home() / ".local" / "state"  # a relative one is to be ignored
    except RuntimeError:  # of a user id without a name, as containers have
        if not durable:
            return None
        raise ConfigurationError(
            "TRIBE_STORE is not set, and this user has no home directory for a file: set TRIBE_STORE to a path or a URL"
        ) from None
    path = folder / "tribe-oauth" / "tokens.db"
    return path if durable or os.path.lexists(path) else None
