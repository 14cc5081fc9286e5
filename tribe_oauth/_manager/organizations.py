"""Which organizations there are, which keys they may have, and which one is meant.

The one rule, for Python and for each command: (1) the one that is named, by the caller or by TRIBE_ORGANIZATION_ID;
(2) the only one in the store; (3) where the store is empty, the environment's own (`_environment`); (4) of several,
none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Final

from tribe_oauth._refresh.guarded_store import GuardedStore
from tribe_oauth._shield import closing
from tribe_oauth.errors import ConfigurationError, Remedy, UnknownOrganizationError

MAX_KEY_BYTES: Final = 512
LISTED: Final = 10
"""Organizations that an error names: there may be very many."""


class Organizations:
    """Those of one store. `sole`: the one that is meant where none is named, as far as it is known."""

    def __init__(self, store: GuardedStore) -> None:
        self.sole: str | None = None
        self._store = store
        self._configured = False

    def configure(self, sole: str) -> None:
        """From now on this one is meant, whichever others there are."""
        self.sole, self._configured = sole, True

    def forget_sole_organization(self) -> None:
        """One was connected or disconnected: another may be the only one now."""
        if not self._configured:
            self.sole = None

    async def all(self) -> AsyncGenerator[str]:
        """The keys of all connected organizations, in no particular order."""
        async with closing(self._store.organizations()) as organizations:
            async for organization in organizations:
                yield organization

    async def some(self) -> list[str]:
        """The keys of a few: one more than an error names, at most."""
        keys: list[str] = []
        async with aclosing(self.all()) as known:
            async for key in known:
                keys.append(key)
                if len(keys) > LISTED:
                    break
        return sorted(keys)

    async def key(self, organization: str | None) -> str:
        """The organization that is meant. Raises UnknownOrganizationError, ConfigurationError, StoreError."""
        if organization is None and self.sole is not None:
            return self.sole
        meant = await self.meant(organization)
        if meant is None:
            raise UnknownOrganizationError("no organization is connected", remedy=Remedy.CONNECT_ONE)
        if organization is None:
            self.sole = meant
        return meant

    async def meant(self, named: str | None) -> str | None:
        """By the rule; None where none is named and the store is empty. Raises as `key` does."""
        if named is not None:
            check_key(named)
            return named
        keys = await self.some()
        if len(keys) > 1:
            raise UnknownOrganizationError(f"there are several organizations, {listed(keys)}", remedy=Remedy.CHOOSE)
        return keys[0] if keys else None

    async def to_connect(self, named: str | None, own: str) -> str:
        """Which one a new connection is for: it replaces what is there, so that none is meant for being the only one.

        `own`: the environment's. Raises UnknownOrganizationError where others are connected, and none is named.
        """
        if named is not None:
            check_key(named)
            return named
        keys = await self.some()
        if keys and keys != [own]:
            raise UnknownOrganizationError(f"connected are {listed(keys)}", remedy=Remedy.CHOOSE)
        return own


def listed(keys: Iterable[str]) -> str:
    """How an error names several organizations."""
    names = [repr(key) for key in keys]
    return ", ".join(names[:LISTED]) + (" and more" if len(names) > LISTED else "")


def not_connected(organization: str, there: Iterable[str]) -> UnknownOrganizationError:
    """That an organization is not connected, and which are."""
    known = listed(there)
    what = f"connected are {known}" if known else "none is"
    return UnknownOrganizationError(
        f"organization {organization!r} is not connected; {what}", organization=organization, remedy=Remedy.CONNECT
    )


def check_key(organization: str) -> None:
    """Raise ConfigurationError for what cannot be a key."""
    try:
        size = len(organization.encode())
    except (AttributeError, UnicodeEncodeError):
        raise ConfigurationError("an organization's key is text that can be written as UTF-8") from None
    if not 0 < size <= MAX_KEY_BYTES:
        raise ConfigurationError(f"an organization's key has 1 to {MAX_KEY_BYTES} bytes of UTF-8, not {size}")
