"""Large sets: a page takes the same time wherever it begins. Run it with ``-s`` to see how long."""

from __future__ import annotations

import math
import random
import time
from urllib.parse import quote

from tribe_oauth.sandbox import ApiRules
from tribe_oauth.sandbox._data import Data
from tribe_oauth.sandbox._pages import Pages
from tribe_oauth.sandbox._reading import Reading
from tribe_oauth.sandbox._shown import Shown

PEOPLE, ROWS = "Relation_Person", 250_000
RULES = ApiRules()
PAGES = Pages(RULES, 100, random.Random(0))


def milliseconds(data: Data, **options: object) -> float:
    """The time of a page, with its making and its JSON, on its thread."""
    query = "&".join(f"${name}={quote(str(value))}" for name, value in options.items())
    began = time.thread_time()
    Reading(RULES, PAGES).answer(data, PEOPLE, query, Shown(RULES, "http://127.0.0.1/v1/odata/"))
    return (time.thread_time() - began) * 1_000


def test_a_page_anywhere() -> None:
    """By position, by ID, counted, between two IDs, without an order: at most twice as long as of a small set.

    The least times of many are compared: other work on the machine only adds to them.
    """
    small, large = Data(0, "Small", 250, RULES), Data(0, "Large", ROWS, RULES)
    low, high = (next(large.rows(PEOPLE, at, at + 1))["ID"] for at in (120_000, 240_000))
    between = f"ID gt {low} and ID lt {high}"
    cases: dict[str, tuple[Data, dict[str, object]]] = {
        "250 rows": (small, {"orderby": "ID"}),
        "first": (large, {"orderby": "ID"}),
        "in the middle": (large, {"orderby": "ID", "skip": ROWS // 2, "count": "true"}),
        "last": (large, {"orderby": "ID", "skip": ROWS - 100}),
        "backwards": (large, {"orderby": "ID desc", "skip": ROWS // 3}),
        "ID gt": (large, {"orderby": "ID", "filter": f"ID gt {low}", "count": "true"}),
        "ID gt and lt": (large, {"orderby": "ID", "filter": between, "count": "true"}),
        "no order": (large, {"skip": ROWS // 2}),
    }
    took = dict.fromkeys(cases, math.inf)
    for _ in range(20):
        for name, (data, options) in cases.items():
            took[name] = min(took[name], milliseconds(data, top=100, **options))
    print("\nms for 100 rows:", {name: round(it, 2) for name, it in took.items()})  # noqa: T201
    assert max(took.values()) < 2 * took["250 rows"], took
