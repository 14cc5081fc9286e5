"""Values that every room passes around: secrets, tokens, scopes, and where Tribe is."""

from __future__ import annotations

import hmac
import re
from functools import lru_cache
from typing import Any, Final, NoReturn, Self, final
from urllib.parse import urlsplit

import attrs

from tribe_oauth._hiding import hiding, hiding_init
from tribe_oauth._strict_json import written_as_text
from tribe_oauth.errors import ConfigurationError, Remedy

MAX_TOKEN_CHARACTERS: Final = 8 * 1024
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")
_SCOPE: Final = re.compile(r"[\x20-\x7e]*")
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class Secret:
    """A string that does not show itself.

    `repr`, `str` and `format` give a mask; pickling and JSON are refused. Equal to Secrets only, compared in
    constant time. `reveal()` is the one way to the text, easy to find in a review.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a Secret holds a str, not {type(value).__name__}")
        self._value = value.encode("utf-8", "surrogatepass")  # takes less room than text

    def reveal(self) -> str:
        """The text itself."""
        return self._value.decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return "***"

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret is not pickled: reveal() it where it has to be written, and protect that place")


written_as_text(Secret, Secret.reveal)


def secret(value: str | Secret) -> Secret:
    """Take either form; used as a converter where callers may pass plain text."""
    return value if isinstance(value, Secret) else Secret(value)


class SecretBytes(bytes):
    """Bytes that do not show themselves: what is on its way to a server or a store stands in many frames."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}('***')"

    __str__ = __repr__


@attrs.frozen(kw_only=True, weakref_slot=False)
class Token:
    """An access token and what the server said with it (RFC 6749 §5.1).

    `expires_at` is a Unix time in seconds. `scope` is None where the server never said what it granted.
    `refresh_token` is None for client credentials.
    """

    access_token: Secret
    refresh_token: Secret | None = None
    expires_at: float
    scope: frozenset[str] | None = None


@lru_cache(maxsize=512)
def parse_scope(text: str) -> frozenset[str]:
    """Split a space-delimited scope (RFC 6749 §3.3)."""
    return frozenset(text.split())


def format_scope(scope: frozenset[str]) -> str:
    """Join a scope in a stable order."""
    return " ".join(sorted(scope))


def is_scope_text(text: str) -> bool:
    """Whether this can be a scope (RFC 6749 §3.3); a backslash or a quote is let pass."""
    return bool(_SCOPE.fullmatch(text))


def is_utf8(text: str) -> bool:
    """Not so of what os.environ makes of other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_redirect_uri(redirect_uri: str) -> None:
    """Raises ConfigurationError."""
    try:
        parts = urlsplit(redirect_uri)
    except ValueError:
        raise ConfigurationError("redirect_uri is not a URL") from None
    if not is_utf8(redirect_uri):
        raise ConfigurationError("redirect_uri is not a URL")
    if not parts.scheme or not parts.netloc or parts.fragment:
        raise ConfigurationError("redirect_uri has to be an absolute URL without a fragment (RFC 6749 §3.1.2)")


def is_token_text(text: str) -> bool:
    """Whether this can be a code or a refresh token: visible ASCII, 8 KiB at most."""
    return len(text) <= MAX_TOKEN_CHARACTERS and bool(_VISIBLE_ASCII.fullmatch(text))


@final
@hiding_init  # a URL may have a password in it, which is refused
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
            raise ConfigurationError(f"{name} is plain http", remedy=Remedy.ALLOW_LOOPBACK)

    @classmethod
    @hiding
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


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError("authorization_endpoint is not a URL") from None
    return f"{parts.scheme}://{parts.netloc}"


TRIBE: Final = Endpoints.at("https://auth.tribecrm.nl", "https://api.tribecrm.nl")
STAGING: Final = Endpoints.at("https://auth-staging.tribecrm.nl", "https://api-staging.tribecrm.nl")
