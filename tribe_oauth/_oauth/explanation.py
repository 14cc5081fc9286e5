"""From the outcome of a token request to the error that a caller sees: what happened, what it means, what to do."""

from __future__ import annotations

from typing import Final

import attrs

from tribe_oauth._oauth.endpoint import Answered, NotSent, Outcome
from tribe_oauth._oauth.messages import Granted, Refused
from tribe_oauth._oauth.verdict import Verdict, judge, refusal_in
from tribe_oauth._oauth.words import about
from tribe_oauth.errors import (
    CLIENT_REFUSED,
    EXPIRED,
    GRANT_TYPE,
    LOST_ROTATION,
    OTHER_CLIENT,
    PKCE,
    REDIRECT_URI,
    REVOKED,
    SCOPE,
    USED_ELSEWHERE,
    TemporarilyUnavailable,
    TokenEndpointError,
    named,
)


@attrs.frozen(kw_only=True)
class Asked:
    """What of a token request explains why it was refused. No secret is in it. `scope`: space-delimited."""

    grant_type: str
    client_id: str
    scope: str = ""
    redirect_uri: str | None = None


_SETTINGS: Final = "Configuration > Applications in Tribe"
_MORE_SCOPE: Final = (
    f"it was asked for {{scope!r}}: give the Application {{client_id!r}} that scope under {_SETTINGS}, or ask for less"
    " (scope= of the client or the grant, TRIBE_SCOPE)"
)

# By what a refusal is about, and by the grant type; "": whatever the grant type.
_REMEDIES: Final = {
    (OTHER_CLIENT, "refresh_token"): (
        "this refresh token belongs to another Application than {client_id!r}: give the client_id and client_secret of"
        " the one that it was copied from, or copy one from the menu of this one"
    ),
    (OTHER_CLIENT, "authorization_code"): (
        "this code belongs to another Application than {client_id!r}: exchange it with the client that asked for it"
    ),
    (REDIRECT_URI, "refresh_token"): (
        "the redirect URI ({redirect_uri}) is not the one that the consent was asked for with: connect it again, with"
        f" the redirect URI that is registered under {_SETTINGS}"
    ),
    (REDIRECT_URI, "authorization_code"): (
        "the redirect URI ({redirect_uri}) has to be the one of the authorization request, to the letter: use the same"
        " client for both, and leave redirect_uri_in_exchange at True"
    ),
    (PKCE, "authorization_code"): (
        "perhaps Tribe's consent does not pass PKCE on: switch it off (pkce=False for authorization_request or"
        " web.setup, --no-pkce for tribe-oauth login)"
    ),
    (GRANT_TYPE, ""): (
        f"check the Application's settings in Tribe: {{client_id!r}} may not use the grant type {{grant_type}}; choose"
        f" an Application of that kind under {_SETTINGS}, or connect in another way"
    ),
    (SCOPE, "refresh_token"): (
        f"a scope that was granted was taken from the Application {{client_id!r}}: give it back under {_SETTINGS}, and"
        " it works again; or connect it again with less (scope=, TRIBE_SCOPE)"
    ),
    (SCOPE, ""): _MORE_SCOPE,
}
_MAY_BE_A_FAULT: Final = (
    "either the authorization server has a fault, which passes, or client_id and client_secret, which worked before,"
    " are no longer valid; nothing was deleted"
)
_WRONG_CLIENT: Final = (
    "check client_id and client_secret; a server whose database is away says the same, and then it passes; nothing was"
    " deleted"
)
_PASTED: Final = {
    USED_ELSEWHERE: "it was used already, and each works once",
    EXPIRED: "it has expired",
    LOST_ROTATION: "it was sent before, and the answer was lost",
    REVOKED: "it was used, was revoked, has expired, or is not one of this server",
}


def reason_of(outcome: Outcome) -> str:
    """What happened, in a few words: the server's own where it has some."""
    said = outcome.reading if isinstance(outcome, Answered) else outcome
    if isinstance(said, Refused):
        return f"{said.error}: {said.description}" if said.description else said.error
    if isinstance(said, Granted):
        return f"a token answer with {', '.join(said.complaints)}"
    return said.reason


def error_for(
    organization: str | None,
    asked: Asked,
    outcome: Outcome,
    next_attempt_at: float | None,
    *,
    worked_before: bool = False,
) -> TokenEndpointError:
    """The error for a caller whose token could not be had.

    `worked_before`: the client's credentials did. A server whose database is away says `invalid_client` to everyone.
    """
    verdict = judge(outcome)
    worked_before |= isinstance(outcome, Answered) and outcome.client_worked
    passing = worked_before if verdict is Verdict.CLIENT else verdict not in {Verdict.DEAD, Verdict.MISCONFIGURED}
    what = f"no token for {named(organization)} now" if passing else f"the token endpoint refuses {named(organization)}"
    advice = outcome.remedy if isinstance(outcome, NotSent) else ""
    cause, remedy = None, f"nothing was lost; {advice or 'if this goes on, check the address of the token endpoint'}"
    if verdict is Verdict.CLIENT:
        cause, remedy = CLIENT_REFUSED, _MAY_BE_A_FAULT if worked_before else _WRONG_CLIENT
    elif not passing:
        cause = _about(asked, outcome)
        remedy = f"{_remedy_for(cause, asked) or _by_verdict(verdict)}; nothing was deleted"
    kind = TemporarilyUnavailable if passing else TokenEndpointError
    return _made(kind, f"{what} ({reason_of(outcome)}): {remedy}", organization, outcome, cause, next_attempt_at)


def _by_verdict(verdict: Verdict) -> str:
    return "connect it again" if verdict is Verdict.DEAD else "check the Application's settings in Tribe"


def code_refused(organization: str | None, asked: Asked, outcome: Outcome) -> TokenEndpointError:
    """The error for a code that was sent, and is worth nothing now, or may be."""
    cause = _about(asked, outcome)
    first = _remedy_for(cause, asked)
    text = (
        f"the code for {named(organization)} could not be exchanged ({reason_of(outcome)})"
        f"{f': {first}; then' if first else ': a code works once,'} start the connection again"
    )
    return _made(TokenEndpointError, text, organization, outcome, cause, None)


def pasted_refused(organization: str, outcome: Outcome, cause: str) -> TokenEndpointError:
    """The error for a pasted refresh token that the server will not take. `cause`: of ReauthorizationRequired's."""
    why = _PASTED[cause]
    refused = refusal_in(outcome)
    if refused is not None and refused.error == "invalid_request":
        why = "it has expired, or something on the way to the server changes requests"
    text = (
        f"the refresh token for organization {organization!r} was refused ({reason_of(outcome)}): {why}; copy a new one"
        " from Tribe and connect it"
    )
    return _made(TokenEndpointError, text, organization, outcome, cause, None)


def refused_elsewhere(organization: str, said: str) -> TokenEndpointError:
    """The error for a pasted refresh token that another process tried. `said`: the server's words, if known."""
    reason = f"invalid_grant: {said}" if said else "invalid_grant"
    return TokenEndpointError(
        f"the refresh token for organization {organization!r} was refused ({reason}) when another process tried it:"
        " copy a new one from Tribe and connect it",
        organization=organization,
        error="invalid_grant",
        error_description=said or None,
    )


def _remedy_for(cause: str | None, asked: Asked) -> str | None:
    """What to do about a cause; None where that is not known."""
    remedy = _REMEDIES.get((cause or "", asked.grant_type)) or _REMEDIES.get((cause or "", ""))
    if remedy is None:
        return None
    fields = attrs.asdict(asked) | {"redirect_uri": asked.redirect_uri or "none was sent"}
    return remedy.format(**fields)


def _about(asked: Asked, outcome: Outcome) -> str | None:
    """What a refusal is about, where the server says so."""
    refused = refusal_in(outcome)
    if refused is None:
        return None
    cause = about(refused.error, refused.description)
    if cause is None and (refused.error, asked.grant_type) == ("invalid_grant", "client_credentials"):
        return SCOPE  # nothing else of such a request could be invalid
    return cause


def _made(
    kind: type[TokenEndpointError],
    text: str,
    organization: str | None,
    outcome: Outcome,
    cause: str | None,
    next_attempt_at: float | None,
) -> TokenEndpointError:
    refused = refusal_in(outcome)
    return kind(
        text,
        organization=organization,
        status=outcome.status if isinstance(outcome, Answered) else None,
        error=None if refused is None else refused.error,
        error_description=None if refused is None else refused.description or None,
        cause=cause,
        next_attempt_at=next_attempt_at,
    )
