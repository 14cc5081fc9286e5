"""Encryption: what can be read without the keys, and what cannot; changing keys (S27)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from tribe_oauth import MemoryStore, RefreshTokenGrant, Secret, TokenManager, TokenStore
from tribe_oauth.errors import ConfigurationError, UnreadableError
from tribe_oauth.sandbox import Sandbox
from tribe_oauth.stores import Record, Unreadable
from tribe_oauth.stores.contract import put, record
from tribe_oauth.stores.encrypted import EncryptedStore, generate_key, read_keys
from tribe_oauth.stores.sqlite import SQLiteStore


async def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    """S24: neither tokens nor client secrets are in the database file; what the refresh steers by is."""
    path = tmp_path / "tribe.db"
    async with Sandbox() as sandbox:
        client, pasted = sandbox.client(), sandbox.paste_token("Acme")
        store = EncryptedStore(SQLiteStore(path), [generate_key()])
        async with TokenManager(store=store, endpoints=sandbox.endpoints) as manager:
            token = await manager.connect("acme", RefreshTokenGrant(client, pasted))
            files = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())
    assert token.refresh_token is not None
    for secret in (pasted, token.access_token.reveal(), token.refresh_token.reveal(), client.client_secret.reveal()):
        assert secret.encode() not in files
    assert b"acme" in files


async def test_a_ciphertext_is_bound_to_its_place() -> None:
    """S27: moved to another organization or another family, it does not open; nor does an altered one."""
    inner = MemoryStore()
    store = EncryptedStore(inner, [generate_key()])
    await put(store, record("acme", family="one", payload=b"secret"))
    encrypted = await inner.load("acme")
    assert encrypted is not None
    altered = encrypted.payload[:-1] + bytes([encrypted.payload[-1] ^ 1])
    for moved in (
        attrs.evolve(encrypted, organization="beta", version=0),
        attrs.evolve(encrypted, organization="gamma", version=0, family="two"),
        attrs.evolve(encrypted, organization="delta", version=0, payload=altered),
        attrs.evolve(encrypted, organization="epsilon", version=0, payload=encrypted.payload[:12]),
    ):
        await put(inner, moved)
        assert "was altered or moved; restore it from a backup" in await why(store, moved.organization)


async def test_a_record_that_is_not_encrypted() -> None:
    """A store that was used without encryption is not taken for garbage."""
    inner = MemoryStore()
    await put(inner, record(payload=b'{"token"'))
    assert "is not encrypted; use the store without" in await why(EncryptedStore(inner, [generate_key()]))


async def test_what_is_beside_it() -> None:
    """Without its key, all but the payload is there; written back with another column, the payload stands as it was."""
    inner, key = MemoryStore(), generate_key()
    new = record(family="f", generation=7, cause="because", payload=b"secret")
    stored = await put(EncryptedStore(inner, [key]), new)
    other = EncryptedStore(inner, [generate_key()])
    loaded = await other.load("acme")
    assert loaded is not None
    assert attrs.evolve(loaded, payload=b"secret") == stored
    again = await put(other, attrs.evolve(loaded, failures=3))
    assert again == attrs.evolve(loaded, version=again.version, failures=3)
    assert type((await inner.load("acme") or record()).payload) is bytes
    back = await EncryptedStore(inner, [key]).load("acme")
    assert back is not None
    assert (back.payload, back.failures) == (b"secret", 3)


async def test_around_another() -> None:
    """What the store inside cannot read is not taken for something that was encrypted."""

    class Odd(MemoryStore):
        async def load(self, organization: str) -> Record | None:
            return record(version=1, payload=Unreadable(b"", "was lost; find it"))

    assert await why(EncryptedStore(Odd(), [generate_key()])) == "was lost; find it"


async def why(store: TokenStore, organization: str = "acme") -> str:
    """Why a record cannot be read."""
    loaded = await store.load(organization)
    assert loaded is not None
    assert isinstance(loaded.payload, Unreadable)
    return loaded.payload.why


async def test_notes_are_encrypted(caplog: pytest.LogCaptureFixture) -> None:
    """A pending authorization has a verifier in it. One that does not open stands as it is, and is logged."""
    inner = MemoryStore()
    store = EncryptedStore(inner, [generate_key()])
    await store.put("key", b"verifier", lives_for=100)
    encrypted = await inner.take("key")
    assert encrypted is not None
    assert b"verifier" not in encrypted
    assert await store.take("key") is None
    await inner.put("other", encrypted, lives_for=100)
    for standing in (await store.put("other", b"new", lives_for=100), await store.take("other")):
        assert isinstance(standing, Unreadable)
        assert standing == encrypted
    assert caplog.text.count("a note in the store cannot be read: it was altered or moved") == 2
    assert await store.put("other", b"new", lives_for=100) == b"new"


async def test_changing_keys() -> None:
    """S27: the newest encrypts, all decrypt; after `rekey` the old one can go; run again, there is nothing to do."""
    inner, old, new = MemoryStore(), generate_key(), generate_key()
    for number in range(5):
        await put(EncryptedStore(inner, [old]), record(f"org {number}", payload=b"secret"))
    await put(EncryptedStore(inner, [old]), record("empty"))
    both = EncryptedStore(inner, [new, old])
    await put(both, record("new", payload=b"secret"))
    assert "under a key that is not given; add it to the keys" in await why(EncryptedStore(inner, [new]), "org 1")
    assert await both.rekey() == 5
    assert await both.rekey() == 0
    for number in range(5):
        loaded = await EncryptedStore(inner, [new]).load(f"org {number}")
        assert loaded is not None
        assert loaded.payload == b"secret"
    loaded = await EncryptedStore(inner, [old]).load("org 1")
    assert loaded is not None
    assert isinstance(loaded.payload, Unreadable)


async def test_changing_keys_over_damage(caplog: pytest.LogCaptureFixture) -> None:
    """S27: a record that cannot be read stops no other; at the end it is said which, and it stands as it was."""

    class Odd(MemoryStore):
        async def load(self, organization: str) -> Record | None:
            if organization == "org 3":
                raise UnreadableError("nothing of it can be read", organization=organization)
            return await super().load(organization)

    inner, old, new, lost = Odd(), generate_key(), generate_key(), generate_key()
    for number in range(50):
        key = lost if 10 <= number < 40 else old
        await put(EncryptedStore(inner, [key]), record(f"org {number}", payload=b"secret"))
    both = EncryptedStore(inner, [new, old])
    with pytest.raises(UnreadableError, match="19 records are under the newest key now; 31 could not be") as error:
        await both.rekey()
    assert "'org 3', 'org 10', 'org 11'" in str(error.value)
    assert "'org 28' and 11 more" in str(error.value)
    assert caplog.text.count("a key that is not given; add it to the keys") == 30
    assert caplog.text.count("nothing of it can be read") == 1
    with pytest.raises(UnreadableError, match="0 records are under"):
        await both.rekey()
    loaded = await EncryptedStore(inner, [lost]).load("org 20")
    assert loaded is not None
    assert loaded.payload == b"secret"


async def test_rekey_beside_a_writer(monkeypatch: pytest.MonkeyPatch) -> None:
    """S27: `rekey` compares versions like every write: what was written meanwhile is not undone."""
    inner, old, new = MemoryStore(), generate_key(), generate_key()
    writer, both = EncryptedStore(inner, [old]), EncryptedStore(inner, [new, old])
    first = await put(writer, record(payload=b"first"))
    swap = inner.swap

    async def interrupted(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(inner, "swap", swap)
        await put(writer, attrs.evolve(first, payload=b"second"))
        return await swap(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(inner, "swap", interrupted)
    assert await both.rekey() == 1
    loaded = await both.load("acme")
    assert loaded is not None
    assert loaded.payload == b"second"


async def test_rekey_in_a_store_of_another_make() -> None:
    """A listing need not be a generator: any asynchronous iterator is one."""

    class Keys:
        def __init__(self) -> None:
            self.left = ["acme"]

        def __aiter__(self) -> Keys:
            return self

        async def __anext__(self) -> str:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    class Another(MemoryStore):
        def organizations(self) -> AsyncIterator[str]:
            return Keys()

    inner, old, new = Another(), generate_key(), generate_key()
    await put(EncryptedStore(inner, [old]), record(payload=b"secret"))
    assert await EncryptedStore(inner, [new, old]).rekey() == 1


@pytest.mark.parametrize("key", ["", "short", "ä", "QUJD", Secret("QUJD")])
def test_keys_that_are_none(key: str | Secret) -> None:
    """A key is 32 bytes in base64, and the error doesn't show what was given."""
    with pytest.raises(ConfigurationError, match="base64 of 32 bytes: generate_key") as error:
        EncryptedStore(MemoryStore(), [key])
    assert "QUJD" not in str(error.value)
    with pytest.raises(ConfigurationError, match="at least one key"):
        EncryptedStore(MemoryStore(), [])


def test_keys_that_are_read() -> None:
    """Separated by commas or white space, the newest first."""
    keys = [generate_key(), generate_key()]
    assert read_keys(f"\n{keys[0].reveal()},\n{keys[1].reveal()}\n") == keys
    assert read_keys(" ") == []
