"""Which rows a request gets, and in which order: positions in a set, or in what a filter leaves of it. For `_odata`.

A page of what is ordered by ID needs the rows of that page alone. What a filter or another order comes to is kept for
the next page; what is written meanwhile is put into it.
"""

from __future__ import annotations

import base64
import binascii
import json
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Any, Final
from urllib.parse import quote

from attrs import Factory, define, frozen

from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._generated import Row
from tribe_oauth.sandbox._keys import END, Ordered, between, key_of
from tribe_oauth.sandbox._problems import ProblemError
from tribe_oauth.sandbox._query import Query
from tribe_oauth.sandbox._rules import ApiRules
from tribe_oauth.sandbox._store import Store

_KEPT: Final = 16
"""Filters and orders whose outcome is kept."""

_Key = tuple[int, str]


@frozen
class Listed:
    """Keys that are held, in the order of the IDs."""

    keys: Sequence[_Key]

    def __len__(self) -> int:
        return len(self.keys)

    def rank(self, key: int) -> int:
        return bisect_left(self.keys, key, key=lambda each: each[0])

    def since(self, key: int) -> Iterator[_Key]:
        return islice(self.keys, self.rank(key), None)


@frozen
class Page:
    """The rows of an answer. `total`: of the whole collection. `next`: the query that goes on with the next page."""

    rows: list[Row]
    total: int
    next: str | None = None


@define
class _Kept:
    """Keys that were found. `version`: how many changes there had been; -1: nothing was looked for yet."""

    version: int = -1
    keys: list[_Key] = Factory(list)


@define(eq=False)
class Pages:
    """Pages of one service. `size`: rows of a page at most."""

    rules: ApiRules
    size: int
    chance: Random
    _kept: OrderedDict[tuple[Any, ...], _Kept] = Factory(OrderedDict)

    def page(self, data: Data, query: Query, options: dict[str, str]) -> Page:
        """The page that a query asks for."""
        start, left = (query.skip, query.top) if query.skiptoken is None else _place(query.skiptoken)
        size, store = self._size(left), data.read
        select = self._by_id if not query.orderby or query.orderby[0][0] == "ID" else self._by_others
        keys, total = select(data, store, query, start, size)
        rows = [data.row(store, name, key) for key, name in keys]
        after = start + len(rows)
        left = None if left is None else left - len(rows)
        more = self.rules.paging == "nextLink" and rows and after < total and left != 0
        return Page(rows, total, _continued(options, after, left) if more else None)

    def among(self, rows: list[Row], query: Query) -> list[Row]:
        """The rows of a small collection that a query asks for."""
        condition, order = query.condition, self.rules.id_order
        found = [row for row in rows if condition.low <= key_of(row["ID"], order) < condition.high]
        found = [row for row in found if condition.test(row)]
        for name, descending in reversed(query.orderby):
            found.sort(key=lambda row: (row[name] is not None, row[name]), reverse=descending)
        size = self._size(query.top)
        return found[query.skip : None if size is None else query.skip + size]

    def _size(self, top: int | None) -> int | None:
        """How many rows there are in a page for this `$top`; None: all."""
        if top is None:
            return None if self.rules.default_page is None else min(self.rules.default_page, self.size)
        if top <= self.size or self.rules.big_top == "honoured":
            return top
        if self.rules.big_top == "refused":
            raise ProblemError(400, f"$top is at most {self.size}")
        return self.size

    def _by_id(
        self, data: Data, store: Store, query: Query, start: int, size: int | None
    ) -> tuple[Sequence[_Key], int]:
        """A page in the order of the IDs, or in none, and how many rows there are in all."""
        keys: Ordered = store.keys(query.shape.entity_set.name)
        if query.condition.text:
            keys = Listed(self._matching(data, store, query))
        low, high = keys.rank(query.condition.low), keys.rank(query.condition.high)
        total = max(0, high - low)
        stop = total if size is None else min(total, start + size)
        if query.orderby and query.orderby[0][1]:
            return between(keys, high - stop, high - start)[::-1], total
        if query.orderby or self.rules.unordered == "stable" or self.rules.paging == "nextLink" or start >= stop:
            return between(keys, low + start, low + stop), total
        # Another order for each call: another beginning, and shuffled.
        first = low + (start + self.chance.randrange(total)) % total
        found = between(keys, first, min(high, first + stop - start))
        found += between(keys, low, low + stop - start - len(found))
        self.chance.shuffle(found)
        return found, total

    def _by_others(
        self, data: Data, store: Store, query: Query, start: int, size: int | None
    ) -> tuple[Sequence[_Key], int]:
        """A page in the order of other properties, those that are equal by ID; nulls first."""
        kept = self._keep(data, query, query.orderby)
        if kept.version != len(store.log):
            rows = [(data.row(store, name, key), key, name) for key, name in self._matching(data, store, query)]
            for name, descending in reversed(query.orderby):
                rows.sort(key=lambda each: (each[0][name] is not None, each[0][name]), reverse=descending)
            kept.keys, kept.version = [(key, name) for _, key, name in rows], len(store.log)
        condition, keys = query.condition, kept.keys
        if (condition.low, condition.high) != (0, END):
            keys = [each for each in keys if condition.low <= each[0] < condition.high]
        return keys[start : None if size is None else start + size], len(keys)

    def _matching(self, data: Data, store: Store, query: Query) -> Sequence[_Key]:
        """The keys of the rows for which the filter holds, in the order of the IDs, whatever it says of the ID.

        They are kept; after a change, only what it concerned is looked at again.
        """
        entity_set, kept = query.shape.entity_set, self._keep(data, query, ())

        def holds(each: _Key) -> bool:
            return bool(query.condition.test(data.row(store, each[1], each[0])))

        if kept.version < 0 or (query.condition.is_far and kept.version < len(store.log)):
            kept.keys = [each for each in store.keys(entity_set.name).since(0) if holds(each)]
            kept.version = len(store.log)
        for each in dict.fromkeys(store.log[kept.version :]):
            at = bisect_left(kept.keys, each)
            if kept.keys[at : at + 1] == [each]:
                del kept.keys[at]
            if each[1] in entity_set.names and each[0] in store.tables[each[1]] and holds(each):
                kept.keys.insert(at, each)
        kept.version = len(store.log)
        return kept.keys

    def _keep(self, data: Data, query: Query, orderby: tuple[tuple[str, bool], ...]) -> _Kept:
        """What is kept for this filter and this order; it may be from before the latest changes."""
        said = data.organization, query.shape.entity_set.name, query.condition.text, orderby
        kept = self._kept.setdefault(said, _Kept())
        self._kept.move_to_end(said)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return kept


def _continued(options: dict[str, str], at: int, left: int | None) -> str:
    token = base64.urlsafe_b64encode(json.dumps([at, left]).encode()).decode()
    kept = {name: value for name, value in options.items() if name not in {"$top", "$skip", "$skiptoken"}}
    return "&".join(f"{quote(name, safe='$')}={quote(value)}" for name, value in {**kept, "$skiptoken": token}.items())


def _place(token: str) -> tuple[int, int | None]:
    try:
        at, left = json.loads(base64.urlsafe_b64decode(token))
        return int(at), None if left is None else int(left)
    except (ValueError, TypeError, binascii.Error):
        raise ProblemError(400, "The skiptoken is not one of this service") from None
