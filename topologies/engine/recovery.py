"""From assignment to ready: committed offsets, local store, changelog's tail, journal, checks.

The order matters and each step says why; docs/architecture.md, "Recovery", has the whole story.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas import codec
from schemas.events import JournalRecord
from streams.tables import TableSpec
from topologies.engine.commits import RecoveryPlace, check_inputs, committed, log_offsets
from topologies.engine.crash import crash_point
from topologies.engine.errors import (
    AUTHORISATION,
    NotAuthorised,
    NotYet,
    StoreAhead,
    StoreCorrupt,
    Superseded,
    TornPartition,
    WorkerStopped,
)
from topologies.engine.store import Store, StoreTable, distrust
from topologies.topics import JOURNAL, changelog

log = logging.getLogger(__name__)
CONSUME = 10_000
PIECE = 20_000


@dataclass(slots=True)
class Recovered:
    """A partition that may run: its store is exactly at Kafka's committed step."""

    partition: int
    store: Store
    tables: dict[str, StoreTable]
    offsets: dict[str, int]
    """Next input offset by topic (without prefix)."""
    step: int
    at: int
    """The last step's time, µs; 0 before the first."""
    alias_offsets: tuple[int, ...]
    changelog_offsets: dict[str, int]
    """Next changelog offset by table."""
    behind: bool = False
    """Whether rows came from the changelog."""


class _Clients(NamedTuple):
    consumer: Consumer
    admin: AdminClient


def recover(place: RecoveryPlace, partitions: Sequence[int], superseded: Callable[[], bool]) -> list[Recovered]:
    """Brings partitions to Kafka's committed step. Runs beside the polling thread.

    Pieces that do not agree are looked at again for a while: a new leader may not know all of its log yet, and
    another worker may have gone on while this one slept. Brokers that are away are waited for. Raises Superseded
    where `superseded()` turns true, and a WorkerStopped with the reason where the pieces still do not agree: the
    partition must not run then.
    """
    clock, wait_s = place.cluster.seams.clock, place.limits.restore_wait_s
    deadline = clock.monotonic() + 2 * wait_s
    while True:
        try:
            return _attempt(place, partitions, superseded)
        except (StoreAhead, TornPartition, NotYet) as error:
            if clock.monotonic() > deadline and not superseded():
                raise
            doubt: Exception = error
        except KafkaException as error:
            told = error.args[0]
            reason = f"partitions {list(partitions)} can't be recovered: {told.str()}"
            if told.code() in AUTHORISATION:
                raise NotAuthorised(f"{reason}; grant this worker the right") from error
            if told.code() < 0:  # the client's own codes: no broker answers, which is waited for
                deadline = clock.monotonic() + wait_s
            elif clock.monotonic() > deadline and not superseded():
                raise WorkerStopped(reason) from error
            doubt = error
        if superseded():
            raise Superseded from doubt
        log.warning("the recovery of partitions %s is tried again: %s", list(partitions), doubt)
        clock.sleep(1.0)


def _attempt(place: RecoveryPlace, partitions: Sequence[int], superseded: Callable[[], bool]) -> list[Recovered]:
    consumer: Consumer = place.cluster.seams.consumer(
        place.cluster.client(
            **{
                "group.id": f"{place.cluster.prefix}headrace.{place.plan.role}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.queue.backoff.ms": 10,
                "fetch.wait.max.ms": 20,
                "queued.max.messages.kbytes": 32_768,
            }
        )
    )
    clients = _Clients(consumer, place.cluster.seams.admin(place.cluster.client()))
    opened: list[Recovered] = []
    try:
        with place.watchdog.guard("list_topics"):
            consumer.list_topics(
                timeout=place.limits.call_s
            )  # or each topic's first read waits a second for its leader
        commits = committed(place, consumer, partitions)
        check_inputs(place, clients.admin, commits)
        opened.extend(_open(place, partition, *commits[partition]) for partition in partitions)
        _restore(place, clients, opened, superseded)
        for recovered in opened:
            _check_journal(place, clients, recovered)
            if recovered.store.unclean or recovered.behind:
                for table in recovered.tables.values():
                    table.measure()
            recovered.store.write([], store_meta(place.cluster_id, recovered, place.cluster.seams.clock.micros()))
    except BaseException:
        for recovered in opened:
            recovered.store.close()
        raise
    finally:
        consumer.close()
    return opened


def store_meta(cluster_id: str, state: Recovered, now: int) -> dict[str, Any]:
    """What a store's rows stand for, written `now` (µs)."""
    return {
        "cluster": cluster_id,
        "step": state.step,
        "at": state.at,
        "offsets": state.offsets,
        "changelogs": state.changelog_offsets,
        "sizes": {name: table.size for name, table in state.tables.items()},
        "written_at": now,
    }


def _open(place: RecoveryPlace, partition: int, offsets: dict[str, int], step: int) -> Recovered:
    folder = place.folder / f"p{partition}"
    store, meta = _usable(place, folder)
    if meta is not None and meta["step"] > step:
        store.close()
        raise StoreAhead(
            f"partition {partition}: the store is at step {meta['step']}, Kafka only at {step}: the broker lost "
            f"committed data. Keep {folder} as evidence; to rebuild from what Kafka has, move it away."
        )
    recovered = Recovered(
        partition,
        store,
        {spec.name: StoreTable(store, spec, place.limits.row_cache) for spec in place.plan.tables()},
        offsets,
        step,
        0,
        (),
        dict(meta["changelogs"]) if meta else {},
    )
    for name, table in recovered.tables.items():
        table.size = meta["sizes"][name] if meta else 0
    return recovered


def _usable(place: RecoveryPlace, folder: Path) -> tuple[Store, dict[str, Any] | None]:
    """The store in the folder and what it stands for; one that can't be trusted is moved aside and begun anew."""
    stores = place.stores
    try:
        store = stores.open(folder)
    except StoreCorrupt as error:
        log.warning("%s; moved to %s, and rebuilt from its changelog", error, stores.move_aside(folder))
        return stores.open(folder), None
    meta = store.meta()
    if meta is None or (reason := distrust(meta, place.cluster_id, place.cluster.seams.clock.micros())) is None:
        return store, meta
    store.close()
    log.warning(
        "the store %s %s; moved to %s, and rebuilt from its changelog", folder, reason, stores.move_aside(folder)
    )
    return stores.open(folder), None


def _restore(place: RecoveryPlace, clients: _Clients, opened: list[Recovered], superseded: Callable[[], bool]) -> None:
    """Replays the changelogs' tails up to the end that Kafka had after the offsets were stable."""
    by_where, start, target = _tails(place, clients.admin, opened)
    consumer = clients.consumer
    if not start:
        return
    consumer.assign(start)
    left = dict(target)
    remaining = sum(target.values()) - sum(max(0, tp.offset) for tp in start)
    place.report(remaining)
    pending: dict[int, list[tuple[bytes, bytes | None]]] = {r.partition: [] for r in opened}
    deadline = place.cluster.seams.clock.monotonic() + place.limits.restore_wait_s
    while left:
        with place.watchdog.guard("consume of changelogs"):
            messages = consumer.consume(1, 0.2) + consumer.consume(CONSUME, 0)
        if superseded():
            raise Superseded
        for message in messages:
            where = (message.topic(), message.partition())
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # a public constant
                    raise KafkaException(error)
                if message.offset() >= target[where]:
                    left.pop(where, None)
                    recovered, spec = by_where[where]
                    recovered.changelog_offsets[spec.name] = message.offset()
                continue
            recovered, spec = by_where[where]
            rows = pending[recovered.partition]
            rows.append((f"{spec.name}\x00".encode() + message.key(), message.value()))
            if len(rows) >= PIECE:
                recovered.store.write(rows, None)
                pending[recovered.partition] = []
                crash_point("in_restore")
        if messages:
            deadline = place.cluster.seams.clock.monotonic() + place.limits.restore_wait_s
            remaining -= len(messages)
            place.report(max(remaining, 0))
        elif place.cluster.seams.clock.monotonic() > deadline:
            topic, partition = next(iter(left))
            raise NotYet(
                f"{topic} [{partition}] can't be read to offset {left[topic, partition]}: a transaction hangs on it"
            )
    for recovered in opened:
        recovered.store.write(pending[recovered.partition], None)
    place.report(0)


def _tails(
    place: RecoveryPlace, admin: AdminClient, opened: list[Recovered]
) -> tuple[dict[Any, tuple[Recovered, TableSpec]], list[TopicPartition], dict[Any, int]]:
    by_where = {
        (place.cluster.prefix + changelog(spec.name).name, recovered.partition): (recovered, spec)
        for recovered in opened
        for spec in place.plan.tables()
    }
    ends = log_offsets(admin, list(by_where), OffsetSpec.latest(), place.limits.call_s)
    starts = log_offsets(admin, list(by_where), OffsetSpec.earliest(), place.limits.call_s)
    start, target = [], {}
    for where, (recovered, spec) in by_where.items():
        have = recovered.changelog_offsets.get(spec.name, 0)
        if have > ends[where]:
            raise StoreAhead(
                f"{where[0]} [{where[1]}] ends at {ends[where]}, the store has read up to {have}: the broker lost data"
            )
        if have < starts[where]:
            have = starts[where]  # a compacted log starts at 0; one whose head was deleted can't be trusted
            if have > 0:
                raise TornPartition(
                    f"{where[0]} [{where[1]}] starts at {have}: its head was deleted, the table can't be rebuilt"
                )
        if have < ends[where]:
            recovered.behind = True
            start.append(TopicPartition(*where, have or OFFSET_BEGINNING))
            target[where] = ends[where]
        else:
            recovered.changelog_offsets[spec.name] = have
    return by_where, start, target


def _last_journal(place: RecoveryPlace, clients: _Clients, partition: int) -> JournalRecord | None:
    """The last committed journal record of a partition, or None where there is none yet."""
    where = (place.cluster.prefix + JOURNAL.name, partition)
    low = log_offsets(clients.admin, [where], OffsetSpec.earliest(), place.limits.call_s)[where]
    high = log_offsets(clients.admin, [where], OffsetSpec.latest(), place.limits.call_s)[where]
    span = 16
    while high > low:
        start = max(low, high - span)
        found = _last_value(place, clients.consumer, TopicPartition(*where, start), high)
        if found is not None:
            record: JournalRecord = codec.decoder(JOURNAL.subject)(found)
            return record
        if start == low:
            return None
        span *= 8
    return None


def _last_value(place: RecoveryPlace, consumer: Consumer, start: TopicPartition, end: int) -> bytes | None:
    """The last committed value between `start` and `end`, once all of it is stable."""
    consumer.assign([start])
    found = None
    deadline = place.cluster.seams.clock.monotonic() + place.limits.restore_wait_s
    while True:
        with place.watchdog.guard("poll of the journal"):
            message = consumer.poll(0.2)
        if message is not None and (error := message.error()) is None:
            found = message.value()
        elif message is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # a public constant
            raise KafkaException(error)
        elif message is not None and message.offset() >= end:
            return found
        if place.cluster.seams.clock.monotonic() > deadline:
            raise NotYet(f"{start.topic} [{start.partition}] can't be read to {end}: a transaction hangs on it")


def _check_journal(place: RecoveryPlace, clients: _Clients, recovered: Recovered) -> None:
    last = _last_journal(place, clients, recovered.partition)
    step = last.step if last else 0
    if step != recovered.step:
        raise TornPartition(
            f"partition {recovered.partition}: the journal ends at step {step}, the committed offsets stand at step "
            f"{recovered.step}"
        )
    if last is None:
        return
    recovered.at = last.at
    recovered.alias_offsets = last.alias_offsets
    for entry in last.inputs:
        if recovered.offsets.get(entry.topic, -1) < entry.next_offset:
            raise TornPartition(
                f"partition {recovered.partition}: step {step} read {entry.topic} up to {entry.next_offset}, but "
                f"{recovered.offsets.get(entry.topic)} is committed"
            )
