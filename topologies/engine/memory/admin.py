"""The admin client of confluent_kafka, as far as the engine asks it, and the makers of all clients."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

from confluent_kafka import OFFSET_INVALID, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import ListOffsetsResultInfo, OffsetSpec

from topologies.engine.memory.broker import Broker
from topologies.engine.memory.consumer import MemoryConsumer
from topologies.engine.memory.host import Host
from topologies.engine.memory.producer import MemoryProducer


class MemoryAdmin:
    """Ends and topics."""

    def __init__(self, broker: Broker, host: Host) -> None:
        self._broker = broker
        self._host = host

    def list_offsets(
        self,
        wanted: Mapping[TopicPartition, OffsetSpec],
        isolation_level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
        request_timeout: float = 60.0,  # noqa: ARG002  # answered at once
    ) -> dict[TopicPartition, "Future[ListOffsetsResultInfo]"]:
        """Beginnings or ends; read_committed gives the last stable offset."""
        self._host.enter("list_offsets")
        trouble = self._host.trouble("list_offsets")
        found: dict[TopicPartition, Future[ListOffsetsResultInfo]] = {}
        for tp, spec in wanted.items():
            log = self._broker.logs[tp.topic, tp.partition]
            end = log.stable if isolation_level is IsolationLevel.READ_COMMITTED else log.end
            found[tp] = Future()
            if trouble is None:
                offset = log.first if spec is OffsetSpec.earliest() else end
                found[tp].set_result(ListOffsetsResultInfo(offset, -1, -1))
            elif trouble.kind == "untold":  # as librdkafka tells of a connection that broke in the middle
                found[tp].set_result(ListOffsetsResultInfo(OFFSET_INVALID, -1, -1))
            else:
                found[tp].set_exception(KafkaException(KafkaError(KafkaError._TRANSPORT)))  # noqa: SLF001
        return found

    def delete_records(
        self,
        wanted: Sequence[TopicPartition],
        request_timeout: float = 60.0,  # noqa: ARG002  # answered at once
    ) -> dict[TopicPartition, "Future[None]"]:
        """Deletes what stands before the offsets."""
        self._host.enter("delete_records")
        found: dict[TopicPartition, Future[None]] = {}
        for tp in wanted:
            self._broker.logs[tp.topic, tp.partition].delete_before(tp.offset)
            found[tp] = Future()
            found[tp].set_result(None)
        return found

    def list_topics(self, timeout: float = -1) -> Any:  # noqa: ARG002  # answered at once
        """The cluster's id and its topics with their partitions."""
        self._host.enter("list_topics")
        topics = {
            name: SimpleNamespace(topic=name, partitions=dict.fromkeys(range(count)), error=None)
            for name, count in self._broker.topics.items()
        }
        return SimpleNamespace(cluster_id=self._broker.cluster_id, topics=topics)

    def describe_topics(self, wanted: TopicCollection, request_timeout: float = -1) -> dict[str, "Future[Any]"]:  # noqa: ARG002  # answered at once
        """The ids of topics."""
        self._host.enter("describe_topics")
        found: dict[str, Future[Any]] = {}
        for name in wanted.topic_names:
            found[name] = Future()
            found[name].set_result(SimpleNamespace(name=name, topic_id=f"{name}-id"))
        return found


class MemoryClients:
    """Makes the clients of one process."""

    def __init__(self, broker: Broker, host: Host) -> None:
        self._broker = broker
        self._host = host

    def consumer(self, options: Mapping[str, Any]) -> MemoryConsumer:
        """A consumer with librdkafka's options."""
        return MemoryConsumer(self._broker, self._host, options)

    def producer(self, options: Mapping[str, Any]) -> MemoryProducer:
        """A transactional producer with librdkafka's options."""
        return MemoryProducer(self._broker, self._host, options)

    def admin(self, options: Mapping[str, Any]) -> MemoryAdmin:  # noqa: ARG002  # there is one cluster
        """An admin client."""
        return MemoryAdmin(self._broker, self._host)
