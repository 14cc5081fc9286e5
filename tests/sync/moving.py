"""Rows are added and deleted while sets are read in parts and by windows: what stood throughout is there once.

Run as ``nox -s moving``; the tests run it small. The service is a model in this process: keys in one of several orders,
rows that move between any two looks at them, count and rows from two looks, and no links. The judge is the model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import re
import sys
import uuid
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self, cast
from urllib.parse import unquote

import attrs
import msgspec
from aiohttp import ClientSession, web
from yarl import URL

from tests.serving import served
from tribe_oauth import TokenManager
from tribe_oauth.odata import Query
from tribe_oauth.sync import Checkpoint, Pace, export

SET: Final = "Relation_Person"
_BEHIND: Final = re.compile(r"ID gt ([0-9a-f-]{36})")
_BEFORE: Final = re.compile(r"ID lt ([0-9a-f-]{36})")


def _signed(key: str) -> tuple[int, int]:
    """Java's: two signed numbers."""
    number = uuid.UUID(key).int
    halves = number >> 64, number & (2**64 - 1)
    return cast("tuple[int, int]", tuple(half - 2**64 if half >= 2**63 else half for half in halves))


def _last_first(key: str) -> tuple[int, ...]:
    """SQL Server's: the last six bytes first."""
    content = uuid.UUID(key).bytes
    return (*content[10:], *content[8:10], *reversed(content[6:8]), *reversed(content[4:6]), *reversed(content[:4]))


ORDERS: Final[dict[str, Callable[[str], Any]]] = {"text": str, "signed": _signed, "last first": _last_first}


@attrs.define
class Model:
    """A service over rows that move. `each`: moves for each request; `knows_keys`: it has ``ID gt``.

    `mostly`: which moves, of "+" and "-"; `where`: in which part of the order, as two shares of it.
    """

    chance: random.Random
    order: Callable[[str], Any]
    rows: int
    each: float = 0.2
    knows_keys: bool = True
    most: int = 100
    mostly: str = "-"
    where: tuple[float, float] = (0.0, 1.0)
    requests: int = 0
    refused: int = 0
    keys: list[tuple[Any, str]] = attrs.field(factory=list)
    stood: set[str] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.keys = sorted(self._new() for _ in range(self.rows))
        self.stood = {key for _, key in self.keys}

    def _new(self) -> tuple[Any, str]:
        key = str(uuid.UUID(int=self.chance.getrandbits(128)))
        return self.order(key), key

    def move(self) -> None:
        """Add or delete some rows."""
        moves = int(self.each) + (self.chance.random() < self.each % 1)
        for _ in range(moves):
            start, stop = (int(share * len(self.keys)) for share in self.where)
            if self.chance.choice(self.mostly) == "+":
                new = self._new()
                if self.where != (0.0, 1.0) and start < stop:
                    new = self._beside(self.keys[self.chance.randrange(start, stop)][1])
                insort(self.keys, new)
            elif start < stop:
                _, key = self.keys.pop(self.chance.randrange(start, stop))
                self.stood.discard(key)

    def _beside(self, key: str) -> tuple[Any, str]:
        """A new key near another one, in whichever order."""
        number = uuid.UUID(key).int ^ (self.chance.getrandbits(16) << 56 | self.chance.getrandbits(24))
        near = str(uuid.UUID(int=number))
        return self.order(near), near

    def answer(self, target: str) -> tuple[int, bytes]:
        """Status and body. Between the count and the rows they may move."""
        self.requests += 1
        options = dict(pair.split("=", 1) for pair in unquote(target.partition("?")[2]).split("&"))
        filters = options.get("$filter", "")
        if "ID gt" in filters and not self.knows_keys:
            self.refused += 1
            return 400, b'{"error":{"code":null,"message":"ID cannot be compared"}}'
        count = len(self._found(filters, options["$orderby"])) if "$count" in options else None
        self.move()
        rows = self._found(filters, options["$orderby"])
        skip, top = int(options.get("$skip", 0)), min(self.most, int(options["$top"]))
        body: dict[str, Any] = {} if count is None else {"@odata.count": count}
        return 200, msgspec.json.encode(body | {"value": [{"ID": key} for key in rows[skip : skip + top]]})

    def _found(self, filters: str, orderby: str) -> Sequence[str]:
        start, stop = 0, len(self.keys)
        if behind := _BEHIND.search(filters):
            start = bisect_right(self.keys, (self.order(behind[1]), behind[1]))
        if before := _BEFORE.search(filters):
            stop = bisect_left(self.keys, (self.order(before[1]), before[1]))
        keys = [key for _, key in self.keys[start:stop]]
        return keys[::-1] if orderby.startswith("ID desc") else keys


@attrs.define
class Response:
    """What the reader looks at of one."""

    status: int
    url: URL
    body: bytes
    headers: dict[str, str] = attrs.field(factory=dict)

    @property
    def content(self) -> Self:
        return self

    def at_eof(self) -> bool:
        return True

    async def read(self) -> bytes:
        return self.body


@attrs.define(eq=False)
class Session:
    """A session that asks the model, without sockets; answers take their time, and overtake each other."""

    model: Model

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    @asynccontextmanager
    async def get(self, url: URL, **_: Any) -> AsyncIterator[Response]:
        for _turn in range(self.model.chance.randrange(6)):
            await asyncio.sleep(0)
        status, body = self.model.answer(url.raw_path_qs)
        for _turn in range(self.model.chance.randrange(6)):
            await asyncio.sleep(0)
        yield Response(status, URL("http://model").join(url), body)


@attrs.define
class Manager:
    """As much of one as an export needs."""

    make: Callable[[], Any]

    def session(self, _: str, **__: Any) -> Any:
        return self.make()


class KilledError(Exception):
    """The process was killed."""


@attrs.define
class Kept:
    """A sink that stores rows and checkpoint in one step. `dies`: the chance of being killed before or after that.

    `exact`, `as_json`: as the files of an export have it.
    """

    chance: random.Random
    dies: float = 0.0
    keys: list[str] = attrs.field(factory=list)
    checkpoint: Checkpoint | None = None
    kills: int = 0
    pages: int = 0
    exact: bool = True
    as_json: bool = True

    async def begin(self, organization: str, entity_set: str) -> Checkpoint | None:
        if self.checkpoint is None:
            return None
        stored = msgspec.json.encode(attrs.asdict(self.checkpoint))
        return Checkpoint(**json.loads(stored))

    async def write(self, rows: Sequence[Any], checkpoint: Checkpoint) -> None:
        self._maybe_die()
        self.keys += [msgspec.json.decode(row)["ID"] if isinstance(row, msgspec.Raw) else row["ID"] for row in rows]
        self.checkpoint = checkpoint
        self.pages += 1
        self._maybe_die()

    def _maybe_die(self) -> None:
        if self.chance.random() < self.dies:
            self.kills += 1
            raise KilledError


@attrs.frozen
class Seen:
    """What came of one read. `over`: requests, in those that the rows need at least."""

    missing: int
    doubled: int
    over: float
    kills: int
    rows: int


async def read(model: Model, *, query: Query | None = None, dies: float = 0.0, make: Any = None) -> Seen:
    """Read it to the end, over all kills; rows move between two runs too."""
    sink = Kept(model.chance, dies)
    manager = cast("TokenManager", Manager(make or (lambda: Session(model))))
    while sink.checkpoint is None or not sink.checkpoint.done:
        try:
            (outcome,) = await export(
                manager, ["acme"], [query or Query(SET)], sink, pace=Pace(each=8), give_up_after=0
            )
        except KilledError:
            for _ in range(model.chance.randrange(20)):
                model.move()
            continue
        if outcome.error is not None:
            raise outcome.error
    found = Counter(sink.keys)
    least = max(1, -(-len(found) // model.most))
    return Seen(
        missing=len(model.stood - found.keys()),
        doubled=sum(found.values()) - len(found),
        over=model.requests / least,
        kills=sink.kills,
        rows=len(found),
    )


MOVES: Final = ("-", "+", "+-")
BY: Final[dict[str, dict[str, Any]]] = {
    "parts": {},
    "windows": {"knows_keys": False},
    "windows, in an order": {"query": Query(SET, orderby=["ID desc"])},
}


async def one(seed: int, by: str, *, rows: int | None = None, dies: float | None = None) -> Seen:
    """One read, whose circumstances the seed chooses."""
    chance = random.Random(f"{seed} {by}")
    options = dict(BY[by])
    query = options.pop("query", None)
    order = list(ORDERS)[seed % len(ORDERS)]
    model = Model(
        chance,
        ORDERS[order],
        chance.choice((0, 1, 99, 100, 101, 400, 999, 1_000, 2_500, 6_000)) if rows is None else rows,
        each=chance.choice((0.2, 0.2, 1.0, 3.0)) if rows is None else 0.2,
        mostly=MOVES[seed // len(ORDERS) % len(MOVES)],
        where=chance.choice(((0.0, 1.0), (0.0, 0.1), (0.9, 1.0), (0.5, 0.6))) if rows is None else (0.0, 1.0),
        most=chance.choice((100, 100, 50)) if rows is None else 100,
        **options,
    )
    return await read(model, query=query, dies=(chance.choice((0.0, 0.02, 0.1)) if dies is None else dies))


@asynccontextmanager
async def at_a_socket(model: Model) -> AsyncIterator[str]:
    """The model behind a real socket."""

    async def answer(request: web.Request) -> web.Response:
        status, body = model.answer(request.raw_path)
        return web.Response(status=status, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with served(app) as address:
        yield address


async def over_sockets(seed: int, by: str) -> Seen:
    """The same with aiohttp's own sessions."""
    options = dict(BY[by])
    query = options.pop("query", None)
    model = Model(random.Random(seed), ORDERS["signed"], 2_500, each=1.0, mostly="+-", **options)
    async with at_a_socket(model) as url:
        return await read(model, query=query, dies=0.03, make=lambda: ClientSession(url))


def say(line: str) -> None:
    """Print it now."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def judge(name: str, seen: Sequence[Seen], *, most: float | None = None) -> bool:
    """Tell what was seen, and whether it is as promised."""
    overs = sorted(it.over for it in seen)
    say(
        f"{name}: {len(seen)} reads of {sum(it.rows for it in seen):,} rows, {sum(it.kills for it in seen)} kills;"
        f" missing {sum(it.missing for it in seen)}, doubled {sum(it.doubled for it in seen)};"
        f" requests over the least: median {overs[len(overs) // 2]:.3f}, most {overs[-1]:.3f}"
        f"{'' if most is None else f' (at most {most})'}"
    )
    return not any(it.missing or it.doubled for it in seen) and (most is None or overs[-1] <= most)


async def _main() -> None:
    parser = argparse.ArgumentParser("moving.py")
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--large", type=int, default=18, help="of these, with 25,000 rows and without kills")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    well = True
    for by in BY:
        seen = [await one(seed, by) for seed in range(arguments.seeds)]
        well &= judge(f"{by}, rows of any number, with kills", seen)
        large = [await one(seed, by, rows=25_000, dies=0.0) for seed in range(arguments.large)]
        well &= judge(f"{by}, 25,000 rows, without kills", large, most=1.03 if by == "parts" else 1.06)
        killed = [await one(seed, by, rows=25_000, dies=0.01) for seed in range(arguments.large // 3)]
        well &= judge(f"{by}, 25,000 rows, with kills", killed)
        sockets = [await over_sockets(seed, by) for seed in range(3)]
        well &= judge(f"{by}, over sockets", sockets)
    if not well:
        raise SystemExit("rows are missing or doubled, or there were too many requests")


if __name__ == "__main__":
    asyncio.run(_main())
