"""How fast a worker's tables come back from their changelogs: cold (the store is gone) and warm (the tail is missing).

    python -m benchmarks.restore --rows 1000000 --json

Rows are made by real payments on one worker, in two parts; the store as it stood between them is the warm one. Then
the worker's own recovery runs in this process. A changelog record is counted as one row update. The stores that come
back must hold what the worker's own store holds, byte for byte.
"""

import argparse
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, process_time
from typing import Any, NamedTuple

from benchmarks import gates, harness, report
from benchmarks.harness import Bench, Gate, say
from benchmarks.report import Found, Result
from benchmarks.system import Shape, Void, ended, prepare
from topologies import topics
from topologies.engine.admin import identity_of
from topologies.engine.commits import RecoveryPlace
from topologies.engine.limits import LIMITS
from topologies.engine.recovery import recover
from topologies.engine.store import META, Store, Stores, open_options, rocksdb_stores
from topologies.engine.watchdog import Watchdog
from topologies.payments import CORE

G6 = 200_000
ROWS_A_PAYMENT = 6
"""About how many row updates a payment leaves."""
TAIL = 0.1
"""Share of the payments that the warm store has not seen."""


class Restored(NamedTuple):
    """One recovery of all partitions by one worker."""

    name: str
    rows: int
    """Row updates that were read from changelogs."""
    seconds: float
    """From the first look at the group's offsets to ready."""
    rows_per_s: float
    cpu_us: float
    """CPU of this process a row update."""


class CountedStore(Store):
    """A store that counts the rows written to it."""

    written = 0

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: dict[str, Any] | None) -> None:
        """Writes rows."""
        found = list(rows)
        self.written += len(found)
        super().write(found, meta)


class CountedStores(Stores):
    """Opens stores that count."""

    def __init__(self) -> None:
        self._told = open_options(LIMITS)
        super().__init__(self._told)
        self.opened: list[CountedStore] = []

    def open(self, folder: Path) -> Store:
        """The store in a folder."""
        store = CountedStore(folder, self._told)
        self.opened.append(store)
        return store


def restored(bench: Bench, name: str, folder: Path, partitions: int) -> Restored:
    """Recovers all partitions into `folder`, as a worker does after its assignment."""
    watchdog, stores = Watchdog(LIMITS.watchdog_s), CountedStores()
    place = RecoveryPlace(
        CORE, bench.cluster, folder, LIMITS, identity_of(bench.cluster), stores, watchdog, lambda _remaining: None
    )
    begun, used = monotonic(), process_time()
    recovered = recover(place, range(partitions), lambda: False)
    seconds, cpu_s = monotonic() - begun, process_time() - used
    for one in recovered:
        one.store.close()
    watchdog.close()
    rows = sum(store.written for store in stores.opened)
    if not rows:
        raise Void(f"{name}: the changelogs had no row to restore")
    say(f"{name}: {rows:,} rows in {seconds:.2f} s")
    return Restored(name, rows, round(seconds, 3), round(rows / seconds, 1), round(1e6 * cpu_s / rows, 2))


def rows_in(folder: Path, partition: int) -> Iterable[tuple[bytes, bytes]]:
    """All rows of a store that no worker has open, in key order."""
    store = rocksdb_stores(LIMITS).open(folder / f"p{partition}")
    try:
        yield from ((key, row) for key, row in store.rows(b"", b"", sys.maxsize) if key != META)
    finally:
        store.close()


def agree(name: str, folder: Path, lived: Path, partitions: int) -> Gate:
    """Whether two sets of stores hold the same rows."""
    rows = differ = 0
    for partition in range(partitions):
        theirs = dict(rows_in(lived, partition))
        for key, row in rows_in(folder, partition):
            rows += 1
            differ += theirs.pop(key, None) != row
        differ += len(theirs)
    return Gate(f"{name}: the rows of the worker's store", rows > 0 == differ, f"{rows:,} rows, {differ:,} differ")


def state_of(bench: Bench) -> Path:
    """The state folder of the only worker."""
    folders = list((bench.home / "state").iterdir())
    if len(folders) != 1:
        raise Void(f"one worker was to run, but {len(folders)} left their state")
    return folders[0]


def made(bench: Bench, shape: Shape, payments: int) -> tuple[Path, list[Gate]]:
    """Rows by real payments; a copy of the store as it stood before the last tenth of them."""
    prepare(bench, shape)
    tail = max(100, int(payments * TAIL))
    judged = _more(bench, shape, payments - tail, 1)
    earlier = bench.home / "earlier"
    shutil.copytree(state_of(bench), earlier)
    return earlier, [*judged, *_more(bench, shape, tail, 2)]


def _more(bench: Bench, shape: Shape, payments: int, number: int) -> list[Gate]:
    return ended(bench, shape, payments, number, lambda watch: watch.wait(topics.EVENTS.name, payments))[1]


def measure(wanted: argparse.Namespace) -> Found:
    """Cold and warm, in turn. Raises Void."""
    shape = Shape(wanted.accounts, wanted.partitions, 1, wanted.seed, overdraft=True)
    payments = max(1_000, wanted.rows // ROWS_A_PAYMENT)
    runs: list[Restored] = []
    with harness.bench(f"bench-{secrets.token_hex(4)}.") as bench:
        earlier, judged = made(bench, shape, payments)
        lived = state_of(bench)
        for number in range(1, wanted.repeats + 1):
            for name, fill in _ways(earlier):
                folder = bench.home / f"{name}-{number}"
                fill(folder)
                runs.append(restored(bench, name, folder, shape.partitions))
                judged.append(agree(f"{name} {number}", folder, lived, shape.partitions))
                shutil.rmtree(folder)
        judged += gates.audited(bench.cluster)
    cold = harness.spread([run.rows_per_s for run in runs if run.name == "cold"])
    warm = harness.spread([run.rows_per_s for run in runs if run.name == "warm"])
    return Found(
        report.config(shape),
        report.load("restore", payments),
        [run._asdict() for run in runs],
        report.result(cold_rows_per_s=cold, warm_rows_per_s=warm),
        judged,
        [report.goal("G6 cold, rows/s", G6, cold["median"], at_least=True)],
        bench.kafka,
        0.0,
        runs[0].seconds,
    )


def _ways(earlier: Path) -> list[tuple[str, Callable[[Path], object]]]:
    return [("cold", lambda folder: folder.mkdir()), ("warm", lambda folder: shutil.copytree(earlier, folder))]


def show(told: Result) -> None:
    """A row for each recovery."""
    rows = [[one["name"], one["rows"], one["seconds"], one["rows_per_s"], one["cpu_us"]] for one in told["runs"]]
    print(report.table(["store", "row updates", "seconds", "rows/s", "CPU µs a row"], rows))


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("restore", "Restore of a worker's tables.")
    words.add_argument("--rows", type=report.at_least(1_000), default=1_000_000, help="row updates, about")
    words.add_argument("--accounts", type=report.at_least(2), default=100_000)
    words.add_argument("--partitions", type=report.at_least(1), default=4)
    words.add_argument("--repeats", type=report.at_least(1), default=1)
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void; 3: no Kafka answers."""
    return report.run("restore", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
