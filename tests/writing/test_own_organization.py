"""Whose data it is: by the identities, of which there may be several."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from tribe_oauth import TribeOAuthError, odata
from tribe_oauth import web as tribe_web

from ..serving import status
from .tribe import ORGANIZATION, Tribe

OTHER = "1b7e5a5e-4f5b-4a55-9d0c-0c6d3f6f4a11"


def identity(name: Any, organization: Any = ORGANIZATION) -> dict[str, Any]:
    return {"ID": "x", "Name": name, "Relation": {"ID": organization} if isinstance(organization, str) else None}


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([identity("Acme B.V.")], ("Acme B.V.",)),
        ([identity("Acme"), identity("Acme Export"), identity("Acme")], ("Acme", "Acme Export")),
        ([identity(None)], ()),
        ([identity("Left over", None), identity("Acme")], ("Acme",)),
    ],
)
async def test_one_organization(
    session: aiohttp.ClientSession, tribe: Tribe, rows: list[dict[str, Any]], names: tuple[str, ...]
) -> None:
    """However many names it has. The key of a connection is its ID, too."""
    tribe.identities = rows
    found = await odata.own_organization(session)
    assert (found.id, found.names, found.name) == (ORGANIZATION, names, names[0] if names else None)
    assert await tribe_web.organization_id(session) == ORGANIZATION


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "0 rows .* lead to 0 organizations"),
        ([identity("Acme"), identity("Beta", OTHER)], "2 rows .* lead to 2 organizations"),
        ([identity("Acme", None)], "1 rows .* lead to 0 organizations"),
    ],
)
async def test_none_or_two(session: aiohttp.ClientSession, tribe: Tribe, rows: list[dict[str, Any]], said: str) -> None:
    """It is not guessed."""
    tribe.identities = rows
    with pytest.raises(odata.ODataError, match=said):
        await odata.own_organization(session)
    with pytest.raises(TribeOAuthError, match=rf"{said}.*`find` of your own"):
        await tribe_web.organization_id(session)


async def test_no_answer(session: aiohttp.ClientSession, tribe: Tribe) -> None:
    """Is the API's error, as it is."""
    tribe.before.extend([status(403)] * 2)
    for function in (odata.own_organization, tribe_web.organization_id):
        with pytest.raises(odata.ODataError, match="403"):
            await function(session)
