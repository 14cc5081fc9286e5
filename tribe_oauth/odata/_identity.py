"""Whose data this is: the organization that a session's token belongs to. Imported by `web`."""

from __future__ import annotations

from typing import Final

import attrs
from aiohttp import ClientSession

from tribe_oauth.odata._answer import ODataError
from tribe_oauth.odata._query import Query
from tribe_oauth.odata._retries import GIVE_UP_AFTER
from tribe_oauth.odata._rows import rows

_IDENTITY: Final = Query(
    "Relationship_Organization_Identity", select=["Name"], expand=["Relation($select=ID)"], orderby=["ID"]
)


@attrs.frozen
class Organization:
    """An organization: Tribe's ID of it, and the names that it has, each once."""

    id: str
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """The first of its names; None where it has none."""
        return self.names[0] if self.names else None


async def own_organization(session: ClientSession, *, give_up_after: float = GIVE_UP_AFTER) -> Organization:
    """The organization that this session's token belongs to, by ``Relationship_Organization_Identity``.

    Documented as one row; several may come, where an organization has several names, and all of them lead to it. Its ID
    is the parent (``Relation: {"ID": …}``) of the customers, leads and employees that you create. Raises ODataError
    where the rows lead to no organization, or to more than one, and what `rows` raises.
    """
    found = [row async for row in rows(session, _IDENTITY, give_up_after=give_up_after)]
    leading = [row for row in found if isinstance(row.get("Relation"), dict)]
    ids = {row["Relation"].get("ID") for row in leading}
    (own, *others) = ids or {None}
    if others or not isinstance(own, str):
        raise ODataError(
            f"Tribe's API did not say which organization this is: {len(found)} rows of {_IDENTITY.path} lead to"
            f" {len(ids - {None})} organizations, and not to one"
        )
    names = [row["Name"] for row in leading if isinstance(row.get("Name"), str)]
    return Organization(own, tuple(dict.fromkeys(names)))
