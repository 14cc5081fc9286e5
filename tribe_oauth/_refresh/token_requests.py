"""Token requests that no lease guards: those that are free to repeat, and the one that must never be.

Client credentials may be asked for at any time (Tribe's page). A code is exchanged once. A revocation is a courtesy.
"""

from __future__ import annotations

from collections import Counter

from tribe_oauth._oauth import messages as _protocol
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth._oauth.endpoint import Answered, NotSent, Outcome
from tribe_oauth._oauth.messages import Granted
from tribe_oauth._oauth.values import Secret, Token
from tribe_oauth._oauth.verdict import Verdict, back_off, error_for, judge, pause_before
from tribe_oauth._refresh.context import CachedToken, RefreshContext, logger
from tribe_oauth._refresh.payload import Credential
from tribe_oauth.errors import TokenEndpointError, named


async def fetch_client_credentials(context: RefreshContext, credential: Credential, organization: str) -> Granted:
    """One token for the application itself; a few attempts, since any of them is free."""
    secret = context.secret_of(credential, organization)
    form = _protocol.client_credentials_request(credential.client_id, secret, scope=credential.scope)
    tries: Counter[Verdict] = Counter()
    while True:
        outcome = await context.endpoint.post(credential.token_endpoint, form)
        verdict = judge(outcome)
        if (granted := usable(outcome)) is not None:
            return granted
        retry_after = outcome.retry_after if isinstance(outcome, Answered) else None
        pause = pause_before(verdict, tries[verdict], quiet=0.5, retry_after=retry_after)
        tries[verdict] += 1
        if pause is None or not await context.pause(pause * (1 + context.clock.random())):
            wait = back_off(verdict, 0, retry_after=retry_after, chance=context.clock.random())
            raise error_for(organization, verdict, outcome, context.clock.time() + wait)


def usable(outcome: Outcome) -> Granted | None:
    """An answer with an access token that can be used."""
    match outcome:
        case Answered(reading=Granted() as granted) if granted.access_token is not None:
            return granted
    return None


def hold_in_memory(
    context: RefreshContext, family: str, generation: int, credential: Credential, granted: Granted
) -> CachedToken:
    """A client-credentials token, which is not stored."""
    assert granted.access_token is not None  # usable() saw to it
    token = Token(
        access_token=granted.access_token,
        expires_at=context.clock.time() + granted.expires_in,
        scope=granted.scope,
    )
    lifetime = float(granted.expires_in)
    cached = CachedToken(
        family=family.encode(), generation=generation, credential=credential, token=token, lifetime=lifetime
    )
    return context.timed(cached, lifetime)


async def exchange_code(context: RefreshContext, grant: AuthorizationCodeGrant, organization: str | None) -> Granted:
    """Exchange a code. Sent once: an answer that is lost or not definite means connecting again (RFC 6749 §4.1.2)."""
    form, outcome = grant.body(), None
    for pause in (0.1, 0.5, 0.0):
        outcome = await context.endpoint.post(grant.client.endpoints.token_endpoint, form)
        if not isinstance(outcome, NotSent) or not await context.pause(pause):
            break
    assert outcome is not None  # there was an attempt
    if (granted := usable(outcome)) is not None:
        return granted
    if isinstance(outcome, NotSent):
        grant.give_back()
        raise error_for(organization, judge(outcome), outcome, None)
    error = error_for(organization, judge(outcome), outcome, None)
    raise TokenEndpointError(
        f"the code for {named(organization)} could not be exchanged, and a code works once:"
        f" start the connection again ({error})",
        organization=organization,
        status=error.status,
        error=error.error,
        error_description=error.error_description,
    )


async def revoke(context: RefreshContext, credential: Credential, token: Secret, organization: str | None) -> None:
    """Tell the server that a refresh token is no longer needed (RFC 7009). That this failed is logged, no more."""
    url = context.where().revocation_endpoint
    if url is None:
        return
    form = _protocol.revocation_request(credential.client_id, context.secret_of(credential, organization), token=token)
    outcome = await context.endpoint.post(url, form)
    if not isinstance(outcome, Answered) or outcome.status != 200:
        logger.warning("a refresh token of %s could not be revoked at the server", named(organization))
