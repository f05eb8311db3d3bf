"""The sustained rate: the highest one that the system keeps up with in an open loop.

    python -m benchmarks.sustained --start 16000 --json

Kept up with means: at least 99.5 % achieved, which is told by how latency grows over the window, nothing dropped, and
all gates. The rate goes up by a quarter until one is not kept up with (or down until one is), then the gap is halved
until it is 3 %. Each try goes on where the last one ended, after its backlog is drained.
"""

import argparse
import sys
from collections.abc import Callable

from benchmarks import gates, harness, latency, report, warm
from benchmarks.generator import Score
from benchmarks.harness import Gate, say
from benchmarks.latency import Point, Timing
from benchmarks.report import Found, Result
from benchmarks.system import Shape, Void, crew_of, prepare, stopped

ACHIEVED = 0.995
STRIDE = 1.25
PRECISION = 1.03
TRIES_MOST = 20
G1 = 22_000


def kept_up(point: Point) -> bool:
    """Whether the system kept up with a rate."""
    return point.achieved >= ACHIEVED and point.dropped == 0


def search(start: float, keeps_up: Callable[[float], bool]) -> float:
    """The highest rate that `keeps_up`, to 3 %. Raises Void where none is found in `TRIES_MOST` tries."""
    low, high, rate = None, None, start
    for _ in range(TRIES_MOST):
        if keeps_up(rate):
            low = rate
        else:
            high = rate
        if low is not None and high is not None:
            if high / low <= PRECISION:
                return low
            rate = (low * high) ** 0.5
        else:
            rate = rate * STRIDE if low is not None else rate / STRIDE
    raise Void(f"no sustained rate was found in {TRIES_MOST} tries, from {start:,.0f}/s on")


def measure(wanted: argparse.Namespace) -> Found:
    """Tries rates. Raises Void."""
    timing = Timing(wanted.seconds, wanted.warm_up, wanted.cut)
    shape = Shape(wanted.accounts, wanted.partitions, wanted.workers, wanted.seed)
    points: list[Point] = []
    judged: list[Gate] = []
    with warm.bench(wanted) as bench:
        prepare(bench, shape)
        with crew_of(bench, shape.workers) as crew:

            def keeps_up(rate: float) -> bool:
                seed = shape.seed + len(points)
                score = Score("poisson", rate, timing.whole_s, shape.accounts, shape.partitions, seed)
                point, found = latency.measured(bench, crew, score, timing)
                points.append(point)
                say(f"{rate:,.0f}/s: {'kept up with' if kept_up(point) else 'too much'}, {point.achieved:.1%} achieved")
                # Above the sustained rate the client may drop what the broker does not take: such a try is only too much.
                judged.extend(report.named(f"{rate:,.0f}/s", found) if point.dropped == 0 else [])
                return kept_up(point)

            rate = search(wanted.start, keeps_up)
            judged.append(stopped(crew.stop()))
        judged += gates.audited(bench.cluster)
    best = max((point for point in points if kept_up(point)), key=lambda point: point.offered_per_s)
    return Found(
        report.config(shape),
        report.load("open", None, arrival="poisson", offered_per_s=rate, late_p99_ms=best.late_p99_ms),
        [point._asdict() for point in points],
        report.result(
            payments_per_s=harness.spread([rate]), latency_ms=best.latency_ms, cpu_us_per_payment=best.cpu_us
        ),
        judged,
        [report.goal("G1 sustained, payments/s", G1, rate, at_least=True)],
        bench.kafka,
        timing.warm_up_s,
        timing.measured_s,
    )


def show(told: Result) -> None:
    """All tries, in their order."""
    latency.show(told)
    print(f"sustained: {told['result']['payments_per_s']['median']:,.0f} payments/s")


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("sustained", "The highest rate that the system keeps up with.")
    latency.timed(words)
    words.add_argument("--start", type=report.at_least(1.0, float), default=16_000.0, help="first rate that is tried")
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("sustained", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
