"""What an outcome of a token request means, and when to ask again: two tables, and pure functions over them.

The one fact that everything follows from: a refresh token works once, and using it twice can revoke all of its family.
So nothing is sent again while the earlier request can still arrive, and only the server's own words end a connection.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Final

from tribe_oauth._oauth.endpoint import MAX_RETRY_AFTER, Answered, Lost, NotSent, Outcome
from tribe_oauth._oauth.messages import Granted, Refused
from tribe_oauth._oauth.words import about
from tribe_oauth.errors import CLIENT_REFUSED, EXPIRED, LOST_ROTATION, REVOKED, USED_ELSEWHERE


class Verdict(enum.Enum):
    """What an outcome means for the refresh token that was sent."""

    COMMIT = "the answer is good"
    NOT_SENT = "the server never saw it"
    RESET = "it may be spent, and nothing of the request can still arrive"
    MAYBE_SPENT = "it may be spent, and the request may still arrive"
    NOT_NOW = "the server, or something before it, is busy"
    RACING = "a peer uses it at the same time, or it has expired"
    DEAD = "the server will never take it again"
    CLIENT = "the server does not know the client, or has a fault"
    MISCONFIGURED = "the server understood and refuses: a setting is wrong"


OAUTH_ERRORS: Final[Mapping[str, Verdict]] = {
    "invalid_grant": Verdict.DEAD,  # RFC 6749 §5.2
    "token_inactive": Verdict.DEAD,  # Ory Hydra 1.10
    "invalid_request": Verdict.RACING,  # Ory Hydra 1.5: concurrent use, or an expired refresh token
    "invalid_client": Verdict.CLIENT,
    "temporarily_unavailable": Verdict.NOT_NOW,
    "slow_down": Verdict.NOT_NOW,
}

QUIET: Final = -1.0
"""Stands in the table for the manager's `quiet`."""

PAUSES: Final[Mapping[Verdict, tuple[float, ...]]] = {
    # Seconds before each further attempt of the same rotation; after the last one, the rotation ends.
    Verdict.NOT_SENT: (0.1, 0.5),
    Verdict.RESET: (0.1,),
    Verdict.MAYBE_SPENT: (QUIET,),
    Verdict.RACING: (2.0,),
    Verdict.CLIENT: (1.0, 4.0),
}

SHORT: Final = 10.0
"""Seconds: a Retry-After of up to this is waited out, where callers wait."""

PAUSES_WHEN_ASKED: Final[Mapping[Verdict, tuple[float, ...]]] = {
    # The same for a 429 or a 503 with a short Retry-After: the least of each pause.
    Verdict.NOT_NOW: (1.0, 1.0, 1.0),
    Verdict.MAYBE_SPENT: (QUIET, QUIET, QUIET),
}

FIRST_BACK_OFF: Final = 5.0
LONGEST_BACK_OFF: Final = 2400.0
"""Seconds. With the way there, fewer than 50 requests a day for an organization that always fails."""
LONGEST_WAIT: Final = max(MAX_RETRY_AFTER, 1.25 * LONGEST_BACK_OFF)
"""Seconds: nothing that this library writes says to wait for longer."""
LONGEST_BACK_OFF_UNSENT: Final = 60.0
"""Seconds. Where nothing is sent, trying again costs the server nothing."""


_USED: Final = r"(?i)already (?:been )?used|was used"
_EXPIRED: Final = r"(?i)(?:token|has|is|was) expired|expired (?:at|token)"


def judge(outcome: Outcome) -> Verdict:
    """The meaning of an outcome."""
    match outcome:
        case NotSent():
            return Verdict.NOT_SENT
        case Lost(over=over):
            return Verdict.RESET if over else Verdict.MAYBE_SPENT
        case Answered(reading=Granted()):
            return Verdict.COMMIT
        case Answered(reading=Refused(error=error, description=words), status=status) if status < 500 and status != 429:
            # What is about the client or a setting says nothing about the token.
            said = Verdict.MISCONFIGURED if about(error, words) not in {None, CLIENT_REFUSED} else None
            return said or OAUTH_ERRORS.get(error, Verdict.MISCONFIGURED)
        case _:
            status = outcome.status
            # A 5xx may come from a gateway after the server did its work; so may a success that cannot be read.
            return Verdict.MAYBE_SPENT if status >= 500 or 200 <= status < 300 else Verdict.NOT_NOW


def cause_of(outcome: Outcome, *, maybe_spent: bool, old: bool) -> str:
    """Why a refresh token is refused: the server's own words first, then its age, then what was sent before.

    `old`: it is older than a refresh token can become.
    """
    refused = refusal_in(outcome)
    words = "" if refused is None else refused.description
    if re.search(_USED, words):
        return LOST_ROTATION if maybe_spent else USED_ELSEWHERE
    if old or re.search(_EXPIRED, words):
        return EXPIRED
    return LOST_ROTATION if maybe_spent else REVOKED


def refusal_in(outcome: Outcome) -> Refused | None:
    """The error in OAuth's own form, where the answer is one."""
    match outcome:
        case Answered(reading=Refused() as refused):
            return refused
    return None


def retry_after_of(outcome: Outcome) -> float | None:
    """Seconds that the server asked to wait, where it answered and said so."""
    return outcome.retry_after if isinstance(outcome, Answered) else None


def pause_before(verdict: Verdict, attempt: int, *, quiet: float, retry_after: float | None) -> float | None:
    """Seconds until the same rotation may send again after its `attempt`-th such outcome (from 0); None: it ends."""
    pauses = PAUSES.get(verdict, ())
    if retry_after is not None and retry_after <= SHORT:
        pauses = PAUSES_WHEN_ASKED.get(verdict, pauses)
    if attempt >= len(pauses):
        return None
    pause = quiet if pauses[attempt] == QUIET else pauses[attempt]
    if retry_after is None or retry_after <= pause:
        return pause
    return retry_after if retry_after <= SHORT else None  # more patience than a waiting caller has


def back_off(verdict: Verdict, failures: int, *, retry_after: float | None, chance: float) -> float:
    """Seconds until the next rotation, after so many failures in a row before this one. `chance` is from 0 to 1."""
    longest = LONGEST_BACK_OFF_UNSENT if verdict is Verdict.NOT_SENT else LONGEST_BACK_OFF
    seconds = min(longest, FIRST_BACK_OFF * 2.0 ** min(failures, 20)) * (1.0 + 0.25 * chance)
    return max(seconds, retry_after or 0.0)
