"""What the authorization server has issued, as it keeps it: codes, token families, access tokens."""

from __future__ import annotations

import base64
import hashlib
from typing import Final, Literal

from attrs import define

from tribe_oauth.sandbox._application import Application
from tribe_oauth.sandbox._refusals import NO_CHALLENGE, REDIRECT_URI, SHORT_VERIFIER, WRONG_VERIFIER, RefusedError

CODE_LIFETIME: Final = 600.0
"""Seconds."""


@define
class Consent:
    """What a code was issued for. `family`: the id of the one that began with it; empty until it is exchanged.

    `burned`: a wrong verifier was tried, and the code is worth nothing.
    """

    application: Application
    organization: str
    scope: frozenset[str]
    redirect_uri: str
    challenge: str | None
    expires_at: float
    family: str = ""
    used: bool = False
    burned: bool = False

    def check(self, redirect_uri: str | None, verifier: str, *, stray_verifier_burns: bool) -> None:
        """Check what proves that the code is used by the client that asked for it (RFC 6749 §4.1.3, RFC 7636 §4.6).

        Raises RefusedError. The code survives a wrong redirect URI, and no wrong verifier.
        """
        if redirect_uri != self.redirect_uri:
            raise RefusedError(REDIRECT_URI)
        if self.burned:
            raise RefusedError(NO_CHALLENGE)
        if self.challenge is None:
            if verifier:
                self.burned = stray_verifier_burns
                raise RefusedError(NO_CHALLENGE)
        elif _challenge(verifier) != self.challenge:
            self.burned = True
            raise RefusedError(WRONG_VERIFIER if len(verifier) >= 43 else SHORT_VERIFIER)


@define
class IssuedFamily:
    """A token family: its last refresh token is valid while it is `live`; all others are spent or replaced."""

    id: str
    organization: str
    application: Application
    scope: frozenset[str]
    origin: Literal["code", "pasted"]
    redirect_uri: str | None
    refresh: str = ""  # the fingerprint of the last refresh token
    access: str = ""  # the fingerprint of the last access token
    expires_at: float = 0.0
    rotations: int = 0
    live: bool = True


@define
class Access:
    """An access token. `family`: the id of the one that it belongs to; empty for client credentials."""

    organization: str
    scope: frozenset[str]
    expires_at: float
    family: str
    client_id: str


@define
class Granted:
    """What a token request is answered with. `expires_in` in seconds."""

    access_token: str
    expires_in: int
    scope: frozenset[str]
    refresh_token: str | None = None


def _challenge(verifier: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
