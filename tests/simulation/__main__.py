"""``python -m tests.simulation --steps 5000000 --seed 1``: as long as one likes, and what happened in it."""

from __future__ import annotations

import argparse
import logging
import sys

from .world import run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--steps", type=int, default=5_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.getLogger("tribe_oauth").setLevel(logging.CRITICAL + 1)
    world = run(arguments.seed, arguments.steps)
    hours = world.loop.time() / 3600
    sys.stdout.write(f"seed {arguments.seed}: {world.loop.steps} steps, {hours:.0f} hours, no promise broken\n")
    for what, times in sorted(world.server.seen.items()):
        sys.stdout.write(f"{times:8} {what}\n")
