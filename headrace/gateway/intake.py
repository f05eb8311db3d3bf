"""The gateway's side of Kafka: deliveries in by a consumer group, outcomes out, offsets behind acknowledged outcomes.

All of it runs on one thread, so that no call to Kafka ever waits for an endpoint, nor the other way round.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from headrace.gateway.calls import Outcome
from headrace.gateway.dispatch import Held
from headrace.gateway.metrics import GatewayMetrics
from headrace.gateway.offsets import Progress, first_unanswered
from schemas import codec
from schemas.events import Micros
from schemas.internal import Attempt, AttemptAction
from topologies.engine.config import ClusterConfig
from topologies.engine.sender import Sender
from topologies.topics import ATTEMPTS, DELIVERIES

log = logging.getLogger(__name__)
GROUP = "headrace.gateway"
HELD_MOST = 50_000
"""Deliveries in memory above which no more are fetched. The role's window keeps an endpoint's share of it small."""
BATCH = 500
WAIT_S = 0.02
COMMIT_S = 0.5
CALL_S = 10.0
TURNS_WITHIN_S = 60.0
_NOT_THERE = KafkaError._AUTO_OFFSET_RESET  # noqa: SLF001  # that is its public name


class Intake(threading.Thread):
    """Hands deliveries to `taken`, and writes what `answer` is told. `partitions`: of the topic."""

    def __init__(
        self, cluster: ClusterConfig, partitions: int, taken: Callable[[Held], object], metrics: GatewayMetrics
    ) -> None:
        super().__init__(name="gateway-intake", daemon=True)
        self._cluster, self._partitions, self._taken, self._metrics = cluster, partitions, taken, metrics
        self._topic = cluster.prefix + DELIVERIES.name
        self._decode = codec.decoder(DELIVERIES.subject)
        self._answers: deque[tuple[Held | None, int, bytes, Attempt | None]] = deque()
        self._progress: dict[int, Progress] = {}
        self._epoch = 0
        self._paused = False
        self._committed_at = 0.0
        self._ending = threading.Event()
        self.failure: BaseException | None = None
        self.turned_at = time.monotonic()
        self.joined = False

    # -- for the event loop's thread -----------------------------------------------------------------

    def answer(self, held: Held, outcome: Outcome | None) -> None:
        """What became of a delivery; None: nothing is to be said of it."""
        delivery = held.delivery
        key = delivery.debtor.encode()
        if outcome is None:
            self._answers.append((held, held.partition, key, None))
            return
        now = Micros(self._cluster.seams.clock.micros())
        attempt = Attempt(
            delivery.endpoint, outcome.action, now, delivery.debtor, delivery.payment_id, delivery.event_id,
            delivery.number, delivery.attempt, outcome.http_status, outcome.reason, outcome.retry_after_s,
        )  # fmt: skip
        if outcome.action == AttemptAction.GONE:
            told = Attempt(
                delivery.endpoint, AttemptAction.DISABLE, now, reason="gone", http_status=outcome.http_status
            )
            others = [n for n in range(self._partitions) if n != held.partition]
            self._answers.extend((None, n, delivery.endpoint.encode(), told) for n in others)
        self._answers.append((held, held.partition, key, attempt))

    def current(self, held: Held) -> bool:
        """Whether a delivery is still this gateway's to call for."""
        progress = self._progress.get(held.partition)
        return progress is not None and progress.epoch == held.epoch

    def alive(self) -> tuple[bool, str]:
        """Whether the thread still turns, and if not, why."""
        if self.failure is not None:
            return False, f"stopped: {self.failure}"
        idle_s = time.monotonic() - self.turned_at
        return idle_s < TURNS_WITHIN_S, f"last turn {idle_s:.1f} s ago"

    def stop(self) -> None:
        """Writes and commits what is answered, leaves the group, and ends."""
        self._ending.set()
        if self.is_alive():
            self.join(3 * CALL_S)

    # -- the thread ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`."""
        try:
            self._run()
        except Exception as error:
            log.exception("the gateway can't go on with Kafka")
            self.failure = error

    def _run(self) -> None:
        consumer = Consumer(self._cluster.client(**_OPTIONS, **{"group.id": self._cluster.prefix + GROUP}))
        sender = Sender(self._cluster)
        consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        try:
            while not self._ending.is_set():
                self._turn(consumer, sender)
            self._write(sender)
            sender.flush(CALL_S)
            self._commit(consumer, wait=True)
        finally:
            consumer.close()
            sender.close()

    def _turn(self, consumer: Any, sender: Sender) -> None:
        for message in consumer.consume(1, WAIT_S) + consumer.consume(BATCH, 0):
            self._read(message)
        self._write(sender)
        self._hold_back(consumer)
        self.turned_at = time.monotonic()
        if self.turned_at - self._committed_at > COMMIT_S:
            self._committed_at = self.turned_at
            self._commit(consumer, wait=False)

    def _read(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() == _NOT_THERE or not (error.retriable() or error.code() < 0):
                raise KafkaException(error)
            return
        partition, offset = message.partition(), message.offset()
        progress = self._progress.get(partition)
        if progress is None or partition is None or offset is None:
            return
        progress.read(offset)
        try:
            delivery = self._decode(message.value())
        except codec.Undecodable as found:
            log.error(
                "alert unreadable-delivery: %s partition %s offset %s: %s", self._topic, partition, offset, found.code
            )
            self._metrics.unreadable()
            progress.done(offset)
            return
        self._taken(Held(partition, offset, progress.epoch, delivery))

    def _write(self, sender: Sender) -> None:
        """Outcomes to their topic; one that is not acknowledged is written again."""
        for _ in range(len(self._answers)):
            one = self._answers.popleft()
            held, partition, key, attempt = one
            if attempt is None:
                self._done(held)
                continue

            def delivered(error: Exception | None, _message: Message, one: Any = one) -> None:
                if error is not None:
                    log.warning("an outcome was not written and is written again: %s", error)
                    self._answers.append(one)
                else:
                    self._done(one[0])

            sender.send(ATTEMPTS.name, key, codec.encode(attempt), partition=partition, delivered=delivered)
        sender.serve()

    def _done(self, held: Held | None) -> None:
        if held is not None and self.current(held):
            self._progress[held.partition].done(held.offset)

    def _hold_back(self, consumer: Any) -> None:
        """Fetches no more while too much is held; polling goes on."""
        held = sum(progress.held for progress in self._progress.values())
        if not self._paused and held > HELD_MOST:
            consumer.pause(consumer.assignment())
            self._paused = True
        elif self._paused and held < HELD_MOST // 2:
            consumer.resume(consumer.assignment())
            self._paused = False

    def _commit(self, consumer: Any, *, wait: bool) -> None:
        found = {n: progress.to_commit() for n, progress in self._progress.items()}
        offsets = [TopicPartition(self._topic, n, offset) for n, offset in found.items() if offset is not None]
        if not offsets:
            return
        try:
            consumer.commit(offsets=offsets, asynchronous=not wait)
        except KafkaException as error:
            log.warning("offsets were not committed: %s; what is sent again has the same id", error.args[0].str())

    # -- within consume and close --------------------------------------------------------------------

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._epoch += 1
        known = consumer.committed(partitions, timeout=CALL_S)
        without = [place.partition for place in known if place.offset < 0]
        starts = [place for place in known if place.offset >= 0]
        if without:
            starts += first_unanswered(self._cluster, without)
        consumer.assign(starts)
        consumer.resume(starts)  # the client keeps a pause over assignments
        self._progress = {place.partition: Progress(self._epoch) for place in partitions}
        self._paused, self.joined = False, True

    def _revoked(self, consumer: Any, _partitions: list[TopicPartition]) -> None:
        self._commit(consumer, wait=True)
        self._progress = {}

    def _lost(self, _consumer: Any, _partitions: list[TopicPartition]) -> None:
        self._progress = {}


_OPTIONS: dict[str, Any] = {
    "client.id": "headrace-gateway",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "partition.assignment.strategy": "range",
    "session.timeout.ms": 10_000,
    "heartbeat.interval.ms": 2_000,
    "max.poll.interval.ms": 300_000,
    "fetch.wait.max.ms": 20,
    "queued.max.messages.kbytes": 16_384,
}
