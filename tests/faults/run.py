"""Faults against real workers on a real Kafka: `python tests/faults/run.py --tier change --minutes 6 --json`.

Everything runs on the loopback interface and ends by itself. Exit 1: a promise was broken; the evidence is kept.
"""

import argparse
import json
import logging
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "helpers"), str(ROOT)]

from campaign import ROUNDS_OF_A_SYSTEM, Campaign  # noqa: E402
from guard import guarded  # noqa: E402
from kinds import Kind  # noqa: E402
from registry import KINDS  # noqa: E402
from sums import Sums  # noqa: E402

RANDOM_KILLS = 5
"""In the tier `change`, where every other kind has one round."""
MINUTES = {"change": 6.0, "nightly": 60.0, "release": 600.0}
RELEASE = 5
"""A release aims at so many times a night's rounds."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tier", choices=tuple(MINUTES), default="change")
    parser.add_argument("--minutes", type=float, help="begin no round after so long (6, 60 or 600 by tier)")
    parser.add_argument("--seed", type=int, help="same seed, same faults (chosen by chance)")
    parser.add_argument("--only", help="only kinds whose names match this regular expression")
    parser.add_argument("--rounds", type=int, help="end after so many rounds")
    parser.add_argument("--sums", type=Path, help="file of the sums (HEADRACE_HOME/faults.json)")
    parser.add_argument("--list", action="store_true", help="list the kinds of faults and end")
    parser.add_argument("--unguarded", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="the result as one JSON object on the last line")
    told = parser.parse_args(words)
    told.seed = random.randrange(1_000_000) if told.seed is None else told.seed
    told.minutes = told.minutes or MINUTES[told.tier]
    home = Path(os.environ.get("HEADRACE_HOME", ".headrace")).resolve()
    told.evidence = home / "faults"
    told.sums = told.sums or home / "faults.json"
    return told


def planned(told: argparse.Namespace, total: Sums, over: Callable[[], bool] = lambda: False) -> Iterator[Kind]:
    """The kinds of the rounds: each once (and random kills), or a seeded mixture in proportion to what is missing, till `over`."""
    kinds = [kind for kind in KINDS if re.search(told.only or "", kind.name)]
    chance = random.Random(f"{told.seed}/mixture")
    if told.tier == "change":
        kills = [kind for kind in kinds if kind.name.startswith("sigkill at ")]
        kills += [kind for kind in kinds if kind.name == "sigkill"] * RANDOM_KILLS
        yield from kills
        yield from mixed([kind for kind in kinds if kind not in kills], chance)
        return
    possible = [kind for kind in kinds if kind.impossible() is None]
    yield from (kind for kind in kinds if kind not in possible)  # named as skipped
    times = RELEASE if told.tier == "release" else 1

    def one_of(some: list[Kind]) -> Kind:
        weights = [max(kind.nightly * times - total.faults[kind.name], 0) / kind.of_a_round + 0.1 for kind in some]
        return chance.choices(some, weights)[0]

    while possible and not over():
        first = one_of(possible)
        yield first
        for _ in range(ROUNDS_OF_A_SYSTEM - 1):
            if over():
                return
            yield one_of([kind for kind in possible if kind.system == first.system])


def mixed(kinds: list[Kind], chance: random.Random) -> list[Kind]:
    """In an order by chance, so that short runs do not always leave out the same; kinds of one system stay together."""
    groups: dict[object, list[Kind]] = {}
    for kind in kinds:
        groups.setdefault(kind.system, []).append(kind)
    for group in groups.values():
        chance.shuffle(group)
    return [kind for group in chance.sample(list(groups.values()), len(groups)) for kind in group]


def limited(kinds: Iterator[Kind], rounds: int | None) -> Iterator[Kind]:
    """The first `rounds` of them."""
    for number, kind in enumerate(kinds):
        if rounds is not None and number >= rounds:
            return
        yield kind


def commit() -> str:
    """The commit under test, with a + where files differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    odd = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+" if odd.stdout.strip() else "") if head.returncode == 0 else "unknown"


def main() -> int:
    """Runs a campaign; the exit code."""
    told = arguments()
    if told.list:
        kinds = {kind.name: {"nightly": kind.nightly, "impossible": kind.impossible()} for kind in KINDS}
        print(json.dumps(kinds) if told.json else "\n".join(f"{name}: {said}" for name, said in kinds.items()))
        return 0
    if not told.unguarded:
        return guarded([__file__, "--unguarded", *sys.argv[1:]])
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    total, own = Sums(told.sums), Sums()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="headrace-faults-"))
    campaign = Campaign(folder, told.evidence, told.seed, [own, total])
    campaign.say(f"tier {told.tier}, seed {told.seed}, {told.minutes:g} minutes, sums in {told.sums}")
    interrupted = False
    try:
        until = began + told.minutes * 60
        kinds = planned(told, total, lambda: time.monotonic() > until)
        campaign.run(limited(kinds, told.rounds), until)
    except KeyboardInterrupt:
        interrupted = True
        campaign.say("interrupted: finished rounds are kept in the sums")
    finally:
        campaign.close()
        if own.violations:  # the topics of systems that broke a promise are still in Kafka's data
            shutil.copytree(folder, told.evidence / f"seed-{told.seed}", dirs_exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "tier": told.tier,
        "seed": told.seed,
        "commit": commit(),
        **own.shown(),
        "minutes": round((time.monotonic() - began) / 60, 2),
        "skipped": campaign.skipped,
        "interrupted": interrupted,
        "sums": {"file": str(told.sums), **total.shown()},
    }
    show(result)
    if told.json:
        print(json.dumps(result))
    return 1 if own.violations else 130 if interrupted else 0


def show(result: dict) -> None:
    """The result for people, on standard error."""
    sums = result["sums"]
    lines = [f"{'fault':34}{'rounds':>8}{'void':>6}{'sum':>8}"]
    lines += [
        f"{name:34}{count:8}{result['void'].get(name, 0):6}{sums['faults'].get(name, 0):8}"
        for name, count in result["faults"].items()
    ]
    lines += [f"{name:34} skipped: {reason}" for name, reason in result["skipped"].items()]
    lines += [f"{name}: {result[name]}" for name in ("payments", "recovery_s", "sigkill_to_first_commit_s", "verdicts")]
    lines += [f"VIOLATION: {one}" for one in result["violations"]] or ["no violation"]
    print("\n".join(lines), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
