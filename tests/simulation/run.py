"""The long form: python tests/simulation/run.py --seeds 2000 [--first 0], or one seed again: --seed 17.

Prints each seed that breaks a promise with what led to it, and exits 1 if there was one. `--seed` runs it
twice and compares the traces.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from sim_world import Outcome, simulate


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=200, help="how many")
    arguments.add_argument("--first", type=int, default=0, help="the first of them")
    arguments.add_argument("--seed", type=int, help="this one alone")
    given = arguments.parse_args()
    return (
        _one(given.seed) if given.seed is not None else _many(range(given.first, given.first + given.seeds))
    )


def _one(seed: int) -> int:
    first, second = simulate(seed), simulate(seed)
    _say(first.report() if first.findings else f"seed {seed}: every promise held")
    _say(f"trace {first.trace}, again {second.trace}; {_shown(first.counts)}")
    return int(bool(first.findings) or first.trace != second.trace)


def _many(seeds: range) -> int:
    began, total, broken = time.monotonic(), Counter[str](), 0
    for seed in seeds:
        outcome: Outcome = simulate(seed)
        total += outcome.counts
        if outcome.findings:
            broken += 1
            _say(outcome.report())
    took_s = time.monotonic() - began
    _say(f"{len(seeds)} seeds in {took_s:.0f} s, {broken} of them broke a promise; {_shown(total)}")
    return int(broken > 0)


def _shown(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
