"""Reads topics as they are: read_committed, by assign, from start to an end; joins no group, commits nothing."""

from collections.abc import Iterator, Mapping, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from topologies.engine.config import ClusterConfig
from topologies.engine.offsets import log_offsets

CALL_S = 15.0
"""How long one call to the cluster may take."""
STALL_S = 30.0
"""How long a read waits without progress: more than a transaction may stay open (10 s) and be ended (1 s)."""
BATCH = 2_000
"""Records taken from the client at once."""
_WAIT_S = 0.1
ELECTION_S = 20.0
"""How long a partition may be without a leader, as a new topic's is for a moment, or a node without a connection."""
PASSING = frozenset(
    {
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError._TRANSPORT,  # noqa: SLF001  that is its public name
        KafkaError._NOENT,  # noqa: SLF001  "no leaders found"
    }
)
"""Answers of a cluster whose leaders move or whose topics are very new, and of a connection that broke."""

Place = tuple[str, int]
"""(topic without prefix, partition)."""


class Unreachable(Exception):
    """No broker answers, or it stopped answering."""


class HeadDeleted(Unreachable):
    """Records were deleted before they could be read."""


class TopicMissing(Exception):
    """A topic that must be there is not."""


class Raw(NamedTuple):
    """A record as it stands in Kafka."""

    topic: str
    """Without the topic prefix."""
    partition: int
    offset: int
    timestamp: int
    """µs since 1970, UTC; 0 where the record has none."""
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] | None


def consumer(cluster: ClusterConfig, name: str, **more: object) -> Consumer:
    """A client for `assign` that sees what is committed; it joins no group and commits nothing."""
    return Consumer(
        cluster.client(
            **{
                "group.id": f"{cluster.prefix}headrace.{name}",  # the client wants a name; nothing joins
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.queue.backoff.ms": 10,
                "log_level": 0,
                **more,
            }
        )
    )


def partition_counts(client: Consumer, cluster: ClusterConfig) -> dict[str, int]:
    """Partition count of every topic under the prefix. Raises Unreachable."""
    try:
        found = client.list_topics(timeout=CALL_S).topics
    except KafkaException as error:
        raise unreachable(cluster, error.args[0]) from error
    cut = len(cluster.prefix)
    return {name[cut:]: len(topic.partitions) for name, topic in found.items() if name.startswith(cluster.prefix)}


def must_have(there: Mapping[str, int], topics: Sequence[str], cluster: ClusterConfig) -> None:
    """Raises TopicMissing unless all of `topics` are there."""
    if missing := [cluster.prefix + topic for topic in topics if topic not in there]:
        what = f"topic {missing[0]} is" if len(missing) == 1 else f"topics {', '.join(missing)} are"
        raise TopicMissing(
            f"{what} not on the cluster at {cluster.bootstrap}. Create what is missing with "
            "`headrace topics create`, or name the run or topic prefix that you mean."
        )


def unreachable(cluster: ClusterConfig, error: KafkaError) -> Unreachable:
    """No broker answers: where, why, and the way out."""
    return Unreachable(
        f"no Kafka answers at {cluster.bootstrap}: {error.str()}. Start one with `headrace up`, or set "
        "KAFKA_BOOTSTRAP_SERVERS."
    )


def raw_of(message: Message, topic: str) -> Raw:
    """A message that bears no error as a record of `topic`."""
    return Raw(
        topic, message.partition(), message.offset(), message.timestamp()[1] * 1_000, message.key(), message.value(),
        message.headers(),
    )  # fmt: skip


class Reader:
    """A reader of one cluster's topics; names go in and come out without the prefix."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self._prefix = cluster.prefix
        self._admin = AdminClient(cluster.client(log_level=0))
        self._consumer = consumer(
            cluster,
            "reader",
            **{"enable.partition.eof": True, "fetch.wait.max.ms": 5, "queued.max.messages.kbytes": 32_768},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the client."""
        self._consumer.close()

    def partitions(self) -> dict[str, int]:
        """Partition count of every topic under the prefix. Raises Unreachable."""
        return partition_counts(self._consumer, self._cluster)

    def require(self, topics: Sequence[str]) -> dict[str, int]:
        """`partitions()`, once all of `topics` are there. Raises Unreachable, TopicMissing."""
        there = self.partitions()
        must_have(there, topics, self._cluster)
        return there

    def ends(self, topics: Sequence[str]) -> dict[Place, int]:
        """The offset after the last record written, open transactions included, of each partition.

        Raises Unreachable, TopicMissing.
        """
        return self._offsets(topics, OffsetSpec.latest())

    def starts(self, topics: Sequence[str]) -> dict[Place, int]:
        """The first offset that is still there, of each partition. Raises Unreachable, TopicMissing."""
        return self._offsets(topics, OffsetSpec.earliest())

    def read(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        """The committed records of `topic` below `ends`, each partition in its order.

        Transactions that are open below `ends` are waited for. Begins at `starts`, by default at the
        first record that is there. Raises Unreachable where nothing moves for `STALL_S` seconds.
        """
        begin = dict(starts) if starts is not None else self.starts([topic])
        left = {p: end for (name, p), end in ends.items() if name == topic and begin.get((topic, p), 0) < end}
        if not left:
            return
        name = self._prefix + topic
        self._consumer.assign([TopicPartition(name, p, begin.get((topic, p), 0)) for p in left])
        try:
            yield from self._until(topic, left)
        finally:
            self._consumer.unassign()

    def _until(self, topic: str, left: dict[int, int]) -> Iterator[Raw]:
        deadline = monotonic() + STALL_S
        name = self._prefix + topic
        while left:
            messages = self._consumer.consume(1, _WAIT_S) + self._consumer.consume(BATCH, 0)
            moved = False
            for message in messages:
                partition, offset = message.partition(), message.offset()
                if message.topic() not in {name, None}:
                    continue  # the end of a topic that was read before this one
                if (error := message.error()) is not None:
                    moved |= self._ended(error, message, left)
                    continue
                end = left.get(partition)
                if end is None:
                    continue
                moved = True
                if offset < end:
                    yield raw_of(message, topic)
                if offset + 1 >= end:
                    del left[partition]
            if moved:
                deadline = monotonic() + STALL_S
            elif monotonic() > deadline:
                raise self._stalled(topic, left)

    def _ended(self, error: KafkaError, message: Message, left: dict[int, int]) -> bool:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001  that is its public name
            if message.offset() >= left.get(message.partition(), message.offset() + 1):
                del left[message.partition()]
                return True
            return False
        if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC):  # noqa: SLF001
            raise TopicMissing(f"{message.topic()} vanished while it was read: {error.str()}")
        if error.fatal() or code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.TOPIC_AUTHORIZATION_FAILED):  # noqa: SLF001
            kind = HeadDeleted if code == KafkaError._AUTO_OFFSET_RESET else Unreachable  # noqa: SLF001
            raise kind(f"{message.topic()} partition {message.partition()} can't be read: {error.str()}")
        return False

    def _offsets(self, topics: Sequence[str], spec: OffsetSpec) -> dict[Place, int]:
        there = self.require(topics)
        cut = len(self._prefix)
        wanted = [(self._prefix + topic, p) for topic in topics for p in range(there[topic])]
        deadline = monotonic() + ELECTION_S
        while True:
            try:
                found = log_offsets(self._admin, wanted, spec, CALL_S)
            except KafkaException as error:
                if error.args[0].code() not in PASSING or monotonic() > deadline:
                    raise unreachable(self._cluster, error.args[0]) from error
                sleep(0.1)
            else:
                return {(topic[cut:], p): offset for (topic, p), offset in found.items()}

    def _stalled(self, topic: str, left: Mapping[int, int]) -> Unreachable:
        partition = min(left)
        return Unreachable(
            f"reading {self._prefix}{topic} partition {partition} made no progress for {STALL_S:.0f} s before offset "
            f"{left[partition]}: the broker at {self._cluster.bootstrap} stopped answering, or a transaction hangs "
            "open there (`kafka-transactions.sh find-hanging` names it). Try again when it is ended."
        )
