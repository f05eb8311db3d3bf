"""What is committed on some topics, as it appears: read_committed, by assign, joining no group."""

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from types import TracebackType
from typing import Self

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from replay.reader import CALL_S, Place, Raw, TopicMissing, Unreachable, consumer, must_have, partition_counts, raw_of
from topologies.engine.config import ClusterConfig

BATCH = 5_000
"""Records that one poll returns at most."""


class Tail:
    """Follows topics from `starts` on, by default from their first record; names go in and come out without the prefix.

    Raises Unreachable where no broker answers, TopicMissing where a topic is not there.
    """

    def __init__(
        self, cluster: ClusterConfig, topics: Sequence[str], starts: Mapping[Place, int] | None = None
    ) -> None:
        self._cut = len(cluster.prefix)
        self._bootstrap = cluster.bootstrap
        self._consumer = consumer(cluster, "tail", **{"fetch.wait.max.ms": 20, "queued.max.messages.kbytes": 16_384})
        try:
            there = partition_counts(self._consumer, cluster)
            must_have(there, topics, cluster)
        except (Unreachable, TopicMissing):
            self._consumer.close()
            raise
        places = [(topic, p) for topic in topics for p in range(there[topic])]
        begin = starts or {}
        self._consumer.assign(
            [TopicPartition(cluster.prefix + t, p, begin.get((t, p), OFFSET_BEGINNING)) for t, p in places]
        )

    def poll(self, wait_s: float = 0.0) -> list[Raw]:
        """What has been committed since the last poll, at most `BATCH`; waits `wait_s` for the first record.

        Brokers that go away are waited for. Raises Unreachable at an error that no waiting heals.
        """
        found = []
        for message in self._consumer.consume(1, wait_s) + self._consumer.consume(BATCH, 0):
            error = message.error()
            if error is None:
                found.append(raw_of(message, message.topic()[self._cut :]))
            elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  that is its public name
                raise Unreachable(f"{message.topic()} partition {message.partition()} can't be read: {error.str()}")
            elif error.fatal() or not (error.retriable() or error.code() < 0):
                raise Unreachable(f"{self._bootstrap} can't be read any more: {error.str()}")
        return found

    def count(self, wait_s: float = 0.0) -> int:
        """How many records have been committed since the last poll or count; looks at none of them."""
        messages = self._consumer.consume(1, wait_s) + self._consumer.consume(BATCH, 0)
        return sum(message.error() is None for message in messages)

    def close(self) -> None:
        """Ends the client."""
        self._consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def members(cluster: ClusterConfig, role: str, patience_s: float = 60.0) -> int:
    """How many workers of `role` are in its consumer group now.

    A group whose coordinator is still loading is asked again. Raises Unreachable after `patience_s`.
    """
    group = f"{cluster.prefix}headrace.{role}"
    client = AdminClient(cluster.client(log_level=0))
    deadline = monotonic() + patience_s
    while True:
        try:
            described = client.describe_consumer_groups([group], request_timeout=CALL_S)[group].result(2 * CALL_S)
        except KafkaException as failed:
            error = failed.args[0]
            if error.code() == KafkaError.GROUP_ID_NOT_FOUND:
                return 0
            hopeless = error.code() in {KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}
            if hopeless or monotonic() > deadline:
                raise Unreachable(f"{cluster.bootstrap} does not tell who is in {group}: {error.str()}") from failed
            sleep(0.2)
        else:
            return len(described.members)
