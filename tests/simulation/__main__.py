"""``python -m tests.simulation --steps 5000000 --seed 1``: as long as one likes, and what happened in it."""

from __future__ import annotations

import argparse
import logging
import sys

import pytest

from .broken import BROKEN
from .server import ViolationError
from .world import FATES, World


def _report(world: World) -> None:
    write, seen = sys.stdout.write, world.server.seen
    lost = {what: times for what, times in seen.items() if what.startswith("marked (")}
    write(
        f"{world.loop.steps} steps, {world.busy / 3600:.1f} hours with faults, {world.loop.time() / 3600:.1f} in all;"
        f" {seen.get('rotation', 0)} rotations, {seen.get('kill', 0)} kills, {seen.get('store failed', 0)} failures of"
        f" the store, {sum(lost.values())} organizations marked\n"
        f"rotations in the worst hour of an API that refuses every token: {world.most_rotations}\n"
    )
    for what, times in sorted(seen.items()):
        write(f"{times:8} {what}\n")


def main() -> int:
    """Run, and say what was seen; 1: a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--steps", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--broken", choices=sorted(BROKEN), help="a rule of the library to take away")
    parser.add_argument("--emphasis", choices=sorted(FATES), help="what is to strike far more often than others")
    parser.add_argument("--history", type=int, default=40, help="lines of what happened last before a violation")
    options = parser.parse_args()
    logging.getLogger("tribe_oauth").setLevel(logging.CRITICAL + 1)
    with pytest.MonkeyPatch.context() as patch:
        if options.broken:
            BROKEN[options.broken](patch)
        world = World.of(options.seed, options.emphasis)
        violation: ViolationError | None = None
        try:
            world.run(options.steps)
        except ViolationError as error:
            violation = error
    if violation is not None:
        sys.stdout.writelines(f"{line}\n" for line in list(world.server.last)[-options.history :])
    _report(world)
    sys.stdout.write(f"seed {options.seed}: {f'BROKEN: {violation}' if violation else 'no promise broken'}\n")
    return 1 if violation else 0


if __name__ == "__main__":
    sys.exit(main())
