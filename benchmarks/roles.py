"""What settlement and notification cost: drains by core alone and with all roles beside it, in turn.

    python -m benchmarks.roles --payments 200000 --repeats 3 --json

Everybody pays one of some merchants, so each credit bears a fee and belongs to a batch; windows end every five seconds. An
endpoint asks for all of an account that nobody pays, so notification reads every event whole and tells nobody. With all
roles a drain has ended when the last payment is settled and no role has anything left to read; core's own rate, to the
last terminal event, is told beside it.
"""

import argparse
import sys
from time import monotonic
from typing import NamedTuple

from benchmarks import gates, harness, report, warm
from benchmarks.harness import Bench, Gate, say
from benchmarks.report import Found, Result
from benchmarks.system import STALL_S, Run, Shape, Void, Watch, ended, prepare
from headrace.lag import measure as lag_of
from topologies import topics
from topologies.payments import PLANS

BESIDE = ("settlement", "notification")
ALONE, ALL = "core alone", "all roles"
SHARE = 2 / 3
"""How much of core's rate must be left."""
SETTLEMENT = """
every_s = 5
grace_s = 1
fees = "card"
[schedules.card]
bp = 275
fixed_minor = { EUR = 30 }
"""
ENDPOINT = """
[[endpoint]]
name = "nobody"
url = "https://receiver.example.com/hooks"
accounts = ["nobody"]
secrets = ["whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]
"""


class Drained(NamedTuple):
    """One drain."""

    roles: str
    core_per_s: float
    """To core's last terminal event, after the warm-up."""
    whole_per_s: float
    """From core's first terminal event until no role has anything left to read."""
    cpu_us: dict[str, float | None]


def told(bench: Bench) -> Bench:
    """The same, its workers told fees, windows and an endpoint."""
    files = {"HEADRACE_SETTLEMENT": SETTLEMENT, "HEADRACE_ENDPOINTS": ENDPOINT}
    bench.home.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (bench.home / f"{name}.toml").write_text(content)
    more = {name: str(bench.home / f"{name}.toml") for name in files}
    return bench._replace(environment={**bench.environment, **more})


def look(watch: Watch, bench: Bench, shape: Shape, payments: int) -> tuple[Run, float]:
    """Times core's drain by its postings, and all of it: SETTLED events too, and nothing left to read; seconds."""
    run = watch.drain(2 * payments, topics.POSTINGS.name)
    seconds, begun = 2 * payments / run.overall_per_s, monotonic()
    if not shape.beside:
        return run, seconds
    watch.wait(topics.EVENTS.name, 2 * payments)
    while sum(lag_of(bench.cluster, PLANS[role]).records for role in shape.beside):
        if monotonic() > begun + STALL_S:
            raise Void(f"settlement and notification were not done {STALL_S:.0f} s after core")
    return run, seconds + monotonic() - begun


def drain(bench: Bench, shape: Shape, payments: int, number: int) -> tuple[Drained, list[Gate]]:
    """A backlog, timed and judged."""
    name = ALL if shape.beside else ALONE
    say(name)
    (run, whole_s), judged = ended(
        bench, shape, payments, number, lambda watch: look(watch, bench, shape, payments)
    )  # fmt: skip
    cpu = {who: None if used is None else round(2 * used, 1) for who, used in run.cpu_us.items()}
    found = Drained(name, round(run.payments_per_s / 2, 1), round(payments / whole_s, 1), cpu)
    say(f"{name}: core {found.core_per_s:,.0f} payments/s, all of it {found.whole_per_s:,.0f}")
    return found, report.named(f"{name} {number}", judged)


def measure(wanted: argparse.Namespace) -> Found:
    """Both, in turn. Raises Void."""
    alone = Shape(
        wanted.accounts, wanted.partitions, wanted.workers, wanted.seed, overdraft=True, merchants=wanted.merchants
    )
    shapes = {ALONE: alone, ALL: alone._replace(beside=BESIDE)}
    runs: list[Drained] = []
    judged: list[Gate] = []
    with warm.bench(wanted) as begun:
        benches = {name: told(harness.fresh(begun, name.replace(" ", "-"))) for name in shapes}
        for name, shape in shapes.items():
            prepare(benches[name], shape)
        for number in range(1, wanted.repeats + 1):
            for name, shape in shapes.items():
                run, found = drain(benches[name], shape, wanted.payments, number)
                runs.append(run)
                judged += found
        for name, bench in benches.items():
            judged += report.named(name, gates.audited(bench.cluster))
    rates = {name: harness.spread([run.core_per_s for run in runs if run.roles == name]) for name in shapes}
    whole = harness.spread([run.whole_per_s for run in runs if run.roles == ALL])
    beside, settled = (round(found["median"] / rates[ALONE]["median"], 3) for found in (rates[ALL], whole))
    return Found(
        report.config(alone, roles=["core", *BESIDE]),
        report.load("drain", wanted.payments, arrival="backlog"),
        [run._asdict() for run in runs],
        report.result(payments_per_s=rates[ALONE]) | {"beside_per_s": rates[ALL], "whole_per_s": whole},
        judged,
        [
            report.goal("core's rate with all roles beside it, of core alone", SHARE, beside, at_least=True),
            report.goal("rate until all is settled and read, of core alone", SHARE, settled, at_least=True),
            report.goal("core's rate with all roles beside it", 15_000, rates[ALL]["median"], at_least=True),
        ],
        begun.kafka,
        0.0,
        0.0,
    )


def show(found: Result) -> None:
    """A row for each drain."""
    rows = [[one["roles"], one["core_per_s"], one["whole_per_s"], one["cpu_us"]["workers"], one["cpu_us"]["broker"]] for one in found["runs"]]  # fmt: skip
    print(report.table(["roles", "core/s", "all of it/s", "workers µs", "broker µs"], rows))


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("roles", "What settlement and notification cost.")
    warm.option(words)
    words.add_argument("--payments", type=report.at_least(100), default=200_000, help="of each drain")
    words.add_argument("--accounts", type=report.at_least(2), default=100_000)
    words.add_argument("--merchants", type=report.at_least(1), default=1_000)
    words.add_argument("--workers", type=report.at_least(1), default=2)
    words.add_argument("--partitions", type=report.at_least(1), default=4)
    words.add_argument("--repeats", type=report.at_least(1), default=3)
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("roles", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
