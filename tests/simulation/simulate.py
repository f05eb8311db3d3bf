"""Runs the real engine on a simulated Kafka under seeded faults: `python tests/simulation/simulate.py --seeds 10000`.

Exit code 1 where a promise is broken; each broken seed is told with its smallest story.
"""

import argparse
import gc
import json
import multiprocessing
import sys
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import paths
from planted import BUGS, planted
from shrink import shrink
from simulation import Result, Simulation
from stories import Story, read, story_of, write

HERE = Path(__file__).relative_to(paths.ROOT)
PROCESSES = 2
PIECE = 50
"""Seeds that a process is given at once."""
SHRUNK = 3
"""Broken seeds whose stories are made small."""


def run(story: Story, *, tell: bool = False) -> Result:
    """One run."""
    return Simulation(story, tell=tell).run()


def run_seeds(task: tuple[int, int, str]) -> tuple[Counter[str], list[tuple[int, str]]]:
    """Runs some seeds; their counts, and what broke."""
    first, count, bug = task
    counts: Counter[str] = Counter()
    broken = []
    with planted(bug) if bug else nullcontext():
        for seed in range(first, first + count):
            result = run(story_of(seed))
            counts += result.counts
            counts["seeds"] += 1
            counts["void"] += result.void
            counts["nothing aborted"] += not result.counts["aborted records"]
            if result.violations:
                broken.append((seed, result.violations[0]))
    gc.collect()
    return counts, broken


def campaign(first: int, seeds: int, bug: str = "") -> tuple[Counter[str], list[tuple[int, str]]]:
    """Runs many seeds on two processes; a line of progress goes to standard error now and then."""
    tasks = [(at, min(PIECE, first + seeds - at), bug) for at in range(first, first + seeds, PIECE)]
    counts: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    begun = told = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(PROCESSES, _calm) as pool:
        for some, found in pool.imap_unordered(run_seeds, tasks):
            counts += some
            broken += found
            if time.monotonic() - told > 5:
                told = time.monotonic()
                _say(f"{counts['seeds']:,} of {seeds:,} seeds, {len(broken)} broken, {told - begun:.0f} s")
    return counts, sorted(broken)


def _calm() -> None:
    gc.disable()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def tell_one(options: argparse.Namespace) -> int:
    """One story: its trace if asked for, and what broke."""
    story = read(options.story) if options.story is not None else story_of(options.seed)
    with planted(options.plant) if options.plant else nullcontext():
        result = run(story, tell=options.trace)
    for line in result.lines:
        print(line)
    if result.violations:
        small = tell_broken(story, result.violations[0], options.plant)
        if options.save is not None:
            write(small, options.save, result.violations[0])
    _say(f"seed {story.seed}: {dict(result.counts)}, trace {result.trace}")
    return int(bool(result.violations))


def tell_broken(story: Story, violation: str, bug: str) -> Story:
    """Prints a broken story and the smallest one in it."""
    with planted(bug) if bug else nullcontext():
        small = shrink(story, lambda smaller: bool(run(smaller).violations))
        why = run(small).violations
    print(f"\nseed {story.seed}: {violation}")
    print(f"  again: python {HERE} --seed {story.seed} --trace{f' --plant {bug}' if bug else ''}")
    print(f"  smallest story: {small.workers} workers, {small.partitions} partitions, {len(small.published)} records")
    print(f"  faults: {', '.join(map(_fault, small.faults)) or 'none'}")
    print(f"  breaks: {why[0]}")
    return small


def _fault(fault: Any) -> str:
    what = f"{fault.trouble.kind} ({fault.trouble.effect})" if fault.trouble else fault.kind
    return f"{what} at {fault.call} #{fault.nth}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10_000, help="how many seeds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--story", type=Path, help="this story alone: a file of tests/crashes")
    parser.add_argument("--save", type=Path, help="with --seed: keep the smallest story that breaks in this file")
    parser.add_argument("--trace", action="store_true", help="with --seed: print every call")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on the last line")
    parser.add_argument("--plant", default="", choices=["", *BUGS], help="put a known bug into the engine")
    options = parser.parse_args()
    if options.seed is not None or options.story is not None:
        return tell_one(options)
    begun = time.monotonic()
    counts, broken = campaign(options.first, options.seeds, options.plant)
    seconds = time.monotonic() - begun
    for seed, violation in broken[:SHRUNK]:
        tell_broken(story_of(seed), violation, options.plant)
    figures = {
        "seeds": counts["seeds"],
        "first": options.first,
        **{name: count for name, count in sorted(counts.items()) if name != "seeds"},
        "violations": len(broken),
        "broken": [seed for seed, _ in broken[:100]],
        "seconds": round(seconds, 1),
        "ms_per_seed": round(seconds * 1000 / max(1, counts["seeds"]), 1),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        print(
            "\n".join(
                f"{name:24} {value:,}" if isinstance(value, int) else f"{name:24} {value}"
                for name, value in figures.items()
            )
        )
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
