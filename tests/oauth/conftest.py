from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tribe_oauth._oauth.endpoint import TokenEndpoint

from .servers import Applications, Serve


@pytest.fixture
async def endpoint() -> AsyncIterator[TokenEndpoint]:
    """With a deadline that no test waits for."""
    endpoint = TokenEndpoint(request_timeout=5.0)
    yield endpoint
    await endpoint.close()


@pytest.fixture
async def hasty() -> AsyncIterator[TokenEndpoint]:
    """With a deadline that a test can wait for."""
    endpoint = TokenEndpoint(request_timeout=0.2)
    yield endpoint
    await endpoint.close()


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Serve one handler; its address."""
    applications = Applications()
    yield applications.start
    await applications.stop()
