"""Invariants 6 and 9 of workers' stores: each is what its changelog says it is, and none is ahead of Kafka.

Stores are opened before anything is read from Kafka, and judged where they stand: at the step and the
changelog offset in their own meta row. A store that lags is right. One that a worker is writing may hold
rows of its next step already, if Kafka has them committed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from replay.journal import CORE, Steps
from replay.logged import History, read_changelog
from replay.reader import Place
from replay.rows import ACCOUNTS, Rows
from replay.source import NoStores, Source
from replay.verdicts import Verdict
from topologies.engine.admin import identity_of
from topologies.engine.config import ClusterConfig
from topologies.engine.errors import StoreFailed
from topologies.engine.inspect import Snapshot, store_folders
from topologies.payments import PLANS
from topologies.plan import Plan
from topologies.topics import changelog


class Store(Protocol):
    """A store as it stood when it was opened: `topologies.engine.inspect.Snapshot`."""

    folder: Path
    partition: int
    meta: dict[str, Any]
    """`step`, `offsets` by input topic, `changelog`: its next offset, `base`: where that began for this store."""

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Key and JSON row of a table."""


def open_stores(opened: ExitStack, cluster: ClusterConfig, home: Path) -> "list[Stores]":
    """The stores under a folder of workers' state, by role; `opened` closes them. Raises NoStores."""
    folders = {role: store_folders(home, cluster.prefix, role) for role in PLANS}
    if not any(folders.values()):
        raise NoStores(
            f"no store of a worker with the topic prefix {cluster.prefix!r} is under {home / 'state'}; set "
            "HEADRACE_HOME to the folder that it was where the worker ran"
        )
    cluster_id = identity_of(cluster)
    return [_stores_of(opened, PLANS[role], each, cluster_id) for role, each in folders.items() if each]


def _stores_of(opened: ExitStack, plan: Plan, folders: Sequence[tuple[Path, int]], cluster_id: str) -> "Stores":
    found, broken, left_out = [], [], []
    for folder, partition in folders:
        try:
            snapshot = opened.enter_context(Snapshot(folder, partition))
        except StoreFailed as error:
            broken.append(str(error))
            continue
        if (why := snapshot.distrust(cluster_id)) is None:
            found.append(snapshot)
        else:
            left_out.append(f"the store {folder} {why}: a worker will not use it")
    return Stores(found, [spec.name for spec in plan.tables()], plan.role, (broken, left_out))


class Stores:
    """Stores of one role's workers, each of which a worker would go on with.

    `others`: sentences on those that can't be read, and on those that no worker would use.
    """

    def __init__(
        self,
        stores: Iterable[Store],
        tables: Iterable[str],
        role: str = CORE,
        others: tuple[Sequence[str], Sequence[str]] = ((), ()),
    ) -> None:
        self._stores = list(stores)
        self._tables = list(tables)
        self.role = role
        self._changelog = changelog(role).name
        self._broken, self._left_out = others

    def tell(self, verdict: Verdict) -> None:
        """Says what can't be judged."""
        for reason in self._broken:
            verdict.offends(reason)
        for reason in self._left_out:
            verdict.note(reason)

    def steps(self) -> set[tuple[int, int]]:
        """(partition, step) of each: what the journal must remember."""
        return {(store.partition, store.meta["step"]) for store in self._stores}

    def behind(self, steps: Steps, ends: Mapping[Place, int], verdict: Verdict) -> None:
        """No store stands at a step, an input or a changelog offset that Kafka does not have (invariant 9)."""
        last = steps.last_steps()
        for store in self._stores:
            verdict.examined += 1
            step, kafka = store.meta["step"], last.get(store.partition, 0)
            told = f"the store {store.folder}, partition {store.partition}, at step {step}"
            if step > kafka:
                verdict.offends(f"{told}: Kafka is only at step {kafka}: the broker lost committed data")
                continue
            mark = steps.marks.get((store.partition, step))
            for topic, offset in store.meta["offsets"].items():
                least = mark.nexts.get(topic, 0) if mark else 0
                most = steps.nexts.get((topic, store.partition), 0)
                if not least <= offset <= max(most, ends.get((topic, store.partition), 0)):
                    verdict.offends(f"{told}: has read {topic} up to {offset}, the journal says {least} at this step")
            offset, end = store.meta["changelog"], ends.get((self._changelog, store.partition), 0)
            if offset > end:
                verdict.offends(
                    f"{told}: has {self._changelog} up to {offset}, which ends at {end}: the broker lost committed data"
                )

    def account_rows(self, steps: Steps, verdict: Verdict) -> Iterator[tuple[int, Rows]]:
        """The account rows of each store, to be compared with the postings of its partition."""
        for store in self._stores:
            mark = steps.marks.get((store.partition, store.meta["step"]))
            rows = Rows(f"the store {store.folder}", mark.postings if mark else 0, verdict)
            rows.add(store.rows(ACCOUNTS))
            yield store.partition, rows

    def compare(self, source: Source, ends: Mapping[Place, int], verdict: Verdict) -> None:
        """Every table of every store is the one that the changelog gives at the store's offset (invariant 6)."""
        for store in self._stores:
            if (self._changelog, store.partition) not in ends:
                continue
            offset = store.meta["changelog"]
            history = read_changelog(source, self._changelog, {store.partition: offset})[store.partition]
            history.tell(verdict)
            if offset < history.first:
                verdict.note(
                    f"the store {store.folder} has read {history.where} up to {offset} only, and that begins at "
                    f"{history.first} by now: a worker will not use it"
                )
                continue
            self._stands(store, history, verdict)
            for table in self._tables:
                self._table(store, table, history, verdict)

    @staticmethod
    def _stands(store: Store, history: History, verdict: Verdict) -> None:
        """The store's step is the one that its changelog has at its offset."""
        there, step, base = history.there, store.meta["step"], store.meta["base"]
        if there is None and history.first:
            return
        at = (there.step, there.base) if there else (0, 0)
        if at != (step, base):
            verdict.offends(
                f"the store {store.folder}, partition {store.partition}: is at step {step}, base {base}; its changelog "
                f"is at step {at[0]}, base {at[1]} at offset {history.offset}"
            )

    def _table(self, store: Store, table: str, history: History, verdict: Verdict) -> None:
        there: set[bytes] = set()
        for key, row in store.rows(table):
            verdict.examined += 1
            there.add(key)
            if not _allows(history, table, key, row):
                self._differs(store, (table, key, row), history, verdict)
        for key in history.at[table].keys() - there:
            if not _allows(history, table, key, None):
                self._differs(store, (table, key, None), history, verdict)

    @staticmethod
    def _differs(store: Store, found: tuple[str, bytes, bytes | None], history: History, verdict: Verdict) -> None:
        table, key, row = found
        verdict.offends(
            f"the store {store.folder}, partition {store.partition}, table {table}, key {key.decode(errors='replace')!r}: "
            f"has {_text(row)}, its changelog {_text(history.row(table, key))} at offset {history.offset}"
        )


def _allows(history: History, table: str, key: bytes, row: bytes | None) -> bool:
    """Whether a store may hold this row: the one at its offset, or one of the next step, half written."""
    return row == history.row(table, key) or row in history.later[table].get(key, ()) or history.untold(table, key)


def _text(row: bytes | None) -> str:
    return "no row" if row is None else row.decode(errors="replace")[:200]
