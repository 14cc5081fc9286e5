"""What every step of a refresh is given: the collaborators that the manager put together, and how long things take."""

from __future__ import annotations

import attrs

from tribe_oauth._clock import Clock
from tribe_oauth._oauth.client import Client
from tribe_oauth._oauth.endpoint import TokenEndpoint
from tribe_oauth._oauth.values import Endpoints
from tribe_oauth._refresh.commit import LONGEST_PAUSE, SAVING, Commits
from tribe_oauth._refresh.guarded_store import GuardedStore
from tribe_oauth._refresh.tasks import Tasks


@attrs.frozen(eq=False, repr=False)
class Timing:
    """How long things take, in seconds.

    A lease covers connecting and the POST (`request_timeout`), the time in which a late request may still arrive
    (`quiet`), the commit, and a margin. `refresh_token_lifetime`: an unused one cannot have expired before (720 hours,
    the authorization server's default). `look_every`, `slow`: between two looks at the store while a lease that was
    taken over is held off, and what counts as a slow answer of it. `hold_off_ahead`: how long, where no caller waits.
    """

    leeway: float = 60.0
    quiet: float = 10.0
    request_timeout: float = 30.0
    refresh_token_lifetime: float = 30 * 24 * 3600.0

    look_every: float = 1.0
    slow: float = 0.5
    hold_off_ahead: float = 120.0

    def hold_off(self, store_timeout: float, *, ahead: bool) -> float:
        """How long the taker of a lease watches the store before it sends.

        The request of the holder before may still arrive (`quiet`); and a holder that was answered and could not save
        looks for the store in its own time, which has to be over first: the operation under way that it waits for
        (`store_timeout`; it waits for no queue, see `GuardedStore`), a pause, and saving.
        """
        return max(self.quiet, store_timeout + LONGEST_PAUSE + SAVING + 1.0, self.hold_off_ahead if ahead else 0.0)

    @property
    def before_sending(self) -> float:
        """What must be left of a lease when the bytes leave."""
        return 1.5 * self.request_timeout + self.quiet

    @property
    def lease(self) -> float:
        """How long a lease is taken for."""
        return self.before_sending + self.request_timeout


@attrs.define(eq=False, repr=False)
class RefreshContext:
    """The collaborators. `client` is the manager's own, where it has one; `endpoints` are for all organizations.

    `told_of_stored_secret`: it was logged that a client's secret is stored in clear.
    """

    store: GuardedStore
    commits: Commits
    endpoint: TokenEndpoint
    clock: Clock
    timing: Timing
    client: Client | None
    endpoints: Endpoints
    tasks: Tasks
    told_of_stored_secret: bool = False
