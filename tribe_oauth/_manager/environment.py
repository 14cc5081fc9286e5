"""The organization that the environment is the settings of, and how a manager comes to have it.

Whoever reads connects nothing for good: client credentials may be asked for at any time, so that their connection lives
in this process's memory. A refresh token works once, so that what comes of it is stored.
"""

from __future__ import annotations

import attrs

from tribe_oauth._manager.connections import Connections
from tribe_oauth._manager.organizations import Organizations, not_connected
from tribe_oauth._manager.settings import Settings


@attrs.frozen
class Environment:
    """Settings, for one manager. `named`: the organization that its caller asks for, if any."""

    settings: Settings
    named: str | None = None

    async def enter(self, organizations: Organizations, connections: Connections) -> None:
        """Find the organization that is meant by the rule, and connect it where it is the environment's own.

        Raises UnknownOrganizationError, and what `TokenManager.connect` raises.
        """
        named = self.settings.organization if self.named is None else self.named
        key = await organizations.meant(named) or self.settings.own
        if not await self.connect(key, organizations, connections) and await connections.begins(key):
            raise not_connected(key, await organizations.some())
        organizations.configure(key)

    async def connect(self, key: str, organizations: Organizations, connections: Connections) -> bool:
        """Connect an organization, where it is the environment's own and not connected. False: it is neither.

        With a refresh token in the environment it is connected for good: an equal one changes nothing. By client
        credentials only where the store is empty: beside others, the name is more likely mistyped. What is stored and
        cannot be read is not replaced: UnreadableError.
        """
        settings = self.settings
        if key != settings.own:
            return False
        begins = await connections.begins(key)
        if settings.pasted:
            await connections.connect(key, settings.grant)
        elif begins:
            if await organizations.some():
                return False
            await connections.connect_in_memory(key, settings.grant)
        return True
