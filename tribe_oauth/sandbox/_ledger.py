"""The ledger: what happened to every token. Append-only; it holds fingerprints, never tokens."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from typing import TYPE_CHECKING, Literal

from attrs import asdict, define, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal[
    "requested",  # a POST to the token endpoint was parsed
    "issued",
    "spent",  # a refresh token or a code was redeemed
    # an access token, deleted by the refresh that issued the next one; a refresh token, made void by a refresh that was
    # at the same instant as the one that issued it
    "replaced",
    "refused",  # the request was; `error` says with what
    "reused",  # a refresh token or a code was presented after it had been spent or replaced
    "revoked",  # a token is no longer valid; by /oauth2/revoke, by reuse, or by order of a test
    "answered",  # the end of a token request; `delivered` says whether the client could read the answer
    "exposed",  # an access token came in the query of a call to the API, where logs have it
]


@frozen
class Event:
    """One line of the ledger. `at` is in Unix seconds by the sandbox's clock.

    `request` numbers the token requests from 1; 0: not caused by a token request. `fingerprint` is the
    SHA-256 of the token, in hexadecimal.
    """

    kind: Kind
    at: float
    request: int
    grant_type: str
    client_id: str
    organization: str
    family: str
    token: Literal["", "access", "refresh", "code"]
    fingerprint: str
    error: str
    delivered: bool | None


@frozen
class Call:
    """A call to the API with a token that is good. `at` is in Unix seconds by the sandbox's clock.

    `status`: 200 where the limit of calls let it pass, whatever it was answered with; else 429, or 403 for the blocked.
    """

    at: float
    client_id: str
    organization: str
    status: int


@frozen
class Family:
    """A token family: the refresh tokens that one grant led to, each the successor of the one before.

    `live`: whether its last refresh token has not been revoked.
    """

    id: str
    organization: str
    client_id: str
    origin: Literal["code", "pasted"]
    rotations: int
    live: bool


@define
class Cause:
    """The token request that causes events, with what is known of it so far."""

    request: int = 0
    grant_type: str = ""
    client_id: str = ""
    organization: str = ""
    family: str = ""


def fingerprint(token: str) -> str:
    """The SHA-256 of a token, in hexadecimal."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger:
    """Every token issued, spent, replaced, refused, reused and revoked.

    All questions but `events` and `dump` are answered from counters, in a time that does not grow with the events.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        is_live: Callable[[str], bool],
        families: Callable[[str], tuple[Family, ...]],
    ) -> None:
        self._clock = clock
        self._is_live = is_live
        self._families = families
        self._events: list[Event] = []
        self._requests: Counter[str] = Counter()
        self._presented: Counter[str] = Counter()
        self._twice: list[str] = []
        self._reused: dict[str, None] = {}
        self._undelivered: list[int] = []
        self._calls: list[Call] = []
        self._limited = 0
        self._exposed: dict[str, None] = {}

    @property
    def events(self) -> tuple[Event, ...]:
        """All events, oldest first."""
        return tuple(self._events)

    @property
    def token_requests(self) -> int:
        """How many POSTs to the token endpoint were parsed, refused ones included."""
        return self._requests.total()

    def count(self, grant_type: str) -> int:
        """How many token requests there were of one grant type (`unknown` for those not supported)."""
        return self._requests[grant_type]

    def spent_twice(self) -> tuple[str, ...]:
        """Fingerprints of the refresh tokens that the server was asked to redeem more than once.

        Requests that a fault answered in the server's place do not count: the server never saw them.
        """
        return tuple(self._twice)

    def reused(self) -> tuple[str, ...]:
        """Fingerprints of the refresh tokens and codes that were presented after they had been spent or replaced."""
        return tuple(self._reused)

    def undelivered(self) -> tuple[int, ...]:
        """Numbers of the token requests whose answer the client could not read to its end."""
        return tuple(self._undelivered)

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls to the API, oldest first."""
        return tuple(self._calls)

    @property
    def limited(self) -> int:
        """How many calls the limit refused."""
        return self._limited

    def exposed(self) -> tuple[str, ...]:
        """Fingerprints of the access tokens that came in the query of a call."""
        return tuple(self._exposed)

    def families(self, organization: str) -> tuple[Family, ...]:
        """The token families of an organization, oldest first."""
        return self._families(organization)

    def is_live(self, token: str) -> bool:
        """Whether the server would accept this access or refresh token now."""
        return self._is_live(fingerprint(token))

    def summary(self) -> dict[str, object]:
        """The counts, and what was spent twice, reused or not delivered, fit for JSON."""
        return {
            "events": len(self._events),
            "token_requests": self.token_requests,
            "by_grant_type": dict(self._requests),
            "spent_twice": list(self._twice),
            "reused": list(self._reused),
            "undelivered": list(self._undelivered),
            "calls": len(self._calls),
            "limited": self._limited,
            "exposed": list(self._exposed),
        }

    def dump(self) -> list[dict[str, object]]:
        """All events, fit for JSON."""
        return [asdict(event) for event in self._events]

    def tail(self, last: int) -> list[dict[str, object]]:
        """The last events, fit for JSON."""
        return [asdict(event) for event in deque(iter(self._events), maxlen=last)]

    # Only the sandbox writes, always in one synchronous step with the change that it records.

    def begin(self, grant_type: str, client_id: str) -> Cause:
        """Record that a token request was parsed."""
        self._requests[grant_type] += 1
        cause = Cause(self.token_requests, grant_type, client_id)
        self.write("requested", cause)
        return cause

    def presented(self, token_fingerprint: str) -> None:
        """Record that the server was asked to redeem a refresh token."""
        self._presented[token_fingerprint] += 1
        if self._presented[token_fingerprint] == 2:
            self._twice.append(token_fingerprint)

    def answered(self, cause: Cause, *, delivered: bool) -> None:
        """Record the end of a token request."""
        if not delivered:
            self._undelivered.append(cause.request)
        self.write("answered", cause, delivered=delivered)

    def called(self, client_id: str, organization: str, status: int) -> None:
        """Record a call to the API."""
        self._calls.append(Call(self._clock(), client_id, organization, status))
        self._limited += status != 200

    def write(
        self,
        kind: Kind,
        cause: Cause,
        token: Literal["", "access", "refresh", "code"] = "",
        token_fingerprint: str = "",
        *,
        error: str = "",
        delivered: bool | None = None,
    ) -> None:
        """Append one event."""
        if kind == "reused":
            self._reused[token_fingerprint] = None
        if kind == "exposed":
            self._exposed[token_fingerprint] = None
        self._events.append(
            Event(
                kind,
                self._clock(),
                cause.request,
                cause.grant_type,
                cause.client_id,
                cause.organization,
                cause.family,
                token,
                token_fingerprint,
                error,
                delivered,
            )
        )
