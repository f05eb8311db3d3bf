"""Echo: consume, produce, commit, exactly once, and no work: what the two clients and the broker can do at most.

The settings are librdkafka's for throughput: large batches, no wait in a retry
(https://github.com/confluentinc/librdkafka/blob/master/INTRODUCTION.md, "High throughput").
"""

import signal
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from benchmarks.peers.job import Told, told

RECORDS = 5_000
"""Of one transaction, at most."""
CALL_S = 30.0
GO, READY = "go", "ready"
"""Option with the path of a file that every worker waits for when it is ready, and the name, before its number, of what says so."""


def clients(tuning: dict[str, Any]) -> tuple[Consumer, Producer]:
    """A consumer that is assigned this worker's partitions of the intents, and a transactional producer."""
    wanted = told()
    consumer = Consumer(
        {
            "bootstrap.servers": wanted.bootstrap,
            "group.id": wanted.group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            **tuning,
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": wanted.bootstrap,
            "transactional.id": f"{wanted.group}-{wanted.worker}",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
            "retry.backoff.ms": 5,
        }
    )
    producer.init_transactions(CALL_S)
    return consumer, producer


class Stop:
    """True from SIGTERM on."""

    def __init__(self) -> None:
        self._told = False
        signal.signal(signal.SIGTERM, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._told = True

    def __bool__(self) -> bool:
        return self._told


def commit(consumer: Consumer, producer: Producer, ends: dict[tuple[str, int], int]) -> None:
    """Ends the transaction that has read up to `ends`."""
    offsets = [TopicPartition(topic, partition, end) for (topic, partition), end in ends.items()]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata(), CALL_S)
    producer.commit_transaction(CALL_S)


def together(wanted: Told, stop: Stop) -> None:
    """Waits for the other workers, where that is wanted."""
    if GO in wanted.options:
        (Path(wanted.folder) / f"{READY}-{wanted.worker}").touch()
        while not (stop or Path(wanted.options[GO]).exists()):
            sleep(0.001)


def main() -> None:
    """Runs until SIGTERM."""
    stop, wanted = Stop(), told()
    consumer, producer = clients({"fetch.queue.backoff.ms": 10})
    together(wanted, stop)
    consumer.assign([TopicPartition(wanted.intents, number, 0) for number in wanted.mine()])
    while not stop:
        messages = consumer.consume(1, 0.05) + consumer.consume(RECORDS - 1, 0)
        if not messages:
            continue
        lists: dict[int, list[dict[str, bytes]]] = {}
        ends = {}
        for message in messages:
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
            lists.setdefault(message.partition(), []).append({"key": message.key(), "value": message.value()})
            ends[message.topic(), message.partition()] = message.offset() + 1
        producer.begin_transaction()
        for partition, records in lists.items():
            if producer.produce_batch(wanted.events, records, partition=partition) != len(records):
                raise RuntimeError("the producer's queue is full")
        commit(consumer, producer, ends)
    consumer.close()


if __name__ == "__main__":
    main()
