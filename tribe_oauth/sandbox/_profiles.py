"""How the known versions of the authorization server differ, as literal data.

Tribe runs Ory Hydra; which version runs today is not known. A profile says what one version does at the points that
matter most to clients. ``strict`` does, at each of them, the severest thing that any version is known to do.
"""

from __future__ import annotations

from typing import Final

from attrs import evolve, frozen


@frozen
class Refusal:
    """An error answer of the token endpoint (RFC 6749 section 5.2)."""

    status: int
    error: str
    description: str
    hint: str = ""


class RefusedError(Exception):
    """The authorization server refuses a request."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.error)
        self.refusal = refusal


@frozen
class Profile:
    """One version of the authorization server."""

    name: str
    reused: Refusal
    """Answer to a refresh token that was rotated, revoked or never existed."""
    reuse_revokes_family: bool
    concurrent: tuple[Refusal, ...]
    """Answers, in turn, to refreshes that begin while another one with the same token is under way."""
    expired: Refusal
    """Answer to a refresh token that was not used for too long."""
    hints: bool
    """Error answers carry `error_hint` and `status_code`."""
    refresh_redirect_uri: bool
    """A refresh needs the redirect URI of the authorization, and must not have one after Quick Setup."""
    denied: str
    """The error code of a consent that was denied."""
    space: str
    """How a space in the callback's `scope` is written."""


INVALID_REQUEST: Final = Refusal(
    400,
    "invalid_request",
    "The request is missing a required parameter, includes an invalid parameter value, includes a parameter"
    " more than once, or is otherwise malformed",
)
INVALID_GRANT: Final = Refusal(
    400,
    "invalid_grant",
    "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token"
    " is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or"
    " was issued to another client",
)
INVALID_CLIENT: Final = Refusal(
    401,
    "invalid_client",
    "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported"
    " authentication method)",
)
INVALID_SCOPE: Final = Refusal(400, "invalid_scope", "The requested scope is invalid, unknown, or malformed")
UNAUTHORIZED_CLIENT: Final = Refusal(
    400,
    "unauthorized_client",
    "The client is not authorized to request a token using this method",
)
TOKEN_INACTIVE: Final = Refusal(
    401,
    "token_inactive",
    "Token is inactive because it is malformed, expired or otherwise invalid",
    "Token validation failed.",
)
SERVER_ERROR: Final = Refusal(
    500,
    "server_error",
    "The authorization server encountered an unexpected condition that prevented it from fulfilling the request",
)

_CONCURRENT: Final = evolve(
    INVALID_REQUEST,
    hint="Failed to refresh token because of multiple concurrent requests using the same token which is not allowed.",
)
_RETRY: Final = evolve(INVALID_REQUEST, hint="Failed to refresh token, please retry the request.")
_REUSED: Final = evolve(INVALID_GRANT, hint="The refresh token was already used.")
_EXPIRED: Final = evolve(INVALID_GRANT, hint="The refresh token expired.")

PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile(
            name="hydra-1.5",
            reused=INVALID_GRANT,
            reuse_revokes_family=False,
            concurrent=(_CONCURRENT,),
            expired=evolve(INVALID_REQUEST, hint="The refresh token expired."),
            hints=True,
            refresh_redirect_uri=False,
            denied="access_denied",
            space="+",
        ),
        Profile(
            name="hydra-1.10",
            reused=TOKEN_INACTIVE,
            reuse_revokes_family=True,
            concurrent=(_CONCURRENT, SERVER_ERROR),
            expired=_EXPIRED,
            hints=False,
            refresh_redirect_uri=False,
            denied="access_denied",
            space="+",
        ),
        Profile(
            name="hydra-2.3",
            reused=_REUSED,
            reuse_revokes_family=True,
            concurrent=(_RETRY,),
            expired=_EXPIRED,
            hints=False,
            refresh_redirect_uri=False,
            denied="access_denied",
            space="+",
        ),
        Profile(
            name="strict",
            reused=_REUSED,
            reuse_revokes_family=True,
            concurrent=(_CONCURRENT,),
            expired=_EXPIRED,
            hints=False,
            refresh_redirect_uri=True,
            denied="request_denied",
            space="%20",
        ),
    )
}


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: there is none; the text names those that exist.

    """
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
