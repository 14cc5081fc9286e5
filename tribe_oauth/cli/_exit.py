"""How a command ends: the one table of exit codes. The help shows it, and the README."""

from __future__ import annotations

import enum
from typing import Final

from tribe_oauth.errors import ConfigurationError, TribeOAuthError, UnknownOrganizationError


class Exit(enum.IntEnum):
    """What a program that runs a command is told."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    HANGUP = 129
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: Final = {
    Exit.DONE: "done",
    Exit.FAILED: "nothing came of it: Tribe, the store or the output refused",
    Exit.USAGE: "an argument or a setting is wrong, or names what is not there",
    Exit.PARTIAL: "some of it is done, and some failed: the output says which",
    Exit.HANGUP: "the terminal was closed (SIGHUP)",
    Exit.INTERRUPTED: "interrupted (Ctrl-C, SIGINT); a second one ends it at once",
    Exit.TERMINATED: "ended from outside (SIGTERM)",
}


def exit_for(error: TribeOAuthError) -> Exit:
    """The code for an error that ended a command."""
    return Exit.USAGE if isinstance(error, ConfigurationError | UnknownOrganizationError) else Exit.FAILED
