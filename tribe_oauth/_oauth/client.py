"""What a caller makes: a client, an authorization request, and the grants that come from them. No I/O.

Here, and nowhere else in the protocol, randomness is drawn.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from typing import Any, Final, final

import attrs

from tribe_oauth._hiding import hiding, hiding_init
from tribe_oauth._oauth import authorization, environment, messages
from tribe_oauth._oauth.values import (
    TRIBE,
    Endpoints,
    Secret,
    check_redirect_uri,
    format_scope,
    is_token_text,
    is_utf8,
    parse_scope,
    secret,
)
from tribe_oauth._strict_json import MalformedError, from_json, to_json
from tribe_oauth.errors import CallbackError, ConfigurationError

_SCOPE: Final = "read write offline"


@final
@attrs.frozen(init=False)
class Client:
    """An OAuth client (RFC 6749 §2.2), which Tribe calls an Application.

    `redirect_uri` is the registered one, to the letter; only the authorization code flow needs it. With
    `redirect_uri_in_exchange=False` it is left out of the code exchange, as Tribe's parameter table has it; RFC 6749
    §4.1.3 and Tribe's authorization server want it there.
    """

    client_id: str
    client_secret: Secret
    redirect_uri: str | None
    scope: str
    endpoints: Endpoints
    redirect_uri_in_exchange: bool

    def __init__(
        self,
        client_id: str,
        client_secret: str | Secret,
        *,
        redirect_uri: str | None = None,
        scope: str = _SCOPE,
        endpoints: Endpoints = TRIBE,
        redirect_uri_in_exchange: bool = True,
    ) -> None:
        # First, and the secret under the same name: crash reporters show this frame and all that is in it.
        client_secret = secret(client_secret)
        self.__attrs_init__(client_id, client_secret, redirect_uri, scope, endpoints, redirect_uri_in_exchange)
        if not client_id or not isinstance(client_id, str):
            raise ConfigurationError("client_id is empty: copy it from Configuration > Applications in Tribe")
        if not client_secret:
            raise ConfigurationError("client_secret is empty: copy it from Configuration > Applications in Tribe")
        if not is_utf8(client_id + client_secret.reveal() + scope):
            raise ConfigurationError("client_id, client_secret or scope is not text in UTF-8: set it again")
        if redirect_uri is not None:
            check_redirect_uri(redirect_uri)

    @classmethod
    @hiding
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Client:
        """The client of ``TRIBE_CLIENT_ID`` and ``TRIBE_CLIENT_SECRET``; each variable also as ``…_FILE``, a path.

        ``TRIBE_REDIRECT_URI``, ``TRIBE_SCOPE``, and for another Tribe ``TRIBE_AUTH_URL`` and ``TRIBE_API_URL``, may be
        set too. Raises ConfigurationError, which names the variable.
        """
        env = os.environ if environ is None else environ
        client_id = environment.needed(env, "TRIBE_CLIENT_ID")
        client_secret = environment.needed(env, "TRIBE_CLIENT_SECRET")
        redirect_uri, scope = environment.variable(env, "TRIBE_REDIRECT_URI"), environment.variable(env, "TRIBE_SCOPE")
        endpoints = environment.endpoints(env)
        with environment.naming("TRIBE_CLIENT_ID, TRIBE_CLIENT_SECRET, TRIBE_REDIRECT_URI or TRIBE_SCOPE"):
            return cls(client_id, client_secret, redirect_uri=redirect_uri, scope=scope or _SCOPE, endpoints=endpoints)

    def authorization_request(
        self, *, organization_id: str | None = None, scope: str | None = None, pkce: bool = True
    ) -> AuthorizationRequest:
        """Begin an authorization code flow (RFC 6749 §4.1): send the browser to `.url`, keep the request.

        `organization_id` is Tribe's UUID of the organization that is to consent. Raises ConfigurationError where the
        client has no redirect URI.
        """
        if self.redirect_uri is None:
            raise ConfigurationError("this client has no redirect_uri: pass the one registered with the Application")
        state = secrets.token_urlsafe(32)
        verifier = Secret(secrets.token_urlsafe(48)) if pkce else None
        asked = self.scope if scope is None else scope
        return AuthorizationRequest(self, state, verifier, asked, organization_id)

    @hiding
    def resume(self, kept: str) -> AuthorizationRequest:
        """The request that `AuthorizationRequest.keep` wrote, in another process or after a restart.

        Raises ConfigurationError where it is none, or one of another client or redirect URI.
        """
        try:
            values = from_json(kept, _Kept)
        except MalformedError:
            raise ConfigurationError("this is not an authorization request that was kept with keep()") from None
        if (values.client_id, values.redirect_uri) != (self.client_id, self.redirect_uri):
            raise ConfigurationError("the kept authorization request belongs to another client or redirect URI")
        return AuthorizationRequest(self, values.state, values.verifier, values.scope, values.organization_id)


def _ascii(instance: object, field: object, value: Any) -> None:
    text = value.reveal() if isinstance(value, Secret) else value
    if text is not None and not text.isascii():
        raise ValueError  # both are random text of our own


@attrs.frozen(repr=False)
class _Kept:
    """An authorization request as it is stored: without the client's secret."""

    client_id: str
    redirect_uri: str
    state: str = attrs.field(validator=_ascii)
    verifier: Secret | None = attrs.field(validator=_ascii)
    scope: str
    organization_id: str | None


@final
@attrs.frozen
class AuthorizationRequest:
    """One flow of one browser. `state` is 256 random bits; the PKCE verifier stays here until the exchange."""

    client: Client
    state: str = attrs.field(repr=False)
    verifier: Secret | None
    scope: str
    organization_id: str | None

    @property
    def url(self) -> str:
        """Where to send the browser. It has no secret in it but the state, which is the browser's own."""
        client = self.client
        assert client.redirect_uri is not None  # authorization_request() made sure of it
        return authorization.authorization_url(
            client.endpoints.authorization_endpoint,
            client_id=client.client_id,
            redirect_uri=client.redirect_uri,
            scope=self.scope,
            state=self.state,
            code_challenge=None if self.verifier is None else authorization.code_challenge(self.verifier),
            organization_id=self.organization_id,
        )

    def keep(self) -> str:
        """The request as text, for a store, with its secrets but without the client's: see `Client.resume`."""
        client = self.client
        assert client.redirect_uri is not None  # authorization_request() made sure of it
        kept = _Kept(client.client_id, client.redirect_uri, self.state, self.verifier, self.scope, self.organization_id)
        return to_json(kept).decode()

    @hiding
    def grant(self, callback_url: str) -> AuthorizationCodeGrant:
        """Check the callback against this request and take its code. No I/O. Raises CallbackError.

        The URL may be whole, or only path and query, with or without Tribe's slash before the ``?``.
        """
        client = self.client
        assert client.redirect_uri is not None  # authorization_request() made sure of it
        callback = authorization.read_callback(
            callback_url,
            redirect_uri=client.redirect_uri,
            state=self.state,
            issuer=client.endpoints.issuer,
            scope=self.scope,
        )
        return AuthorizationCodeGrant(_FROM_A_CHECKED_CALLBACK, self, callback)


_FROM_A_CHECKED_CALLBACK = object()


@final
class AuthorizationCodeGrant:
    """A code whose callback was checked (RFC 6749 §4.1.3). Made by `AuthorizationRequest.grant` and nothing else.

    It can be used once: a code that may have reached the server is never sent again.
    """

    __slots__ = ("_callback", "_request", "_used", "nonce")

    def __init__(self, door: object, request: AuthorizationRequest, callback: authorization.Callback) -> None:
        if door is not _FROM_A_CHECKED_CALLBACK:
            raise TypeError("an AuthorizationCodeGrant comes from AuthorizationRequest.grant(callback_url) only")
        self._request = request
        self._callback = callback
        self._used = False
        self.nonce = secrets.token_hex(16)  # tells this grant from another one of the same callback

    @property
    def fingerprint(self) -> str:
        """What may be remembered of the code."""
        return hashlib.sha256(b"tribe_oauth code\0" + self._callback.code.reveal().encode()).hexdigest()

    @property
    def client(self) -> Client:
        """Whose code it is."""
        return self._request.client

    @property
    def asked(self) -> frozenset[str]:
        """The scope asked for."""
        return parse_scope(self._request.scope)

    @property
    def granted(self) -> frozenset[str] | None:
        """The scope that the callback names (Tribe's page): possibly less than was asked. None: it names none."""
        return self._callback.scope

    @property
    def redirect_uri(self) -> str | None:
        """The one of the authorization request; later refreshes need it (Tribe's page)."""
        return self.client.redirect_uri

    def body(self) -> bytes:
        """The token request. Asked for twice, it raises CallbackError."""
        if self._used:
            raise CallbackError("this code was used already, and a code works once: start the connection again")
        self._used = True
        client = self.client
        return messages.code_request(
            client.client_id,
            client.client_secret,
            code=self._callback.code,
            redirect_uri=client.redirect_uri if client.redirect_uri_in_exchange else None,
            verifier=self._request.verifier,
        )

    def give_back(self) -> None:
        """The code was not used: the request never left, or the server did not get as far as looking at it."""
        self._used = False

    def __repr__(self) -> str:
        return f"AuthorizationCodeGrant(client_id={self.client.client_id!r})"


@final
@attrs.frozen
class ClientCredentialsGrant:
    """Server to server (RFC 6749 §4.4). `scope`: what to ask for, by default the client's.

    Tribe rejects `offline` where the Application does not have it; it gets no refresh token for it in any case.
    """

    client: Client
    scope: str | None = attrs.field(default=None, kw_only=True)

    @property
    def asked(self) -> str:
        """The scope asked for, space-delimited."""
        return self.client.scope if self.scope is None else format_scope(parse_scope(self.scope))


@final
@hiding_init
@attrs.frozen
class RefreshTokenGrant:
    """Quick Setup: a refresh token copied from Tribe. It works once; its successor is kept by the store.

    What is stored with it is the token and its client's id. The client's secret is stored too where the client is not
    the manager's own: for it, use a store that encrypts.
    """

    client: Client
    refresh_token: Secret = attrs.field(converter=secret)

    def __attrs_post_init__(self) -> None:
        if not is_token_text(self.refresh_token.reveal()):
            raise ConfigurationError(
                "the refresh token is empty, or has spaces or other characters that none has:"
                " copy it from the Application's menu in Tribe"
            )


Grant = AuthorizationCodeGrant | ClientCredentialsGrant | RefreshTokenGrant
