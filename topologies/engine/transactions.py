"""One Kafka transaction per step, and what its end means: committed, aborted, or unknown.

Source of the rules: docs/architecture.md, "One step, call by call".
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition, libversion

from topologies.engine.config import ClusterConfig
from topologies.engine.crash import crash_point
from topologies.engine.errors import AUTHORISATION, Fenced, NotAuthorised, WorkerStopped
from topologies.engine.limits import Limits
from topologies.engine.watchdog import Watchdog
from topologies.topics import LETTER_BYTES

log = logging.getLogger(__name__)
OLDEST_LIBRDKAFKA = 0x020F00FF
FENCED_TWICE_S = 60.0
SLOW_S = 0.5
"""A call that takes longer may have been sent twice: the next transaction gets a new epoch."""
TUNING = {
    "retry.backoff.ms": 2,
    "linger.ms": 2,
    "queue.buffering.max.messages": 500_000,
    "queue.buffering.max.kbytes": 262_144,
}
_FENCED = {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}  # noqa: SLF001  # public constants with an underscore


class Outcome(StrEnum):
    """How a transaction ended. UNKNOWN: only Kafka knows, ask it."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


class _ShortBatchError(Exception):
    """The client took fewer records than it was given."""


@dataclass(slots=True)
class Contents:
    """What one transaction writes. Topic names carry the prefix; records are (key, value)."""

    records: dict[tuple[str, int], list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    changelogs: dict[tuple[str, int], list[tuple[None, bytes]]] = field(default_factory=dict)
    letters: list[tuple[str, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]] = field(
        default_factory=list
    )
    offsets: list[TopicPartition] = field(default_factory=list)
    last_offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    """Filled by the run: the offset of the last record of each changelog partition."""


class Transactions:
    """The worker's one transactional producer. Used by one thread."""

    def __init__(self, cluster: ClusterConfig, identity: str, limits: Limits, watchdog: Watchdog) -> None:
        if libversion()[1] < OLDEST_LIBRDKAFKA:
            raise WorkerStopped(f"librdkafka {libversion()[0]} loses committed messages; 2.15 or later is needed")
        self.identity = identity
        self._limits = limits
        self._clock = cluster.seams.clock
        self._new_producer = cluster.seams.producer
        self._watchdog = watchdog
        self._trouble = False
        self._fenced_at: float | None = None
        self._config = cluster.client(
            TUNING,
            **{
                "client.id": identity,
                "transactional.id": identity,
                "transaction.timeout.ms": limits.transaction_ms,
                "enable.idempotence": True,
                "message.max.bytes": LETTER_BYTES,
                "error_cb": self._note_trouble,
            },
        )
        self._producer: Producer | None = None

    def _note_trouble(self, error: KafkaError) -> None:
        self._trouble = True
        log.warning("producer %s: %s", self.identity, error.str())

    def renew(self) -> None:
        """A fresh producer under the same id: ends what the last one left open and refuses its stragglers.

        Raises Fenced, NotAuthorised, or WorkerStopped where Kafka gives no definite answer in time.
        """
        old, self._producer = self._producer, None
        producer = self._new_producer(self._config)
        deadline = self._clock.monotonic() + 6 * self._limits.call_s
        while True:
            try:
                with self._watchdog.guard("init_transactions"):
                    producer.init_transactions(self._limits.call_s)
                break
            except KafkaException as error:
                self._stop_if_hopeless(error.args[0], "init_transactions")
                if self._clock.monotonic() > deadline:
                    raise WorkerStopped(
                        f"the transactional id {self.identity} can't be taken: {error.args[0].str()}; "
                        "is the broker up and its __transaction_state topic healthy?"
                    ) from error
                self._clock.sleep(0.2)
                if error.args[0].fatal():
                    producer = self._new_producer(self._config)  # the other one repeats its error for ever
        self._producer = producer
        self._trouble = False
        if old is not None:
            threading.Thread(target=partial(_close, old), daemon=True).start()

    def run(self, contents: Contents, metadata: Callable[[], Any]) -> Outcome:
        """Writes everything, with the consumer's offsets, in one transaction. Empty offsets are a bug.

        `metadata()` gives the consumer group's metadata; an abortable error of it aborts.

        A FENCED answer counts as unknown once; twice within a minute raises Fenced.
        """
        assert contents.offsets, "a transaction without offsets is not fenced by its group"
        if self._producer is not None and not self._trouble:
            self._hear(self._producer)
        if self._producer is None or self._trouble:
            self.renew()
        producer = self._producer
        assert producer is not None
        try:
            crash_point("before_produce")
            with self._watchdog.guard("produce"):
                producer.begin_transaction()
                self._produce(producer, contents)
                if contents.letters:
                    crash_point("in_dead_letter")
            crash_point("after_produce")
            member = metadata()
            self._retry(
                lambda: producer.send_offsets_to_transaction(contents.offsets, member, self._limits.call_s),
                "send_offsets_to_transaction",
            )
            crash_point("after_send_offsets")
        except (KafkaException, BufferError, _ShortBatchError) as error:
            return self._failed(producer, error)
        return self._commit(producer)

    def _hear(self, producer: Producer) -> None:
        """Errors since the last transaction are told now, to `_note_trouble`; a fatal one by an exception."""
        try:
            producer.poll(0)
        except KafkaException as error:
            self._note_trouble(error.args[0])

    def _commit(self, producer: Producer) -> Outcome:
        crash_point("during_commit")
        try:
            self._retry(lambda: producer.commit_transaction(self._limits.call_s), "commit_transaction")
        except KafkaException as error:
            self._stop_if_hopeless(error.args[0], "commit_transaction")
            log.warning("commit of %s: outcome unknown: %s", self.identity, error.args[0].str())
            self._trouble = True
            return Outcome.UNKNOWN
        crash_point("after_commit")
        return Outcome.COMMITTED

    def _failed(self, producer: Producer, error: Exception) -> Outcome:
        reason = error.args[0] if error.args else error
        log.warning("transaction of %s failed: %s", self.identity, reason)
        self._trouble = True  # a request that is still under way must not land in the next transaction: new epoch first
        if isinstance(error, KafkaException):
            self._stop_if_hopeless(error.args[0], "transaction")
            if not error.args[0].txn_requires_abort():
                return Outcome.UNKNOWN
        try:
            self._retry(lambda: producer.abort_transaction(self._limits.call_s), "abort_transaction")
        except KafkaException as failed:
            self._stop_if_hopeless(failed.args[0], "abort_transaction")
            return Outcome.UNKNOWN
        return Outcome.ABORTED

    def _retry(self, call: Callable[[], Any], what: str) -> None:
        """Calls until it is not retriable any more, at most `call_s`.

        After a second call a request of the first may still be under way: the next transaction needs a new epoch.
        """
        begun = self._clock.monotonic()
        deadline = begun + self._limits.call_s
        while True:
            try:
                with self._watchdog.guard(what):
                    call()
            except KafkaException as error:
                if not error.args[0].retriable() or self._clock.monotonic() > deadline:
                    raise
                self._trouble = True
                self._clock.sleep(0.01)
            else:
                # The client repeats requests by itself and does not tell.
                self._trouble = self._trouble or self._clock.monotonic() - begun > SLOW_S
                return

    def _produce(self, producer: Producer, contents: Contents) -> None:
        for (topic, partition), records in contents.records.items():
            self._batch(producer, topic, partition, records)
        for (topic, partition), packed in contents.changelogs.items():
            self._batch(producer, topic, partition, packed[:-1])
            _, last = packed[-1]
            told = _remember(contents.last_offsets, (topic, partition))
            producer.produce(topic, last, None, partition=partition, on_delivery=told)
        for topic, partition, key, value, headers in contents.letters:
            producer.produce(topic, value, key, partition=partition, headers=headers)

    @staticmethod
    def _batch(producer: Producer, topic: str, partition: int, records: list[Any]) -> None:
        if not records:
            return
        batch = [{"key": key, "value": value} for key, value in records]
        taken = producer.produce_batch(topic, batch, partition=partition)
        if taken != len(batch):
            refused = next((m["_error"] for m in batch if "_error" in m), "queue full")
            raise _ShortBatchError(f"{topic} [{partition}]: {taken} of {len(batch)} records taken: {refused}")

    def _stop_if_hopeless(self, error: KafkaError, call: str) -> None:
        if error.code() in AUTHORISATION:
            raise NotAuthorised(f"{call}: {error.str()}; grant {self.identity} this right")
        if error.code() in _FENCED:
            now = self._clock.monotonic()
            if self._fenced_at is not None and now - self._fenced_at < FENCED_TWICE_S:
                raise Fenced(
                    f"the transactional id {self.identity} is used by another worker ({call}: {error.str()}); "
                    "give each worker its own HEADRACE_INSTANCE"
                )
            self._fenced_at = now

    def close(self) -> None:
        """Closes the producer; an open transaction is aborted."""
        if self._producer is not None:
            with self._watchdog.guard("producer close"):
                _close(self._producer)
            self._producer = None


def _close(producer: Producer) -> None:
    try:
        producer.close()
    except (KafkaException, SystemError) as error:  # the latter is how confluent_kafka tells that it was fenced
        log.warning("closing the producer: %s", error)


def _remember(found: dict[tuple[str, int], int], where: tuple[str, int]) -> Callable[[Any, Message], None]:
    def delivered(error: KafkaError | None, message: Message) -> None:
        offset = message.offset()
        if error is None and offset is not None and offset >= 0:
            found[where] = offset

    return delivered
