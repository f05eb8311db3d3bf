"""Parts alone, without Kafka: screening, the idempotency look-up, and the codecs of every schema.

    python -m benchmarks.micro --payments 50000 --keys 200000 --json

CPU time of this process. Tables are the engine's own, over RocksDB; what is timed is what a step does: look up a batch,
and decide it. Writing the rows is not timed here: the engine does it after the commit.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from time import process_time
from typing import Any, NamedTuple

import orjson

from benchmarks import codecs, harness, load, report
from benchmarks.harness import Gate, say
from benchmarks.report import Found, Result
from schemas.events import Intent, Micros
from streams import admission, screening
from streams.admission import BoundKey, key_digest
from streams.rules import Rules
from streams.screening import ScreeningTables
from streams.tables import TableSpec
from streams.turn import Admitted, Received, Screened, Turn
from topologies import topics
from topologies.engine.limits import LIMITS
from topologies.engine.overlay import Overlay
from topologies.engine.store import RowCache, Store, StoreTable, rocksdb_stores

AT = Micros(1_700_000_000_000_000)
BATCHES = (1_000, 100, 10)
SCREENING_MOST_US, LOOK_UP_MOST_US = 20.0, 10.0
"""G7, and the goal of the look-up."""
COLD = 1
"""Decoded rows that a table may keep: next to none, so that every look-up goes to the store."""


class Measured(NamedTuple):
    """One part, in batches of one size."""

    part: str
    batch: int
    us: float
    """CPU µs a payment."""
    payments: int


def cut(records: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Records in batches."""
    return (records[begin : begin + size] for begin in range(0, len(records), size))


def fill(store: Store, table: str, rows: dict[str, Any]) -> None:
    """Writes rows into a store, as the engine encodes them."""
    store.write([(f"{table}\0{key}".encode(), orjson.dumps(row, default=tuple)) for key, row in rows.items()], None)


def timed(batches: Iterator[Sequence[Any]], work: Callable[[Sequence[Any]], Any], after: Callable[[], Any]) -> float:
    """CPU seconds of `work` over all batches; `after` follows each and is not timed."""
    spent = 0.0
    for batch in batches:
        begun = process_time()
        work(batch)
        spent += process_time() - begun
        after()
    return spent


# -- screening -------------------------------------------------------------------------------------------------


def admitted(intent: Intent) -> Admitted:
    """An intent that admission has let pass."""
    key = intent.debtor.encode()
    return Admitted(Received(topics.INTENTS.name, 0, 0, AT, key, intent), intent, "", "")


class Screening:
    """Screens batches over profiles in a store."""

    def __init__(self, folder: Path, accounts: int) -> None:
        (self._spec,) = screening.TABLES
        self._store = rocksdb_stores(LIMITS).open(folder)
        past = [admitted(one) for one in load.backlog(5 * accounts, accounts, 0.0, 1, Micros(AT - load.HOUR))]
        table = self._begin()
        for batch in cut(past, BATCHES[0]):
            self.screen(batch)
            self._keep(table)

    def _begin(self) -> StoreTable:
        table = StoreTable(self._store, self._spec, RowCache(LIMITS.cached_rows))
        self._overlay = Overlay(table)
        self._turn = Turn(AT, 0, 1, ScreeningTables(self._overlay), {}, Rules())
        return table

    def _keep(self, table: StoreTable) -> None:
        fill(self._store, self._spec.name, self._overlay.changed)
        table.apply(self._overlay.changed)
        self._overlay.changed = {}

    def screen(self, batch: Sequence[Admitted]) -> list[Screened]:
        """Verdicts of a batch."""
        return screening.screen(batch, self._turn).handed_on

    def verdicts(self, intents: Sequence[Admitted], size: int) -> tuple[list[Screened], float]:
        """Verdicts in batches of a size, from a cold cache and the same past each time; CPU seconds."""
        self._begin()
        found: list[Screened] = []
        spent = timed(cut(intents, size), lambda batch: found.extend(self.screen(batch)), lambda: None)
        return found, spent

    def close(self) -> None:
        """Closes the store."""
        self._store.close()


def screened(folder: Path, wanted: argparse.Namespace) -> tuple[list[Measured], list[Gate]]:
    """Screening alone."""
    accounts = max(100, wanted.payments // 5)
    bed = Screening(folder, accounts)
    intents = [admitted(one) for one in load.backlog(wanted.payments, accounts, 0.0, 2, AT)]
    runs, verdicts = [], []
    for size in BATCHES:
        found, spent = bed.verdicts(intents, size)
        verdicts.append(found)
        runs.append(Measured("screening", size, round(1e6 * spent / len(intents), 2), len(intents)))
    bed.close()
    scored = sum(one.risk_score is not None for one in verdicts[0])
    return runs, [
        Gate("every intent was scored", scored == wanted.payments, f"{scored:,} of {wanted.payments:,}"),
        Gate("no batch size changes a verdict", all(one == verdicts[0] for one in verdicts), f"sizes {BATCHES}"),
    ]


# -- the idempotency look-up -------------------------------------------------------------------------------------


def looked_up(folder: Path, wanted: argparse.Namespace) -> tuple[list[Measured], list[Gate]]:
    """The look-up of keys that are new, and of keys that are there, among `wanted.keys` in the store."""
    spec: TableSpec = admission.TABLES[0]
    store, rng = rocksdb_stores(LIMITS).open(folder), Random(wanted.seed)
    there = [(load.account(n % 100_000), f"key-{n}") for n in range(wanted.keys)]
    new = [(load.account(n % 100_000), f"new-{n}") for n in range(wanted.payments)]
    fill(store, spec.name, {key_digest(*one): BoundKey("0" * 32, AT) for one in there})
    again = [there[rng.randrange(len(there))] for _ in range(wanted.payments)]
    runs, found = [], {"new key": 0, "known key": 0}
    for name, asked in (("new key", new), ("known key", again)):
        for size in BATCHES:
            overlay = Overlay(StoreTable(store, spec, RowCache(COLD)))
            hits = 0

            def look(batch: Sequence[tuple[str, str]], overlay: Overlay = overlay) -> None:
                nonlocal hits
                keys = [key_digest(debtor, key) for debtor, key in batch]
                overlay.prefetch(keys)
                hits += sum(overlay.get(key) is not None for key in keys)

            spent = timed(cut(asked, size), look, overlay.keep)
            found[name] = hits
            runs.append(Measured(f"look-up, {name}", size, round(1e6 * spent / len(asked), 2), len(asked)))
    store.close()
    right = found == {"new key": 0, "known key": wanted.payments}
    return runs, [Gate("the look-up finds what is there and nothing else", right, str(found))]


# -- all -----------------------------------------------------------------------------------------------------


def measure(wanted: argparse.Namespace) -> Found:
    """All parts."""
    with tempfile.TemporaryDirectory(prefix="headrace-micro-") as home:
        say("screening")
        runs, judged = screened(Path(home) / "screening", wanted)
        say("look-up")
        more, checked = looked_up(Path(home) / "keys", wanted)
        say("codecs")
        coded, same = codecs.measured(min(wanted.payments, 5_000))
    runs += more
    batch = BATCHES[0]
    figures = {run.part: run.us for run in runs if run.batch == batch}
    return Found(
        report.config(None, keys=wanted.keys),
        report.load("in batch", wanted.payments),
        [run._asdict() for run in runs],
        report.result(us_per_payment=figures, codecs_us=[one._asdict() for one in coded]),
        [*judged, *checked, *same],
        [
            report.goal("G7 screening, µs", SCREENING_MOST_US, figures["screening"], at_least=False),
            report.goal("look-up, µs", LOOK_UP_MOST_US, figures["look-up, new key"], at_least=False),
        ],
    )


def show(told: Result) -> None:
    """A row for each part and batch size, and one for each schema."""
    print(
        report.table(
            ["part", "batch", "µs a payment"], [[one["part"], one["batch"], one["us"]] for one in told["runs"]]
        )
    )
    print()
    rows = [list(one.values()) for one in told["result"]["codecs_us"]]
    print(report.table(["schema", "bytes", "encode µs", "fastavro", "decode µs", "fastavro"], rows))


def parsed() -> argparse.Namespace:
    """The command line."""
    words = report.arguments("micro", "Parts alone, without Kafka.")
    words.add_argument("--payments", type=report.at_least(100), default=50_000)
    words.add_argument("--keys", type=report.at_least(100), default=200_000, help="that are bound before the look-up")
    return words.parse_args()


def main() -> int:
    """0: valid; 1: void."""
    harness.say("benchmarks.micro: CPU time of this process")
    return report.run("micro", parsed(), measure, show)


if __name__ == "__main__":
    sys.exit(main())
