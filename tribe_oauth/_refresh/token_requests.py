"""Token requests, as an organization makes them: whose secret goes along, and which may be sent again.

Client credentials may be asked for at any time (Tribe's page). A code is exchanged once, and sent again only where the
server has not looked at it. A refresh is sent by a rotation, under its lease; only its form is made here. A revocation
is worth a few attempts, for which nobody waits.
"""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import suppress
from typing import Final

from tribe_oauth._oauth import messages
from tribe_oauth._oauth.client import AuthorizationCodeGrant
from tribe_oauth._oauth.endpoint import Answered, Outcome
from tribe_oauth._oauth.explanation import Asked, code_refused, error_for, reason_of
from tribe_oauth._oauth.messages import Form, Granted
from tribe_oauth._oauth.values import Secret, Token, format_scope
from tribe_oauth._oauth.verdict import PAUSES, Verdict, back_off, judge, pause_before, retry_after_of
from tribe_oauth._refresh.cached_token import CachedToken, place_of, with_deadlines
from tribe_oauth._refresh.context import RefreshContext
from tribe_oauth._refresh.payload import Credential, readable
from tribe_oauth._refresh.spend import Spend
from tribe_oauth.errors import ConfigurationError, ManagerError, Remedy, StoreError, TribeOAuthError, named
from tribe_oauth.stores import Record

logger = logging.getLogger("tribe_oauth.token_requests")

CODE_AGAIN: Final = {Verdict.NOT_SENT: PAUSES[Verdict.NOT_SENT], Verdict.CLIENT: (1.0, 2.0, 4.0, 8.0)}
"""Seconds between attempts to exchange a code that the server has not looked at, as far as `request_timeout` allows: a
client that is refused, rightly or for a fault of the server, is refused before its code is looked at."""

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
            asked = Asked(grant_type="client_credentials", client_id=credential.client_id, scope=credential.scope)
            raise error_for(organization, asked, outcome, at, worked_before=worked_before)


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
    place = place_of(family, generation)
    cached = CachedToken(place=place, credential=credential, token=token, lifetime=lifetime)
    return with_deadlines(context, cached, lifetime)


def _usable(outcome: Outcome) -> Granted | None:
    """An answer with an access token that can be used."""
    match outcome:
        case Answered(reading=Granted() as granted) if granted.access_token is not None:
            return granted
    return None


async def exchange_code(
    context: RefreshContext, grant: AuthorizationCodeGrant, credential: Credential, organization: str | None
) -> Granted:
    """Exchange a code. Sent again only where the server has not looked at it, within `request_timeout`.

    After an answer that is lost or not definite, connect again (RFC 6749 §4.1.2).
    """
    outcome = await _sent(context, grant)
    if (granted := _usable(outcome)) is not None:
        return granted
    asked = Asked(
        grant_type="authorization_code",
        client_id=credential.client_id,
        scope=format_scope(grant.asked),
        redirect_uri=grant.redirect_uri if grant.client.redirect_uri_in_exchange else None,
    )
    if judge(outcome) not in CODE_AGAIN:
        raise code_refused(organization, asked, outcome)
    grant.give_back()
    worked_before = organization is not None and await _worked_before(context, credential, organization)
    raise error_for(organization, asked, outcome, None, worked_before=worked_before)


async def _sent(context: RefreshContext, grant: AuthorizationCodeGrant) -> Outcome:
    form, url, tries = grant.body(), grant.client.endpoints.token_endpoint, Counter[Verdict]()
    last = context.clock.monotonic() + context.timing.request_timeout
    while True:
        outcome = await context.endpoint.post(url, form)
        verdict = judge(outcome)
        pause = next(iter(CODE_AGAIN.get(verdict, ())[tries[verdict] :]), None)
        tries[verdict] += 1
        if pause is None or context.clock.monotonic() + pause > last or not await context.tasks.pause(pause):
            return outcome


def has_worked(credential: Credential, record: Record | None) -> bool:
    """Whether the organization of a record is connected by the same client. One that cannot be read says nothing."""
    payload = readable(record)
    return (
        record is not None
        and payload is not None
        and record.status == "connected"
        and credential.is_same_client(payload.credential)
    )


async def _worked_before(context: RefreshContext, credential: Credential, organization: str) -> bool:
    """Whether the organization is connected already, by the same client."""
    with suppress(StoreError):  # a store that is away says nothing about the client
        return has_worked(credential, await context.store.load(organization))
    return False


async def revoke(context: RefreshContext, credential: Credential, token: Secret, organization: str | None) -> None:
    """Tell the server that a refresh token is no longer needed (RFC 7009); where that fails, a few times later."""
    reason = await _revoked(context, credential, token, organization)
    if reason is not None:
        context.tasks.spawn(_revoke_later(context, credential, token, organization, reason))


def revoke_meanwhile(context: RefreshContext, credential: Credential, token: Secret, organization: str) -> None:
    """The same, and nobody waits for it: what is in its way is logged."""

    async def revoking() -> None:
        try:
            await revoke(context, credential, token, organization)
        except TribeOAuthError as error:
            logger.warning("what organization %r had before was not revoked at the server: %s", organization, error)

    context.tasks.spawn(revoking())


async def _revoked(
    context: RefreshContext, credential: Credential, token: Secret, organization: str | None
) -> str | None:
    """Revoke it once. None: done; else why not."""
    url = context.endpoints.revocation_endpoint
    if url is None:
        return None
    secret = client_secret(context, credential, organization)
    outcome = await context.endpoint.post(url, messages.revocation_request(credential.client_id, secret, token=token))
    return None if isinstance(outcome, Answered) and outcome.status == 200 else reason_of(outcome)


async def _revoke_later(
    context: RefreshContext, credential: Credential, token: Secret, organization: str | None, reason: str
) -> None:
    text = "a refresh token of %s could not be revoked at the server (%s): it is tried again"
    logger.warning(text, named(organization), reason)
    for pause in REVOKE_AGAIN:
        if not await context.tasks.pause(pause * (1 + 0.2 * context.clock.random())):
            break  # closing
        with suppress(ManagerError):  # closing: the next pause says so
            if await context.tasks.unless_closing(_revoked(context, credential, token, organization)) is None:
                logger.info("a refresh token of %s was revoked at last", named(organization))
                return
    logger.warning("a refresh token of %s was not revoked at the server: it dies by itself", named(organization))
