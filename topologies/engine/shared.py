"""The table that every worker reads whole: folded from its topic, all partitions, read_committed (R25)."""

import logging
from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import codec
from schemas.events import Micros
from streams.turn import AliasOwner, Received
from topologies.engine.config import ClusterConfig
from topologies.engine.watchdog import Watchdog
from topologies.plan import SharedTable

log = logging.getLogger(__name__)
POLL_RECORDS = 10_000


class NothingShared:
    """What a role has that shares no table."""

    def __init__(self) -> None:
        self.rows: dict[str, AliasOwner] = {}
        self.offsets: list[int] = []

    def poll(self) -> None:
        """Nothing comes."""

    def is_read(self, at_least: Sequence[int]) -> bool:
        """Nothing is waited for."""
        return not at_least

    def close(self) -> None:
        """Nothing is open."""


class SharedReader:
    """Reads the shared table's topic; used by one thread at a time."""

    def __init__(self, cluster: ClusterConfig, table: SharedTable, partitions: int, watchdog: Watchdog) -> None:
        self._table = table
        self._watchdog = watchdog
        self._decode = codec.decoder(table.topic.subject)
        self.rows: dict[str, AliasOwner] = {}
        self.offsets = [0] * partitions
        """Next offset by partition: what has been folded."""
        self._at_end = [False] * partitions
        self._consumer: Consumer = cluster.seams.consumer(
            cluster.client(
                **{
                    "group.id": f"{cluster.prefix}headrace.shared",
                    "enable.auto.commit": False,
                    "isolation.level": "read_committed",
                    "auto.offset.reset": "error",
                    "enable.partition.eof": True,
                }
            )
        )
        topic = cluster.prefix + table.topic.name
        self._consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(partitions)])

    def poll(self, wait_s: float = 0.0) -> None:
        """Folds what has arrived."""
        while True:
            with self._watchdog.guard("consume of the shared table"):
                messages = self._consumer.consume(POLL_RECORDS, wait_s)
            for message in messages:
                self._take(message)
            if len(messages) < POLL_RECORDS:
                return

    def _take(self, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        error = message.error()
        assert partition is not None
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  # a public constant
                self._at_end[partition] = True
                self.offsets[partition] = max(self.offsets[partition], offset or 0)
            elif not error.retriable():
                raise KafkaException(error)
            return
        assert offset is not None
        if offset < self.offsets[partition]:
            return
        self.offsets[partition] = offset + 1
        try:
            record = self._decode(message.value())
        except codec.Undecodable:
            return  # the partition's own reader writes the dead letter
        received = Received(
            self._table.topic.name, partition, offset, Micros(message.timestamp()[1] * 1000), message.key(), record
        )
        self._table.fold(self.rows, received)

    def is_read(self, at_least: Sequence[int]) -> bool:
        """Whether the topic's end was seen once and every partition stands at `at_least` or further."""
        return all(self._at_end) and all(have >= want for have, want in zip(self.offsets, at_least, strict=False))

    def close(self) -> None:
        """Leaves Kafka."""
        self._consumer.close()


def shared_reader(
    cluster: ClusterConfig, table: SharedTable | None, partitions: int, watchdog: Watchdog
) -> SharedReader | NothingShared:
    """What reads a plan's shared table, if it has one."""
    return NothingShared() if table is None else SharedReader(cluster, table, partitions, watchdog)
