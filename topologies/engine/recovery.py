"""From assignment to ready: committed offsets, local store, changelog's tail, journal, checks.

The order matters and each step says why; docs/architecture.md, "Recovery", has the whole story.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from schemas import codec
from schemas.internal import JournalRecord
from topologies.engine.changelog import head_of, unpack
from topologies.engine.commits import RecoveryPlace, check_inputs, committed
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
from topologies.engine.offsets import log_offsets
from topologies.engine.store import RowCache, Store, StoreTable, distrust
from topologies.topics import JOURNAL, changelog

_log = logging.getLogger(__name__)
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
    changelog: int = 0
    """Next changelog offset."""
    base: int = 0
    """Changelog offset from which on every row that lives can be read."""
    logged: int = 0
    """About how many rows are on the changelog from there on."""
    stands: int = 0
    """The step at which the rows stand; behind `step` until the changelog's tail is read."""
    behind: bool = False
    """Whether rows came from the changelog."""


class _Clients(NamedTuple):
    consumer: Consumer
    admin: AdminClient


class _Log(NamedTuple):
    """A partition of the changelog: its first offset, and its end, transactions or not."""

    topic: str
    partition: int
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.topic} [{self.partition}]"


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
        _log.warning("the recovery of partitions %s is tried again: %s", list(partitions), doubt)
        clock.sleep(1.0)


def _attempt(place: RecoveryPlace, partitions: Sequence[int], superseded: Callable[[], bool]) -> list[Recovered]:
    clients = _Clients(_reader(place), place.cluster.seams.admin(place.cluster.client()))
    opened: list[Recovered] = []
    try:
        with place.watchdog.guard("list_topics"):
            clients.consumer.list_topics(
                timeout=place.limits.call_s
            )  # or each topic's first read waits a second for its leader
        commits = committed(place, clients.consumer, partitions)
        check_inputs(place, clients.admin, commits)
        logs = _logs(place, clients.admin, partitions)
        rows = RowCache(place.limits.cached_rows)
        for log in logs:
            opened.append(_open(place, log, rows, commits[log.partition]))
            if opened[-1].behind and opened[-1].stands == 0:
                _find_base(place, clients.admin, opened[-1], log)
        _restore(place, clients, [pair for pair in zip(opened, logs, strict=True) if pair[0].behind], superseded)
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
        clients.consumer.close()
    return opened


def _reader(place: RecoveryPlace) -> Consumer:
    """A consumer for one reading after another, each told that it has come to the end."""
    owned = {
        "group.id": f"{place.cluster.prefix}headrace.{place.plan.role}",
        "enable.auto.commit": False,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "fetch.queue.backoff.ms": 10,
        "fetch.wait.max.ms": 20,
        "queued.max.messages.kbytes": 32_768,
    }
    return place.cluster.seams.consumer(place.cluster.client(**owned))


def store_meta(cluster_id: str, state: Recovered, now: int) -> dict[str, Any]:
    """What a store's rows stand for, written `now` (µs)."""
    return {
        "cluster": cluster_id,
        "step": state.step,
        "at": state.at,
        "offsets": state.offsets,
        "changelog": state.changelog,
        "base": state.base,
        "logged": state.logged,
        "sizes": {name: table.size for name, table in state.tables.items()},
        "written_at": now,
    }


def _logs(place: RecoveryPlace, admin: AdminClient, partitions: Sequence[int]) -> list[_Log]:
    topic = place.cluster.prefix + changelog(place.plan.role).name
    wheres = [(topic, partition) for partition in partitions]
    ends = log_offsets(admin, wheres, OffsetSpec.latest(), place.limits.call_s)
    firsts = log_offsets(admin, wheres, OffsetSpec.earliest(), place.limits.call_s)
    return [_Log(*where, firsts[where], ends[where]) for where in wheres]


def _open(place: RecoveryPlace, log: _Log, rows: RowCache, commit: tuple[dict[str, int], int]) -> Recovered:
    offsets, step = commit
    folder = place.folder / f"p{log.partition}"
    store, meta = _usable(place, folder, log)
    if meta is not None and (meta["step"] > step or meta["changelog"] > log.end):
        store.close()
        raise StoreAhead(
            f"partition {log.partition}: the store is at step {meta['step']} and has read {log} up to "
            f"{meta['changelog']}, Kafka is only at step {step} and offset {log.end}: the broker lost committed data. "
            f"Keep {folder} as evidence; to rebuild from what Kafka has, move it away."
        )
    tables = {spec.name: StoreTable(store, spec, rows) for spec in place.plan.tables()}
    recovered = Recovered(log.partition, store, tables, offsets, step, 0, (), behind=log.end > 0)
    if meta is not None:
        recovered.changelog, recovered.base = meta["changelog"], meta["base"]
        recovered.logged, recovered.stands = meta["logged"], meta["step"]
        recovered.behind = meta["changelog"] < log.end
        for name, table in tables.items():
            table.size = meta["sizes"][name]
    return recovered


def _usable(place: RecoveryPlace, folder: Path, log: _Log) -> tuple[Store, dict[str, Any] | None]:
    """The store in the folder and what it stands for; one that can't be trusted is moved aside and begun anew."""
    stores = place.stores
    try:
        store = stores.open(folder)
        meta = store.meta()
        reason = _distrust(place, store, meta, log)
    except StoreCorrupt as error:
        _log.warning("%s; moved to %s, and rebuilt from its changelog", error, stores.move_aside(folder))
        return stores.open(folder), None
    if reason is None:
        return store, meta
    store.close()
    _log.warning(
        "the store %s %s; moved to %s, and rebuilt from its changelog", folder, reason, stores.move_aside(folder)
    )
    return stores.open(folder), None


def _distrust(place: RecoveryPlace, store: Store, meta: dict[str, Any] | None, log: _Log) -> str | None:
    if meta is None:
        begun = next(iter(store.rows(b"", b"", 1)), None) is not None
        return "was left by a restore that did not end" if begun else None
    if (reason := distrust(meta, place.cluster_id)) is not None:
        return reason
    if meta["changelog"] < log.first:
        return f"has read {log} up to {meta['changelog']} only, and that begins at {log.first} by now"
    return None


def _find_base(place: RecoveryPlace, admin: AdminClient, recovered: Recovered, log: _Log) -> None:
    """Where an empty store begins to read: the last record of the changelog says so.

    Read by a consumer of its own, so that none of this can be taken for what the restore reads.
    """
    consumer = _reader(place)
    try:
        last = _last_committed(place, _Clients(consumer, admin), (log.topic, log.partition))
    finally:
        consumer.close()
    try:
        base = 0 if last is None else head_of(last).base
    except ValueError as error:
        raise TornPartition(f"{log}: {error}") from error
    if base < log.first:
        raise TornPartition(
            f"{log} starts at {log.first}, and only from {base} on it has all rows: its head was deleted, the tables "
            "can't be rebuilt"
        )
    recovered.changelog = recovered.base = base


def _restore(
    place: RecoveryPlace,
    clients: _Clients,
    behind: list[tuple[Recovered, _Log]],
    superseded: Callable[[], bool],
) -> None:
    """Replays the changelogs' tails up to the end that Kafka had after the offsets were stable."""
    if not behind:
        return
    clock, wait_s = place.cluster.seams.clock, place.limits.restore_wait_s
    left = {log.partition: (recovered, log) for recovered, log in behind}
    clients.consumer.assign([TopicPartition(log.topic, log.partition, r.changelog) for r, log in behind])
    remaining = sum(log.end - recovered.changelog for recovered, log in behind)
    place.report(remaining)
    pending: dict[int, list[tuple[bytes, bytes | None]]] = {partition: [] for partition in left}
    deadline = clock.monotonic() + wait_s
    while left:
        with place.watchdog.guard("consume of changelogs"):
            messages = clients.consumer.consume(1, 0.2) + clients.consumer.consume(CONSUME, 0)
        if superseded():
            raise Superseded
        for message in messages:
            if message.partition() not in left:
                continue
            recovered, log = left[message.partition()]
            if _at_end(message, log):
                recovered.changelog = message.offset()
                del left[log.partition]
            elif message.error() is None:
                rows = pending[log.partition]
                _unpack(message.value(), recovered, log, rows)
                if len(rows) >= PIECE:
                    recovered.store.write(rows, None)
                    pending[log.partition] = []
                    crash_point("in_restore")
        if messages:
            deadline = clock.monotonic() + wait_s
            remaining -= len(messages)
            place.report(max(remaining, 0))
        elif clock.monotonic() > deadline:
            _, log = next(iter(left.values()))
            raise NotYet(f"{log} can't be read to offset {log.end}: a transaction hangs on it")
    for recovered, log in behind:
        recovered.store.write(pending[log.partition], None)
    place.report(0)


def _at_end(message: Message, log: _Log) -> bool:
    """Whether the changelog is read to its end. Raises KafkaException."""
    error = message.error()
    if error is None:
        return False
    if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # a public constant
        raise KafkaException(error)
    return bool(message.offset() >= log.end)


def _unpack(value: bytes, recovered: Recovered, log: _Log, rows: list[tuple[bytes, bytes | None]]) -> None:
    """Adds a changelog record's rows to `rows`, under their keys in the store."""
    try:
        head, found = unpack(value)
    except ValueError as error:
        raise TornPartition(f"{log}: {error}") from error
    if recovered.stands and head.step not in (recovered.stands, recovered.stands + 1):
        raise TornPartition(f"{log} goes on from step {recovered.stands} with step {head.step}")
    recovered.stands, recovered.base = head.step, head.base
    recovered.logged += len(found)
    rows += found


def _last_committed(
    place: RecoveryPlace, clients: _Clients, where: tuple[str, int], wanted: Callable[[bytes], bool] = bool
) -> bytes | None:
    """The last committed value of a partition that is wanted, or None where there is none yet."""
    low = log_offsets(clients.admin, [where], OffsetSpec.earliest(), place.limits.call_s)[where]
    high = log_offsets(clients.admin, [where], OffsetSpec.latest(), place.limits.call_s)[where]
    span = 16
    while high > low:
        start = max(low, high - span)
        found = _last_value(place, clients.consumer, (TopicPartition(*where, start), high), wanted)
        if found is not None or start == low:
            return found
        span *= 8
    return None


def _last_value(
    place: RecoveryPlace, consumer: Consumer, span: tuple[TopicPartition, int], wanted: Callable[[bytes], bool]
) -> bytes | None:
    """The last committed value in a span that is wanted, once all of the span is stable."""
    start, end = span
    here = (start.topic, start.partition)
    consumer.assign([start])
    found = None
    clock, wait_s = place.cluster.seams.clock, place.limits.restore_wait_s
    deadline = clock.monotonic() + wait_s
    while True:
        with place.watchdog.guard("poll of the journal"):
            message = consumer.poll(0.2)
        if message is not None and message.topic() and (message.topic(), message.partition()) != here:
            continue  # the end of what was read before
        if message is not None and (error := message.error()) is None:
            deadline = clock.monotonic() + wait_s
            if wanted(value := message.value()):
                found = value
        elif message is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001  # a public constant
            raise KafkaException(error)
        elif message is not None and message.offset() >= end:
            return found
        if clock.monotonic() > deadline:
            raise NotYet(f"{start.topic} [{start.partition}] can't be read to {end}: a transaction hangs on it")


def _check_journal(place: RecoveryPlace, clients: _Clients, recovered: Recovered) -> None:
    if recovered.stands != recovered.step:
        raise TornPartition(
            f"partition {recovered.partition}: the changelog ends at step {recovered.stands}, the committed offsets "
            f"stand at step {recovered.step}"
        )
    decode = codec.decoder(JOURNAL.subject)
    where = (place.cluster.prefix + JOURNAL.name, recovered.partition)
    value = _last_committed(place, clients, where, lambda value: decode(value).role == place.plan.role)
    last: JournalRecord | None = None if value is None else decode(value)
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
