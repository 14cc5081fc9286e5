"""``python -m tests.fuzz --records 10000 --seed 1``: as long as one likes, and what came of it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time

from .judge import ViolationError, fuzz
from .targets import TARGETS


def main() -> int:
    """Run, and say what was seen; 1: a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--records", type=int, default=10_000, help="of each store")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=sorted(TARGETS), action="append", help="one or more; all, if none is named")
    options = parser.parse_args()
    logging.getLogger("tribe_oauth").setLevel(logging.CRITICAL + 1)
    broken = 0
    for kind in options.store or TARGETS:
        begun = time.monotonic()
        try:
            seen = asyncio.run(fuzz(kind, records=options.records, seed=options.seed))
        except ViolationError as violation:
            broken = 1
            sys.stdout.write(f"BROKEN: {violation}\n")
            continue
        sys.stdout.writelines(f"{times:8} {what}\n" for what, times in sorted(seen.items()))
        sys.stdout.write(f"{kind}: {seen.total()} records in {time.monotonic() - begun:.0f} s, no promise broken\n")
    return broken


if __name__ == "__main__":
    sys.exit(main())
