"""Any store, with everything secret encrypted: AES-256-GCM, bound to the organization and its family.

What the refresh decides by (family, generation, lease, times) stays readable; tokens, client secrets and notes do not.
Which columns those are: `tribe_oauth.stores._columns`. A ciphertext that is moved to another organization or family
cannot be decrypted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final, Protocol

from tribe_oauth._oauth.values import Secret
from tribe_oauth.errors import ConfigurationError, Remedy, StoreError
from tribe_oauth.stores._columns import with_payload
from tribe_oauth.stores._contract import ASSUMED_TIMEOUT, Record, Rescuer, TokenStore

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    raise ImportError("EncryptedStore needs an extra: pip install 'tribe-oauth[encryption]'") from None

_FORMAT: Final = b"\x01"
_ID_BYTES, _NONCE_BYTES, _KEY_BYTES = 8, 12, 32


def generate_key() -> Secret:
    """A new key: 256 random bits, as base64 text."""
    return Secret(base64.b64encode(os.urandom(_KEY_BYTES)).decode())


def read_keys(text: str) -> list[Secret]:
    """Keys from a variable or a file: base64, separated by white space or commas, the newest first."""
    return [Secret(key) for key in text.replace(",", " ").split()]


class _RescuingStore(TokenStore, Rescuer, Protocol):
    """A store that can keep copies of records."""


class EncryptedStore:
    """Encrypts what another store keeps. A `Rekeyer`, and a `Rescuer` where the other store is one.

    `keys` are base64 of 32 bytes, as from `generate_key`: the first, the newest, encrypts; all decrypt. To change keys,
    put the new one first everywhere, run `rekey`, then take the old one away. A record without its key is a StoreError,
    and is left as it is.
    """

    def __new__(cls, store: TokenStore, keys: Sequence[str | Secret]) -> EncryptedStore:  # noqa: PYI034 (it may be of a class below)
        """One that can keep copies of records, where `store` can."""
        return super().__new__(_EncryptedRescuer if cls is EncryptedStore and isinstance(store, Rescuer) else cls)

    def __init__(self, store: TokenStore, keys: Sequence[str | Secret]) -> None:
        if not keys:
            raise ConfigurationError("an encrypted store needs at least one key", remedy=Remedy.GENERATE_KEY)
        self._store = store
        self._ciphers = dict(map(_cipher, keys))
        self._newest = next(iter(self._ciphers))

    @property
    def timeout(self) -> float:
        """Seconds that one operation can take at most: the other store's."""
        return float(getattr(self._store, "timeout", ASSUMED_TIMEOUT))

    async def load(self, organization: str) -> Record | None:
        """See `TokenStore.load`."""
        record = await self._store.load(organization)
        return None if record is None else self._decrypted(record)

    async def swap(self, record: Record, *, lease_for: float | None = None) -> Record | None:
        """See `TokenStore.swap`."""
        stored = await self._store.swap(self._encrypted(record), lease_for=lease_for)
        return None if stored is None else with_payload(stored, record.payload)

    def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        return self._store.organizations()

    def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        return self._store.due(before)

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        bound = _bound("note", key)
        return self._decrypt(
            await self._store.put(key, self._encrypt(value, bound), lives_for=lives_for), bound, "a note"
        )

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        value = await self._store.take(key)
        return None if value is None else self._decrypt(value, _bound("note", key), "a note")

    async def close(self) -> None:
        """See `TokenStore.close`."""
        await self._store.close()

    async def rekey(self) -> int:
        """See `Rekeyer.rekey`. Each record is one compare-and-swap."""
        organizations, changed = self._store.organizations(), 0
        try:
            async for organization in organizations:
                changed += await self._rekey(organization)
        finally:
            if isinstance(organizations, AsyncGenerator):  # or the event loop would have to close it, in a task
                await organizations.aclose()
        return changed

    async def _rekey(self, organization: str) -> bool:
        changed = False
        while (record := await self._store.load(organization)) is not None and self._is_old(record):
            changed = await self._store.swap(self._encrypted(self._decrypted(record))) is not None
        return changed

    def _is_old(self, record: Record) -> bool:
        return bool(record.payload) and record.payload[1 : 1 + _ID_BYTES] != self._newest

    def _encrypted(self, record: Record) -> Record:
        if not record.payload:
            return record
        bound = _bound("record", record.organization, record.family)
        return with_payload(record, self._encrypt(record.payload, bound))

    def _decrypted(self, record: Record) -> Record:
        if not record.payload:
            return record
        bound = _bound("record", record.organization, record.family)
        what = f"the record of organization {record.organization!r}"
        return with_payload(record, self._decrypt(record.payload, bound, what))

    def _encrypt(self, plain: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, plain, bound)

    def _decrypt(self, encrypted: bytes, bound: bytes, what: str) -> bytes:
        if encrypted[:1] != _FORMAT:
            raise StoreError(f"{what} is not encrypted: use the store without EncryptedStore, or connect it anew")
        key_id, rest = encrypted[1 : 1 + _ID_BYTES], encrypted[1 + _ID_BYTES :]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise StoreError(
                f"{what} is encrypted under a key that is not given: add it to the keys; nothing was changed"
            )
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            raise StoreError(f"{what} was altered or moved: restore it from a backup; nothing was changed") from None


class _EncryptedRescuer(EncryptedStore):
    """Encrypts what a store keeps that is a `Rescuer`, and so is one."""

    _store: _RescuingStore

    async def rescue(self, organization: str, record: Record | None) -> None:
        """See `Rescuer.rescue`. The copy is encrypted as records are."""
        await self._store.rescue(organization, None if record is None else self._encrypted(record))


def _cipher(key: str | Secret) -> tuple[bytes, AESGCM]:
    """A key's cipher, and the id by which it is found."""
    try:
        raw = base64.b64decode(key.reveal() if isinstance(key, Secret) else key, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise ConfigurationError("a key of an encrypted store is base64 of 32 bytes", remedy=Remedy.GENERATE_KEY)
    return hashlib.sha256(b"tribe_oauth key id\0" + raw).digest()[:_ID_BYTES], AESGCM(raw)


def _bound(*parts: str) -> bytes:
    """What a ciphertext belongs to, unambiguously: each part with its length."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
