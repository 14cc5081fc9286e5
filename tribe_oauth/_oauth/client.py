"""What a caller holds in hand: where Tribe is, a client, an authorization request, and the grants made from them.

Here, and nowhere else in the protocol, randomness is drawn. No I/O. May be imported by everything but the protocol.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from typing import Any, Final, Self, final
from urllib.parse import urlsplit

import attrs

from tribe_oauth._oauth import messages as _protocol
from tribe_oauth._oauth.values import Secret, format_scope, parse_scope, secret
from tribe_oauth.errors import CallbackError, ConfigurationError

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_KEPT: Final = {
    "client_id": str,
    "redirect_uri": str,
    "state": str,
    "verifier": str | None,
    "scope": str,
    "organization_id": str | None,
}


@final
@attrs.frozen(kw_only=True)
class Endpoints:
    """Where Tribe is. `api` is the one origin that may see tokens.

    All are https; with `allow_insecure_loopback` they may be http on 127.0.0.1, ::1 or localhost, for the sandbox.
    `issuer` is compared with a callback's `iss` (RFC 9207); by default the authorization endpoint's origin.
    """

    authorization_endpoint: str
    token_endpoint: str
    revocation_endpoint: str | None = None
    api: str
    allow_insecure_loopback: bool = False
    issuer: str = attrs.field(default=attrs.Factory(lambda self: _origin(self.authorization_endpoint), takes_self=True))

    def __attrs_post_init__(self) -> None:
        for name in ("authorization_endpoint", "token_endpoint", "revocation_endpoint", "api"):
            url = getattr(self, name)
            if url is not None:
                self._check(name, url)
        api = urlsplit(self.api)
        if api.path not in {"", "/"} or api.query:
            raise ConfigurationError("api is an origin, as in https://api.tribecrm.nl: leave the path out")

    def _check(self, name: str, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, _port = parts.hostname, parts.port
            if host is not None and not (host.isascii() and all(0 < len(label) < 64 for label in host.split("."))):
                host.encode("idna")  # as a resolver will; most need not wait for that codec to be imported
        except ValueError:
            raise ConfigurationError(f"{name} is not a URL") from None
        if host is None or parts.username is not None or parts.fragment:
            raise ConfigurationError(f"{name} has to be an absolute URL without user name and fragment")
        if parts.scheme == "https":
            return
        if parts.scheme != "http" or host not in _LOOPBACK:
            raise ConfigurationError(f"{name} has to be https")
        if not self.allow_insecure_loopback:
            raise ConfigurationError(f"{name} is plain http: on loopback, set allow_insecure_loopback to allow it")

    @classmethod
    def at(cls, authorization_server: str, api: str, *, allow_insecure_loopback: bool = False) -> Self:
        """Endpoints at Tribe's usual paths under these two origins."""
        base = authorization_server.rstrip("/")
        return cls(
            authorization_endpoint=f"{base}/oauth2/auth",
            token_endpoint=f"{base}/oauth2/token",
            revocation_endpoint=f"{base}/oauth2/revoke",
            api=api.rstrip("/"),
            allow_insecure_loopback=allow_insecure_loopback,
        )


def _is_utf8(text: str) -> bool:
    """Not so of what os.environ makes of other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


TRIBE: Final = Endpoints.at("https://auth.tribecrm.nl", "https://api.tribecrm.nl")
STAGING: Final = Endpoints.at("https://auth-staging.tribecrm.nl", "https://api-staging.tribecrm.nl")


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
        scope: str = "read write offline",
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
        if not _is_utf8(client_id + client_secret.reveal() + scope):
            raise ConfigurationError("client_id, client_secret or scope is not text in UTF-8: set it again")
        if redirect_uri is not None:
            _check_redirect_uri(redirect_uri)

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

    def resume(self, kept: str) -> AuthorizationRequest:
        """The request that `AuthorizationRequest.keep` wrote, in another process or after a restart.

        Raises ConfigurationError where it is none, or one of another client or redirect URI.
        """
        values = _read_kept(kept)
        if values is None:
            raise ConfigurationError("this is not an authorization request that was kept with keep()")
        if (values["client_id"], values["redirect_uri"]) != (self.client_id, self.redirect_uri):
            raise ConfigurationError("the kept authorization request belongs to another client or redirect URI")
        verifier = None if values["verifier"] is None else Secret(values["verifier"])
        return AuthorizationRequest(self, values["state"], verifier, values["scope"], values["organization_id"])


def _read_kept(kept: str) -> dict[str, Any] | None:
    """None where keep() did not write it. The reason is not kept: json's own errors have the text in them."""
    with suppress(ValueError, RecursionError):
        values = json.loads(kept)
        if isinstance(values, dict) and all(
            name in values and isinstance(values[name], kind) for name, kind in _KEPT.items()
        ):
            texts = (values["state"], values["verifier"] or "")
            return values if all(text.isascii() for text in texts) else None
    return None


def _check_redirect_uri(redirect_uri: str) -> None:
    try:
        parts = urlsplit(redirect_uri)
    except ValueError:
        raise ConfigurationError("redirect_uri is not a URL") from None
    if not _is_utf8(redirect_uri):
        raise ConfigurationError("redirect_uri is not a URL")
    if not parts.scheme or not parts.netloc or parts.fragment:
        raise ConfigurationError("redirect_uri has to be an absolute URL without a fragment (RFC 6749 §3.1.2)")


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
        assert client.redirect_uri is not None  # authorization_request() saw to it
        return _protocol.authorization_url(
            client.endpoints.authorization_endpoint,
            client_id=client.client_id,
            redirect_uri=client.redirect_uri,
            scope=self.scope,
            state=self.state,
            code_challenge=None if self.verifier is None else _protocol.code_challenge(self.verifier),
            organization_id=self.organization_id,
        )

    def keep(self) -> str:
        """The request as text, for a store, with its secrets but without the client's: see `Client.resume`."""
        return json.dumps(
            {
                "client_id": self.client.client_id,
                "redirect_uri": self.client.redirect_uri,
                "state": self.state,
                "verifier": None if self.verifier is None else self.verifier.reveal(),
                "scope": self.scope,
                "organization_id": self.organization_id,
            }
        )

    def grant(self, callback_url: str) -> AuthorizationCodeGrant:
        """Check the callback against this request and take its code. No I/O. Raises CallbackError.

        The URL may be whole, or only path and query, with or without Tribe's slash before the ``?``.
        """
        client = self.client
        assert client.redirect_uri is not None  # authorization_request() saw to it
        callback = _protocol.read_callback(
            callback_url,
            redirect_uri=client.redirect_uri,
            state=self.state,
            issuer=client.endpoints.issuer,
        )
        return AuthorizationCodeGrant(_FROM_A_CHECKED_CALLBACK, self, callback)


_FROM_A_CHECKED_CALLBACK = object()


@final
class AuthorizationCodeGrant:
    """A code whose callback was checked (RFC 6749 §4.1.3). Made by `AuthorizationRequest.grant` and nothing else.

    It can be used once: a code that may have reached the server is never sent again.
    """

    __slots__ = ("_callback", "_request", "_used")

    def __init__(self, door: object, request: AuthorizationRequest, callback: _protocol.Callback) -> None:
        if door is not _FROM_A_CHECKED_CALLBACK:
            raise TypeError("an AuthorizationCodeGrant comes from AuthorizationRequest.grant(callback_url) only")
        self._request = request
        self._callback = callback
        self._used = False

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
        return _protocol.code_request(
            client.client_id,
            client.client_secret,
            code=self._callback.code,
            redirect_uri=client.redirect_uri if client.redirect_uri_in_exchange else None,
            verifier=self._request.verifier,
        )

    def give_back(self) -> None:
        """The request never left: the code can still be used."""
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
@attrs.frozen
class RefreshTokenGrant:
    """Quick Setup: a refresh token copied from Tribe. It works once; its successor is kept by the store."""

    client: Client
    refresh_token: Secret = attrs.field(converter=secret)

    def __attrs_post_init__(self) -> None:
        if not _protocol.is_token_text(self.refresh_token.reveal()):
            raise ConfigurationError(
                "the refresh token is empty, or has spaces or other characters that none has:"
                " copy it from the Application's menu in Tribe"
            )


Grant = AuthorizationCodeGrant | ClientCredentialsGrant | RefreshTokenGrant
