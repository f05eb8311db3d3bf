"""The commit-interval curve: what a least time between two steps costs in rate, and does to latency.

    python -m benchmarks.curve --floors 0,5,10,25,50,100,250,500 --json

The floor is for measurements alone (HEADRACE_LIMIT__FLOOR_MS): the engine itself never waits to fill a step.
"""

import argparse
import sys
from typing import Any, NamedTuple

from benchmarks import gates, harness, latency, report, warm
from benchmarks.generator import Score
from benchmarks.harness import Bench, Gate, say
from benchmarks.latency import Timing
from benchmarks.report import Found, Result
from benchmarks.system import Shape, crew_of, drained, prepare, stopped

FLOORS = "0,5,10,25,50,100,250,500"
VARIABLE = "HEADRACE_LIMIT__FLOOR_MS"


class Point(NamedTuple):
    """One floor, measured."""

    floor_ms: int
    payments_per_s: float
    """Of a drain."""
    cpu_us: dict[str, float | None]
    offered_per_s: float
    latency_ms: dict[str, Any]
    achieved: float


def floored(bench: Bench, floor_ms: int) -> Bench:
    """The same, its workers told the floor."""
    more = {VARIABLE: str(floor_ms)}
    return bench._replace(environment={**bench.environment, **more})


def one_floor(bench: Bench, shape: Shape, wanted: argparse.Namespace, place: int) -> tuple[Point, list[Gate]]:
    """Drains a backlog, then measures latency at the rate wanted."""
    floor_ms = wanted.floors[place]
    say(f"floor {floor_ms} ms")
    told = floored(bench, floor_ms)
    timing = Timing(wanted.seconds, wanted.warm_up, wanted.cut)
    run, judged = drained(told, shape, wanted.payments, place + 1)
    score = Score("poisson", wanted.rate, timing.whole_s, shape.accounts, shape.partitions, shape.seed + place)
    with crew_of(told, shape.workers) as crew:
        seen, found = latency.measured(told, crew, score, timing)
        judged += [*found, stopped(crew.stop())]
    point = Point(floor_ms, run.payments_per_s, run.cpu_us, wanted.rate, seen.latency_ms, seen.achieved)
    return point, report.named(f"floor {floor_ms} ms", judged)


def measure(wanted: argparse.Namespace) -> Found:
    """All floors. Raises Void."""
    shape = Shape(wanted.accounts, wanted.partitions, wanted.workers, wanted.seed)
    points, judged = [], []
    with warm.bench(wanted) as bench:
        prepare(bench, shape)
        for place in range(len(wanted.floors)):
            point, found = one_floor(bench, shape, wanted, place)
            points.append(point)
            judged += found
        judged += gates.audited(bench.cluster)
    first = points[0]
    return Found(
        report.config(shape, floor_ms=wanted.floors),
        report.load("drain, then open", wanted.payments, arrival="poisson", offered_per_s=wanted.rate),
        [point._asdict() for point in points],
        report.result(
            payments_per_s=harness.spread([first.payments_per_s]),
            latency_ms=first.latency_ms,
            cpu_us_per_payment=first.cpu_us,
        ),
        judged,
        [],
        bench.kafka,
        wanted.warm_up,
        wanted.seconds,
    )


def show(told: Result) -> None:
    """A row for each floor."""
    rows = [
        [f"{one['floor_ms']} ms", one["payments_per_s"], one["offered_per_s"], one["latency_ms"]["p50"], one["latency_ms"]["p99"], one["achieved"]]
        for one in told["runs"]
    ]  # fmt: skip
    print(report.table(["floor", "drain, payments/s", "then at/s", "p50 ms", "p99 ms", "kept up"], rows))


def floors(text: str) -> list[int]:
    """Floors in ms, with commas between them."""
    found = [int(one) for one in text.split(",")]
    if any(one < 0 for one in found):
        raise argparse.ArgumentTypeError(f"{text}: a floor is 0 or more")
    return found


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("curve", "The commit-interval curve.")
    latency.timed(words)
    words.add_argument("--floors", type=floors, default=floors(FLOORS), help=f"ms, default {FLOORS}")
    words.add_argument("--payments", type=report.at_least(100), default=100_000, help="of each drain")
    words.add_argument("--rate", type=report.at_least(1.0, float), default=latency.CALM, help="of each open loop")
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("curve", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
