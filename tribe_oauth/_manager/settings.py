"""Settings from the environment, for `TokenManager.from_env` and for the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs

from tribe_oauth._hiding import hiding
from tribe_oauth._oauth.client import Client, ClientCredentialsGrant, Grant, RefreshTokenGrant
from tribe_oauth._oauth.environment import variable
from tribe_oauth._oauth.values import Secret, secret
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.stores import MemoryStore, TokenStore


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
    proxy: Secret | None


@hiding
def read(environ: Mapping[str, str] | None = None, *, durable: bool = False) -> Settings:
    """Read ``TRIBE_…``; each variable also as ``…_FILE``, a path. Raises ConfigurationError.

    Where no store is named, a refresh token from the environment gets a file, since it works only once; client
    credentials get this process's memory, or a file where `durable`.
    """
    env = os.environ if environ is None else environ
    client, proxy = Client.from_env(env), variable(env, "TRIBE_PROXY")
    refresh_token = variable(env, "TRIBE_REFRESH_TOKEN")
    grant = RefreshTokenGrant(client, refresh_token) if refresh_token else ClientCredentialsGrant(client)
    return Settings(
        client=client,
        organization=variable(env, "TRIBE_ORGANIZATION_ID") or "default",
        grant=grant,
        pasted=refresh_token is not None,
        store=store(env, durable=durable or refresh_token is not None),
        proxy=None if proxy is None else secret(proxy),
    )


@hiding
def store(environ: Mapping[str, str] | None = None, *, durable: bool) -> TokenStore:
    """The store that ``TRIBE_STORE`` names: a path, ``sqlite:…``, a URL of PostgreSQL or Redis, or ``memory:``.

    Those of Redis are ``redis://…``, ``redis+cluster://…`` and ``redis+sentinel://…``, with ``rediss`` for TLS. Where
    it is not set: a file under the user's state directory if `durable`, else this process's memory. With
    ``TRIBE_STORE_KEYS``, everything stored is encrypted. Raises ConfigurationError.
    """
    env = os.environ if environ is None else environ
    keys = variable(env, "TRIBE_STORE_KEYS")
    if keys is None:
        return _store(env, durable)
    try:
        from tribe_oauth.stores.encrypted import EncryptedStore, read_keys
    except ImportError as error:
        raise ConfigurationError(f"TRIBE_STORE_KEYS: {error}") from None
    return EncryptedStore(_store(env, durable), read_keys(keys))


def _store(env: Mapping[str, str], durable: bool) -> TokenStore:
    named = variable(env, "TRIBE_STORE")
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
