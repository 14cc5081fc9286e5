"""How the versions of the authorization server differ, as literal data.

Tribe runs Ory Hydra; which version runs today is not known. A profile says what one version was measured to do, at
the points where versions differ. ``strict`` does, at each of them, what is hardest on a client.
"""

from __future__ import annotations

from typing import Final, Literal

from attrs import evolve, frozen

from tribe_oauth.sandbox._refusals import (
    ALREADY_USED,
    CONCURRENT,
    EXPIRED,
    INVALID_GRANT,
    INVALID_REQUEST,
    MALFORMED,
    TOKEN_INACTIVE,
    UNAUTHORIZED_CLIENT,
    Refusal,
)


@frozen
class Race:
    """What becomes of a refresh that begins while another one with the same refresh token is under way.

    Probabilities, from 0 to 1; what is left is the probability of one of `refused`, which harms nobody.
    """

    both: float = 0.0
    """Both are answered with 200; the tokens of the one that is saved first are dead."""
    reuse: float = 0.0
    """It comes too late: by then, the refresh token is spent."""
    refused: tuple[Refusal, ...] = ()
    fails: float = 0.0
    """Of an HTTP 500, before all others, from the third at once on."""


@frozen(kw_only=True)
class Profile:
    """One version of the authorization server."""

    name: str
    spent: Refusal
    """Answer to a refresh token that has been rotated."""
    revoked: Refusal
    """Answer to a refresh token whose family is dead."""
    unknown: Refusal
    """Answer to a refresh token that never was, and to one that was refused as spent or revoked before."""
    expired: Refusal
    """Answer to a refresh token that was not used for too long."""
    reuse_revokes_family: bool
    """A spent refresh token, used again, ends its family: its last refresh token and its access token."""
    race: Race
    grant_type: Refusal
    """Answer to a client that may not use the grant type; without its hint."""
    hint: Literal["error_hint", "description"]
    """Where an error answer has its hint: in a member of its own, or behind the standard sentence."""
    no_store: bool
    """Error answers forbid caching, as RFC 6749 §5.1 demands it for tokens."""
    prefix: str
    """What tokens and codes begin with, followed by two letters for the kind and an underscore; empty: nothing."""
    stray_verifier_burns: bool
    """A code that was asked for without PKCE is dead after a request with a verifier."""
    get_token: Literal[404, 405]
    """Status of a GET of the token endpoint."""
    revocation_without_database: Literal[200, 401]
    refresh_redirect_uri: bool = False
    """A refresh needs the redirect URI of the authorization, as Tribe's page says; and none after Quick Setup."""
    denied: str = "access_denied"
    """The error code of a consent that was denied."""
    space: Literal["+", "%20"]
    """How a space is written in the callback's query."""
    callback_status: Literal[302, 303]

    def described(self, refusal: Refusal) -> dict[str, str]:
        """The members of an error, for JSON or for the callback's query."""
        if self.hint == "error_hint":
            hint = {"error_hint": refusal.hint} if refusal.hint else {}
            return {"error": refusal.error, "error_description": refusal.description, **hint}
        behind = refusal.hint.replace('"', "'")  # there, no version has double quotation marks
        return {"error": refusal.error, "error_description": f"{refusal.description}. {behind}".rstrip()}


_1_5: Final = Profile(
    name="hydra-1.5",
    spent=INVALID_GRANT,
    revoked=INVALID_GRANT,
    unknown=INVALID_GRANT,
    expired=INVALID_REQUEST,
    reuse_revokes_family=False,
    race=Race(refused=(CONCURRENT, INVALID_GRANT)),
    grant_type=INVALID_GRANT,
    hint="error_hint",
    no_store=False,
    prefix="",
    stray_verifier_burns=True,
    get_token=405,
    revocation_without_database=401,
    space="%20",
    callback_status=302,
)
_1_10: Final = evolve(
    _1_5,
    name="hydra-1.10",
    spent=TOKEN_INACTIVE,
    revoked=TOKEN_INACTIVE,
    reuse_revokes_family=True,
    race=Race(reuse=0.5, refused=(CONCURRENT,), fails=0.1),
    grant_type=UNAUTHORIZED_CLIENT,
    hint="description",
    no_store=True,
    space="+",
)
_1_11: Final = evolve(
    _1_10,
    name="hydra-1.11",
    expired=INVALID_GRANT,
    race=Race(reuse=0.4, refused=(CONCURRENT,), fails=0.1),
    callback_status=303,
)
_2_3: Final = evolve(
    _1_11,
    name="hydra-2.3",
    spent=ALREADY_USED,
    revoked=MALFORMED,
    unknown=MALFORMED,
    expired=EXPIRED,
    race=Race(both=0.7, reuse=0.3, fails=0.1),
    prefix="ory_",
    stray_verifier_burns=False,
    revocation_without_database=200,
)
_STRICT: Final = evolve(
    _2_3,
    name="strict",
    expired=INVALID_REQUEST,  # what a broken proxy causes too
    race=Race(reuse=1.0),
    no_store=False,
    stray_verifier_burns=True,
    get_token=404,
    refresh_redirect_uri=True,
    denied="consent request denied",
)

PROFILES: Final = {profile.name: profile for profile in (_1_5, _1_10, _1_11, _2_3, _STRICT)}


def profile_named(name: str) -> Profile:
    """The profile of that name.

    Raises:
        ValueError: there is none; the text names those that exist.

    """
    if name not in PROFILES:
        raise ValueError(f"no profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
