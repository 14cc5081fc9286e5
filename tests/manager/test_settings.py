"""Settings from the environment: what is missing or cannot be is named, with the variable."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tribe_oauth import TRIBE, Client, ClientCredentialsGrant, MemoryStore, RefreshTokenGrant, Secret
from tribe_oauth._manager import settings as environment
from tribe_oauth.errors import ConfigurationError
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore
from tribe_oauth.stores.sqlite import SQLiteStore

NEEDED = {"TRIBE_CLIENT_ID": "id", "TRIBE_CLIENT_SECRET": " secret\n"}


def test_the_least() -> None:
    """Two variables; white space around a value is no part of it."""
    settings = environment.read(NEEDED)
    assert settings.client.client_secret == Secret("secret")
    assert settings.client.endpoints == TRIBE
    assert settings.client.scope == "read write offline"
    assert (settings.organization, settings.own) == (None, "default")
    assert isinstance(settings.grant, ClientCredentialsGrant)
    assert isinstance(settings.store, MemoryStore)
    assert not settings.pasted


def test_everything(tmp_path: Path) -> None:
    """All variables, some of them in files."""
    file = tmp_path / "token"
    file.write_text("pasted\n")
    settings = environment.read(
        NEEDED
        | {
            "TRIBE_REFRESH_TOKEN_FILE": str(file),
            "TRIBE_REDIRECT_URI": "https://app.example/cb",
            "TRIBE_SCOPE": "read",
            "TRIBE_ORGANIZATION_ID": "acme",
            "TRIBE_STORE": f"sqlite:{tmp_path}/tribe.db",
            "TRIBE_AUTH_URL": "http://127.0.0.1:1",
            "TRIBE_API_URL": "http://127.0.0.1:2",
            "TRIBE_ALLOW_INSECURE_LOOPBACK": "yes",
        }
    )
    assert settings.grant == RefreshTokenGrant(settings.client, "pasted")
    assert settings.client.endpoints.api == "http://127.0.0.1:2"
    assert settings.client.redirect_uri == "https://app.example/cb"
    assert (settings.client.scope, settings.organization, settings.pasted) == ("read", "acme", True)
    assert isinstance(settings.store, SQLiteStore)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_of_any_editor(tmp_path: Path, encoding: str) -> None:
    """A byte order mark is no part of the value: Windows writes one."""
    file = tmp_path / "secret"
    file.write_text("sécret\r\n", encoding=encoding)
    settings = environment.read({"TRIBE_CLIENT_ID": "id", "TRIBE_CLIENT_SECRET_FILE": str(file)})
    assert settings.client.client_secret == Secret("sécret")


def test_a_client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever makes the manager: the same variables."""
    for name in [name for name in os.environ if name.startswith("TRIBE_")]:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match="TRIBE_CLIENT_ID is not set"):
        Client.from_env()
    for name, value in (NEEDED | {"TRIBE_REDIRECT_URI": "https://app.example/cb", "TRIBE_SCOPE": "read"}).items():
        monkeypatch.setenv(name, value)
    client = Client.from_env()
    assert client == environment.read().client
    assert client == Client("id", "secret", redirect_uri="https://app.example/cb", scope="read")
    assert Client.from_env(NEEDED) == Client("id", "secret")


def test_a_proxy() -> None:
    """It may have a password in it."""
    settings = environment.read(NEEDED | {"TRIBE_PROXY": "http://user:canary@proxy.example:3128"})
    assert settings.proxy == Secret("http://user:canary@proxy.example:3128")
    assert environment.read(NEEDED).proxy is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"TRIBE_CLIENT_ID": ""}, "TRIBE_CLIENT_ID is not set: set it, or TRIBE_CLIENT_ID_FILE"),
        ({"TRIBE_CLIENT_SECRET": " "}, "TRIBE_CLIENT_SECRET is not set"),
        ({"TRIBE_CLIENT_ID_FILE": "x"}, "TRIBE_CLIENT_ID and TRIBE_CLIENT_ID_FILE are both set"),
        ({"TRIBE_SCOPE_FILE": "/no/such/file"}, "TRIBE_SCOPE_FILE: the file cannot be read"),
        ({"TRIBE_AUTH_URL": "https://auth.example"}, "only one of TRIBE_AUTH_URL and TRIBE_API_URL is set"),
        ({"TRIBE_API_URL": "https://api.example"}, "only one of TRIBE_AUTH_URL and TRIBE_API_URL is set"),
        ({"TRIBE_STORE": "mongodb://x"}, "TRIBE_STORE: there is no store for mongodb"),
        ({"TRIBE_STORE": "memory"}, "TRIBE_STORE: 'memory' begins no path: write memory:"),
        ({"TRIBE_STORE": "postgresql:/x"}, "'postgresql' begins no path: write postgresql://user"),
        ({"TRIBE_STORE": "Redis:6379"}, "'Redis' begins no path: write redis://"),
        ({"TRIBE_STORE": "redis+cluster:a:1,b:1"}, r"'redis\+cluster' begins no path: write redis://"),
        ({"TRIBE_STORE": "unix:/x"}, "'unix' begins no path: write unix:///path/to/redis.sock"),
        ({"TRIBE_SCOPE_FILE": "/"}, "TRIBE_SCOPE_FILE names no file: write the path of one"),
        ({"TRIBE_STORE": "sqlite:"}, "TRIBE_STORE names no file"),
        ({"TRIBE_STORE": "/"}, "TRIBE_STORE names no file"),
        ({"TRIBE_STORE": "~nobody-of-that-name/x.db"}, "TRIBE_STORE: there is no home directory for ~"),
        ({"TRIBE_SCOPE_FILE": "~nobody-of-that-name/x"}, "TRIBE_SCOPE_FILE: there is no home directory for ~"),
        ({"TRIBE_STORE_KEYS": "x"}, "TRIBE_STORE_KEYS: a key of an encrypted store is base64"),
        ({"TRIBE_REFRESH_TOKEN": "a b"}, "TRIBE_REFRESH_TOKEN: the refresh token is empty, or has spaces"),
        ({"TRIBE_REDIRECT_URI": "x"}, "TRIBE_REDIRECT_URI or TRIBE_SCOPE: redirect_uri has to be an absolute URL"),
        (
            {"TRIBE_AUTH_URL": "https://a.example", "TRIBE_API_URL": "https://b.example/v1"},
            "TRIBE_AUTH_URL or TRIBE_API_URL: api is an origin",
        ),
        (
            {"TRIBE_AUTH_URL": "https://a.example", "TRIBE_API_URL": "https://b.example"}
            | {"TRIBE_ALLOW_INSECURE_LOOPBACK": "maybe"},
            "TRIBE_ALLOW_INSECURE_LOOPBACK is neither yes nor no",
        ),
    ],
)
def test_what_cannot_be(changes: dict[str, str], said: str) -> None:
    """Each names the variable and the remedy, and shows no value."""
    with pytest.raises(ConfigurationError, match=said):
        environment.read(NEEDED | changes)


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        ("memory:", MemoryStore),
        ("tribe.db", SQLiteStore),
        ("sqlite:tribe.db", SQLiteStore),
        ("sqlite:///x/y.db", SQLiteStore),
        ("postgresql://u:p@127.0.0.1/db", PostgresStore),
        ("rediss://127.0.0.1", RedisStore),
        ("redis+cluster://127.0.0.1:1,127.0.0.1:2", RedisStore),
        ("rediss+sentinel://127.0.0.1:1,127.0.0.1:2/tribe", RedisStore),
    ],
)
def test_stores(named: str, kind: type) -> None:
    """By path or by name."""
    assert isinstance(environment.store({"TRIBE_STORE": named}, durable=False), kind)


def test_a_store_whose_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line to install it with is said."""
    cases = (("postgres", "psycopg", "postgres://x"), ("redis", "redis.asyncio", "redis://x"))
    for module, driver, url in cases:
        monkeypatch.delitem(sys.modules, f"tribe_oauth.stores.{module}")
        monkeypatch.setitem(sys.modules, driver, None)
        with pytest.raises(ConfigurationError, match=rf"pip install 'tribe-oauth\[{module}\]'"):
            environment.store({"TRIBE_STORE": url}, durable=True)


def test_an_encrypted_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the environment seal whatever store is named; without the extra, the line to install it with is said."""
    keys = {"TRIBE_STORE": "memory:", "TRIBE_STORE_KEYS": generate_key().reveal()}
    assert isinstance(environment.store(keys, durable=True), EncryptedStore)
    monkeypatch.delitem(sys.modules, "tribe_oauth.stores.encrypted")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tribe-oauth\[encryption\]'"):
        environment.store(keys, durable=True)


def test_a_store_where_none_is_named(tmp_path: Path) -> None:
    """What must not be lost goes under the state directory."""
    assert isinstance(environment.store({}, durable=False), MemoryStore)
    for env in ({"XDG_STATE_HOME": str(tmp_path)}, {}):
        store = environment.store(env, durable=True)
        assert isinstance(store, SQLiteStore)
        assert store._path.parts[-2:] == ("tribe-oauth", "tokens.db")


def test_one_store_for_the_settings(tmp_path: Path) -> None:
    """A file for what must not be lost: a refresh token, or everything where `durable`."""
    env = NEEDED | {"XDG_STATE_HOME": str(tmp_path)}
    assert isinstance(environment.read(env).store, MemoryStore)
    assert isinstance(environment.read(env, durable=True).store, SQLiteStore)
    settings = environment.read(env | {"TRIBE_REFRESH_TOKEN": "pasted"})
    assert isinstance(settings.store, SQLiteStore)
    assert list(tmp_path.iterdir()) == []


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container: the variable that is needed then is named."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    with pytest.raises(ConfigurationError, match="set TRIBE_STORE to a path or a URL"):
        environment.read(NEEDED, durable=True)
    assert isinstance(environment.read(NEEDED).store, MemoryStore)


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No shell has read the variables: ~ is the home directory in paths of stores and of files with values."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "secret").write_text("from home")
    env = {"TRIBE_CLIENT_ID": "id", "TRIBE_CLIENT_SECRET_FILE": "~/secret", "TRIBE_STORE": "~/x.db"}
    settings = environment.read(env)
    assert settings.client.client_secret == Secret("from home")
    assert environment.store_path(env) == environment.missing_store(env) == tmp_path / "x.db"
    assert environment.store_path(env | {"TRIBE_STORE": "sqlite:~/y.db"}) == tmp_path / "y.db"
    (tmp_path / "x.db").touch()
    assert environment.missing_store(env) is None
    state = {"XDG_STATE_HOME": "~/state"}  # no absolute path, so that it is to be ignored
    assert environment.store_path(state) == tmp_path / ".local" / "state" / "tribe-oauth" / "tokens.db"
    assert environment.missing_store(state) is None
    assert environment.store_path({"TRIBE_STORE": "memory:"}) is None


def test_a_state_file_that_is_there(tmp_path: Path) -> None:
    """What the command line connected is found without TRIBE_STORE."""
    env = NEEDED | {"XDG_STATE_HOME": str(tmp_path)}
    path = tmp_path / "tribe-oauth" / "tokens.db"
    path.parent.mkdir()
    path.touch()
    store = environment.read(env).store
    assert isinstance(store, SQLiteStore)
    assert store._path == path
