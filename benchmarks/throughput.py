"""Drain of a backlog: how fast, with how much memory, `headrace run` ends so many transfers, exactly once.

    python -m benchmarks.throughput --payments 200000 --json

Accounts and their money go through the real pipeline first; then the workers stop, the backlog is published,
the workers start again, and a read_committed reader counts terminal events. The first 20 % is warm-up.
"""

import argparse
import sys

from benchmarks import gates, harness, report, warm
from benchmarks.report import Found, Result
from benchmarks.system import Shape, drained, prepare

TARGET_RATE = 22_000
"""G1, payments a second on two cores with the broker on them."""
TARGET_MB = 700


def measure(wanted: argparse.Namespace) -> Found:
    """All runs. Raises Void."""
    shape = Shape(wanted.accounts, wanted.partitions, wanted.workers, wanted.seed, wanted.zipf)
    with warm.bench(wanted) as bench:
        prepare(bench, shape)
        done = [drained(bench, shape, wanted.payments, number) for number in range(1, wanted.repeats + 1)]
        judged = [*(gate for _, found in done for gate in found), *gates.audited(bench.cluster)]
        records, size = gates.volume(bench.cluster)
    runs = [run for run, _ in done]
    rate = harness.spread([run.payments_per_s for run in runs])
    rss = max(peak for run in runs for peak in run.rss_mb)
    return Found(
        report.config(shape),
        report.load("drain", wanted.payments, arrival="backlog"),
        [run._asdict() for run in runs],
        report.result(
            payments_per_s=rate,
            cpu_us_per_payment=runs[-1].cpu_us,
            records_per_payment=records,
            bytes_per_payment=size,
            rss_mb=rss,
        ),
        judged,
        [
            report.goal("rate", TARGET_RATE, rate["median"], at_least=True),
            report.goal("memory", TARGET_MB, rss, at_least=False),
        ],
        bench.kafka,
        runs[-1].warm_up_s,
        runs[-1].measured_s,
    )


def show(told: Result) -> None:
    """The figures for people."""
    figures, used = told["result"], told["result"]["cpu_us_per_payment"]
    rate = figures["payments_per_s"]
    print(
        f"payments/s           {rate['median']:,.0f}  (min {rate['min']:,.0f}, max {rate['max']:,.0f}; {len(told['runs'])} run)"
    )
    print(f"measured             {told['measured_s']:.1f} s after {told['warmup_s']:.1f} s of warm-up")
    print(
        "CPU a payment        " + ", ".join(f"{name} {value} µs" for name, value in used.items() if value is not None)
    )
    print(f"peak memory          {figures['rss_mb']:,.0f} MiB a worker")
    print(f"records a payment    {figures['records_per_payment']}, {figures['bytes_per_payment']} bytes of values")


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("throughput", "Drain of a backlog.")
    warm.option(words)
    words.add_argument("--payments", type=report.at_least(100), default=200_000)
    words.add_argument("--accounts", type=report.at_least(2), default=100_000)
    words.add_argument("--workers", type=report.at_least(1), default=2)
    words.add_argument("--partitions", type=report.at_least(1), default=4)
    words.add_argument("--repeats", type=report.at_least(1), default=1)
    words.add_argument("--zipf", type=float, default=0.0, help="exponent of the accounts' distribution; 0 is uniform")
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("throughput", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
