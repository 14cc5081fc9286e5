from __future__ import annotations

import pytest

from tribe_oauth._manager.middleware import BearerMiddleware

from .world import Factory


@pytest.fixture
def make() -> Factory:
    """The middleware under test. `test_bites` calls the same checks with broken ones."""
    return lambda source: BearerMiddleware(source, source.api.origin(), source.acceptance)
