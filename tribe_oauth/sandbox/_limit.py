"""The limit of calls: so many in any so many seconds, for each application and organization. Imported by `_odata`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import Factory, define

from tribe_oauth.sandbox._rules import ApiRules


@define
class _Budget:
    """The calls of one application for one organization. `refused`: answers of 429 in a row."""

    at: deque[float] = Factory(deque)
    refused: int = 0
    blocked_until: float = 0.0


@define(eq=False)
class Limit:
    """Counts calls in a sliding window."""

    rules: ApiRules
    clock: Callable[[], float]
    _budgets: dict[tuple[str, str], _Budget] = Factory(dict)

    def call(self, client_id: str, organization: str) -> tuple[int, float]:
        """Count a call: 200, 429 or 403, and when a call is free again."""
        if self.rules.calls is None:
            return 200, 0.0
        budget, now = self._budgets.setdefault((client_id, organization), _Budget()), self.clock()
        while budget.at and budget.at[0] <= now - self.rules.seconds:
            budget.at.popleft()
        if now < budget.blocked_until:
            return 403, budget.blocked_until
        if len(budget.at) < self.rules.calls:
            budget.at.append(now)
            budget.refused = 0
            return 200, now
        if self.rules.refused_count:
            budget.at.append(now)
        budget.refused += 1
        if self.rules.block is not None and budget.refused > self.rules.heeded:
            budget.blocked_until, budget.refused = now + self.rules.block, 0
            return 403, budget.blocked_until
        return 429, (budget.at[-self.rules.calls] if self.rules.calls else now) + self.rules.seconds
