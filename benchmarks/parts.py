"""Where a payment's microseconds go: the engine's own steps on four partitions, with RocksDB and without Kafka.

    python -m benchmarks.parts --payments 40000 --accounts 100000

Intents are decoded, decided, encoded, packed and stored as a worker does it; the credits go from partition to partition in
memory. CPU time of this process, so it can be compared within one run of one machine only.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, process_time, time_ns
from typing import Any

from benchmarks import harness, load
from headrace.metrics import Metrics
from schemas import codec
from schemas.events import Micros
from schemas.keys import partition_of
from streams.rules import Rules
from topologies import topics
from topologies.engine.collector import Collector
from topologies.engine.config import ClusterConfig, EngineConfig
from topologies.engine.limits import LIMITS
from topologies.engine.partition import Partition, Planned
from topologies.engine.recovery import Recovered
from topologies.engine.seams import SYSTEM
from topologies.engine.step import PartitionStep, Place, Raw, Work
from topologies.engine.store import RowCache, StoreTable, rocksdb_stores, row_key
from topologies.engine.writing import Writing
from topologies.payments import CORE

PARTITIONS = 4
STEP = 1_000
"""Records of a partition's step, about as many as a loaded worker takes."""
OPENED = 10_000
"""Accounts that are opened by commands; they may go below zero, and have no money first."""


class Bench:
    """Four partitions, their inboxes fed by hand, and CPU seconds by part."""

    def __init__(self, folder: Path) -> None:
        self.parts: Counter[str] = Counter()
        self._ends: dict[tuple[str, int], int] = defaultdict(int)
        self._writing = Writing(EngineConfig(ClusterConfig("none")), CORE, "hash", "cluster")
        self._metrics = Metrics()
        stores, rows = rocksdb_stores(LIMITS), RowCache(LIMITS.cached_rows)
        self._partitions = []
        for number in range(PARTITIONS):
            store = stores.open(folder / f"p{number}")
            tables = {spec.name: StoreTable(store, spec, rows) for spec in CORE.tables()}
            zero = {topic.name: 0 for topic in CORE.inputs}
            state = Recovered(number, store, tables, zero, 0, 0, (0,) * PARTITIONS)
            place = Place(CORE, number, PARTITIONS, Rules(), "hash")
            self._partitions.append(Partition(place, state, LIMITS, SYSTEM))

    def open(self, accounts: int, at: Micros) -> None:
        """Opens some accounts by commands. The rows of all others are copies of the first one's, which has the same words."""
        self.feed(topics.COMMANDS.name, load.opened(min(accounts, OPENED), at, flags=()), "account")
        self.run()
        stores = [partition.state.store for partition in self._partitions]
        first = load.account(0)
        row = stores[partition_of(first, PARTITIONS)].get(row_key("accounts", first))
        for begin in range(OPENED, accounts, OPENED):
            rows = defaultdict(list)
            for name in map(load.account, range(begin, min(begin + OPENED, accounts))):
                rows[partition_of(name, PARTITIONS)].append((row_key("accounts", name), row))
            for number, some in rows.items():
                stores[number].write(some, None)

    def feed(self, topic: str, records: Iterable[Any], field: str) -> None:
        """Publishes records under a field, and takes steps until nothing is left to do."""
        for record in records:
            key = getattr(record, field)
            self._add(topic, partition_of(key, PARTITIONS), key.encode(), codec.encode(record))

    def _add(self, topic: str, number: int, key: bytes, value: bytes) -> None:
        offset = self._ends[topic, number]
        self._ends[topic, number] += 1
        self._partitions[number].inbox.add(topic, Raw(offset, time_ns() // 1_000, key, value, lambda: None))

    def run(self) -> None:
        """Steps until nothing is left to do."""
        while sum([self._step(partition) for partition in self._partitions]):
            pass

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        begun = process_time()
        yield
        self.parts[name] += process_time() - begun

    def _step(self, partition: Partition) -> bool:
        step = partition.next_step({}, {}, STEP)
        if step is None:
            return False
        with self._part("decode"):
            works = step.works()
        for work in works:
            self._decide(work)
        planned = self._plan(partition, step)
        with self._part("store, caches, counts"):
            self._writing.apply([planned], self._writing.contents([planned]), self._metrics)
        for (topic, number), pairs in planned.outputs.items():
            if topic in {topics.CREDITS.name, topics.REVERSALS.name}:
                for key, value in pairs:
                    self._add(topic, number, key, value)
        return True

    def _decide(self, work: Work | None) -> None:
        while work is not None:
            topic = getattr(work.batch[0], "topic", None) if work.batch else None
            leg = {topics.CREDITS.name: ", second leg", None: ""}.get(topic, "")
            with self._part(f"{work.agent.name}{leg}"):
                work = work.decide()

    def _plan(self, partition: Partition, step: PartitionStep) -> Planned:
        with self._part("encode, pack"):
            return partition.plan(step, (0,) * PARTITIONS)

    def close(self) -> None:
        """Closes the stores."""
        for partition in self._partitions:
            partition.close()


def measure(payments: int, accounts: int) -> dict[str, float]:
    """µs of CPU a payment by part."""
    now = Micros(time_ns() // 1_000)
    with tempfile.TemporaryDirectory(prefix="headrace-parts-") as folder:
        bench = Bench(Path(folder))
        bench.open(accounts, now)
        bench.feed(topics.INTENTS.name, load.backlog(payments, accounts, 0.0, 1, now), "debtor")
        collector = Collector(monotonic)
        collector.collect()
        bench.parts.clear()
        begun = process_time()
        bench.run()
        whole = process_time() - begun
        collector.release()
        bench.close()
    found = {name: round(1e6 * seconds / payments, 1) for name, seconds in bench.parts.most_common()}
    return {**found, "all": round(1e6 * whole / payments, 1)}


def main() -> int:
    """The table, or JSON on the last line."""
    words = argparse.ArgumentParser(prog="python -m benchmarks.parts", description="CPU of a payment by part.")
    words.add_argument("--payments", type=int, default=40_000)
    words.add_argument("--accounts", type=int, default=20_000)
    words.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    wanted = words.parse_args()
    steal = harness.Steal()
    found = measure(wanted.payments, wanted.accounts)
    for name, micros in found.items():
        print(f"{name:24}{micros:8.1f} µs a payment")
    peak = round(harness.peak_mb(os.getpid()))
    print(f"{'peak memory':24}{peak:8} MiB, what waits to be read included")
    if wanted.json:
        told = {"us_per_payment": found, "peak_mb": peak, "accounts": wanted.accounts, "payments": wanted.payments}
        print(json.dumps({"benchmark": "parts", **told, "machine": harness.machine(steal)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
