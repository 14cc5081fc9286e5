"""What the authorization server has issued, as it keeps it: codes, token families, access tokens."""

from __future__ import annotations

from typing import Final, Literal

from attrs import define

from tribe_oauth.sandbox._application import Application

CODE_LIFETIME: Final = 600.0
"""Seconds."""


@define
class Consent:
    """What a code was issued for. `family`: the id of the one that began with it; empty until it is exchanged."""

    application: Application
    organization: str
    scope: frozenset[str]
    redirect_uri: str
    challenge: str | None
    expires_at: float
    family: str = ""
    used: bool = False


@define
class IssuedFamily:
    """A token family: its last refresh token is valid while it is `live`; all earlier ones are spent."""

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
    refreshing: bool = False  # a refresh is under way


@define
class Access:
    """An access token. `family`: the id of the one that it belongs to; empty for client credentials."""

    organization: str
    scope: frozenset[str]
    expires_at: float
    family: str


@define
class Granted:
    """What a token request is answered with. `expires_in` in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str | None = None
