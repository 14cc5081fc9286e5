"""Entities are created, changed, deleted and linked, as Tribe takes it: POST, PUT, which merges, and DELETE.

Imported by `_files`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from aiohttp import ClientSession
from yarl import URL

from tribe_oauth.errors import ConfigurationError, TribeOAuthError
from tribe_oauth.odata._answer import ODataError, shown
from tribe_oauth.odata._body import fields_of, makes_others
from tribe_oauth.odata._exchange import Body, Reply, exchange
from tribe_oauth.odata._query import SERVICE_ROOT, Query, literal
from tribe_oauth.odata._retries import GIVE_UP_AFTER, patiently

_AGAIN: Final = "a write is sent"
_SET: Final = re.compile(r"\w+")
_GUID: Final = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_AT_THE_END: Final = re.compile(rf"\(({_GUID.pattern})\)/?$", re.IGNORECASE)


class UnknownOutcomeError(ODataError):
    """A write may have taken effect, and may not be repeated: its answer was lost, or is a fault of the server.

    `look_up`: what finds it, for `odata.rows`, where something in it tells it from others: its ``ImportId``, or its
    ``ID``. Compare the ``ImportId`` of what comes: the API's `contains` finds longer ones too. Wait for a minute first:
    what was just written may be missing from a query.
    """

    def __init__(self, text: str, *, cause: ODataError, look_up: Query | None) -> None:
        super().__init__(
            text,
            status=cause.status,
            code=cause.code,
            message=cause.message,
            target=cause.target,
            request_id=cause.request_id,
            retry_after=cause.retry_after,
        )
        self.look_up = look_up


async def create(
    session: ClientSession, entity_set: str, entity: object, *, give_up_after: float = GIVE_UP_AFTER
) -> dict[str, Any]:
    """Create an entity from a dict or an instance of an attrs class; gives what the API answers, with its ``ID``.

    An attribute that is None is left out; in a dict, None is written as null. A link to an entity is ``{"ID": …}``; an
    object without ``ID`` under a navigation property creates that one too. With an ``ID`` of its own, Tribe changes the
    entity that has it, and with ``_UpgradeType`` it converts it.

    It is sent again, for `give_up_after` seconds, only where it surely was not sent or was refused before it took
    effect (401, 429). Where its answer is lost, or is a fault of the server, UnknownOutcomeError says how to look it
    up: give each new entity an ``ImportId`` of your own. Look it up, too, where you cancelled the call. An answer
    without a body gives what is known: the ``ID``, from the answer's headers or from `entity`. Raises ODataError for
    what the API refuses, ConfigurationError, and errors of the session's own middlewares unchanged.
    """
    fields = fields_of(entity)
    url = Query(_checked_set(entity_set)).url()
    reply = await _once(session, "POST", url, fields, give_up_after, entity_set, _look_up(entity_set, fields))
    return _told(reply, fields.get("ID"))


async def update(
    session: ClientSession,
    entity_set: str,
    key: str | UUID,
    changes: object,
    *,
    give_up_after: float = GIVE_UP_AFTER,
) -> dict[str, Any]:
    """Change the fields of an entity that are given, from a dict or an instance of an attrs class; others stay.

    An attribute that is None is left out; in a dict, None is written as null, which empties a field. It is sent again
    as a read is, for `give_up_after` seconds from its first failure: the same fields twice are the same. What would
    create other entities on its way (an object without an ``ID``) is treated as `create` treats it. Gives what the API
    answers, or only the ``ID``. Raises ODataError, ConfigurationError, and errors of the session's own middlewares.
    """
    fields, at = fields_of(changes), entity_at(entity_set, key)
    if str(fields.pop("ID", None) or key).lower() != str(key).lower():
        raise ConfigurationError("these changes have the ID of another entity than the one to change")
    if not fields:
        raise ConfigurationError("there is nothing to change: give at least one field")
    if makes_others(fields):
        by_key = _by_key(entity_set, key)
        return _told(await _once(session, "PUT", at.url(), fields, give_up_after, at.path, by_key), key)
    body = Body(fields)

    async def attempt() -> Reply:
        return await exchange(session, "PUT", at.url(), body)

    return _told(await patiently(attempt, _AGAIN, give_up_after=give_up_after), key)


async def link(
    session: ClientSession,
    entity_set: str,
    key: str | UUID,
    field: str,
    target: str | UUID,
    *,
    give_up_after: float = GIVE_UP_AFTER,
) -> dict[str, Any]:
    """Have a navigation property of an entity lead to another one, `target`, by its ID. As `update` in all else."""
    return await update(session, entity_set, key, {field: {"ID": _checked_key(target)}}, give_up_after=give_up_after)


async def delete(
    session: ClientSession, entity_set: str, key: str | UUID, *, give_up_after: float = GIVE_UP_AFTER
) -> None:
    """Delete an entity. It is sent again as a read is; not to find it then means that it was deleted.

    Raises ODataError: 404 where it was not there to begin with; ConfigurationError, and errors of the session's own
    middlewares unchanged.
    """
    url, may_be_gone = entity_at(entity_set, key).url(), False

    async def attempt() -> None:
        nonlocal may_be_gone
        try:
            await exchange(session, "DELETE", url, Body(once=True))
        except ODataError as error:
            if error.status in {404, 410} and may_be_gone:
                return
            may_be_gone = may_be_gone or not _is_refused(error)
            raise

    await patiently(attempt, _AGAIN, give_up_after=give_up_after)


def entity_at(entity_set: str, key: str | UUID) -> Query:
    """One entity. Raises ConfigurationError."""
    return Query(f"{_checked_set(entity_set)}({_checked_key(key)})")


def _checked_set(name: str) -> str:
    own = name.removeprefix(SERVICE_ROOT) if isinstance(name, str) else ""
    if not _SET.fullmatch(own):
        raise ConfigurationError("the entity set is a name, as in 'Relation_Person': the ID is an argument of its own")
    return own


def _checked_key(key: str | UUID) -> str:
    text = str(key)
    if not _GUID.fullmatch(text):
        raise ConfigurationError(
            f"an ID is a GUID, as in '6f9619ff-8b86-d011-b42d-00c04fc964ff', and not {text[:80]!r}"
        )
    return text


async def _once(
    session: ClientSession,
    method: str,
    url: URL,
    fields: Mapping[str, Any],
    give_up_after: float,
    name: str,
    look_up: Query | None,
) -> Reply:
    """A write that may take effect only once."""
    body = Body(fields, once=method != "POST")

    async def attempt() -> Reply:
        body.handed_over = 0
        try:
            return await exchange(session, method, url, body)
        except ODataError as error:
            if _is_refused(error) or not body.handed_over:
                raise
            lost = error
        # After the handler: one error is enough, and it has all that the other one says.
        raise UnknownOutcomeError(_unknown(method, name, lost, look_up), cause=lost, look_up=look_up)

    return await patiently(attempt, _AGAIN, give_up_after=give_up_after, may_repeat=_surely_had_no_effect)


def _surely_had_no_effect(error: TribeOAuthError) -> bool:
    """Whether a write may be sent again. What a middleware raises was not sent, or was refused with a 401."""
    return not isinstance(error, ODataError) or error.status in {None, 401, 429}


def _is_refused(error: ODataError) -> bool:
    """Whether the API said no. A gateway's own 408 or 5xx says nothing of what the API did."""
    status = error.status or 0
    return (400 <= status < 500 and status != 408) or status == 501


def _unknown(method: str, name: str, lost: ODataError, look_up: Query | None) -> str:
    done = "created" if method == "POST" else "changed"
    known = "was" if lost.status is not None and lost.status < 300 else "may have been"
    if look_up is None:
        way = "look for it by its fields, and give each new entity an ImportId of your own, by which it can be found"
    else:
        way = f"look for it where {look_up.filter}, as with odata.rows(session, error.look_up), and compare what comes"
    return (
        f"{name} {known} {done}, and is not sent again ({lost}): wait for a minute, since queries may lag, then {way}"
    )


def _look_up(entity_set: str, fields: Mapping[str, Any]) -> Query | None:
    key, own = fields.get("ID"), fields.get("ImportId")
    if key is not None:
        return _by_key("Entity", key)  # whatever its type is by then
    return None if own is None else Query(entity_set, filter=f"contains(ImportId,{literal(str(own))})")


def _by_key(entity_set: str, key: str | UUID) -> Query:
    return Query(entity_set, filter=f"ID eq {_checked_key(key)}")


def _told(reply: Reply, key: object) -> dict[str, Any]:
    """The entity as the API answers, without what is said of the message; its ID from wherever it is known."""
    entity = {name: value for name, value in (reply.entity or {}).items() if name not in {"@odata.context", "@context"}}
    if entity.get("ID") is None:
        place = reply.headers.get("OData-EntityId") or reply.headers.get("Location") or ""
        found = _AT_THE_END.search(place)
        known = shown(found[1]) if found else key and str(key)
        if known:
            entity["ID"] = known
    return entity
