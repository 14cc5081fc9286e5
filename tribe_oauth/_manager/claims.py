"""Notes in the store of what was pasted and of what was exchanged: each belongs to one organization, or to one grant.

A code that is used twice makes the server revoke all that came from it, and a refresh token that is used twice its
whole family. So it is written down before it is sent, and shared by all processes.
"""

from __future__ import annotations

from typing import Final

from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth.errors import CallbackError, ConfigurationError

PASTED_KNOWN_FOR: Final = 90 * 24 * 3600.0
"""Seconds for which a pasted refresh token is known to belong to its organization: three times its own life."""
CODE_KNOWN_FOR: Final = 3600.0
"""Seconds for which a code is known to be used: several times its own life."""


async def claim_pasted(context: RefreshContext, organization: str, fingerprint: str) -> None:
    """A pasted refresh token belongs to the organization that it was first connected as. Raises ConfigurationError."""
    key, name = f"pasted:{fingerprint}", organization.encode()
    while (owner := await context.store.put(key, name, lives_for=PASTED_KNOWN_FOR)) != name:
        other = owner.decode()
        record = await context.store.load(other)
        if record is not None and record.status != "disconnected":
            raise ConfigurationError(
                f"this refresh token was connected as organization {other!r} already: copy a new one for"
                f" {organization!r}, or disconnect {other!r} first",
                organization=organization,
            )
        await context.store.take(key)


async def claim_code(context: RefreshContext, grant: AuthorizationCodeGrant) -> None:
    """A code belongs to the first grant that is used, in whatever process. Raises CallbackError."""
    nonce = grant.nonce.encode()
    if await context.store.put(f"code:{grant.fingerprint}", nonce, lives_for=CODE_KNOWN_FOR) != nonce:
        raise CallbackError(
            "this code was used already, perhaps by a page that was loaded twice; nothing was sent, and what it gave"
            " goes on working: to connect once more, start the connection again"
        )
