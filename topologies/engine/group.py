"""The worker's place in its consumer group: polling, and what a rebalance leaves behind.

Everything here runs on the one polling thread. Rebalance callbacks run inside `poll` alone, so
never inside a step.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streams.tables import new
from topologies.engine.config import EngineConfig
from topologies.engine.crash import crash_point
from topologies.engine.errors import Fenced, NotAuthorised, WorkerStopped
from topologies.engine.membership import membership, options, whole
from topologies.engine.step import Raw
from topologies.engine.watchdog import Watchdog
from topologies.plan import Plan

log = logging.getLogger(__name__)
TUNING = {
    "fetch.queue.backoff.ms": 10,
    "fetch.wait.max.ms": 20,
    "queued.min.messages": 2_000,
    "queued.max.messages.kbytes": 8_192,
    "max.partition.fetch.bytes": 262_144,
}
"""Short queues in the client: credits must not wait there behind intents that were fetched before them."""

FATAL = (
    KafkaError._FATAL,  # noqa: SLF001  # public constants with an underscore
    KafkaError._FENCED,  # noqa: SLF001
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.UNRELEASED_INSTANCE_ID,
)
FENCED = "fenced by other consumer"
STILL_A_MEMBER = "still used by another member"


class Group:
    """A static member of `<prefix>headrace.<role>` that consumes only from offsets it was told."""

    def __init__(self, plan: Plan, config: EngineConfig, instance: str, watchdog: Watchdog) -> None:
        cluster = config.cluster
        self._cluster = cluster
        self._prefix = cluster.prefix
        self._limits = config.limits
        self._clock = cluster.seams.clock
        self._watchdog = watchdog
        self._membership = membership(config.group_protocol)
        self.topics = [cluster.prefix + topic.name for topic in plan.inputs]
        self.name = f"{cluster.prefix}headrace.{plan.role}"
        self.assigned: tuple[int, ...] = ()
        """Partitions that this worker has of every topic."""
        self.generation = 0
        """Goes up whenever `assigned` may have changed."""
        self.lost_place: str | None = None
        """Why records can't be fetched from where they were left off; a recovery finds out what is there."""
        self._odd: dict[str, list[int]] = {}
        self._odd_since = 0.0
        self._refused_since: float | None = None
        self._fenced_at: float | None = None
        self._paused: set[tuple[str, int]] = set()
        self._member: str | None = None
        member = f"{cluster.prefix}headrace-{plan.role}-{instance}"
        self._options = cluster.client(
            TUNING,
            **{
                "client.id": member,
                "group.id": self.name,
                "group.instance.id": member,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "max.poll.interval.ms": config.limits.max_poll_ms,
                **options(config.group_protocol, config.limits),
            },
        )
        self._join()

    def _join(self) -> None:
        self.consumer: Consumer = self._cluster.seams.consumer(self._options)
        self.consumer.subscribe(
            self.topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._membership.given(consumer, partitions)
        self._member = consumer.memberid()
        self._refused_since = None
        self._moved()
        log.info("assigned partitions %s", list(self.assigned))

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._membership.taken(consumer, partitions)
        self._moved()
        crash_point("in_revoke")
        log.info("partitions were taken away; left: %s", list(self.assigned))

    def _moved(self) -> None:
        before = self.assigned
        self.assigned, odd = whole(self._membership.owned, self.topics)
        if odd and not self._odd:
            self._odd_since = self._clock.monotonic()
        self._odd = odd
        if odd or self.assigned != before or self._membership.moves_at_once:
            self.generation += 1

    def _check_topics(self) -> None:
        """Partition n of all topics must be here, or none of them."""
        patience_s = 0.0 if self._membership.moves_at_once else self._limits.partial_s
        if self._odd and self._clock.monotonic() - self._odd_since >= patience_s:
            raise WorkerStopped(
                f"the group gave this worker different partitions of its topics: {self._odd}. All input topics must "
                "have the same partition count, and every member the same subscription: check `headrace topics create`."
            )

    def _join_again(self, error: KafkaError) -> None:
        """KIP-848: the slot's last life is still a member, until the broker has missed it for a session."""
        now = self._clock.monotonic()
        if self._refused_since is None:
            self._refused_since = now
        if now - self._refused_since > self._limits.release_s:
            raise Fenced(f"another worker is the member {self._options['group.instance.id']}: {error.str()}")
        log.warning("the group still knows this slot's last life: %s", error.str())
        self._clock.sleep(1.0)
        self._rejoin()

    def _rejoin(self) -> None:
        """A consumer that has failed for good is replaced; what it had is lost."""
        with self._watchdog.guard("consumer close"):
            self.consumer.close()
        self._membership.owned.clear()
        self._odd, self.assigned, self._member = {}, (), None
        self.generation += 1
        self._join()

    def poll(self, wait_s: float) -> list[Message]:
        """What librdkafka has: waits at most `wait_s` seconds for the first record, never to fill a batch.

        Raises WorkerStopped where this worker may not go on.
        """
        with self._watchdog.guard("poll"):
            first = self.consumer.poll(wait_s)
            messages = [] if first is None else [first, *self.consumer.consume(self._limits.poll_records, 0)]
        self._check_topics()
        return [message for message in messages if self._is_record(message)]

    def _is_record(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        code = error.code()
        where = f"{message.topic()} [{message.partition()}]"
        if error.fatal() or code in FATAL:
            self._survive(error)
            return False
        if code in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            raise NotAuthorised(f"{where or self.name}: {error.str()}; grant this worker the right to read it")
        if code == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001  # a public constant
            self.lost_place = f"{where}: the next offset can't be read: {error.str()}"
            return False
        if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise WorkerStopped(f"{error.str()}: the topic is gone; see `headrace topics create`")
        log.warning("consumer: %s", error.str())
        return False

    def _survive(self, error: KafkaError) -> None:
        """A fatal error. The client wraps the broker's answer: only its text tells which one it was."""
        reason = error.str()
        if error.code() == KafkaError.UNRELEASED_INSTANCE_ID or STILL_A_MEMBER in reason:
            self._join_again(error)
        elif error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED) or FENCED in reason:  # noqa: SLF001  # a public constant
            now = self._clock.monotonic()
            if self._fenced_at is None or now - self._fenced_at > self._limits.release_s:
                # A coordinator that moves may take this member's own second try for another worker.
                self._fenced_at = now
                log.warning("fenced, joining once more: %s", reason)
                self._rejoin()
                return
            raise Fenced(
                f"another worker took this worker's place {self._options['group.instance.id']} in the group: {reason}; "
                "give each worker its own HEADRACE_INSTANCE"
            )
        else:
            raise WorkerStopped(f"the consumer can't go on: {reason}")

    def metadata(self) -> Any:
        """The group's metadata as it is now, for a transaction's offsets.

        Raises an abortable KafkaException where this is no longer the member that got the partitions: metadata
        without the member's id would pass a broker's check.
        """
        if self.consumer.memberid() != self._member:
            reason = "this worker's membership ended after its partitions were assigned"
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_MEMBER_ID, reason, False, False, True))
        return self.consumer.consumer_group_metadata()

    def start_at(self, offsets: Mapping[int, Mapping[str, int]]) -> None:
        """Fetches every ready partition from these offsets (by partition, topic without prefix)."""
        self._paused.clear()
        self.lost_place = None
        starts = [
            TopicPartition(self._prefix + topic, partition, offset)
            for partition, topics in offsets.items()
            for topic, offset in topics.items()
        ]
        self._membership.fetch(self.consumer, starts)

    def positions(self, partitions: Iterable[int]) -> dict[tuple[str, int], int]:
        """Offset after the last record or transaction marker handed over, by (topic, partition); only known ones."""
        wanted = [TopicPartition(topic, p) for p in partitions for topic in self.topics]
        cut = len(self._prefix)
        return {(tp.topic[cut:], tp.partition): tp.offset for tp in self.consumer.position(wanted) if tp.offset >= 0}

    def ends(self, partition: int) -> dict[str, int]:
        """The ends of a partition's input topics as far as the client has heard of them."""
        cut = len(self._prefix)
        found = {}
        for topic in self.topics:
            marks = self.consumer.get_watermark_offsets(TopicPartition(topic, partition), cached=True)
            if marks is not None and marks[1] >= 0:
                found[topic[cut:]] = marks[1]
        return found

    def hold(self, topic: str, partitions: Iterable[int], *, paused: bool) -> None:
        """Pauses or resumes fetching of one topic (without prefix) on these partitions."""
        wheres = {(self._prefix + topic, p) for p in partitions}
        change = wheres - self._paused if paused else wheres & self._paused
        if not change:
            return
        tps = [TopicPartition(*where) for where in sorted(change)]
        if paused:
            self.consumer.pause(tps)
            self._paused |= change
        else:
            self.consumer.resume(tps)
            self._paused -= change

    def close(self) -> None:
        """Stops fetching. A static member keeps its place in the group."""
        with self._watchdog.guard("consumer close"):
            self.consumer.close()


def raw_of(message: Message) -> Raw:
    """A record as a step takes it."""
    fields = (message.offset(), message.timestamp()[1] * 1000, message.key(), message.value(), message.headers)
    return new(Raw, fields)
