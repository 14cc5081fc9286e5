"""Fixtures for the tests of applications; pytest finds them where this library is installed.

    async def test_persons(tribe_manager):
        async with tribe_manager.session() as session: ...

They run on the loop of the test: with pytest-asyncio where it is installed, else with anyio's own plugin.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tribe_oauth import TokenManager
    from tribe_oauth.sandbox import Sandbox

try:
    import pytest_asyncio as runner
except ImportError:
    runner = pytest  # type: ignore[misc]


@runner.fixture
async def tribe_sandbox(request: pytest.FixtureRequest) -> AsyncIterator[Sandbox]:
    """An emulated Tribe of this test's own: see `tribe_oauth.sandbox.Sandbox`.

    Its options are given with ``@pytest.mark.tribe_sandbox(profile="hydra-2.3", persons=10)``.
    """
    from tribe_oauth.sandbox import Sandbox  # not before a test needs it: pytest loads this file for every project

    marker = request.node.get_closest_marker("tribe_sandbox")
    async with Sandbox(**(marker.kwargs if marker is not None else {})) as sandbox:
        yield sandbox


@runner.fixture
async def tribe_manager(tribe_sandbox: Sandbox) -> AsyncIterator[TokenManager]:
    """A manager for that Tribe, with the sandbox's first organization connected under its name, by Quick Setup."""
    from tribe_oauth import RefreshTokenGrant, TokenManager

    client = tribe_sandbox.client()
    organization = next(iter(tribe_sandbox.organizations))
    async with TokenManager(client) as manager:
        await manager.connect(organization, RefreshTokenGrant(client, tribe_sandbox.paste_token(organization)))
        yield manager


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "tribe_sandbox(**options): options of the sandbox for this test")
