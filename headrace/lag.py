"""Lag seen from outside, with a true zero.

A transaction's marker takes an offset, so "end − committed" is never zero behind a transactional writer. This
reads: at the committed offset, read_committed, the first thing that comes is either a record that waits or the
end of the partition, and then nothing waits. It joins no group and commits nothing.
"""

import time
from typing import Any, NamedTuple

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.missing import require_topics
from replay.reader import NO_LEADER, consumer
from topologies.engine.admin import ClusterUnreachable, admin_client
from topologies.engine.config import ClusterConfig
from topologies.plan import Plan

CALL_S = 3.0
"""One call: the first one of a new cluster may hang, for the broker makes its offsets topic only then."""
GIVE_UP_S = 30.0
READ_S = 30.0
RETRY_S = 0.1
_PASSING = NO_LEADER | {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TIMED_OUT,  # noqa: SLF001 - its public name
}
"""Answers of a cluster whose leaders are moving, or whose topics are very new."""


class PartitionLag(NamedTuple):
    """One input partition. Topic names carry the prefix."""

    topic: str
    partition: int
    committed: int | None
    """Offset from which the group goes on; None before its first commit."""
    end: int
    """Where a read_committed reader ends (last stable offset)."""
    records: int
    """Records that wait, at most: markers and aborted records behind the first one count too. 0 is exact."""
    seconds: float
    """Age of the first record that waits, by its timestamp; 0.0 when none waits."""
    uncommitted_tail: int
    """Offsets of open transactions, behind `end`."""


class Lag(NamedTuple):
    """All input partitions of a group."""

    group: str
    partitions: tuple[PartitionLag, ...]

    @property
    def records(self) -> int:
        """Records that wait, at most."""
        return sum(one.records for one in self.partitions)

    @property
    def seconds(self) -> float:
        """Age of the oldest record that waits."""
        return max((one.seconds for one in self.partitions), default=0.0)

    @property
    def uncommitted_tail(self) -> int:
        """Offsets of open transactions."""
        return sum(one.uncommitted_tail for one in self.partitions)


Where = tuple[str, int]


def measure(cluster: ClusterConfig, plan: Plan) -> Lag:
    """The lag of the plan's group, now.

    Raises ClusterUnreachable, and MissingTopics where an input of the plan is not there.
    """
    group = f"{cluster.prefix}headrace.{plan.role}"
    counts = require_topics(cluster, [topic.name for topic in plan.inputs])
    places = [(cluster.prefix + name, number) for name, count in counts.items() for number in range(count)]
    client = admin_client(cluster)
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        try:
            return Lag(group, _measured(client, cluster, plan.role, places))
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise ClusterUnreachable(
                    f"Kafka at {cluster.bootstrap} did not tell the offsets of {group}: {error.args[0].str()}; try again"
                ) from error
        time.sleep(RETRY_S)


def _measured(client: AdminClient, cluster: ClusterConfig, role: str, places: list[Where]) -> tuple[PartitionLag, ...]:
    committed = _committed(cluster, role, places)  # before the ends: else progress in between looks negative
    first = _ends(client, places, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED)
    stable = _ends(client, places, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)
    high = _ends(client, places, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)
    starts = {place: max(committed.get(place, 0), first[place]) for place in places}
    waiting = _first_waiting(cluster, {place: start for place, start in starts.items() if start < stable[place]})
    now = time.time()
    found = []
    for place in places:
        head = waiting.get(place)
        found.append(
            PartitionLag(
                *place,
                committed=committed.get(place),
                end=stable[place],
                records=0 if head is None else max(stable[place] - head[0], 1),
                seconds=0.0 if head is None else max(now - head[1], 0.0),
                uncommitted_tail=max(high[place] - stable[place], 0),
            )
        )
    return tuple(found)


def _committed(cluster: ClusterConfig, role: str, places: list[Where]) -> dict[Where, int]:
    """By a consumer: librdkafka 2.16's admin client crashes in this call where a coordinator has moved."""
    client = consumer(cluster, role, **{"isolation.level": "read_uncommitted"})
    try:
        found = client.committed([TopicPartition(*place) for place in places], timeout=CALL_S)
    finally:
        client.close()
    if errors := [one.error for one in found if one.error is not None]:
        raise KafkaException(errors[0])
    return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}


def _ends(client: AdminClient, places: list[Where], spec: Any, isolation: IsolationLevel) -> dict[Where, int]:
    asked = {TopicPartition(*place): spec for place in places}
    futures = client.list_offsets(asked, isolation_level=isolation, request_timeout=CALL_S)
    return {(one.topic, one.partition): future.result().offset for one, future in futures.items()}


def _first_waiting(cluster: ClusterConfig, starts: dict[Where, int]) -> dict[Where, tuple[int, float]]:
    """Offset and timestamp (s) of the first record at or behind each start; partitions without one are left out.

    Raises ClusterUnreachable where a partition neither gives a record nor ends within READ_S.
    """
    if not starts:
        return {}
    client = consumer(
        cluster,
        "lag",
        **{
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
            "queued.min.messages": 1,
            "fetch.message.max.bytes": 65_536,
        },
    )
    found: dict[Where, tuple[int, float]] = {}
    open_places = set(starts)
    try:
        client.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        deadline = time.monotonic() + READ_S
        while open_places:
            message = client.poll(1.0)
            if message is None:
                if time.monotonic() > deadline:
                    topic, partition = min(open_places)
                    raise ClusterUnreachable(
                        f"{topic} [{partition}] could not be read within {READ_S:.0f} s; try again"
                    )
                continue
            place = (str(message.topic()), int(message.partition() or 0))
            error = message.error()
            if place not in open_places or (error is not None and error.code() != KafkaError._PARTITION_EOF):  # noqa: SLF001 - its public name
                continue
            open_places.discard(place)
            if error is None:
                found[place] = (int(message.offset() or 0), message.timestamp()[1] / 1000)
                client.pause([TopicPartition(*place)])
    finally:
        client.close()
    return found
