"""What Kafka says of one prefix: ends of topics, committed offsets of the workers' group, open transactions."""

import time

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from readers import Place

from topologies.engine.admin import needed_topics
from topologies.engine.offsets import log_offsets
from topologies.payments import CORE, PLANS

CALL_S = 10.0
APPEARS_S = 60.0
COMMITTED, WRITTEN = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED


class View:
    """Looks from outside, with an admin client only. Names stand without the prefix."""

    def __init__(self, config) -> None:
        self._prefix = config.prefix
        self._config = config
        self._admin = AdminClient(config.client(log_level=0))
        group = f"{config.prefix}headrace.{CORE.role}"
        options = {
            "group.id": group,
            "enable.auto.commit": False,
            "isolation.level": "read_uncommitted",
            "log_level": 2,
        }
        self._group = Consumer(config.client(**options))
        self.inputs = [topic.name for topic in CORE.inputs]
        self.places: list[Place] = self._all_places()

    def _all_places(self) -> list[Place]:
        """All partitions of the prefix, once the broker has heard of every topic that the controller made."""
        needed = {self._prefix + topic.name for topic in needed_topics(PLANS.values())}
        deadline = time.monotonic() + APPEARS_S
        while not needed <= set(found := self._admin.list_topics(timeout=CALL_S).topics):
            assert time.monotonic() < deadline, f"these topics do not appear: {sorted(needed - set(found))}"
            time.sleep(0.1)
        return sorted((name[len(self._prefix) :], number) for name in needed for number in found[name].partitions)

    def ends(self, isolation=WRITTEN, topics: list[str] | None = None) -> dict[Place, int]:
        """The end of every partition: of all that is written, or of what is stable. Raises KafkaException."""
        return self._offsets(OffsetSpec.latest(), isolation, topics)

    def begins(self) -> dict[Place, int]:
        """The first offset of every partition that is still there. Raises KafkaException."""
        return self._offsets(OffsetSpec.earliest(), WRITTEN, None)

    def _offsets(self, spec, isolation, topics: list[str] | None) -> dict[Place, int]:
        wanted = [(self._prefix + topic, n) for topic, n in self.places if topics is None or topic in topics]
        found = log_offsets(self._admin, wanted, spec, CALL_S, isolation)
        return {(topic[len(self._prefix) :], number): offset for (topic, number), offset in found.items()}

    def committed(self) -> dict[Place, int]:
        """The group's offsets on its inputs; 0 where there is none. Raises KafkaException.

        By a consumer that never joins: librdkafka 2.16.1's admin client crashes (rd_kafka_handle_OffsetFetch) where a
        coordinator has moved.
        """
        places = [TopicPartition(self._prefix + topic, n) for topic, n in self.places if topic in self.inputs]
        found = self._group.committed(places, timeout=CALL_S)
        if errors := [tp.error for tp in found if tp.error is not None]:
            raise KafkaException(errors[0])
        return {(tp.topic[len(self._prefix) :], tp.partition): max(0, tp.offset) for tp in found}

    def unfinished(self) -> str | None:
        """What is not done yet: inputs with lag, or partitions with an open transaction; None when all is done."""
        try:
            committed = self.committed()
            stable, written = self.ends(COMMITTED), self.ends(WRITTEN)
        except KafkaException as error:
            self._again()
            return f"Kafka does not answer: {error.args[0].str()}"
        lag = {place: written[place] - offset for place, offset in committed.items() if written[place] != offset}
        hanging = {place: end - stable[place] for place, end in written.items() if stable[place] != end}
        if lag or hanging:
            return f"lag {_named(lag)}, behind open transactions {_named(hanging)}"
        return None

    def patiently(self, call, within_s: float = 60.0):
        """`call()`, again and again while Kafka does not answer."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                return call()
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                self._again()
                time.sleep(0.2)

    def _again(self) -> None:
        """A fresh client: an old one may keep a partition's former leader epoch, and be refused for ever."""
        self._admin = AdminClient(self._config.client(log_level=0))

    def close(self) -> None:
        """Leaves Kafka."""
        self._group.close()

    def delete_topics(self) -> None:
        """Deletes every topic of the prefix."""
        names = sorted({self._prefix + topic for topic, _number in self.places})
        for future in self._admin.delete_topics(names, request_timeout=CALL_S).values():
            future.result()


def _named(counts: dict[Place, int]) -> str:
    return ", ".join(f"{topic} [{number}]: {count}" for (topic, number), count in sorted(counts.items())) or "none"
