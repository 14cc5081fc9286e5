"""What can go wrong, by culprit.

Everything this library raises on purpose descends from `TribeOAuthError` and from nothing of aiohttp's or the
operating system's: aiohttp retries some of its own errors when they escape a middleware, and a token request
that is sent twice can cost a customer the connection.

No error carries a secret, in no field and in no chained cause.
"""

from __future__ import annotations

import copy
import enum
from typing import Any, Final, Self, TypeVar


class Remedy(enum.Enum):
    """What to do about an error where that is a call of this library. The value says it for Python.

    Whoever shows errors to people who call nothing has words of his own for each, as the command line has.
    """

    CONNECT = "connect() it first"
    CONNECT_ONE = "connect() one first"
    CONNECT_AGAIN = "run the consent once more or connect a new refresh token"
    CHOOSE = "say which one is meant (organization=, or TRIBE_ORGANIZATION_ID)"
    CREATE_SCHEMA = "call create_schema()"
    GENERATE_KEY = "generate_key() makes one"
    GIVE_CLIENT = "give that client to the manager"
    GIVE_ENDPOINTS = "give the manager the endpoints it was connected with (endpoints=)"
    SMALLER_PAGES = "ask for smaller pages with page_size, or allow more with max_bytes"
    ALLOW_LOOPBACK = "on loopback, set allow_insecure_loopback to allow it"


class TribeOAuthError(Exception):
    """The root of all.

    `organization` is the caller's key, where one is concerned. `retryable` says whether the same call may succeed
    later although nothing was changed. `problem` is what happened, and `remedy` what to do about it where that is a
    call of this library; the text of the error is both. Else the text is the problem, with the remedy in it.
    """

    retryable = False

    def __init__(self, message: str, *, organization: str | None = None, remedy: Remedy | None = None) -> None:
        super().__init__(message if remedy is None else f"{message}: {remedy.value}")
        self.organization = organization
        self.problem = message
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are rebuilt from their text alone otherwise, which the constructors below do not take.
        return _rebuilt, (type(self), self.args, self.__dict__.copy())

    def again(self) -> Self:
        """The same error for another caller: one exception raised in many tasks would collect all their frames."""
        return _rebuilt(type(self), self.args, self.__dict__)


_Error = TypeVar("_Error", bound="TribeOAuthError")


def _rebuilt(kind: type[_Error], args: tuple[Any, ...], fields: dict[str, Any]) -> _Error:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(copy.deepcopy(fields))  # notes are a list, and each caller adds their own
    return error


def named(organization: str | None) -> str:
    """How an error's text calls an organization."""
    return "an organization that is not known yet" if organization is None else f"organization {organization!r}"


# The caller


class ConfigurationError(TribeOAuthError):
    """An argument, a setting or a combination of them cannot work; the text names the remedy."""


class UnknownOrganizationError(TribeOAuthError):
    """No connection is stored under this key, or no key was given where there are several."""


class ManagerError(TribeOAuthError):
    """The manager is closed, or is used from an event loop that is not its own."""


# The browser


class CallbackError(TribeOAuthError):
    """The callback does not belong to the request, was altered, or says that consent was refused.

    `error` is the server's code (RFC 6749 §4.1.2.1), where it sent one.
    """

    def __init__(self, message: str, *, error: str | None = None) -> None:
        super().__init__(message)
        self.error = error


# The authorization server


OTHER_CLIENT: Final = "issued to another Application"
REDIRECT_URI: Final = "another redirect URI than at the authorization"
PKCE: Final = "the PKCE verifier does not fit"
GRANT_TYPE: Final = "a grant type that the Application may not use"
SCOPE: Final = "a scope that the Application does not have"
CLIENT_REFUSED: Final = "the client is refused, or the server has a fault"


class TokenEndpointError(TribeOAuthError):
    """The token endpoint answered, and the answer is no.

    `status` is the HTTP status, `error` the code (RFC 6749 §5.2) and `error_description` the server's own words beyond
    its standard sentences: at most 600 characters, made printable, since they come from outside. `cause` says what they
    are about: one of the constants above, or of those of ReauthorizationRequired for a refresh token that was pasted;
    None where that is not known. `next_attempt_at` is the Unix time, in seconds, before which no further request is
    sent; None where that is up to the caller.
    """

    def __init__(
        self,
        message: str,
        *,
        organization: str | None = None,
        status: int | None = None,
        error: str | None = None,
        error_description: str | None = None,
        cause: str | None = None,
        next_attempt_at: float | None = None,
    ) -> None:
        super().__init__(message, organization=organization)
        self.status = status
        self.error = error
        self.error_description = error_description
        self.cause = cause
        self.next_attempt_at = next_attempt_at


class TemporarilyUnavailable(TokenEndpointError):  # noqa: N818 (it is a condition, as in RFC 6749 §4.1.2.1)
    """No usable answer now. The connection is kept, and the next call after `next_attempt_at` tries again."""

    retryable = True


class ScopeError(TokenEndpointError):
    """The server granted more than was asked, or refused what the connection cannot live without.

    `error` is ``"invalid_scope"`` or ``"insufficient_scope"``.
    """


LOST_ROTATION: Final = "lost rotation"
EXPIRED: Final = "expired"
USED_ELSEWHERE: Final = "used elsewhere (another program, an older copy of the store)"
REVOKED: Final = f"revoked, expired, or {USED_ELSEWHERE}"


class ReauthorizationRequired(TribeOAuthError):  # noqa: N818 (the name that users handle it by)
    """The server no longer accepts this organization's refresh token: it has to be connected again.

    `cause` is one of the constants above: `LOST_ROTATION` where an earlier answer was lost on its way, `EXPIRED` or
    `USED_ELSEWHERE` where that is known, else `REVOKED`. `error_description`: the server's own words, as in a
    TokenEndpointError; None where it said no more than its standard sentence.
    """

    def __init__(self, cause: str, *, organization: str | None = None, error_description: str | None = None) -> None:
        said = f"; the server says: {error_description}" if error_description else ""
        super().__init__(
            f"organization {organization!r} has to be connected again ({cause}{said})",
            organization=organization,
            remedy=Remedy.CONNECT_AGAIN,
        )
        self.cause = cause
        self.error_description = error_description or None


# The store


class StoreError(TribeOAuthError):
    """The store did not do what it was asked, or it is not known whether it did."""

    retryable = True


class UnreadableError(StoreError):
    """What is stored cannot be read: it was damaged, or is encrypted under a key that is not given.

    Asking again gives the same. It was left as it is: `TokenManager.connect` replaces it, `disconnect` removes it.
    """

    retryable = False


class UnsavedError(StoreError):
    """The organization is connected and works in this process, which goes on trying to save it."""
