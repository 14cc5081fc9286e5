"""Token requests, as an organization makes them: whose secret goes along, and which may be sent again.

Client credentials may be asked for at any time (Tribe's page). A code is exchanged once. A refresh is sent by a
rotation, under its lease; only its form is made here. A revocation is worth one attempt.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from tribe_oauth._oauth import messages
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth._oauth.endpoint import Answered, NotSent, Outcome
from tribe_oauth._oauth.messages import Form, Granted
from tribe_oauth._oauth.values import Secret, Token
from tribe_oauth._oauth.verdict import Verdict, back_off, error_for, judge, pause_before, retry_after_of
from tribe_oauth._refresh.cached_token import CachedToken, with_deadlines
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import Credential
from tribe_oauth._refresh.spend import Spend
from tribe_oauth.errors import ConfigurationError, Remedy, TokenEndpointError, named
from tribe_oauth.stores import Record

logger = logging.getLogger("tribe_oauth.token_requests")

REVOKE_AGAIN: Final = (60.0, 600.0, 3600.0, 6 * 3600.0)
"""Seconds between attempts to revoke, while the server does not answer well."""


def client_secret(context: RefreshContext, credential: Credential, organization: str | None) -> Secret:
    """The client's secret: stored with the family, or the manager's own. Raises ConfigurationError."""
    if credential.token_endpoint != context.endpoints.token_endpoint:
        raise ConfigurationError(
            f"{named(organization)} was connected at another token endpoint ({credential.token_endpoint})",
            organization=organization,
            remedy=Remedy.GIVE_ENDPOINTS,
        )
    if credential.client_secret is not None:
        return credential.client_secret
    if context.client is None or context.client.client_id != credential.client_id:
        raise ConfigurationError(
            f"{named(organization)} was connected with the client {credential.client_id!r}",
            organization=organization,
            remedy=Remedy.GIVE_CLIENT,
        )
    return context.client.client_secret


def refresh_form(context: RefreshContext, spend: Spend, organization: str) -> Form:
    """The refresh that spends this refresh token."""
    credential = spend.credential
    return messages.refresh_request(
        credential.client_id,
        client_secret(context, credential, organization),
        refresh_token=spend.refresh_token,
        redirect_uri=credential.redirect_uri,
    )


async def fetch_client_credentials(
    context: RefreshContext, credential: Credential, organization: str, *, worked_before: bool = False
) -> Granted:
    """One token for the application itself; a few attempts, since any of them is free. Raises TokenEndpointError."""
    secret = client_secret(context, credential, organization)
    form = messages.client_credentials_request(credential.client_id, secret, scope=credential.scope)
    tries: Counter[Verdict] = Counter()
    while True:
        outcome = await context.tasks.unless_closing(context.endpoint.post(credential.token_endpoint, form))
        if (granted := _usable(outcome)) is not None:
            return granted
        verdict, retry_after = judge(outcome), retry_after_of(outcome)
        pause = pause_before(verdict, tries[verdict], quiet=0.5, retry_after=retry_after)
        tries[verdict] += 1
        if pause is None or not await context.tasks.pause(pause * (1 + context.clock.random())):
            wait = back_off(verdict, 0, retry_after=retry_after, chance=context.clock.random())
            at = context.clock.time() + wait
            raise error_for(organization, verdict, outcome, at, worked_before=worked_before)


async def refresh_client_credentials(context: RefreshContext, record: Record, credential: Credential) -> CachedToken:
    """A new token for a record of client credentials. It is not stored. Raises TokenEndpointError."""
    granted = await fetch_client_credentials(context, credential, record.organization, worked_before=True)
    return cached_in_memory(context, record.family, record.generation, credential, granted)


def cached_in_memory(
    context: RefreshContext, family: str, generation: int, credential: Credential, granted: Granted
) -> CachedToken:
    """A client-credentials token, as this process remembers it."""
    assert granted.access_token is not None  # _usable() made sure of it
    lifetime = float(granted.expires_in)
    token = Token(access_token=granted.access_token, expires_at=context.clock.time() + lifetime, scope=granted.scope)
    cached = CachedToken(
        family=family.encode(), generation=generation, credential=credential, token=token, lifetime=lifetime
    )
    return with_deadlines(context, cached, lifetime)


def _usable(outcome: Outcome) -> Granted | None:
    """An answer with an access token that can be used."""
    match outcome:
        case Answered(reading=Granted() as granted) if granted.access_token is not None:
            return granted
    return None


async def exchange_code(context: RefreshContext, grant: AuthorizationCodeGrant, organization: str | None) -> Granted:
    """Exchange a code. Sent once: after an answer that is lost or not definite, connect again (RFC 6749 §4.1.2)."""
    form, outcome = grant.body(), None
    for pause in (0.1, 0.5, 0.0):
        outcome = await context.endpoint.post(grant.client.endpoints.token_endpoint, form)
        if not isinstance(outcome, NotSent) or not await context.tasks.pause(pause):
            break
    assert outcome is not None  # there was an attempt
    if (granted := _usable(outcome)) is not None:
        return granted
    verdict = judge(outcome)
    error = error_for(organization, verdict, outcome, None)
    if verdict in {Verdict.NOT_SENT, Verdict.CLIENT}:
        grant.give_back()
        raise error
    raise TokenEndpointError(
        f"the code for {named(organization)} could not be exchanged, and a code works once:"
        f" start the connection again ({error})",
        organization=organization,
        status=error.status,
        error=error.error,
        error_description=error.error_description,
    )


async def revoke(context: RefreshContext, credential: Credential, token: Secret, organization: str | None) -> None:
    """Tell the server that a refresh token is no longer needed (RFC 7009); where that fails, a few times later."""
    if not await _revoked(context, credential, token, organization):
        context.tasks.spawn(_revoke_later(context, credential, token, organization))


async def _revoked(context: RefreshContext, credential: Credential, token: Secret, organization: str | None) -> bool:
    url = context.endpoints.revocation_endpoint
    if url is None:
        return True
    secret = client_secret(context, credential, organization)
    outcome = await context.endpoint.post(url, messages.revocation_request(credential.client_id, secret, token=token))
    return isinstance(outcome, Answered) and outcome.status == 200


async def _revoke_later(
    context: RefreshContext, credential: Credential, token: Secret, organization: str | None
) -> None:
    logger.warning("a refresh token of %s could not be revoked at the server: it is tried again", named(organization))
    for pause in REVOKE_AGAIN:
        if not await context.tasks.pause(pause * (1 + 0.2 * context.clock.random())):
            break  # closing
        if await context.tasks.unless_closing(_revoked(context, credential, token, organization)):
            logger.info("a refresh token of %s was revoked at last", named(organization))
            return
    logger.warning("a refresh token of %s was not revoked at the server: it dies by itself", named(organization))
