"""Values that no store wrote, made from one that it did: by chance, and the same for the same seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from random import Random
from typing import Any, Final

Value = str | bytes | int | float | None

ODD: Final[tuple[Value, ...]] = (
    *(None, "", "canary", "\ud800", "é", "\x00", "1", " 1", "1e999", "nan", "0x10", "x" * 100_000),
    *(b"", b"\x00", b"\xff", b"\xff" * 1_000, "[" * 50_000, "{" * 50_000, '{"lease":' * 20_000),
    *(0, 1, -1, 2**31, 2**53, 2**63 - 1, -(2**63), 2**63, 10**30),
    *(0.0, -0.0, 0.5, -1.5, 1e18, -1e18, 1e308, math.inf, -math.inf, math.nan),
)


def odd(chance: Random) -> Value:
    """Something of another kind."""
    return chance.choice(ODD)


def changed(chance: Random, content: bytes) -> bytes:
    """The same bytes but for a place or two: flipped, cut, doubled, put in."""
    spoiled = bytearray(content or b"\x00")
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(spoiled) or 1)
        how = chance.randrange(5)
        if how == 0 and spoiled:
            spoiled[at] ^= 1 << chance.randrange(8)
        elif how == 1:
            del spoiled[at:]
        elif how == 2:
            spoiled[at:at] = spoiled[:at]
        elif how == 3:
            spoiled[at:at] = bytes([chance.randrange(256)])
        else:
            del spoiled[at : at + 1]
    return bytes(spoiled)


def mutated(chance: Random, value: Value) -> Value:
    """Another value, near or far."""
    near: dict[type, Callable[[Any], Value]] = {
        str: lambda text: changed(chance, text.encode()).decode(errors="surrogateescape"),
        bytes: lambda content: changed(chance, content),
        int: lambda number: number + chance.choice((-(2**62), -1, 1, 2**40, 2**53)),
        float: lambda number: number * chance.choice((-1.0, 1e-9, 1e9, 1e300)),
    }
    if type(value) not in near or chance.random() < 0.5:
        return odd(chance)
    return near[type(value)](value)


def mutated_json(chance: Random, text: bytes) -> bytes:
    """A JSON object with a member that is another, that is missing, or that is as it was in another form."""
    members = json.loads(text)
    name = chance.choice(list(members))
    how = chance.randrange(3)
    if how == 0:
        del members[name]
    elif how == 1:
        members[name] = chance.choice(([], {}, [[[]]], True, False, {"a": 1}, [members[name]]))
    else:
        value = mutated(chance, None if isinstance(members[name], bool) else members[name])
        members[name] = value.decode("latin-1") if isinstance(value, bytes) else value
    return json.dumps(members).encode(errors="surrogatepass")
