"""Drain of a backlog: how fast, with how much memory, `headrace run` ends so many transfers, exactly once.

    python -m benchmarks.throughput --payments 200000 --json

Accounts and their money go through the real pipeline first; then the workers stop, the backlog is published,
the workers start again, and a read_committed reader counts terminal events. The first 20 % is warm-up.
"""

import argparse
import json
import secrets
import sys
from datetime import UTC, datetime
from time import monotonic, process_time, time_ns
from typing import Any, NamedTuple

from benchmarks import gates, harness, load
from benchmarks.harness import Bench, Gate, say
from headrace.workers import Crew
from replay.reader import Reader
from replay.tail import Tail
from schemas import codec
from schemas.events import Micros
from topologies import topics
from topologies.engine.admin import create_topics
from topologies.engine.sender import Sender
from topologies.payments import PAYMENTS

WARM_UP = 0.2
STALL_S = 120.0
TARGET_RATE = 8_000
TARGET_MB = 700


class Void(Exception):
    """The run can't be finished; the message says why."""


class Run(NamedTuple):
    """One drain."""

    payments_per_s: float
    """After the warm-up."""
    overall_per_s: float
    """From the first terminal event to the last."""
    warm_up_s: float
    measured_s: float
    cpu_us: dict[str, float | None]
    """CPU per payment after the warm-up: workers, broker, this process, steal is not taken off."""
    rss_mb: list[float]
    """Peak of each worker."""


class Watch:
    """Counts records of a topic until `total`; raises Void where nothing comes."""

    def __init__(self, bench: Bench, crew: Crew, starts: dict[tuple[str, int], int]) -> None:
        self._bench = bench
        self._crew = crew
        self._starts = starts

    def wait(self, topic: str, total: int) -> None:
        """Returns when `total` records stand on `topic`."""
        counted, moved = 0, monotonic()
        with Tail(self._bench.cluster, [topic], self._starts) as tail:
            while counted < total:
                new = tail.count(0.2)
                counted += new
                moved = monotonic() if new else moved
                self._check(counted, total, topic, moved)

    def drain(self, total: int) -> Run:
        """Times `total` terminal events."""
        counted, marks, moved = 0, [], monotonic()
        warm = int(total * WARM_UP)
        with Tail(self._bench.cluster, [topics.EVENTS.name], self._starts) as tail:
            while counted < total:
                new = tail.count(0.05)
                now = monotonic()
                if new:
                    first = counted == 0
                    moved, counted = now, counted + new
                    if first or (len(marks) == 1 and counted >= warm):
                        marks.append((now, counted, self._cpu()))
                self._check(counted, total, topics.EVENTS.name, moved)
            marks.append((moved, counted, self._cpu()))
        (start, _, _), (warmed, before, used), (end, _, most) = marks[0], marks[-2], marks[-1]
        measured = counted - before
        cpu = {
            name: None if used[name] is None else round(1e6 * (most[name] - used[name]) / measured, 1) for name in used
        }
        return Run(
            round(measured / (end - warmed), 1),
            round(counted / (end - start), 1),
            round(warmed - start, 3),
            round(end - warmed, 3),
            cpu,
            [round(harness.peak_mb(pid), 1) for pid in self._crew.pids[-self._crew.alive() :]],
        )

    def _cpu(self) -> dict[str, Any]:
        pid = self._bench.broker_pid
        return {
            "workers": sum(harness.cpu_seconds(worker) for worker in self._crew.pids),
            "broker": None if pid is None else harness.cpu_seconds(pid),
            "observer": process_time(),
        }

    def _check(self, counted: int, total: int, topic: str, moved: float) -> None:
        if self._crew.alive() == 0:
            raise Void(f"no worker is left at {counted:,} of {total:,} records on {topic}")
        if monotonic() - moved > STALL_S:
            raise Void(f"nothing moved for {STALL_S:.0f} s at {counted:,} of {total:,} records on {topic}")


def send(bench: Bench, topic: str, records: Any, key: str) -> int:
    """Publishes records under the field `key`; how many."""
    sender, count = Sender(bench.cluster), 0
    for record in records:
        sender.send(topic, getattr(record, key).encode(), codec.encode(record))
        count += 1
    sender.flush()
    return count


def ends(bench: Bench) -> dict[tuple[str, int], int]:
    """The ends of the topics that are counted."""
    with Reader(bench.cluster) as reader:
        return reader.ends(gates.COUNTED)


def crew_of(bench: Bench) -> Crew:
    """Workers of this benchmark."""
    return Crew(["run", "--port", "0"], bench.home / "logs", say)


def prepare(bench: Bench, wanted: argparse.Namespace) -> None:
    """Topics, accounts and opening money, through the real pipeline."""
    create_topics(bench.cluster, PAYMENTS, wanted.partitions, 1)
    now = Micros(time_ns() // 1_000)
    with crew_of(bench) as crew:
        crew.start(wanted.workers, bench.environment)
        watch = Watch(bench, crew, {})
        say(f"opening {wanted.accounts:,} accounts")
        watch.wait(
            topics.ACCOUNT_EVENTS.name, send(bench, topics.COMMANDS.name, load.opened(wanted.accounts, now), "account")
        )
        say("funding them")
        watch.wait(topics.EVENTS.name, send(bench, topics.INTENTS.name, load.funded(wanted.accounts, now), "debtor"))


def one_run(bench: Bench, wanted: argparse.Namespace, number: int) -> tuple[Run, list[Gate]]:
    """Publishes a backlog while no worker runs, drains it, and judges the result."""
    before = ends(bench)
    say(f"run {number}: publishing a backlog of {wanted.payments:,}")
    now = Micros(time_ns() // 1_000)
    seed = wanted.seed + number
    send(bench, topics.INTENTS.name, load.backlog(wanted.payments, wanted.accounts, wanted.zipf, seed, now), "debtor")
    with crew_of(bench) as crew:
        watch = Watch(bench, crew, before)
        crew.start(wanted.workers, bench.environment)
        run = watch.drain(wanted.payments)
        codes = crew.stop()
    say(f"run {number}: {run.payments_per_s:,.0f} payments/s; checking the gates")
    return run, [
        Gate("workers stopped gracefully", codes == [0] * len(codes), f"exit codes {codes}"),
        *gates.judge(bench.cluster, wanted.payments, before),
    ]


def report(
    bench: Bench, wanted: argparse.Namespace, runs: list[Run], judged: list[Gate], about: dict[str, Any]
) -> dict[str, Any]:
    """The JSON of a benchmark, schema headrace.bench/1."""
    rate = harness.spread([run.payments_per_s for run in runs])
    rss = max(peak for run in runs for peak in run.rss_mb)
    steady = rate["cv"] is None or rate["cv"] <= 10
    shape = gates.volume(bench.cluster)
    return {
        "schema": "headrace.bench/1",
        "benchmark": "throughput",
        "started_at": about["started_at"],
        "git": harness.git(),
        "machine": harness.machine(about["steal"]),
        "versions": harness.versions(bench.kafka),
        "config": {
            "roles": ["core"], "job": "transfer", "partitions": wanted.partitions, "workers": wanted.workers,
            "acks": "all", "replication": 1, "fsync": False, "tls": False, "compression": "none",
            "guarantee": "exactly-once", "floor_ms": 0, "accounts": wanted.accounts,
            "distribution": f"zipf {wanted.zipf}" if wanted.zipf else "uniform", "memory_mb": None,
        },
        "load": {
            "model": "drain", "arrival": "backlog", "offered_per_s": None, "intents": wanted.payments, "dropped": 0,
            "late_p99_ms": None, "cpu_pct": None,
        },
        "warmup_s": runs[-1].warm_up_s,
        "measured_s": runs[-1].measured_s,
        "runs": [run._asdict() for run in runs],
        "result": {
            "payments_per_s": rate,
            "latency_ms": None,
            "step": None,
            "cpu_us_per_payment": runs[-1].cpu_us,
            "records_per_payment": shape[0],
            "bytes_per_payment": shape[1],
            "rss_mb": rss,
        },
        "gates": [gate._asdict() for gate in judged],
        "valid": steady and all(gate.ok for gate in judged),
        "ratios": None,
        "goals": [
            {"id": "rate", "target": TARGET_RATE, "value": rate["median"], "ok": (rate["median"] or 0) >= TARGET_RATE},
            {"id": "memory", "target": TARGET_MB, "value": rss, "ok": rss < TARGET_MB},
        ],
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """A table for people, on standard output."""
    figures, used = result["result"], result["result"]["cpu_us_per_payment"]
    rate = figures["payments_per_s"]
    print(
        f"payments/s           {rate['median']:,.0f}  (min {rate['min']:,.0f}, max {rate['max']:,.0f}; {len(result['runs'])} run)"
    )
    print(f"measured             {result['measured_s']:.1f} s after {result['warmup_s']:.1f} s of warm-up")
    print(
        "CPU a payment        " + ", ".join(f"{name} {value} µs" for name, value in used.items() if value is not None)
    )
    print(f"peak memory          {figures['rss_mb']:,.0f} MiB a worker")
    print(f"records a payment    {figures['records_per_payment']}, {figures['bytes_per_payment']} bytes of values")
    about = result["machine"]
    print(
        f"machine              {about['cpu']}, {about['cores']} cores, steal {about['steal_pct']} %, load {about['load_average']}"
    )
    print("Mind: replication 1, no fsync, no TLS, no network; broker, workers and observer share these cores.")
    for gate in result["gates"]:
        print(f"gate  {'ok    ' if gate['ok'] else 'FAILED'}  {gate['name']}: {gate['detail']}")
    for goal in result["goals"]:
        print(
            f"goal  {'ok    ' if goal['ok'] else 'missed'}  {goal['id']}: {goal['value']:,} (target {goal['target']:,})"
        )
    print("valid" if result["valid"] else "VOID: a gate failed; these numbers mean nothing")


def parsed() -> argparse.Namespace:
    """The command line."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description="Drain of a backlog.")
    words.add_argument("--payments", type=int, default=200_000)
    words.add_argument("--accounts", type=int, default=100_000)
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("--partitions", type=int, default=4)
    words.add_argument("--repeats", type=int, default=1)
    words.add_argument("--zipf", type=float, default=0.0, help="exponent of the accounts' distribution; 0 is uniform")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    found = words.parse_args()
    for name in ("payments", "accounts", "workers", "partitions", "repeats"):
        if getattr(found, name) < (100 if name == "payments" else 2 if name == "accounts" else 1):
            words.error(f"--{name} {getattr(found, name)} is too small")
    return found


def main() -> int:
    """0: valid; 1: void."""
    wanted = parsed()
    about = {"started_at": datetime.now(UTC).isoformat(timespec="seconds"), "steal": harness.Steal()}
    try:
        with harness.bench(f"bench-{secrets.token_hex(4)}.") as bench:
            prepare(bench, wanted)
            done = [one_run(bench, wanted, number) for number in range(1, wanted.repeats + 1)]
            judged = [*(gate for _, found in done for gate in found), *gates.audited(bench.cluster)]
            result = report(bench, wanted, [run for run, _ in done], judged, about)
    except Void as error:
        say(f"benchmarks.throughput: {error}")
        return 1
    show(result)
    if wanted.json:
        print(json.dumps(result))
    return 0 if result["valid"] else 1


if __name__ == "__main__":
    sys.exit(main())
