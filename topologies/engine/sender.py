"""Sends records outside any transaction: for publishers, the demo and the benchmarks."""

from collections.abc import Callable

from confluent_kafka import KafkaException, Message, Producer

from topologies.engine.config import ClusterConfig

Delivered = Callable[[Exception | None, Message], None]


class Undelivered(Exception):
    """A record that was handed to the client did not reach the broker."""


class Sender:
    """An idempotent producer with a bounded queue. Topic names stand without the prefix."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._prefix = cluster.prefix
        self._producer = Producer(
            cluster.client(
                **{
                    "enable.idempotence": True,
                    "partitioner": "murmur2_random",
                    "log_level": 2,  # what fails is told by delivery
                    "linger.ms": 5,
                    "queue.buffering.max.messages": 100_000,
                    "message.timeout.ms": 30_000,
                }
            )
        )
        self._failed: str | None = None

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        partition: int = -1,
        delivered: Delivered | None = None,
    ) -> None:
        """Queues one record; waits while the queue is full. `delivered(error, message)` runs in a later call."""
        while True:
            try:
                self._producer.produce(
                    self._prefix + topic, value, key, partition=partition, on_delivery=delivered or self._note
                )
            except BufferError:
                self._producer.poll(0.1)
            else:
                break
        self._producer.poll(0)

    def _note(self, error: Exception | None, _message: Message) -> None:
        if error is not None and self._failed is None:
            self._failed = str(error)

    def serve(self) -> None:
        """Runs what `delivered` is waiting to be told."""
        self._producer.poll(0)

    def flush(self, timeout_s: float = 60.0) -> None:
        """Waits for all deliveries.

        Raises Undelivered where a record was refused or `timeout_s` ran out first.
        """
        try:
            left = self._producer.flush(timeout_s)
        except KafkaException as error:
            raise Undelivered(str(error)) from error
        if self._failed is not None:
            raise Undelivered(self._failed)
        if left:
            raise Undelivered(f"{left} records were not acknowledged within {timeout_s:.0f} s")

    def close(self) -> None:
        """Gives up on what is not delivered yet and leaves Kafka."""
        self._producer.purge()
        self._producer.close()
