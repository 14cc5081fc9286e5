"""What can be written below /v1/odata: entities are created, changed, linked, converted and deleted, as Tribe does it.

A request is planned whole before anything is changed. Imported by `_odata` and by `_server`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

from attrs import Factory, define, evolve, frozen

from tribe_oauth.sandbox._data import EMPLOYEE, Data
from tribe_oauth.sandbox._fields import fields_of, file_of
from tribe_oauth.sandbox._generated import Row
from tribe_oauth.sandbox._model import BY_TYPE, ENTITY_SETS, EntitySet
from tribe_oauth.sandbox._paths import Place
from tribe_oauth.sandbox._problems import ProblemError
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._spelling import stamp
from tribe_oauth.sandbox._store import Change, Target

_NAMES = ("FirstName", "MiddleName", "LastName")


@frozen
class Event:
    """What a webhook tells: a mutation of an entity, or of a link from it."""

    mutation: str
    entity_set: str
    id: str


@frozen
class Written:
    """What a request came to. `row`: the entity as it is now; None: deleted."""

    id: str
    row: Row | None
    status: int
    events: list[Event]


@define
class _Plan:
    """The changes of one request, by the ID of the entity, and what is to be told of them."""

    data: Data
    changes: dict[str, Change] = Factory(dict)
    events: list[Event] = Factory(list)

    def row(self, entity_set: EntitySet, guid: str) -> Row | None:
        """An entity of this set, as it is in truth and by this plan."""
        if guid in self.changes:
            row = self.changes[guid].row
            return row if row is not None and BY_TYPE[row["_Type"]] in entity_set.concrete else None
        return self.data.find(entity_set.name, guid, self.data.true)

    def add(self, mutation: str, change: Change) -> None:
        before = self.changes.get(change.id, change)
        self.changes[change.id] = evolve(
            change, links=before.links | change.links, files=before.files | change.files, was=before.was or change.was
        )
        self.events.append(Event(f"Entity{mutation}Mutation", change.entity_set, change.id))


@define(eq=False)
class Writing:
    """Carries out what is written."""

    rules: ApiRules
    clock: Callable[[], float]
    chance: Random

    def write(self, data: Data, method: str, place: Place, body: Any) -> Written:
        """POST, PUT, PATCH or DELETE. Raises ProblemError, and then nothing has changed."""
        plan = _Plan(data)
        if method == "DELETE":
            status, guid = 204, self._delete(plan, place)
        elif not isinstance(body, dict):
            raise ProblemError(400, "The body is a JSON object")
        elif method == "POST":
            status, guid = self._post(plan, place, body)
        else:
            status, guid = self.rules.updated, self._put(plan, method, place, body)
        for change in plan.changes.values():
            data.write(change)
        return Written(guid, plan.changes[guid].row, status, plan.events)

    def _delete(self, plan: _Plan, place: Place) -> str:
        row = self._entity(plan, "DELETE", place)
        entity_set = BY_TYPE[row["_Type"]]
        if entity_set.read_only or entity_set.name == EMPLOYEE:
            raise ProblemError(400, f"{entity_set.name} cannot be deleted")
        plan.add("Deletion", Change(entity_set.name, row["ID"], None))
        return place.guid

    def _put(self, plan: _Plan, method: str, place: Place, body: dict[str, Any]) -> str:
        if method == "PATCH" and self.rules.patch == 405:
            raise ProblemError(405, "PATCH is not allowed here")
        row = self._entity(plan, method, place)
        if str(body.get("ID", place.guid)).lower() != place.guid:
            raise ProblemError(400, "The ID in the body is not the one in the path")
        self._update(plan, row, body)
        return place.guid

    def _entity(self, plan: _Plan, method: str, place: Place) -> Row:
        if not place.guid or place.link:
            raise ProblemError(405, f"{method} is not allowed here")
        row = plan.row(place.entity_set, place.guid)
        if row is None:
            raise ProblemError(404, "There is no such entity")
        return row

    def _post(self, plan: _Plan, place: Place, body: dict[str, Any]) -> tuple[int, str]:
        if place.guid:
            raise ProblemError(405, "POST is not allowed here")
        if place.entity_set.abstract:
            raise ProblemError(400, f"Nothing can be posted to {place.entity_set.name}")
        if "ID" not in body:
            return self.rules.created, self._create(plan, place.entity_set, body, self._new_id())
        guid = _guid(body["ID"])
        row = plan.row(place.entity_set, guid)
        if row is not None:
            self._update(plan, row, body)
            return self.rules.updated, guid
        if self.rules.unknown_id == 404:
            raise ProblemError(404, "There is no such entity")
        return self.rules.created, self._create(plan, place.entity_set, body, guid)

    # One entity

    def _create(self, plan: _Plan, entity_set: EntitySet, body: dict[str, Any], guid: str) -> str:
        if entity_set.abstract or entity_set.read_only:
            raise ProblemError(400, f"Nothing can be created in {entity_set.name}")
        if missing := [name for name in entity_set.required if not body.get(name)]:
            raise ProblemError(400, f"{entity_set.name} needs {missing[0]}")
        row: Row = dict.fromkeys(entity_set.kinds)
        row |= {"ID": guid, "_Type": entity_set.type_name, "CreationDate": stamp(self.clock(), self.rules)}
        row |= fields_of(body, entity_set, self.rules)
        unlinked: dict[str, Target] = {name: [] if link.many else None for name, link in entity_set.links.items()}
        files = dict.fromkeys(entity_set.files)
        plan.add("Creation", Change(entity_set.name, guid, _named(row), unlinked, files))
        self._hang(plan, guid, entity_set, body)
        return guid

    def _update(self, plan: _Plan, row: Row, body: dict[str, Any]) -> None:
        entity_set, guid = BY_TYPE[row["_Type"]], row["ID"]
        if entity_set.read_only:
            raise ProblemError(400, f"{entity_set.name} cannot be changed")
        was, entity_set = entity_set, self._converted(entity_set, body.get("_UpgradeType"))
        fields = fields_of(body, entity_set, self.rules)
        kept = {name: row.get(name) for name in entity_set.kinds}
        moved = {"_Type": entity_set.type_name, "LastMutationDate": stamp(self.clock(), self.rules)}
        after = _named(kept | moved | fields)
        change = Change(entity_set.name, guid, after, was=None if was is entity_set else was.name)
        plan.add("Update", change)
        self._hang(plan, guid, entity_set, body)
        if after.get("Name") != row.get("Name") and entity_set.name == "Relation_Person":
            self._rename(plan, after)

    def _converted(self, entity_set: EntitySet, wanted: Any) -> EntitySet:
        """The type that an entity becomes: one of its own level."""
        if wanted is None:
            return entity_set
        found = ENTITY_SETS.get(str(wanted)) or BY_TYPE.get(str(wanted))
        if found is None or not found.level or found.level != entity_set.level:
            raise ProblemError(400, f"{entity_set.name} cannot become {wanted!r}")
        return found

    def _rename(self, plan: _Plan, person: Row) -> None:
        """The names of a person's relationships are computed from the person's: they move too."""
        for each in plan.data.relationships(person["ID"]):
            moved = {"Name": person["Name"], "LastMutationDate": stamp(self.clock(), self.rules)}
            plan.add("Update", Change(BY_TYPE[each["_Type"]].name, each["ID"], _named(each | moved)))

    # What hangs on it

    def _hang(self, plan: _Plan, guid: str, entity_set: EntitySet, body: dict[str, Any]) -> None:
        """The links and the files in a body."""
        links: dict[str, Target] = {}
        for name in body.keys() & entity_set.links.keys():
            links[name] = self._linked(plan, guid, entity_set, name, body[name])
            plan.events.append(Event("RelationshipCreationMutation", entity_set.name, self._new_id()))
        files = {name: file_of(name, body[name]) for name in body.keys() & {*entity_set.files}}
        change = plan.changes[guid]
        plan.changes[guid] = evolve(change, links={**change.links, **links}, files={**change.files, **files})
        if entity_set.name == "Attachment" and isinstance(owner := links.get("Entity"), str):
            self._attach(plan, owner, guid)

    def _linked(self, plan: _Plan, guid: str, entity_set: EntitySet, name: str, value: Any) -> Target:
        """Where a link in a body leads; what is new there is created. A collection gets more."""
        link = entity_set.links[name]
        target = ENTITY_SETS[link.target]
        if not link.many:
            return None if value is None else self._there(plan, target, value)
        if not isinstance(value, list):
            raise ProblemError(400, f"{name} is a collection")
        found = [self._there(plan, target, each) for each in value]
        return list(dict.fromkeys([*self._collection(plan, guid, name), *found]))

    def _collection(self, plan: _Plan, guid: str, name: str) -> list[str]:
        change = plan.changes.get(guid)
        if change is not None and name in change.links:
            there = change.links[name]
        else:
            row = plan.row(ENTITY_SETS["Entity"], guid)
            assert row is not None
            there = plan.data.target(row, name, plan.data.true)
        return there if isinstance(there, list) else []

    def _there(self, plan: _Plan, target: EntitySet, value: Any) -> str:
        """The ID of what an object in a body stands for."""
        if not isinstance(value, dict):
            raise ProblemError(400, f"A link to {target.name} is an object")
        if "ID" not in value:
            return self._create(plan, target, value, self._new_id())
        guid = _guid(value["ID"])
        row = plan.row(target, guid)
        if row is None:
            raise ProblemError(self.rules.unknown_link, f"There is no {target.name} with the ID {guid}")
        if value.keys() > {"ID"}:
            self._update(plan, row, value)
        return guid

    def _attach(self, plan: _Plan, owner: str, attachment: str) -> None:
        """What an attachment belongs to has it among its attachments, and is not moved by it."""
        row = plan.row(ENTITY_SETS["Entity"], owner)
        assert row is not None
        change = plan.changes.get(owner) or Change(BY_TYPE[row["_Type"]].name, owner, row)
        attachments = [*self._collection(plan, owner, "Attachments"), attachment]
        plan.changes[owner] = evolve(change, links={**change.links, "Attachments": attachments})

    def _new_id(self) -> str:
        return str(UUID(int=self.chance.getrandbits(128), version=4))


def _named(row: Row) -> Row:
    """The row with the names that the service computes."""
    if any(row.get(name) for name in _NAMES):
        row["Name"] = " ".join(row[name] for name in _NAMES if row[name])
    row["_Name"] = row.get("Name") or row.get("Subject")
    return row


def _guid(value: Any) -> str:
    try:
        return str(UUID(str(value)))
    except ValueError:
        raise ProblemError(400, f"{value!r} is not of the type Edm.Guid") from None
