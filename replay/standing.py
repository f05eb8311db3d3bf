"""Invariant 9 on the cluster: committed offsets agree with the journal, nothing lags, no transaction is open."""

from collections.abc import Iterable, Mapping
from time import monotonic, sleep
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from replay.journal import CORE, Steps
from replay.reader import CALL_S, Place, Unreachable, consumer
from replay.source import Source
from replay.verdicts import Verdict
from topologies.engine.config import ClusterConfig
from topologies.engine.offsets import log_offsets

PATIENCE_S = 30.0
"""How long a call is tried again while leaders and coordinators move, or a commit is under way."""
HANGS_S = 15.0
"""An open transaction that has not moved for so long is not a live worker's: theirs end after 10 s."""


class Committed(NamedTuple):
    """What the group has committed for an input partition."""

    offset: int
    step: str
    """The partition's step, which workers commit as metadata."""


class Standing(Protocol):
    """What a cluster knows besides its topics' records."""

    def committed(self, places: Iterable[Place]) -> dict[Place, Committed]:
        """The group's offsets; places without one are left out."""

    def open_at(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        """Partitions with an open transaction below their end, and the offset at which it begins."""


class Group:
    """The consumer group of a role, seen from outside: joins nothing, commits nothing."""

    def __init__(self, cluster: ClusterConfig, role: str = CORE) -> None:
        self._cluster, self._prefix = cluster, cluster.prefix
        self.name = f"{cluster.prefix}headrace.{role}"
        self._admin = AdminClient(cluster.client(log_level=0))
        self._consumer = consumer(cluster, role)  # read_committed: an offset whose transaction is open is waited for

    def committed(self, places: Iterable[Place]) -> dict[Place, Committed]:
        """The group's stable offsets; places without one are left out. Raises Unreachable."""
        wanted = [TopicPartition(self._prefix + topic, partition) for topic, partition in places]
        deadline = monotonic() + PATIENCE_S
        while True:
            try:
                found = self._consumer.committed(wanted, timeout=CALL_S)
                trouble = next((tp.error for tp in found if tp.error is not None), None)
            except KafkaException as error:
                trouble = error.args[0]
            if trouble is None:
                break
            if monotonic() > deadline:
                raise Unreachable(
                    f"{self._cluster.bootstrap} does not tell the offsets of {self.name}: {trouble.str()}"
                )
            sleep(0.05)
        cut = len(self._prefix)
        return {
            (tp.topic[cut:], tp.partition): Committed(tp.offset, tp.metadata or "") for tp in found if tp.offset >= 0
        }

    def open_at(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        """Partitions with an open transaction below their end, and the offset where it begins. Raises Unreachable."""
        wanted = [(self._prefix + topic, p) for topic, p in ends]
        cut, deadline = len(self._prefix), monotonic() + PATIENCE_S
        while True:
            try:
                stable = log_offsets(self._admin, wanted, OffsetSpec.latest(), CALL_S, IsolationLevel.READ_COMMITTED)
            except KafkaException as error:
                if monotonic() > deadline:
                    raise Unreachable(f"{self._cluster.bootstrap} does not tell its stable offsets: {error}") from error
                sleep(0.1)
            else:
                found = {(topic[cut:], p): offset for (topic, p), offset in stable.items()}
                return {place: offset for place, offset in found.items() if offset < ends[place]}

    def close(self) -> None:
        """Ends the clients."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def hanging(standing: Standing, ends: Mapping[Place, int]) -> dict[Place, int]:
    """Partitions whose transaction stays open at one offset for `HANGS_S`; none of a worker that goes on does."""
    found = standing.open_at(ends)
    deadline = monotonic() + HANGS_S
    while found and monotonic() < deadline:
        sleep(0.1)
        again = standing.open_at(ends)
        found = {place: offset for place, offset in found.items() if again.get(place) == offset}
    return found


def settle(standing: Standing, ends: Mapping[Place, int]) -> None:
    """Waits until every transaction that wrote below `ends` has ended. Raises Unreachable where one does not."""
    deadline = monotonic() + PATIENCE_S
    while found := standing.open_at(ends):
        if monotonic() > deadline:
            (topic, partition), offset = min(found.items())
            raise Unreachable(f"{topic} partition {partition}: a transaction hangs open at offset {offset}")
        sleep(0.02)


def tell_open(places: Mapping[Place, int], ends: Mapping[Place, int], verdict: Verdict) -> None:
    """Each open transaction is an offence."""
    for topic, partition in sorted(places):
        offset, end = places[topic, partition], ends[topic, partition]
        verdict.offends(
            f"{topic} partition {partition}: a transaction is open from offset {offset} on, {end - offset} before the "
            "end: nobody who reads committed records gets past it (`kafka-transactions.sh find-hanging` names its producer)"
        )


def compare_offsets(
    source: Source, committed: Mapping[Place, Committed], before: Mapping[int, int], steps: Steps, verdict: Verdict
) -> None:
    """Committed offsets agree with the journal, as a worker's recovery checks it.

    `before`: each partition's last step when the offsets had not been asked for yet; `steps`, the role's, have been
    read on since.
    """
    after = steps.last_steps()
    if after and not committed:
        verdict.note("the group has committed nothing here: no worker can go on from these topics")
        return
    by_partition: dict[int, dict[str, Committed]] = {}
    for (topic, partition), found in committed.items():
        by_partition.setdefault(partition, {})[topic] = found
        verdict.examined += 1
    for partition in sorted({*by_partition, *after}):
        found_here = by_partition.get(partition, {})
        if not found_here and not before.get(partition, 0):
            continue  # its first step came after the offsets were asked for
        stands = {found.step for found in found_here.values()}
        where = f"role {steps.role}, partition {partition}"
        if len(stands) != 1 or not (step := next(iter(stands))).isdecimal():
            verdict.offends(f"{where}: committed offsets stand at different steps or none: {_told(found_here)}")
        elif not before.get(partition, 0) <= int(step) <= after.get(partition, 0):
            verdict.offends(
                f"{where}: the journal is at step {after.get(partition, 0)}, the committed offsets at step {step}: "
                "no worker can go on from there"
            )
        else:
            _compare_topics(source, partition, found_here, steps, verdict)


def _compare_topics(
    source: Source, partition: int, found: Mapping[str, Committed], steps: Steps, verdict: Verdict
) -> None:
    step = int(next(iter(found.values())).step)
    read, following = steps.around(partition, step)
    for topic in sorted({*found, *read}):
        where, least = f"{topic} partition {partition}", read.get(topic, 0)
        if topic not in found:
            verdict.offends(f"{where}: no offset is committed, step {step} has read up to {least}")
        elif (offset := found[topic].offset) < least:
            verdict.offends(f"{where}: {offset} is committed, step {step} has read up to {least}")
        elif offset > (most := following.get(topic, 0)):
            skipped = next(iter(source.read(topic, {(topic, partition): offset}, {(topic, partition): most})), None)
            if skipped is not None:
                verdict.offends(
                    f"{where}: {offset} is committed at step {step}, which has not read the record at {skipped.offset}: "
                    "no step will"
                )


def compare_lag(
    source: Source, committed: Mapping[Place, Committed], ends: Mapping[Place, int], verdict: Verdict
) -> None:
    """Nothing waits behind a committed offset; markers and aborted records are no lag."""
    for place, found in sorted(committed.items()):
        verdict.examined += 1
        if found.offset < ends[place]:
            raw = next(iter(source.read(place[0], {place: ends[place]}, {place: found.offset})), None)
            if raw is not None:
                verdict.offends(
                    f"{place[0]} partition {place[1]}: the record at offset {raw.offset} waits, {found.offset} is committed "
                    f"and the end is {ends[place]}"
                )


def _told(found: Mapping[str, Committed]) -> str:
    return ", ".join(f"{topic} {each.offset} at {each.step or 'no step'}" for topic, each in sorted(found.items())) or (
        "none is committed"
    )
