"""What an outcome means, as a table."""

from __future__ import annotations

import pytest

from tribe_oauth import TokenEndpointError
from tribe_oauth._oauth.endpoint import Answered, Lost, NotSent, Outcome
from tribe_oauth._oauth.explanation import Asked, error_for
from tribe_oauth._oauth.messages import Granted, Refused, Unreadable
from tribe_oauth._oauth.values import Secret
from tribe_oauth._oauth.verdict import Verdict, back_off, judge, pause_before
from tribe_oauth.errors import TemporarilyUnavailable

GRANTED = Granted(access_token=Secret("a"), refresh_token=None, expires_in=1, scope=None)
ASKED = Asked(grant_type="refresh_token", client_id="id")


def refused(error: str, status: int) -> Answered:
    return Answered(Refused(status=status, error=error, description="why"), status, None)


def page(status: int) -> Answered:
    return Answered(Unreadable(status=status, reason=f"HTTP {status}"), status, None)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (NotSent("x"), Verdict.NOT_SENT),
        (Lost("x", over=True), Verdict.RESET),
        (Lost("x", over=False), Verdict.MAYBE_SPENT),
        (Answered(GRANTED, 200, None), Verdict.COMMIT),
        (refused("invalid_grant", 400), Verdict.DEAD),
        (refused("token_inactive", 401), Verdict.DEAD),
        (refused("invalid_request", 400), Verdict.RACING),
        (refused("invalid_client", 401), Verdict.CLIENT),
        (refused("invalid_scope", 400), Verdict.MISCONFIGURED),
        (refused("unauthorized_client", 400), Verdict.MISCONFIGURED),
        (refused("scope_not_granted", 403), Verdict.MISCONFIGURED),
        (refused("temporarily_unavailable", 400), Verdict.NOT_NOW),
        (refused("invalid_grant", 429), Verdict.NOT_NOW),
        (refused("invalid_grant", 500), Verdict.MAYBE_SPENT),
        (refused("temporarily_unavailable", 503), Verdict.MAYBE_SPENT),
        (page(200), Verdict.MAYBE_SPENT),
        (page(204), Verdict.MAYBE_SPENT),
        *((page(status), Verdict.MAYBE_SPENT) for status in (500, 502, 503, 504, 599)),
        *((page(status), Verdict.NOT_NOW) for status in (301, 302, 307, 400, 401, 403, 404, 407, 429, 451)),
    ],
)
def test_meanings(outcome: Outcome, verdict: Verdict) -> None:
    """Row by row: only the server's own words end a connection, and only what may be spent is in maybe_spent."""
    assert judge(outcome) is verdict


def test_nothing_is_sent_while_it_can_arrive() -> None:
    """At once after a reset or where nothing was sent; else after `quiet`; for others never in the same flight."""
    pauses = {verdict: pause_before(verdict, 0, quiet=10.0, retry_after=None) for verdict in Verdict}
    assert pauses[Verdict.MAYBE_SPENT] == 10.0
    assert pauses[Verdict.RESET] == pauses[Verdict.NOT_SENT] == 0.1
    assert pauses[Verdict.NOT_NOW] is pauses[Verdict.DEAD] is pauses[Verdict.MISCONFIGURED] is None
    assert [pause_before(Verdict.CLIENT, n, quiet=10.0, retry_after=None) for n in range(3)] == [1.0, 4.0, None]
    assert [pause_before(Verdict.RACING, n, quiet=10.0, retry_after=None) for n in range(2)] == [2.0, None]
    assert pause_before(Verdict.MAYBE_SPENT, 1, quiet=10.0, retry_after=None) is None
    assert pause_before(Verdict.MAYBE_SPENT, 0, quiet=10.0, retry_after=5) == 10.0
    assert pause_before(Verdict.MAYBE_SPENT, 0, quiet=10.0, retry_after=10) == 10.0
    assert pause_before(Verdict.MAYBE_SPENT, 0, quiet=10.0, retry_after=11) is None


@pytest.mark.parametrize(
    ("verdict", "quiet", "retry_after", "pauses"),
    [
        (Verdict.NOT_NOW, 10.0, 0.0, [1.0, 1.0, 1.0, None]),
        (Verdict.NOT_NOW, 10.0, 7.0, [7.0, 7.0, 7.0, None]),
        (Verdict.NOT_NOW, 10.0, 10.0, [10.0, 10.0, 10.0, None]),
        (Verdict.NOT_NOW, 10.0, 10.1, [None]),
        (Verdict.NOT_NOW, 10.0, None, [None]),
        (Verdict.MAYBE_SPENT, 10.0, 2.0, [10.0, 10.0, 10.0, None]),
        (Verdict.MAYBE_SPENT, 0.5, 2.0, [2.0, 2.0, 2.0, None]),
        (Verdict.MAYBE_SPENT, 30.0, 20.0, [30.0, None]),
        (Verdict.CLIENT, 10.0, 3.0, [3.0, 4.0, None]),
        (Verdict.DEAD, 10.0, 3.0, [None]),
        (Verdict.MISCONFIGURED, 10.0, 3.0, [None]),
    ],
)
def test_a_short_pause_is_waited_out(
    verdict: Verdict, quiet: float, retry_after: float | None, pauses: list[float | None]
) -> None:
    """Up to ten seconds, three times; never shorter than what is right without it."""
    told = [pause_before(verdict, n, quiet=quiet, retry_after=retry_after) for n in range(len(pauses))]
    assert told == pauses


def requests_in_a_day(verdict: Verdict, chance: float, retry_after: float | None = None) -> int:
    """Of one organization that always fails like this. Only its first flight is patient."""
    at, requests, failures, attempt = 0.0, 0, 0, 0
    while at < 86_400:
        requests += 1
        pause = pause_before(verdict, attempt, quiet=10.0, retry_after=retry_after) if failures == 0 else None
        attempt += 1
        if pause is None:
            pause = back_off(verdict, failures, retry_after=retry_after, chance=chance)
            failures += 1
        at += pause
    return requests


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict is not Verdict.NOT_SENT])
def test_fifty_requests_a_day(verdict: Verdict, chance: float) -> None:
    """F12: fewer, whatever it is that always fails, and also where the server asks to come back in a second."""
    for retry_after in (None, 0.0, 1.0):
        assert requests_in_a_day(verdict, chance, retry_after) < 50
    assert requests_in_a_day(verdict, chance, 3600.0) <= 26


def test_an_outage_ends_within_the_hour() -> None:
    """The longest pause is 50 minutes, a minute and a quarter where nothing was sent, however long it has failed."""
    for failures in (0, 1, 20, 10**9):
        assert back_off(Verdict.MAYBE_SPENT, failures, retry_after=None, chance=1.0) <= 3000
        assert back_off(Verdict.NOT_SENT, failures, retry_after=None, chance=1.0) <= 75
    first = [back_off(Verdict.NOT_NOW, n, retry_after=None, chance=0.0) for n in range(5)]
    assert first == [5, 10, 20, 40, 80]


def test_back_off() -> None:
    """At least what the server asks; short where nothing is sent; never overflowing."""
    assert back_off(Verdict.NOT_NOW, 0, retry_after=120, chance=0.5) == 120
    assert back_off(Verdict.NOT_SENT, 10**6, retry_after=None, chance=1.0) == 75


@pytest.mark.parametrize(
    ("outcome", "kind", "said"),
    [
        (
            refused("invalid_client", 401),
            TokenEndpointError,
            r"refuses .*'acme' \(invalid_client: why\): check client_id",
        ),
        (refused("invalid_scope", 400), TokenEndpointError, "taken from the Application 'id'"),
        (refused("a_code_of_its_own", 400), TokenEndpointError, "check the Application"),
        (refused("server_error", 500), TemporarilyUnavailable, r"\(server_error: why\)"),
        (page(403), TemporarilyUnavailable, r"\(HTTP 403\).*nothing was lost"),
        (NotSent("the connection failed"), TemporarilyUnavailable, "connection failed.*check the address of the token"),
        (
            NotSent("no", "trust its authority"),
            TemporarilyUnavailable,
            r"\(no\): nothing was lost; trust its authority$",
        ),
        (Lost("no answer", over=False), TemporarilyUnavailable, "no answer"),
        (Answered(GRANTED, 200, None), TemporarilyUnavailable, "a token answer with"),
    ],
)
def test_what_callers_are_told(outcome: Outcome, kind: type[TokenEndpointError], said: str) -> None:
    """Who, why, what to do, and when again."""
    with pytest.raises(kind, match=said) as error:
        raise error_for("acme", ASKED, outcome, 7.0)
    assert type(error.value) is kind
    assert error.value.organization == "acme"
    assert error.value.next_attempt_at == 7.0
    assert error.value.retryable is (kind is TemporarilyUnavailable)


def test_an_error_without_a_description() -> None:
    """The code alone, then."""
    outcome = Answered(Refused(status=400, error="invalid_client", description=""), 400, None)
    assert "(invalid_client)" in str(error_for("acme", ASKED, outcome, None))
