"""The last word on a run: audit, stores, outcomes."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from replay.audit import judge
from replay.reader import Place, Raw
from schemas import codec
from topologies.engine.changelog import head_of, rows_of
from topologies.engine.memory.broker import Broker
from topologies.engine.store import row_key
from topologies.topics import EVENTS, changelog


class Logs:
    """The simulated log as a source for the audit."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def require(self, topics: Sequence[str]) -> dict[str, int]:
        """Partition counts."""
        return self._broker.topics

    def ends(self, topics: Sequence[str]) -> dict[Place, int]:
        """Ends, whatever is open."""
        return {(t, p): self._broker.logs[t, p].end for t in topics for p in range(self._broker.topics[t])}

    def starts(self, topics: Sequence[str]) -> dict[Place, int]:
        """Where the logs begin by now."""
        return {(t, p): self._broker.logs[t, p].first for t in topics for p in range(self._broker.topics[t])}

    def read(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        """What read_committed readers see."""
        for partition in range(self._broker.topics[topic]):
            place = (topic, partition)
            for offset, r in self._broker.logs[place].committed((starts or {}).get(place, 0), ends.get(place, 0)):
                yield Raw(topic, partition, offset, r.timestamp * 1000, r.key, r.value, list(r.headers))


def judge_end(simulation: Any) -> list[str]:
    """Violations that show when all is quiet."""
    broker = simulation.broker
    found = unstable(broker)
    report = judge(Logs(broker), quiet=True)
    found += [f"audit, {check.name}: {check.detail}" for check in report.checks if not check.ok]
    return found or [*stores(simulation), *_outcomes(simulation)]


def unstable(broker: Broker) -> list[str]:
    """Logs below whose end a transaction is open."""
    return [
        f"{topic} [{partition}]: stable only up to {log.stable} of {log.end}"
        for (topic, partition), log in broker.logs.items()
        if log.stable != log.end
    ]


def stores(simulation: Any) -> list[str]:
    """Each running store holds exactly what its changelog says."""
    found = []
    for machine in simulation.machines:
        if not machine.wanted:
            continue
        for partition, running in machine.turns.partitions.items():
            files = machine.disk.stores[Path(running.state.store.folder)]
            there = {key: value for key, value in files.rows.items() if not key.startswith(b"\x00")}
            rebuilt = _rebuilt(simulation.broker, simulation.plan.role, partition)
            if there != rebuilt:
                differ = sorted(k for k in {*there, *rebuilt} if there.get(k) != rebuilt.get(k))
                found.append(
                    f"{machine.name}: the store of partition {partition} differs from its changelog in "
                    f"{[(k, there.get(k), rebuilt.get(k)) for k in differ[:3]]}"
                )
    return found


def _rebuilt(broker: Broker, role: str, partition: int) -> dict[bytes, bytes]:
    """What a reader of the changelog comes to that begins at the last record's base."""
    records = list(broker.logs[changelog(role).name, partition].committed())
    base = head_of(records[-1][1].value).base if records else 0
    rows: dict[bytes, bytes] = {}
    for offset, record in records:
        for table, key, row in rows_of(record.value) if offset >= base else ():
            if row is None:
                rows.pop(row_key(table, "") + key, None)
            else:
                rows[row_key(table, "") + key] = row
    return rows


def _outcomes(simulation: Any) -> list[str]:
    """Every intent came to what the naive ledger says; so did every balance."""
    naive = simulation.watcher.naive
    decode = codec.decoder(EVENTS.subject)
    told: dict[str, tuple[int, str]] = {}
    for partition in range(simulation.story.partitions):
        for _, record in simulation.broker.logs[EVENTS.name, partition].committed():
            event = decode(record.value)
            answer = f"{event.status} {event.reason}" if event.reason else str(event.status)
            for intent in _who(event):
                if intent not in told or told[intent][0] <= event.sequence:
                    told[intent] = (event.sequence, answer)
    expected = {intent: answers[-1] if answers else "nothing" for intent, answers in naive.answers.items()}
    found = [
        f"intent {intent}: {told.get(intent, (0, 'nothing'))[1]}, the naive ledger says {answer}"
        for intent, answer in expected.items()
        if told.get(intent, (0, "nothing"))[1] != answer
    ]
    books = simulation.watcher.balances()
    for name, account in naive.accounts.items():
        if books.get(name, (0, 0)) != (account.balance, account.held):
            found.append(
                f"{name} has {books.get(name)}, the naive ledger says {account.balance} and {account.held} held"
            )
    return found


def _who(event: Any) -> tuple[str, ...]:
    """The intents that an event answers."""
    if event.repeat_intent_id is not None:
        return (event.repeat_intent_id,)
    if event.decided_by_intent_id is not None:
        return (event.intent_id, event.decided_by_intent_id)
    return (event.intent_id,)
