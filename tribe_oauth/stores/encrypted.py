"""Any store, with everything secret encrypted: AES-256-GCM, bound to the organization and its family.

What the refresh decides by (family, generation, lease, times) stays readable; tokens, client secrets and notes do not.
Which columns those are: `tribe_oauth.stores._columns`. A ciphertext that is moved to another organization or family
cannot be decrypted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol

from tribe_oauth._hiding import hiding
from tribe_oauth._oauth.values import Secret
from tribe_oauth.errors import ConfigurationError, Remedy, UnreadableError
from tribe_oauth.stores._contract import (
    ASSUMED_TIMEOUT,
    Record,
    Rescuer,
    Slots,
    SlotStore,
    TokenStore,
    Unreadable,
    unreadable,
)
from tribe_oauth.stores._writes import SAME, constructor

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    raise ImportError("EncryptedStore needs an extra: pip install 'tribe-oauth[encryption]'") from None

logger = logging.getLogger("tribe_oauth.stores")

_FORMAT: Final = b"\x01"
_ID_BYTES, _NONCE_BYTES, _KEY_BYTES = 8, 12, 32
_NAMED: Final = 20
"""Organizations that an error names: there may be very many."""

_with_payload: Callable[[Record, bytes], Record] = constructor("record, payload", SAME | {"payload": "payload"})


def generate_key() -> Secret:
    """A new key: 256 random bits, as base64 text."""
    return Secret(base64.b64encode(os.urandom(_KEY_BYTES)).decode())


def read_keys(text: str) -> list[Secret]:
    """Keys from a variable or a file: base64, separated by white space or commas, the newest first."""
    return [Secret(key) for key in text.replace(",", " ").split()]


class _RescuingStore(TokenStore, Rescuer, Protocol):
    """A store that can keep copies of records."""


class _SharingStore(TokenStore, SlotStore, Protocol):
    """A store by which processes share a limit of calls."""


class EncryptedStore:
    """Encrypts what another store keeps. A `Rekeyer`, and a `Rescuer` and a `SlotStore` where the other store is one.

    `keys` are base64 of 32 bytes, as from `generate_key`: the first, the newest, encrypts; all decrypt. To change keys,
    add the new one behind the others everywhere, put it first everywhere, run `rekey`, then take the old one away.

    A record without its key is left as it is: its payload is `Unreadable`, what is beside it can be used, and it can be
    replaced and removed. So is a note.
    """

    def __new__(cls, store: TokenStore, keys: Sequence[str | Secret]) -> EncryptedStore:  # noqa: PYI034 (it may be of a class below)
        """One that can do what `store` can."""
        abilities = isinstance(store, Rescuer), isinstance(store, SlotStore)
        return super().__new__(_ABLE[abilities] if cls is EncryptedStore else cls)

    @hiding
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
        return None if stored is None else _with_payload(stored, record.payload)

    def organizations(self) -> AsyncIterator[str]:
        """See `TokenStore.organizations`."""
        return self._store.organizations()

    def due(self, before: float) -> AsyncIterator[str]:
        """See `TokenStore.due`."""
        return self._store.due(before)

    async def put(self, key: str, value: bytes, *, lives_for: float) -> bytes:
        """See `TokenStore.put`."""
        sealed = self._encrypt(value, _bound("note", key))
        return self._note(key, await self._store.put(key, sealed, lives_for=lives_for))

    async def take(self, key: str) -> bytes | None:
        """See `TokenStore.take`."""
        value = await self._store.take(key)
        return None if value is None else self._note(key, value)

    def _note(self, key: str, sealed: bytes) -> bytes:
        value = self._decrypt(sealed, _bound("note", key))
        if isinstance(value, Unreadable):
            logger.warning("a note in the store cannot be read: it %s, or do nothing: it ends by itself", value.why)
        return value

    async def close(self) -> None:
        """See `TokenStore.close`."""
        await self._store.close()

    async def rekey(self) -> int:
        """See `Rekeyer.rekey`. Each record is one compare-and-swap."""
        organizations, changed, unread = self._store.organizations(), 0, list[str]()
        try:
            async for organization in organizations:
                try:
                    changed += await self._rekey(organization)
                except UnreadableError as error:
                    logger.error("%s", error)  # noqa: TRY400 (the text says all)
                    unread.append(organization)
        finally:
            if isinstance(organizations, AsyncGenerator):  # or the event loop would have to close it, in a task
                await organizations.aclose()
        if unread:
            raise _not_rekeyed(changed, unread)
        return changed

    async def _rekey(self, organization: str) -> bool:
        changed = False
        while (record := await self._store.load(organization)) is not None and self._is_old(record):
            opened = self._decrypted(record)
            if isinstance(opened.payload, Unreadable):
                raise unreadable(organization, opened.payload.why)
            changed = await self._store.swap(self._encrypted(opened)) is not None
        return changed

    def _is_old(self, record: Record) -> bool:
        return bool(record.payload) and record.payload[1 : 1 + _ID_BYTES] != self._newest

    def _encrypted(self, record: Record) -> Record:
        if isinstance(record.payload, Unreadable):
            return _with_payload(record, bytes(record.payload))
        if not record.payload:
            return record
        bound = _bound("record", record.organization, record.family)
        return _with_payload(record, self._encrypt(record.payload, bound))

    def _decrypted(self, record: Record) -> Record:
        if not record.payload or isinstance(record.payload, Unreadable):
            return record
        bound = _bound("record", record.organization, record.family)
        return _with_payload(record, self._decrypt(record.payload, bound))

    def _encrypt(self, plain: bytes, bound: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _FORMAT + self._newest + nonce + self._ciphers[self._newest].encrypt(nonce, plain, bound)

    def _decrypt(self, encrypted: bytes, bound: bytes) -> bytes:
        """What was encrypted, or the same bytes as `Unreadable`."""
        if encrypted[:1] != _FORMAT:
            return Unreadable(
                encrypted, "is not encrypted; use the store without EncryptedStore, or unset TRIBE_STORE_KEYS"
            )
        key_id, rest = encrypted[1 : 1 + _ID_BYTES], encrypted[1 + _ID_BYTES :]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            return Unreadable(
                encrypted, "is encrypted under a key that is not given; add it to the keys (TRIBE_STORE_KEYS)"
            )
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], bound)
        except (InvalidTag, ValueError):
            return Unreadable(encrypted, "was altered or moved; restore it from a backup")


class _EncryptedRescuer(EncryptedStore):
    """Encrypts what a store keeps that is a `Rescuer`, and so is one."""

    _store: _RescuingStore

    async def rescue(self, organization: str, record: Record | None) -> None:
        """See `Rescuer.rescue`. The copy is encrypted as records are."""
        await self._store.rescue(organization, None if record is None else self._encrypted(record))


class _EncryptedSlotStore(EncryptedStore):
    """Encrypts what a store keeps that is a `SlotStore`, and so is one. In slots there is no secret."""

    _store: _SharingStore

    @property
    def is_nowhere(self) -> bool:
        """Whether the other store is not there yet, and the first write creates it."""
        return bool(getattr(self._store, "is_nowhere", False))

    async def slots(self, key: str) -> Slots:
        """See `SlotStore.slots`."""
        return await self._store.slots(key)

    async def swap_slots(self, key: str, state: bytes, *, version: int, lives_for: float) -> Slots | None:
        """See `SlotStore.swap_slots`."""
        return await self._store.swap_slots(key, state, version=version, lives_for=lives_for)


class _EncryptedRescuerAndSlotStore(_EncryptedRescuer, _EncryptedSlotStore):
    """Both."""

    _store: Any


_ABLE: Final[dict[tuple[bool, bool], type[EncryptedStore]]] = {
    (False, False): EncryptedStore,
    (True, False): _EncryptedRescuer,
    (False, True): _EncryptedSlotStore,
    (True, True): _EncryptedRescuerAndSlotStore,
}


def _cipher(key: str | Secret) -> tuple[bytes, AESGCM]:
    """A key's cipher, and the id by which it is found."""
    try:
        raw = base64.b64decode(key.reveal() if isinstance(key, Secret) else key, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise ConfigurationError("a key of an encrypted store is base64 of 32 bytes", remedy=Remedy.GENERATE_KEY)
    return hashlib.sha256(b"tribe_oauth key id\0" + raw).digest()[:_ID_BYTES], AESGCM(raw)


def _not_rekeyed(changed: int, unread: list[str]) -> UnreadableError:
    more = f" and {len(unread) - _NAMED} more" if len(unread) > _NAMED else ""
    return UnreadableError(
        f"{changed} records are under the newest key now; {len(unread)} could not be read, and were left as they are:"
        f" {', '.join(map(repr, unread[:_NAMED]))}{more}; the log says why: add the key that is missing, or connect or"
        " disconnect them, and run it again before an older key is taken away"
    )


def _bound(*parts: str) -> bytes:
    """What a ciphertext belongs to, unambiguously: each part with its length."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
