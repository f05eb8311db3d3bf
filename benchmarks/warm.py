"""A warm broker: Java has compiled what it runs often, before anything is measured on it.

In its first minute a new broker takes up to a quarter of two cores to compile itself, and latency is two to three times what it
is afterwards. So an open loop goes through the real pipeline first, on topics of its own, and is not counted.
"""

import argparse
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import harness, report
from benchmarks.generator import Score, Sent, generate
from benchmarks.harness import Bench, say
from benchmarks.processes import Address, heard, process
from benchmarks.system import Shape, Watch, crew_of, prepare
from topologies import topics

SECONDS = 60.0
"""The protocol's warm-up of a JVM."""
RATE = 2_000.0
SHAPE = Shape(accounts=1_000, overdraft=True)
PATIENCE_S = 60.0


def option(words: argparse.ArgumentParser) -> None:
    """Adds `--broker-warm-up`."""
    words.add_argument(
        "--broker-warm-up", type=report.at_least(0.0, float), default=SECONDS,
        help=f"seconds of an open loop before all else, so that Java has compiled the broker; default {SECONDS:.0f}, 0: none",
    )  # fmt: skip


@contextmanager
def bench(wanted: argparse.Namespace) -> Iterator[Bench]:
    """Where a benchmark runs, its broker warm. Raises Void."""
    with harness.bench(f"bench-{secrets.token_hex(4)}.") as found:
        if wanted.broker_warm_up:
            warm_up(harness.fresh(found, "warm-up"), wanted.broker_warm_up)
        yield found


def warm_up(bench: Bench, seconds: float) -> None:
    """Payments at a steady rate, for so many seconds, until the last of them has ended. Raises Void."""
    say(f"warming the broker up for {seconds:.0f} s")
    prepare(bench, SHAPE)
    score = Score("poisson", RATE, seconds, SHAPE.accounts, SHAPE.partitions, SHAPE.seed)
    with crew_of(bench, SHAPE.workers) as crew, process(generate, Address.of(bench.cluster), score) as generator:
        generator.send("make it")
        heard(generator, "generator", PATIENCE_S)
        sent: Sent = heard(generator, "generator", seconds + PATIENCE_S)
        Watch(bench, crew, {}).wait(topics.EVENTS.name, sum(sent.by_partition))
