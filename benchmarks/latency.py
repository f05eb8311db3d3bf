"""Latency in an open loop: from the moment an intent was to be sent to its terminal event at a read_committed reader.

    python -m benchmarks.latency --rate 2000 --sustained 20000 --json

Rates are `--rate`, and 50, 70 and 90 % of `--sustained` where that is given. Schedules (Poisson, and constant with
`--arrival both`) and payloads are made before the start. Generator and observer are processes of their own; they share
the machine's cores, and their CPU is told, not taken off.
"""

import argparse
import sys
from time import monotonic
from typing import Any, NamedTuple

from benchmarks import gates, load, report, warm
from benchmarks.generator import Score, Sent, generate
from benchmarks.harness import Bench, Gate, say
from benchmarks.histogram import Histogram
from benchmarks.observe import Seen, Window, looked_at, observe
from benchmarks.processes import Address, heard, process
from benchmarks.report import Found, Result
from benchmarks.system import Shape, Watch, cpu_per_payment, cpu_used, crew_of, ends, prepare, stopped
from headrace.workers import Crew
from schemas.events import Micros
from topologies import topics

WARM_UP_S, CUT_S = 20.0, 5.0
SHARES = (0.5, 0.7, 0.9)
"""Of the sustained rate."""
CALM, CALM_P99_MS = 2_000.0, 150.0
BUSY, BUSY_P99_MS = 0.7, 480.0
"""G3."""
START_S = 60.0


class Timing(NamedTuple):
    """How long a run is, in seconds: what is measured, and what is cut before and after."""

    measured_s: float
    warm_up_s: float = WARM_UP_S
    cut_s: float = CUT_S

    @property
    def whole_s(self) -> float:
        """From the first to the last intent."""
        return self.warm_up_s + self.measured_s + self.cut_s


class Point(NamedTuple):
    """One rate, measured."""

    arrival: str
    offered_per_s: float
    latency_ms: dict[str, Any]
    achieved: float
    """Share of the offered rate that the system kept up with: 1 less what latency grew by per second."""
    dropped: int
    late_p99_ms: float | None
    cpu_us: dict[str, float | None]
    """CPU a payment, of everybody."""


def achieved(early: Histogram, late: Histogram, measured_s: float) -> float:
    """Share of the offered rate that was kept up with, from both halves' medians, which lie half the time apart.

    A system that ends a share `a` of what is offered falls behind by 1 − a seconds each second.
    """
    first, second = early.at(50.0), late.at(50.0)
    if first is None or second is None:
        return 0.0
    return round(min(1.0, 1.0 - (second - first) / 1_000 / (measured_s / 2)), 4)


def _played(bench: Bench, score: Score, timing: Timing, starts: dict[tuple[str, int], int]) -> tuple[Sent, Seen]:
    where = Address.of(bench.cluster)
    with (
        process(generate, where, score) as generator,
        process(observe, where, score.partitions, starts) as observer,
    ):
        heard(observer, "observer", START_S)
        generator.send("make it")
        start = heard(generator, "generator", START_S + score.per_s * score.seconds / 5_000)
        begin = start + int(timing.warm_up_s * load.SECOND)
        observer.send(Window(Micros(begin), Micros(begin + int(timing.measured_s * load.SECOND))))
        sent: Sent = heard(generator, "generator", score.seconds + 2 * START_S)
        observer.send(sum(sent.by_partition[number] for number in looked_at(score.partitions)))
        seen: Seen = heard(observer, "observer", 600.0)
    return sent, seen


def measured(bench: Bench, crew: Crew, score: Score, timing: Timing) -> tuple[Point, list[Gate]]:
    """One rate, while workers run; judged when all is done."""
    say(f"{score.arrival}, {score.per_s:,.0f}/s for {score.seconds:.0f} s")
    starts, used = ends(bench), cpu_used(bench, crew)
    sent, seen = _played(bench, score, timing, starts)
    arrived = sum(sent.by_partition)
    Watch(bench, crew, starts).wait(topics.EVENTS.name, arrived)
    cpu = cpu_per_payment(used, cpu_used(bench, crew), max(arrived, 1))
    cpu |= {"generator": round(1e6 * sent.cpu_s / max(arrived, 1), 1), "observer": round(1e6 * seen.cpu_s / max(arrived, 1), 1)}  # fmt: skip
    halves, late, all_ = (Histogram(), Histogram()), Histogram(), Histogram()
    late.merge(sent.late)
    for half, data in zip(halves, seen.halves, strict=True):
        half.merge(data)
        all_.merge(data)
    kept = achieved(halves[0], halves[1], timing.measured_s)
    expected = sum(sent.by_partition[number] for number in looked_at(score.partitions))
    figures = Point(score.arrival, score.per_s, all_.summary(), kept, sent.dropped, late.at(99.0), cpu)
    say(f"p50 {figures.latency_ms['p50']} ms, p99 {figures.latency_ms['p99']} ms; checking the gates")
    return figures, [
        Gate("every intent was sent", sent.dropped == 0, f"{sent.dropped:,} of {sent.offered:,} dropped"),
        Gate("the observer saw all of its partitions", seen.events == expected, f"{seen.events:,} of {expected:,}"),
        *gates.judge(bench.cluster, sent.offered, starts),
    ]


def scores(wanted: argparse.Namespace, timing: Timing) -> list[Score]:
    """All rates, each with a seed of its own, so that no id comes twice."""
    rates = [wanted.rate, *(share * wanted.sustained for share in SHARES if wanted.sustained)]
    arrivals: list[load.Arrival] = ["poisson", "constant"] if wanted.arrival == "both" else [wanted.arrival]
    points = [(arrival, rate) for rate in rates for arrival in arrivals] * wanted.repeats
    return [
        Score(arrival, rate, timing.whole_s, wanted.accounts, wanted.partitions, wanted.seed + number)
        for number, (arrival, rate) in enumerate(points)
    ]


def measure(wanted: argparse.Namespace) -> Found:
    """All rates. Raises Void."""
    timing = Timing(wanted.seconds, wanted.warm_up, wanted.cut)
    shape = Shape(wanted.accounts, wanted.partitions, wanted.workers, wanted.seed)
    begun, points, judged = monotonic(), [], []
    with warm.bench(wanted) as bench:
        prepare(bench, shape)
        with crew_of(bench, shape.workers) as crew:
            for score in scores(wanted, timing):
                point, found = measured(bench, crew, score, timing)
                points.append(point)
                judged += report.named(f"{point.arrival} {point.offered_per_s:,.0f}/s", found)
            judged.append(stopped(crew.stop()))
        judged += gates.audited(bench.cluster)
    say(f"done in {monotonic() - begun:.0f} s")
    calm = points[0]
    return Found(
        report.config(shape),
        report.load("open", None, arrival=wanted.arrival, offered_per_s=calm.offered_per_s,
                    dropped=sum(one.dropped for one in points), late_p99_ms=calm.late_p99_ms),
        [point._asdict() for point in points],
        report.result(latency_ms=calm.latency_ms, cpu_us_per_payment=calm.cpu_us),
        judged,
        goals(points, wanted.sustained),
        bench.kafka,
        timing.warm_up_s,
        timing.measured_s,
    )  # fmt: skip


def goals(points: list[Point], sustained: float | None) -> list[Result]:
    """G3, for the rates that were measured: the worst of the repeats."""
    aims = [("p99 ms at 2,000/s", CALM, CALM_P99_MS)]
    if sustained:
        aims.append(("p99 ms at 70 % of sustained", BUSY * sustained, BUSY_P99_MS))
    found = []
    for name, rate, target in aims:
        values = [one.latency_ms["p99"] for one in points if one.offered_per_s == rate and one.arrival == "poisson"]
        if values:
            value = None if None in values else max(values)
            found.append(report.goal(name, target, value, at_least=False))
    return found


def show(told: Result) -> None:
    """A row for each rate."""
    head = ["arrival", "offered/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "seen", "kept up", "dropped", "late p99 ms"]  # fmt: skip
    rows = [
        [one["arrival"], one["offered_per_s"], *one["latency_ms"].values(), one["achieved"], one["dropped"], one["late_p99_ms"]]
        for one in told["runs"]
    ]  # fmt: skip
    print(report.table(head, rows))
    used = told["result"]["cpu_us_per_payment"]
    print(
        "CPU a payment at the first rate: "
        + ", ".join(f"{name} {value} µs" for name, value in used.items() if value is not None)
    )


def timed(words: argparse.ArgumentParser) -> None:
    """The options of an open loop."""
    warm.option(words)
    words.add_argument("--accounts", type=report.at_least(2), default=100_000)
    words.add_argument("--workers", type=report.at_least(1), default=2)
    words.add_argument("--partitions", type=report.at_least(1), default=4)
    words.add_argument("--repeats", type=report.at_least(1), default=1)
    words.add_argument("--seconds", type=report.at_least(1.0, float), default=60.0, help="that are measured")
    words.add_argument("--warm-up", type=report.at_least(0.0, float), default=WARM_UP_S, help="seconds before")
    words.add_argument("--cut", type=report.at_least(0.0, float), default=CUT_S, help="seconds after")


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("latency", "Latency in an open loop.")
    timed(words)
    words.add_argument("--rate", type=report.at_least(1.0, float), default=CALM, help="payments a second")
    words.add_argument("--sustained", type=report.at_least(1.0, float), help="adds 50, 70 and 90 %% of this rate")
    words.add_argument("--arrival", choices=["poisson", "constant", "both"], default="poisson")
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("latency", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
