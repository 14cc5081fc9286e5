"""What was written, over what is generated: the rows of one organization as one of the service's databases has them.

Only `_data` keeps stores: what is true, and what reads see.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import Factory, define, field, frozen

from tribe_oauth.sandbox._generated import Row
from tribe_oauth.sandbox._keys import Keys, Order, Ordered, Union, key_of
from tribe_oauth.sandbox._model import ENTITY_SETS

Target = str | list[str] | None
"""Where a navigation property leads: an ID, several, or nowhere."""


@frozen
class File:
    """A file that hangs on an entity."""

    name: str
    mime_type: str
    content: bytes


@frozen
class Change:
    """One entity, as it is from now on. `row` None: deleted. `was`: the set that it leaves by being converted."""

    entity_set: str
    id: str
    row: Row | None
    links: dict[str, Target] = Factory(dict)
    files: dict[str, File | None] = Factory(dict)
    was: str | None = None


@define(eq=False)
class Store:
    """All of it. `tables`: the keys of each set that is not abstract. `log`: of each change the key, and the set."""

    order: Order
    tables: dict[str, Keys]
    rows: dict[str, Row] = Factory(dict)
    links: dict[tuple[str, str], Target] = Factory(dict)
    files: dict[tuple[str, str], File | None] = Factory(dict)
    log: list[tuple[int, str]] = Factory(list)
    _keys: dict[str, Ordered] = field(factory=dict, init=False)

    @classmethod
    def of(cls, order: Order, keys: Callable[[str], Keys]) -> Store:
        """A store in which nothing was written. `keys`: the generated ones of a set."""
        return cls(order, {name: keys(name) for name, entity_set in ENTITY_SETS.items() if not entity_set.abstract})

    def keys(self, entity_set: str) -> Ordered:
        """The keys of a set, those of the types below it included."""
        if entity_set not in self._keys:
            parts = [self.tables[each.name] for each in ENTITY_SETS[entity_set].concrete]
            self._keys[entity_set] = parts[0] if len(parts) == 1 else Union(parts)
        return self._keys[entity_set]

    def apply(self, change: Change) -> None:
        """Carry out a change. What is deleted already stays so."""
        key, table = key_of(change.id, self.order), self.tables[change.entity_set]
        self.log.append((key, change.entity_set))
        if change.was is not None:
            self.log.append((key, change.was))
            self.tables[change.was].remove(key)
        if change.row is None:
            self.rows.pop(change.id, None)
            table.remove(key)
            return
        if key not in table:
            table.add(key)
        self.rows[change.id] = change.row
        self.links.update({(change.id, name): target for name, target in change.links.items()})
        self.files.update({(change.id, name): file for name, file in change.files.items()})
