"""The outcomes of a connection attempt, in words for customers."""

from __future__ import annotations

from enum import Enum
from typing import final

import attrs


@final
@attrs.frozen
class Words:
    """The text of a page, and its HTTP status. `again`: whether to start once more may help."""

    status: int
    title: str
    text: str
    again: bool = True


class Outcome(Enum):
    """The value is the last part of the page's address."""

    CONNECTED = "connected"
    CONNECTED_WITH_LESS = "connected-with-less"
    CONNECTED_UNSAVED = "connected-unsaved"
    DENIED = "denied"
    NOT_OFFLINE = "not-offline"
    OTHER_ORGANIZATION = "other-organization"
    UNKNOWN = "unknown"
    OTHER_BROWSER = "other-browser"
    OTHER_ACCOUNT = "other-account"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"
    FORBIDDEN = "forbidden"
    BAD_REQUEST = "bad-request"
    STALE_FORM = "stale-form"
    NOT_DISCONNECTED = "not-disconnected"
    AHEAD_OF_TIME = "ahead-of-time"

    @property
    def words(self) -> Words:
        """What the page says."""
        return _WORDS[self]

    @property
    def connected(self) -> bool:
        """Whether the organization works now."""
        return self.words.status < 400


_WORDS = {
    Outcome.CONNECTED: Words(
        200, "Connected", "Your organization is connected to Tribe CRM. You can close this page.", again=False
    ),
    Outcome.CONNECTED_WITH_LESS: Words(
        200,
        "Connected, with fewer permissions",
        "Your organization is connected. Some permissions were not ticked, so some things may not work. To change that,"
        " connect once more and leave all of them ticked.",
    ),
    Outcome.CONNECTED_UNSAVED: Words(
        202,
        "Connected, and still being saved",
        "Your organization is connected and works. Our storage does not answer at the moment; the connection is saved"
        " as soon as it does. If it stops working, please connect once more.",
        again=False,
    ),
    Outcome.DENIED: Words(
        403, "Not connected", "Access was not allowed in Tribe. Nothing was changed, and nothing was stored."
    ),
    Outcome.NOT_OFFLINE: Words(
        403,
        "Not connected: the permission to stay connected is missing",
        "Without offline access the connection would end within a day. Connect once more, and leave that permission"
        " ticked in Tribe.",
    ),
    Outcome.OTHER_ORGANIZATION: Words(
        409,
        "Not connected: that was another organization",
        "In Tribe, another organization was chosen than the one to be connected here. Nothing was changed. Connect once"
        " more, and choose the right one.",
    ),
    Outcome.UNKNOWN: Words(
        400,
        "This link does not work any more",
        "It was used already, is older than half an hour, or newer ones took its place. If you have just connected, all"
        " is well: the page was only loaded twice.",
    ),
    Outcome.OTHER_BROWSER: Words(
        400,
        "Please continue in the browser you began with",
        "This connection was started in another browser, or long ago, or cookies are switched off. Nothing was"
        " connected: open the link there, or try again.",
    ),
    Outcome.OTHER_ACCOUNT: Words(
        409,
        "Not connected: you are signed in to another account now",
        "This connection was started from another account here than the one that you are signed in to. Nothing was"
        " changed. Sign in to the right one, and connect once more.",
    ),
    Outcome.UNAVAILABLE: Words(
        503,
        "Not connected: no answer at the moment",
        "Tribe or our own storage did not answer in time. What was connected before still is. Please try again in a"
        " minute.",
    ),
    Outcome.FAILED: Words(
        502,
        "Not connected: something is not set up right",
        "This is not your fault, and trying again will probably not help. What was connected before still is. The"
        " people who run this application find the reason in its log.",
    ),
    Outcome.FORBIDDEN: Words(
        403, "You cannot see this page", "Sign in first, or ask for the right to manage connections.", again=False
    ),
    Outcome.BAD_REQUEST: Words(
        400, "This link is not complete", "Something in its address cannot be understood.", again=False
    ),
    Outcome.NOT_DISCONNECTED: Words(
        503,
        "Not disconnected yet",
        "Our storage did not answer in time. It may still be done in a minute: please look again then.",
        again=False,
    ),
    Outcome.AHEAD_OF_TIME: Words(
        503, "Not opened yet", "Your browser loaded this page ahead of time. Nothing has happened so far: go on here."
    ),
    Outcome.STALE_FORM: Words(
        403, "Please try that again", "The page was open for too long, or came from elsewhere.", again=False
    ),
}
