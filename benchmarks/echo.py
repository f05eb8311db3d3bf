"""The echo ceiling: consume, produce and commit exactly once with no work between, beside headrace on the same backlog.

    python -m benchmarks.echo --payments 200000 --repeats 5 --json

Echo is confluent-kafka alone (benchmarks/peers/echo.py): each worker has its own partitions and writes every intent
once, to one topic; headrace reads two records a payment and writes about four. Both are drained in turn, echo first, which
gets five times as many intents, so that its drain takes seconds too, and begins when all of its processes are ready.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import NamedTuple

from benchmarks import gates, harness, report, warm
from benchmarks.harness import ROOT, Bench, Gate, say
from benchmarks.peers.echo import GO, READY
from benchmarks.peers.job import VARIABLE, Told
from benchmarks.report import Found, Result
from benchmarks.system import STALL_S, WARM_UP, Shape, Void, drained, ends, prepare, publish
from replay.reader import Place, Reader
from replay.tail import Tail
from topologies import topics
from topologies.engine.admin import create_topics
from topologies.payments import PLANS

STOP_S, READY_S = 20.0, 60.0
TIMES = 5
"""So many times the payments go through the echo, which is that much faster at least."""


class Echoed(NamedTuple):
    """One drain of the echo."""

    records_per_s: float
    """After the warm-up."""
    cpu_us: float
    """CPU of its processes a record, from their start."""


def told(bench: Bench, shape: Shape, worker: int) -> Told:
    """What one echo is told."""
    intents, credits_, events = (
        bench.cluster.prefix + topic.name for topic in (topics.INTENTS, topics.CREDITS, topics.EVENTS)
    )
    return Told(
        bootstrap=bench.cluster.bootstrap, intents=intents, credits=credits_, events=events,
        group=f"{bench.cluster.prefix}echo", folder=str(bench.home), worker=worker, workers=shape.workers,
        partitions=shape.partitions, opening=0, options={GO: str(bench.home / GO)},
    )  # fmt: skip


@contextmanager
def echoes(bench: Bench, shape: Shape) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Echo processes, which begin together; they are stopped at the end. Raises Void."""
    bench.home.mkdir(parents=True, exist_ok=True)
    running: list[subprocess.Popen[bytes]] = []
    try:
        for worker in range(shape.workers):
            more = {VARIABLE: json.dumps(told(bench, shape, worker)._asdict())}
            with (bench.home / f"echo-{worker}.log").open("wb") as log:
                words = [sys.executable, "-m", "benchmarks.peers.echo"]
                running.append(subprocess.Popen(words, cwd=ROOT, env={**os.environ, **more}, stdout=log, stderr=log))
        begin(bench, running)
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def begin(bench: Bench, running: list[subprocess.Popen[bytes]]) -> None:
    """Lets all echoes begin when the last of them is ready. Raises Void."""
    deadline = monotonic() + READY_S
    while len(list(bench.home.glob(f"{READY}-*"))) < len(running):
        if monotonic() > deadline or any(process.poll() is not None for process in running):
            raise Void(f"an echo did not start within {READY_S:.0f} s; its log is in {bench.home}")
        sleep(0.01)
    (bench.home / GO).touch()


def watched(bench: Bench, running: list[subprocess.Popen[bytes]], total: int, starts: dict[Place, int]) -> Echoed:
    """Counts what comes out until it is `total`. Raises Void."""
    counted, warm, moved = 0, None, monotonic()
    with Tail(bench.cluster, [topics.EVENTS.name], starts) as tail:
        while counted < total:
            new = tail.count(0.05)
            counted += new
            moved = monotonic() if new else moved
            if warm is None and counted >= WARM_UP * total:
                warm = moved, counted
            if any(process.poll() is not None for process in running):
                raise Void(f"an echo died at {counted:,} of {total:,} records; its log is in {bench.home}")
            if monotonic() - moved > STALL_S:
                raise Void(f"the echo stands still at {counted:,} of {total:,} records")
    used = sum(harness.cpu_seconds(process.pid) for process in running)
    if warm is None or warm[0] == moved:
        raise Void(f"all {total:,} records came at once: too few to time")
    return Echoed(round((counted - warm[1]) / (moved - warm[0]), 1), round(1e6 * used / total, 1))


def same(bench: Bench) -> Gate:
    """Whether what came out is what went in, once each, in its order."""
    found: dict[str, dict[int, list[int]]] = {}
    with Reader(bench.cluster) as reader:
        for topic in (topics.INTENTS.name, topics.EVENTS.name):
            records = found[topic] = defaultdict(list)
            for raw in reader.read(topic, reader.ends([topic])):
                records[raw.partition].append(hash((raw.key, raw.value)))
    went_in, came_out = found.values()
    count = sum(map(len, came_out.values()))
    return Gate("echo wrote what it read, once and in order", went_in == came_out, f"{count:,} records came out")


def echo_run(bench: Bench, shape: Shape, payments: int, number: int) -> tuple[Echoed, Gate]:
    """One backlog through the echo."""
    starts = ends(bench)
    publish(bench, shape, payments, number)
    with echoes(bench, shape) as running:
        run = watched(bench, running, payments, starts)
    say(f"echo {number}: {run.records_per_s:,.0f} records/s")
    return run, same(bench)


def measure(wanted: argparse.Namespace) -> Found:
    """Echo and headrace in turn. Raises Void."""
    shape = Shape(wanted.accounts, wanted.partitions, wanted.workers, wanted.seed)
    echoed, runs, judged = [], [], []
    with warm.bench(wanted) as bench:
        ours = harness.fresh(bench, "ours")
        prepare(ours, shape)
        for number in range(1, wanted.repeats + 1):
            other = harness.fresh(bench, f"echo{number}")
            create_topics(other.cluster, PLANS.values(), shape.partitions, 1)
            found, gate = echo_run(other, shape, TIMES * wanted.payments, number)
            run, more = drained(ours, shape, wanted.payments, number)
            echoed.append(found)
            runs.append(run)
            judged += [gate, *more]
        judged += gates.audited(ours.cluster)
    rate = harness.spread([run.payments_per_s for run in runs])
    echo_rate = harness.spread([one.records_per_s for one in echoed])
    judged.append(Gate("echo's repeats agree", report.steady(echo_rate), f"CV {echo_rate['cv']} %"))
    pairs = zip(runs, echoed, strict=True)
    shares = [run.payments_per_s / echo.records_per_s for run, echo in pairs]
    ratio = {"median": sorted(shares)[len(shares) // 2], "min": min(shares), "max": max(shares)}
    return Found(
        report.config(shape),
        report.load("drain", wanted.payments, arrival="backlog"),
        [{**run._asdict(), "echo": echo._asdict()} for run, echo in zip(runs, echoed, strict=True)],
        report.result(
            payments_per_s=rate,
            echo_records_per_s=echo_rate,
            cpu_us_per_payment=runs[-1].cpu_us,
        ),
        judged,
        [],
        bench.kafka,
        runs[-1].warm_up_s,
        runs[-1].measured_s,
        {"echo": {name: round(value, 3) for name, value in ratio.items()}},
    )


def show(told_: Result) -> None:
    """Both, and the ratio."""
    figures, ratio = told_["result"], told_["ratios"]["echo"]
    rows = [
        [name, one["median"], one["min"], one["max"], one["cv"]]
        for name, one in (("echo", figures["echo_records_per_s"]), ("headrace", figures["payments_per_s"]))
    ]
    print(report.table(["", "a second", "min", "max", "CV %"], rows))
    print(f"headrace ÷ echo  {ratio['median']}  (min {ratio['min']}, max {ratio['max']})")


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("echo", "The echo ceiling.")
    warm.option(words)
    words.add_argument("--payments", type=report.at_least(100), default=200_000)
    words.add_argument("--accounts", type=report.at_least(2), default=100_000)
    words.add_argument("--workers", type=report.at_least(1), default=2)
    words.add_argument("--partitions", type=report.at_least(1), default=4)
    words.add_argument("--repeats", type=report.at_least(1), default=1)
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("echo", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
