"""Stores over TLS whose server nobody vouches for: that is told, and the address and the password are not blamed."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from tribe_oauth import StoreError
from tribe_oauth.stores.postgres import PostgresStore
from tribe_oauth.stores.redis import RedisStore


@pytest.fixture
def tls() -> ssl.SSLContext:
    """Of a server with a certificate of an authority that is not known here."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
async def port(tls: ssl.SSLContext) -> AsyncIterator[int]:
    """Speaks TLS at once, as Redis does, or after a word, as PostgreSQL does."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if (await reader.readexactly(8))[4:] == b"\x04\xd2\x16\x2f":  # SSLRequest
                writer.write(b"S")
                await writer.start_tls(tls)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has refused the certificate
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_redis(tls: ssl.SSLContext) -> None:
    """S13: the reason, and what to do."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=tls)
    store = RedisStore(f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(StoreError, match=r"no connection to Redis \(its certificate is refused, .*\): .*SSL_CERT_FILE"):
        await store.load("acme")
    await store.close()
    server.close()


async def test_redis_without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with too many files open is not a Redis that does not run."""

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    store = RedisStore("redis://127.0.0.1:1")
    with pytest.raises(StoreError, match=r"Too many open files\): .*ulimit -n"):
        await store.load("acme")
    await store.close()


async def test_postgres(port: int, tmp_path: Path) -> None:
    """S13: libpq has no code for it, and says it in words."""
    known = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(known))
    for root in (known, tmp_path / "missing.pem"):
        store = PostgresStore(f"postgresql://u:canary@127.0.0.1:{port}/d?sslmode=verify-full&sslrootcert={root}")
        with pytest.raises(StoreError, match=r"TLS refuses its certificate; name the file of its authority") as error:
            await store.load("acme")
        assert "canary" not in str(error.value)
        await store.close()
