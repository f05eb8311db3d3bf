"""The one producer that puts dead letters back: records and receipts in one transaction.

Its transactional id is the same for everybody. So `begin` ends what anybody's last press left open, and
refuses what is still under way; whoever reads the receipts after it knows what was redriven for good.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from schemas import codec
from schemas.internal import Redrive
from schemas.keys import partition_of
from topologies.engine.config import ClusterConfig
from topologies.engine.crash import crash_point
from topologies.engine.errors import AUTHORISATION
from topologies.engine.limits import LIMITS
from topologies.topics import LETTER_BYTES, REDRIVES

AT_ONCE = 500
"""Letters of one transaction."""
BYTES = 8_000_000
"""Bytes of one transaction, unless a single letter has more."""
_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001  # public constants with an underscore


class Taken(Exception):
    """Somebody else redrives, or this press was too slow: nothing of its last transaction is certain. Exit 1."""


class Undone(Exception):
    """Kafka did not carry out a transaction, or did not say whether it did. Exit 3."""


class Refused(Exception):
    """Kafka does not take a record: `move` says which. Nothing was written."""

    def __init__(self, move: int, reason: str) -> None:
        super().__init__(reason)
        self.move = move


class Move(NamedTuple):
    """A record to be written, and the receipt that says so. Topics without the prefix."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    receipt: Redrive

    @property
    def size(self) -> int:
        """Bytes, about."""
        return len(self.key or b"") + len(self.value or b"") + sum(len(n) + len(v or b"") for n, v in self.headers)


def transactional_id(cluster: ClusterConfig) -> str:
    """The id that all redriving on a cluster and prefix shares."""
    return f"{cluster.prefix}headrace.redrive"


def _silent() -> logging.Logger:
    """A logger for librdkafka that tells nobody."""
    logger = logging.getLogger(f"{__name__}.client")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


class Redriver:
    """A transactional producer for redriving; used by one thread. `begin` comes first."""

    def __init__(self, cluster: ClusterConfig, partitions: int) -> None:
        """`partitions`: of headrace.redrives."""
        self._prefix, self._partitions = cluster.prefix, partitions
        self._new, self._clock = cluster.seams.producer, cluster.seams.clock
        self._identity = identity = transactional_id(cluster)
        self._config = cluster.client(
            **{
                "client.id": identity,
                "transactional.id": identity,
                "transaction.timeout.ms": LIMITS.transaction_ms,
                "enable.idempotence": True,
                "message.max.bytes": LETTER_BYTES,
                "logger": _silent(),  # what fails is told by exceptions
            }
        )
        self._producer: Producer | None = None
        self._refused: tuple[int, str] | None = None

    def begin(self) -> None:
        """Takes the id: what it wrote before is now committed or aborted for good. Raises Undone, Taken."""
        self.close()
        producer = self._new(self._config)
        deadline = self._clock.monotonic() + 3 * LIMITS.call_s
        while True:
            try:
                producer.init_transactions(LIMITS.call_s)
            except KafkaException as error:
                self._stop_if_hopeless(error.args[0])
                if self._clock.monotonic() > deadline:
                    raise Undone(f"the id {self._identity} can't be taken: {error.args[0].str()}") from error
                if error.args[0].fatal():
                    producer = self._new(self._config)
                self._clock.sleep(0.2)
            else:
                self._producer = producer
                return

    def write(self, moves: Sequence[Move]) -> None:
        """Writes records and receipts, all or none.

        Raises Refused (nothing was written), Taken and Undone (only the receipts tell, after a new `begin`).
        """
        producer, self._refused = self._producer, None
        assert producer is not None, "begin() comes first"
        try:
            producer.begin_transaction()
            for number, move in enumerate(moves):
                receipt = move.receipt
                key = f"{receipt.topic}:{receipt.partition}:{receipt.offset}"
                self._produce(producer, number, (move.topic, move.partition, move.key, move.value, move.headers))
                place = partition_of(key, self._partitions)
                self._produce(producer, number, (REDRIVES.name, place, key.encode(), codec.encode(receipt), []))
            crash_point("after_produce")
            crash_point("during_commit")
            self._retry(lambda: producer.commit_transaction(LIMITS.call_s))
            crash_point("after_commit")
        except (KafkaException, BufferError) as error:
            self._failed(producer, error)

    def _produce(
        self, producer: Producer, number: int, record: tuple[str, int, bytes | None, bytes | None, Any]
    ) -> None:
        topic, partition, key, value, headers = record

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None and error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._refused = self._refused or (number, error.str())

        try:
            producer.produce(
                self._prefix + topic, value, key, partition=partition, headers=headers, on_delivery=delivered
            )
        except KafkaException as error:
            if error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE:
                self._refused = self._refused or (number, error.args[0].str())
            raise

    def _failed(self, producer: Producer, error: Exception) -> None:
        """Ends the transaction. Raises what is known of it."""
        found = error.args[0] if error.args else None
        if isinstance(found, KafkaError):
            self._stop_if_hopeless(found)
        try:
            self._retry(lambda: producer.abort_transaction(LIMITS.call_s))
        except KafkaException as failed:
            self._stop_if_hopeless(failed.args[0])  # produce() says of a fenced client only that it is broken
            self._refused = None  # the next begin() ends it
        if self._refused is not None:
            raise Refused(*self._refused) from error
        raise Undone(f"Kafka did not carry out the redrive: {found if found is not None else error}") from error

    def _retry(self, call: Callable[[], object]) -> None:
        deadline = self._clock.monotonic() + LIMITS.call_s
        while True:
            try:
                call()
            except KafkaException as error:
                if not error.args[0].retriable() or self._clock.monotonic() > deadline:
                    raise
                self._clock.sleep(0.05)
            else:
                return

    def _stop_if_hopeless(self, error: KafkaError) -> None:
        identity = self._identity
        if error.code() in _FENCED:
            raise Taken(
                f"another redrive has taken the id {identity}, or this one was too slow; what was redriven has its "
                "receipt, so press again: nothing is done twice"
            )
        if error.code() in AUTHORISATION:
            raise Undone(f"Kafka refuses the redrive: {error.str()}; grant the transactional id {identity} this right")

    def close(self) -> None:
        """Leaves Kafka; an open transaction is aborted."""
        producer, self._producer = self._producer, None
        if producer is not None:
            # What it left open the next begin() ends; a fenced client closes with a SystemError.
            with suppress(KafkaException, SystemError):
                producer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
