"""The rows of one organization: generated, the same for the same seed, and what was written over them.

A row is computed from its number alone, so that millions can be served without being held. Its ID begins with the
number, so that rows are in the order of their IDs and are found again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from hashlib import blake2b

from attrs import define, field

from tribe_oauth.sandbox._generated import Row, row_of
from tribe_oauth.sandbox._keys import Keys, between, guid_of, key_of
from tribe_oauth.sandbox._model import BY_TYPE, ENTITY_SETS, EntitySet
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._spelling import spelled
from tribe_oauth.sandbox._store import Change, File, Store, Target

IDENTITY, EMPLOYEE, ORGANIZATION = (
    "Relationship_Organization_Identity",
    "Relationship_Person_Contact_Employee",
    "Relation_Organization",
)
PERSON, CONTACTS = "Relation_Person", ("Relationship_Person_Contact_Standard", EMPLOYEE)


@define(eq=False)
class Data:
    """One organization's. `clock` decides when what was written can be read."""

    seed: int
    organization: str
    persons: int
    rules: ApiRules = field(factory=ApiRules)
    clock: Callable[[], float] = float
    true: Store = field(init=False)
    _read: Store = field(init=False)
    _late: deque[tuple[float, Change]] = field(factory=deque, init=False)
    _digest: Callable[[str, int], bytes] = field(init=False)

    def __attrs_post_init__(self) -> None:
        secret = blake2b(f"{self.seed}\0{self.organization}".encode()).digest()[:32]
        # A page asks for the same ones twice: for the keys, and for the rows.
        self._digest = lru_cache(maxsize=512)(
            lambda kind, number: blake2b(f"{kind}\0{number}".encode(), key=secret).digest()
        )
        self.true = Store.of(self.rules.id_order, self._generated)
        self._read = Store.of(self.rules.id_order, self._generated) if self.rules.lag else self.true

    @property
    def id(self) -> str:
        """Tribe's UUID of the organization: the ID of its own row."""
        return guid_of(self.true.tables[ORGANIZATION].generated(0), self.rules.id_order)

    @property
    def read(self) -> Store:
        """What can be read now."""
        while self._late and self._late[0][0] <= self.clock():
            self._read.apply(self._late.popleft()[1])
        return self._read

    def write(self, change: Change) -> None:
        """Carry out a change; it can be read after the rules' `lag`."""
        self.true.apply(change)
        if self._read is not self.true:
            self._late.append((self.clock() + self.rules.lag, change))

    # Rows

    def count(self, entity_set: str) -> int:
        """How many rows there are."""
        return len(self.read.keys(entity_set))

    def rows(self, entity_set: str, start: int, stop: int) -> Iterator[Row]:
        """Rows by position, in the order of their IDs."""
        store = self.read
        return (self.row(store, name, key) for key, name in between(store.keys(entity_set), start, stop))

    def all(self, entity_set: str) -> list[Row]:
        """All rows, as they are in truth, in the order of their IDs."""
        keys = self.true.keys(entity_set)
        return [self.row(self.true, name, key) for key, name in keys.since(0)]

    def find(self, entity_set: str, guid: str, store: Store | None = None) -> Row | None:
        """The row with this ID; None where there is none. `store`: by default what can be read."""
        store = store or self.read
        key = key_of(guid, self.rules.id_order)
        for each in ENTITY_SETS[entity_set].concrete:
            if key in store.tables[each.name]:
                return self.row(store, each.name, key)
        return None

    def row(self, store: Store, entity_set: str, key: int) -> Row:
        """The row of a key that is in the set."""
        guid = guid_of(key, self.rules.id_order)
        if store.rows and guid in store.rows:
            return store.rows[guid]
        number = (key >> 96) // store.tables[entity_set].step
        chance = self._digest(entity_set, number)[16:]
        row = row_of(entity_set, chance, number)
        row["ID"] = guid
        if entity_set == IDENTITY or (entity_set == ORGANIZATION and number == 0):
            row["Name"] = row["_Name"] = self.organization
        return spelled(row, ENTITY_SETS[entity_set], self.rules, chance[7])

    def employee(self) -> Row:
        """The employee on whose behalf a token acts."""
        return next(self.rows(EMPLOYEE, 0, 1))

    # Links and files

    def follow(self, row: Row, name: str) -> Row | list[Row] | None:
        """What a navigation property leads to."""
        link, target = BY_TYPE[row["_Type"]].links[name], self.target(row, name, self.read)
        if isinstance(target, list):
            return [found for guid in target if (found := self.find(link.target, guid)) is not None]
        return None if target is None else self.find(link.target, target)

    def target(self, row: Row, name: str, store: Store) -> Target:
        """Where a navigation property leads: an ID, several, or nowhere."""
        if (row["ID"], name) in store.links:
            return store.links[row["ID"], name]
        own = BY_TYPE[row["_Type"]]
        if name == "Relation" and own.name in {IDENTITY, EMPLOYEE}:
            return self.id
        if name == "Person" and own.name in CONTACTS:
            return self._person(own.name, row["ID"])
        link, chance = own.links[name], self._digest(f"{name}\0{row['ID']}", 0)
        if link.many:
            drawn = (self._drawn(link.target, chance[at : at + 8]) for at in range(8, 8 + 8 * (chance[0] % 4), 8))
            return [each for each in dict.fromkeys(drawn) if each is not None]
        return None if link.optional and chance[0] < 64 else self._drawn(link.target, chance[8:16])

    def _person(self, contacts: str, guid: str) -> str | None:
        """The person of a generated contact: every so many persons have one."""
        people, table = self.true.tables[PERSON], self.true.tables[contacts]
        number = (key_of(guid, self.rules.id_order) >> 96) // table.step
        each = people.size // table.size
        return guid_of(people.generated(number * each), self.rules.id_order) if each else None

    def relationships(self, person: str) -> list[Row]:
        """The contacts of a person, in truth."""
        order, number = self.rules.id_order, self.true.tables[PERSON].number(key_of(person, self.rules.id_order))
        found = [guid for (guid, name), target in self.true.links.items() if name == "Person" and target == person]
        for table in (self.true.tables[name] for name in CONTACTS):
            contact, rest = divmod(number, self.true.tables[PERSON].size // table.size or 1)
            if rest == 0 and contact < table.size:
                found.append(guid_of(table.generated(contact), order))
        rows = (self.find("Relationship_Person_Contact", guid, self.true) for guid in dict.fromkeys(found))
        return [row for row in rows if row is not None and self.target(row, "Person", self.true) == person]

    def _drawn(self, entity_set: str, chance: bytes) -> str | None:
        """One of the generated rows of a set; None where there is none."""
        tables = [self.true.tables[each.name] for each in ENTITY_SETS[entity_set].concrete]
        tables = [table for table in tables if table.size]
        if not tables:
            return None
        table = tables[chance[0] % len(tables)]
        return guid_of(table.generated(int.from_bytes(chance[1:]) % table.size), self.rules.id_order)

    def file(self, row: Row, name: str) -> File | None:
        """The file in a property of a row; None where there is none."""
        if (row["ID"], name) in self.read.files:
            return self.read.files[row["ID"], name]
        if name == "Picture":
            return None
        return File(f"{row['_Name'] or 'bijlage'}.txt", "text/plain", f"Bijlage {row['ID']}\n".encode())

    # What is generated

    def _generated(self, entity_set: str) -> Keys:
        size = self._size(ENTITY_SETS[entity_set])
        step = (1 << 32) // max(1, size)

        def generated(number: int) -> int:
            digest = self._digest(entity_set, number)
            first = number * step + int.from_bytes(digest[:4]) % step
            return first << 96 | int.from_bytes(digest[4:16])

        return Keys(entity_set, size, step, generated)

    def _size(self, entity_set: EntitySet) -> int:
        if entity_set.name == IDENTITY:
            return self.rules.identities
        least = 1 if self.persons or entity_set.name in {ORGANIZATION, EMPLOYEE} else 0
        return entity_set.fixed or max(least, int(self.persons * entity_set.share))
