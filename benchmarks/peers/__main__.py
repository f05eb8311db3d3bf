"""The same job on other systems, beside headrace, in one run against one broker, interleaved.

    python -m benchmarks.peers --payments 200000 --repeats 5 --json

Each peer's settings are swept first, on a part of a backlog; then every repeat runs each system once, on the same
intents, at its best setting. `--payments` is headrace's backlog; a peer gets its share of it (systems.py). The job
is in job.py. Exit codes: 0 valid, 1 void, 2 wrong usage.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from time import time_ns

from benchmarks import gates, harness, warm
from benchmarks.harness import Bench, say
from benchmarks.peers import report, systems
from benchmarks.peers.drain import Patience
from benchmarks.peers.environments import Unavailable
from benchmarks.peers.report import Story
from benchmarks.peers.rounds import HEADRACE, Backlog, Headrace, Wanted, peer_run
from benchmarks.peers.systems import BY_NAME, Peer, Variant
from schemas.events import Micros

SWEEP = 0.5
"""Share of a peer's backlog that each setting gets in the sweep."""
LEAST = 1_000
"""Payments of a run, at least."""


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="The same job on other systems.")
    parser.add_argument("--payments", type=int, default=200_000)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--zipf", type=float, default=0.0, help="exponent of the accounts' distribution; 0 is uniform")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", default=",".join((*BY_NAME, HEADRACE)), help="names, a comma between them")
    parser.add_argument("--sweep", action=argparse.BooleanOptionalAction, default=True, help="try each peer's settings")
    parser.add_argument("--limit", type=float, default=180.0, help="seconds that a run may take")
    parser.add_argument("--stall", type=float, default=60.0, help="seconds without progress that end a run")
    parser.add_argument("--cache", type=Path, help="folder of the peers' environments [HEADRACE_HOME/peers]")
    warm.option(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    found = parser.parse_args(words)
    found.peers = found.peers.split(",")
    if strange := sorted(set(found.peers) - {*BY_NAME, HEADRACE}):
        parser.error(f"there is no {strange[0]}; there are {', '.join((*BY_NAME, HEADRACE))}")
    for name, least in (("payments", LEAST), ("accounts", 2), ("workers", 1), ("partitions", 1), ("repeats", 1)):
        if getattr(found, name) < least:
            parser.error(f"--{name} {getattr(found, name)} is too small")
    return found


def backlog_of(number: int, share: float, payments: int, at: Micros) -> Backlog:
    """The first part of a repeat's backlog, which is as long as the largest share needs."""
    whole = int(payments * max(1.0, *(peer.share for peer in systems.PEERS)))
    return Backlog(number, max(LEAST, int(payments * share)), whole, at)


def now() -> Micros:
    """µs since 1970."""
    return Micros(time_ns() // 1_000)


def swept(bench: Bench, wanted: Wanted, peer: Peer, payments: int, story: Story) -> Variant:
    """The peer's fastest setting among those that passed the gates, else its fastest, else its first."""
    found = []
    for variant in peer.variants:
        backlog = backlog_of(0, peer.share * SWEEP * variant.share, payments, now())
        run = peer_run(bench, wanted, peer, variant, backlog)
        story.sweep.append(run)
        found.append(((run.valid, run.figures.payments_per_s or 0.0), variant))
    return max(found, key=lambda pair: pair[0])[1]


def settled(bench: Bench, wanted: Wanted, words: argparse.Namespace, story: Story) -> dict[str, Variant]:
    """The setting of each peer that can be run here."""
    chosen = {}
    for name in [name for name in story.peers if name != HEADRACE]:
        peer = BY_NAME[name]
        try:
            sweep = words.sweep and len(peer.variants) > 1
            chosen[name] = swept(bench, wanted, peer, words.payments, story) if sweep else peer.variants[0]
        except Unavailable as error:
            story.unavailable[name] = str(error)
            say(f"{name} can't be run here: {error}")
    return chosen


def repeat(bench: Bench, wanted: Wanted, words: argparse.Namespace, story: Story) -> None:
    """All repeats: every system once in each."""
    chosen = settled(bench, wanted, words, story)
    ours = Headrace(bench, wanted) if HEADRACE in words.peers else None
    if ours is not None:
        ours.prepare()
    for number in range(1, words.repeats + 1):
        at = now()
        for name in words.peers:
            if name == HEADRACE and ours is not None:
                story.runs.append(ours.run(backlog_of(number, 1.0, words.payments, at)))
            elif name in chosen:
                backlog = backlog_of(number, BY_NAME[name].share, words.payments, at)
                try:
                    story.runs.append(peer_run(bench, wanted, BY_NAME[name], chosen[name], backlog))
                except Unavailable as error:
                    story.unavailable[name] = str(error)
                    del chosen[name]
    if ours is not None:
        story.audit += gates.audited(bench.cluster)


def main() -> int:
    """0: valid; 1: void."""
    harness.end_cleanly()
    words = parsed()
    about = {"started_at": datetime.now(UTC).isoformat(timespec="seconds"), "steal": harness.Steal()}
    wanted = Wanted(
        words.accounts, words.zipf, words.seed, words.partitions, words.workers,
        Patience(words.limit, words.stall), words.cache.resolve() if words.cache else systems.home(),
    )  # fmt: skip
    story = Story([name for name in words.peers if name != HEADRACE])
    with warm.bench(words) as bench:
        repeat(bench, wanted, words, story)
        result = report.report(bench, wanted, words.payments, story, about)
    report.show(result)
    if words.json:
        print(json.dumps(result))
    return 0 if result["valid"] else 1


if __name__ == "__main__":
    sys.exit(main())
