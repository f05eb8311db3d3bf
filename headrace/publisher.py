"""Publishes intents, account commands and alias claims: checks each before it is sent, reports each delivery.

with Publisher(load().cluster()) as publisher:
    publisher.publish(Intent(...))
"""

from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import KafkaException, Message

from headrace.checks import Record, Refused, check
from headrace.missing import require_topics
from schemas.codec import Unencodable, encode
from schemas.events import AccountCommand, AliasClaim, Intent
from topologies import topics
from topologies.engine.config import ClusterConfig
from topologies.engine.sender import Sender, Undelivered

__all__ = ["Place", "Publisher", "Receipt", "Refused", "Report", "Undelivered"]

TOPIC_OF = {Intent: topics.INTENTS, AccountCommand: topics.COMMANDS, AliasClaim: topics.ALIASES}


class Receipt(NamedTuple):
    """What became of one record: its place, or `error` (then `offset` is -1)."""

    record: Record
    topic: str
    """With the prefix."""
    partition: int
    offset: int
    error: str | None


class Place(NamedTuple):
    """What was delivered to one partition."""

    records: int
    last_offset: int


class Report(NamedTuple):
    """Deliveries so far; `places` by topic (with the prefix) and partition."""

    delivered: int
    failed: int
    places: dict[tuple[str, int], Place]
    first_error: str | None


class Publisher:
    """Sends records to their topics by their keys, idempotently. Not for use by several threads.

    `delivered` is called with the receipt of every record, within a later call of `publish` or `flush`.
    Leaving it as a context flushes, and raises Undelivered when a record was lost and no `delivered` was
    there to be told.
    """

    def __init__(
        self,
        cluster: ClusterConfig,
        delivered: Callable[[Receipt], None] | None = None,
        *,
        pan_guard: bool = True,
    ) -> None:
        self._cluster = cluster
        self._delivered = delivered
        self._pan_guard = pan_guard
        self._sender = Sender(cluster)
        self._known: set[str] = set()
        self._places: dict[tuple[str, int], Place] = {}
        self._failed = 0
        self._first_error: str | None = None

    def publish(self, record: Record) -> None:
        """Queues one record; waits while the queue is full.

        Raises Refused where the record is wrong, MissingTopics where its topic is not there, ClusterUnreachable.
        """
        check(record, pan_guard=self._pan_guard)
        topic = TOPIC_OF[type(record)]
        if topic.name not in self._known:
            require_topics(self._cluster, [topic.name])
            self._known.add(topic.name)
        key = str(getattr(record, topic.key)).encode()

        def note(error: Exception | None, message: Message) -> None:
            self._note(record, error, message)

        try:
            self._sender.send(topic.name, key, encode(record), delivered=note)
        except Unencodable as error:
            raise Refused("record", f"does not fit its schema: {error}", "make it smaller") from error
        except KafkaException as error:
            raise Refused(
                "record", f"is refused by Kafka's client: {error.args[0].str()}", "make it smaller"
            ) from error

    def _note(self, record: Record, error: Exception | None, message: Message) -> None:
        topic, partition, offset = message.topic() or "", message.partition(), message.offset()
        if error is not None or partition is None or offset is None:
            self._failed += 1
            partition, offset = -1 if partition is None else partition, -1
            self._first_error = self._first_error or str(error)
        else:
            place = self._places.get((topic, partition), Place(0, -1))
            self._places[topic, partition] = Place(place.records + 1, max(place.last_offset, offset))
        if self._delivered is not None:
            self._delivered(Receipt(record, topic, partition, offset, None if error is None else str(error)))

    def report(self) -> Report:
        """Deliveries known so far."""
        count = sum(place.records for place in self._places.values())
        return Report(count, self._failed, dict(sorted(self._places.items())), self._first_error)

    def flush(self, timeout_s: float = 60.0) -> Report:
        """Waits for all deliveries. Raises Undelivered where `timeout_s` runs out first."""
        self._sender.flush(timeout_s)
        return self.report()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        report = self.flush()
        if error is None and report.failed and self._delivered is None:
            raise Undelivered(
                f"{report.failed} of {report.failed + report.delivered} records were not delivered, "
                f"the first because of: {report.first_error}; publish them again with the same ids"
            )
