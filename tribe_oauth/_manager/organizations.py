"""Which organizations there are, which keys they may have, and which one is meant where none is named."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from tribe_oauth._refresh.guarded_store import GuardedStore
from tribe_oauth._shield import closing
from tribe_oauth.errors import ConfigurationError, UnknownOrganizationError

MAX_KEY_BYTES: Final = 512


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

    async def key(self, organization: str | None) -> str:
        """The organization that is meant. Raises UnknownOrganizationError, ConfigurationError, StoreError."""
        if organization is not None:
            check_key(organization)
            return organization
        if self.sole is None:
            self.sole = await self._find_sole_organization()
        return self.sole

    async def _find_sole_organization(self) -> str:
        keys = []
        async with aclosing(self.all()) as known:
            async for key in known:
                keys.append(key)
                if len(keys) > 1:
                    raise UnknownOrganizationError("there are several organizations: say which one is meant")
        if not keys:
            raise UnknownOrganizationError("no organization is connected: connect() one first")
        return keys[0]


def check_key(organization: str) -> None:
    """Raise ConfigurationError for what cannot be a key."""
    try:
        size = len(organization.encode())
    except (AttributeError, UnicodeEncodeError):
        raise ConfigurationError("an organization's key is text that can be written as UTF-8") from None
    if not 0 < size <= MAX_KEY_BYTES:
        raise ConfigurationError(f"an organization's key has 1 to {MAX_KEY_BYTES} bytes of UTF-8, not {size}")
