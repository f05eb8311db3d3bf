"""Sweeps: what more accounts, partitions, workers, skew and hot accounts do to the drain of a backlog.

    python -m benchmarks.scale --payments 100000 --limit-s 3600 --json

Each rate is told as its ratio to the uniform base of the same run, which is measured first and last. Accounts are
opened without money and may go below zero. Points that differ in accounts, partitions or workers have topics and
stores of their own; the others share them. What does not fit into the time limit is told as not run.
"""

import argparse
import sys
from time import monotonic
from typing import NamedTuple

from benchmarks import gates, harness, report, warm
from benchmarks.harness import Bench, Gate, say
from benchmarks.report import Found, Result
from benchmarks.system import Run, Shape, drained, prepare

BASE = "uniform base"
AGAIN = "uniform base again"
SWEEPS = ("skew", "hot", "workers", "partitions", "accounts")
SPARE = 1.3
"""Estimates of time are taken so much longer."""
G4 = {"one hot creditor": 0.9, "one hot debtor": 0.7}
G5_PERCENT = 20.0


class Point(NamedTuple):
    """One point of a sweep."""

    name: str
    shape: Shape

    @property
    def group(self) -> tuple[int, int, int]:
        """Points of one group share topics, stores and accounts."""
        return self.shape.accounts, self.shape.partitions, self.shape.workers


class Drained(NamedTuple):
    """A point's drain, or why there is none."""

    point: str
    run: Run | None
    not_run: str | None = None


def points(base: Shape, sweeps: list[str], accounts: list[int]) -> list[Point]:
    """All points of the sweeps, the dear ones last; the base is the first of them and the last of its group."""
    found = [Point(BASE, base)]
    if "skew" in sweeps:
        found += [Point(f"zipf {zipf}", base._replace(zipf=zipf)) for zipf in (1.0, 1.5, 2.0)]
    if "hot" in sweeps:
        found += [Point("one hot creditor", base._replace(hot="creditor")), Point("one hot debtor", base._replace(hot="debtor"))]  # fmt: skip
    found.append(Point(AGAIN, base))
    if "workers" in sweeps:
        found += [Point(f"workers {n}", base._replace(workers=n)) for n in (1, 2, 4) if n != base.workers]
    if "partitions" in sweeps:
        found += [Point(f"partitions {n}", base._replace(partitions=n)) for n in (4, 8, 16) if n != base.partitions]
    if "accounts" in sweeps:
        found += [Point(f"accounts {n:,}", base._replace(accounts=n)) for n in sorted(accounts) if n != base.accounts]
    return found


class Budget:
    """The time limit, and what points have taken so far."""

    def __init__(self, limit_s: float) -> None:
        self._until = monotonic() + limit_s
        self._account_s = self._drain_s = 0.0
        self._accounts = 0

    def prepared(self, accounts: int, seconds: float) -> None:
        """So many accounts were opened in so many seconds. The most so far tell best: workers take a while to start."""
        if accounts >= self._accounts:
            self._accounts, self._account_s = accounts, seconds / accounts

    def drained(self, seconds: float) -> None:
        """A point's drain took so long, with everything around it."""
        self._drain_s = max(self._drain_s, seconds)

    def refusal(self, accounts: int) -> str | None:
        """Why a point that has to open so many accounts (0: they are there) does not fit any more, or None."""
        left = self._until - monotonic()
        # Opening, and auditing what was opened, which takes about as long.
        need = SPARE * (2 * accounts * self._account_s + self._drain_s)
        if need <= left:
            return None
        return f"it would take about {need:,.0f} s, and {max(left, 0):,.0f} s are left"


class Sweep:
    """Measures points, one group of them after another."""

    def __init__(self, bench: Bench, payments: int, budget: Budget) -> None:
        self._bench = bench
        self._payments = payments
        self._budget = budget
        self._group: tuple[int, int, int] | None = None
        self._in: Bench | None = None
        self._number = 0
        self.done: list[Drained] = []
        self.gates: list[Gate] = []

    def take(self, point: Point) -> None:
        """Measures a point, unless there is no time for it."""
        there = point.group == self._group
        refusal = self._budget.refusal(0 if there else point.shape.accounts)
        if refusal is not None:
            say(f"{point.name}: not run: {refusal}")
            self.done.append(Drained(point.name, None, refusal))
            return
        self._number += 1
        bench = self._in if there and self._in is not None else self._enter(point)
        begun = monotonic()
        say(point.name)
        run, judged = drained(bench, point.shape, self._payments, self._number)
        self._budget.drained(monotonic() - begun)
        self.done.append(Drained(point.name, run))
        self.gates += report.named(point.name, judged)

    def _enter(self, point: Point) -> Bench:
        self.leave()
        bench = self._in = harness.fresh(self._bench, f"g{self._number}")
        self._group = point.group
        self._budget.prepared(point.shape.accounts, prepare(bench, point.shape))
        return bench

    def leave(self) -> None:
        """Audits the group that was measured last."""
        if self._in is not None:
            name = "accounts {:,}, partitions {}, workers {}".format(*self._group or (0, 0, 0))
            self.gates += report.named(name, gates.audited(self._in.cluster))
        self._in = None


def base_rate(done: list[Drained]) -> float:
    """The median of the base's rates."""
    rates = [one.run.payments_per_s for one in done if one.run is not None and one.point in {BASE, AGAIN}]
    return harness.spread(rates)["median"] or 0.0


def ratios(done: list[Drained]) -> dict[str, float | None]:
    """Rate of each point by the base's."""
    base = base_rate(done)
    return {one.point: None if one.run is None else round(one.run.payments_per_s / base, 3) for one in done}


def goals(done: list[Drained]) -> list[Result]:
    """G4 and G5, of the points that were wanted."""
    by_name = ratios(done)
    found = [report.goal(name, aim, by_name[name], at_least=True) for name, aim in G4.items() if name in by_name]
    wanted = [one for one in done if one.point.startswith("accounts ")]
    costs = [one.run.cpu_us["workers"] or 0.0 for one in [*wanted, done[0]] if one.run is not None]
    if wanted and all(costs):
        grown = round(100 * (max(costs) / min(costs) - 1), 1)
        left_out = "" if all(one.run for one in wanted) else ", of the points that were run"
        found.append(report.goal(f"cost over accounts, %{left_out}", G5_PERCENT, grown, at_least=False))
    return found


def measure(wanted: argparse.Namespace) -> Found:
    """All sweeps. Raises Void."""
    base = Shape(wanted.accounts, wanted.partitions, wanted.workers, wanted.seed, overdraft=True)
    with warm.bench(wanted) as bench:
        sweep = Sweep(bench, wanted.payments, Budget(wanted.limit_s))
        for point in points(base, wanted.sweeps, wanted.account_counts):
            sweep.take(point)
        sweep.leave()
    first = sweep.done[0].run
    rates = [one.run.payments_per_s for one in sweep.done if one.run is not None and one.point in {BASE, AGAIN}]
    by_name = ratios(sweep.done)
    return Found(
        report.config(base),
        report.load("drain", wanted.payments, arrival="backlog"),
        [
            {"point": one.point, "ratio": by_name[one.point], "not_run": one.not_run, **(one.run._asdict() if one.run else {})}
            for one in sweep.done
        ],
        report.result(
            payments_per_s=harness.spread(rates),
            cpu_us_per_payment=first and first.cpu_us,
            rss_mb=max((peak for one in sweep.done if one.run for peak in one.run.rss_mb), default=None),
        ),
        sweep.gates,
        goals(sweep.done),
        bench.kafka,
        first.warm_up_s if first else 0.0,
        first.measured_s if first else 0.0,
    )  # fmt: skip


def show(told: Result) -> None:
    """A row for each point."""
    rows = []
    for one in told["runs"]:
        if one["not_run"]:
            rows.append([one["point"], f"not run: {one['not_run']}", "", "", "", ""])
            continue
        used = one["cpu_us"]
        rows.append([one["point"], one["payments_per_s"], one["ratio"], used["workers"], used["broker"], max(one["rss_mb"])])  # fmt: skip
    head = ["point", "payments/s", "by base", "workers µs", "broker µs", "worker MiB"]
    print(report.table(head, rows))


def counts(text: str) -> list[int]:
    """Numbers of accounts, with commas between them; 1e6 is one."""
    found = [int(float(one)) for one in text.split(",")]
    if any(one < 100 for one in found):
        raise argparse.ArgumentTypeError(f"{text}: 100 accounts are the least")
    return found


def swept(text: str) -> list[str]:
    """Names of sweeps, with commas between them."""
    found = text.split(",")
    if unknown := set(found) - set(SWEEPS):
        raise argparse.ArgumentTypeError(f"{min(unknown)} is no sweep; sweeps are {', '.join(SWEEPS)}")
    return found


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("scale", "Sweeps over accounts, partitions, workers, skew and hot accounts.")
    warm.option(words)
    words.add_argument("--payments", type=report.at_least(100), default=100_000, help="of each drain")
    words.add_argument("--accounts", type=report.at_least(100), default=100_000, help="of the base")
    words.add_argument("--account-counts", type=counts, default=counts("1e4,1e5,1e6,1e7"))
    words.add_argument("--partitions", type=report.at_least(1), default=4, help="of the base")
    words.add_argument("--workers", type=report.at_least(1), default=2, help="of the base")
    words.add_argument("--sweeps", type=swept, default=list(SWEEPS), help=f"of {', '.join(SWEEPS)}")
    words.add_argument("--limit-s", type=report.at_least(1.0, float), default=3_600.0, help="no point begins that would end later")  # fmt: skip
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("scale", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
