"""An export while the authorization server's database is away: `invalid_client` for everyone, and it passes."""

from __future__ import annotations

import time
from operator import itemgetter

import pytest

from tribe_oauth import ClientCredentialsGrant, RefreshTokenGrant, TokenManager
from tribe_oauth.errors import TemporarilyUnavailable
from tribe_oauth.sandbox import PROFILES, ApiRules, Sandbox
from tribe_oauth.sandbox._faults import Fault
from tribe_oauth.sync import Event, export

from ..manager.helpers import VirtualClock
from .conftest import Kept

PEOPLE = "Relation_Person"


@pytest.mark.parametrize("pasted", [False, True], ids=["client-credentials", "refresh-token"])
@pytest.mark.parametrize("profile", PROFILES)
async def test_it_goes_on_when_the_database_is_back(profile: str, pasted: bool) -> None:
    """F9: the token ends between two pages, for good as it seems: the export waits, and nothing is missing."""
    clock = VirtualClock()
    clock.wall = time.time() - 86_400  # so that what the library waits for is over by this machine's clock
    async with Sandbox(
        profile=profile, organizations=["Acme"], persons=25, page_size=10, api=ApiRules(paging="nextLink")
    ) as sandbox:
        client, sink = sandbox.client(), Kept()
        errors: list[object] = []
        fault: list[Fault] = []

        def told(event: Event) -> None:
            if event.kind == "page" and not fault:
                sandbox.expire("Acme")
                fault.append(sandbox.fault("database_away", times=None))
            if event.kind == "retried":
                errors.append(event.error)
                clock.advance(3600)
                if len(errors) == 2:
                    fault[0].cancel()

        async with TokenManager(client, clock=clock) as manager:
            grant = RefreshTokenGrant(client, sandbox.paste_token("Acme")) if pasted else ClientCredentialsGrant(client)
            await manager.connect("Acme", grant)
            (outcome,) = await export(manager, ["Acme"], [PEOPLE], sink, on_event=told)
        assert [type(error) for error in errors] == [TemporarilyUnavailable] * 2
        assert outcome.error is None
        assert sink.rows["Acme", PEOPLE] == sorted(sandbox.organization("Acme").all(PEOPLE), key=itemgetter("ID"))
        assert sandbox.ledger.reused() == ()
