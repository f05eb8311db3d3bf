"""What a step's transaction writes, and what its commit changes here."""

import logging
from collections import Counter

from confluent_kafka import TopicPartition

from schemas import codec
from schemas.events import Micros, PaymentEvent
from schemas.internal import SettingsRecord
from topologies.engine.config import EngineConfig
from topologies.engine.crash import crash_point
from topologies.engine.identity import settings_json
from topologies.engine.letters import letter_of
from topologies.engine.observer import Observer
from topologies.engine.partition import Planned, records_of
from topologies.engine.recovery import store_meta
from topologies.engine.transactions import Contents
from topologies.plan import Plan
from topologies.topics import CREDITS, EVENTS, JOURNAL, REVERSALS, SETTINGS, changelog, dead_letters

log = logging.getLogger(__name__)
MONEY_IN_TRANSIT = (CREDITS, REVERSALS)
LOST = "transit-dead-letter"


class Writing:
    """Turns planned steps into the contents of a transaction, and a committed transaction into rows."""

    def __init__(self, config: EngineConfig, plan: Plan, code_hash: str, cluster_id: str) -> None:
        self._config = config
        self._prefix = config.cluster.prefix
        self._role = plan.role
        self._clock = config.cluster.seams.clock
        self._group = f"{self._prefix}headrace.{plan.role}"
        self._code_hash = code_hash
        self._cluster_id = cluster_id
        self._settings_told = False
        self._changelog = self._prefix + changelog(plan.role).name

    def contents(self, planned: list[Planned]) -> Contents:
        """Records, rows, letters and offsets of one transaction."""
        prefix = self._prefix
        contents = Contents()
        for item in planned:
            number = item.partition.number
            for (topic, where), pairs in item.outputs.items():
                contents.records.setdefault((prefix + topic, where), []).extend(pairs)
            contents.records[prefix + JOURNAL.name, number] = [(None, item.journal)]
            contents.changelogs[self._changelog, number] = [(None, record) for record in item.packed]
            for parcel in item.step.parcels:
                name = prefix + dead_letters(parcel.agent).name
                contents.letters.append((name, number, *letter_of(parcel, prefix, self._group)))
            contents.offsets += self.offsets(number, item.offsets(), item.partition.state.step + 1)
        if not self._settings_told:
            self._tell_settings(contents)
        return contents

    def offsets(self, number: int, offsets: dict[str, int], step: int) -> list[TopicPartition]:
        """Offsets of a partition's inputs, with the partition's step number as their metadata."""
        return [TopicPartition(self._prefix + topic, number, offset, str(step)) for topic, offset in offsets.items()]

    def _tell_settings(self, contents: Contents) -> None:
        settings = settings_json(self._config.rules).decode()
        now = Micros(self._clock.micros())
        record = SettingsRecord(self._code_hash, self._config.version, settings, now)
        contents.records[self._prefix + SETTINGS.name, 0] = [(self._code_hash.encode(), codec.encode(record))]

    def apply(self, planned: list[Planned], contents: Contents, observer: Observer) -> None:
        """The transaction is committed: its rows go to the stores, its counts to the observer."""
        self._settings_told = True
        for item in planned:
            self._store(item, contents)
            self._tell(item, observer)

    def _store(self, item: Planned, contents: Contents) -> None:
        partition = item.partition
        partition.settle(item.step)
        partition.checkpoint.settle(item.again, len(item.rows))
        last = contents.last_offsets.get((self._changelog, partition.number))
        if last is not None:
            partition.state.changelog = last + 1
        crash_point("before_store_write")
        partition.state.store.write(item.rows, store_meta(self._cluster_id, partition.state, self._clock.micros()))
        crash_point("after_store_write")

    def _tell(self, item: Planned, observer: Observer) -> None:
        observer.records(self._role, records_of(item.step.taken))
        for alert in item.step.alerts:
            log.error("alert %s: %s", alert.code, alert.message)
            observer.alert(alert.code)
        for parcel in item.step.parcels:
            observer.dead_letter(parcel.agent, parcel.code)
            if parcel.topic in MONEY_IN_TRANSIT:
                where = f"{parcel.topic.name} partition {parcel.partition} offset {parcel.raw.offset}"
                log.error(
                    "alert %s: %s became a dead letter (%s): its money stands in transit", LOST, where, parcel.code
                )
                observer.alert(LOST)
        events: Counter[tuple[str, str]] = Counter()
        for out in item.step.records:
            if out.topic == EVENTS.name:
                value: PaymentEvent = out.value
                events[value.status, value.reason or ""] += 1
        for (status, reason), count in events.items():
            observer.payment(status, reason, count)
