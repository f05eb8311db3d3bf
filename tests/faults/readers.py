"""Readers of all topics of a prefix: one that listens all along, one that reads afterwards."""

import threading
import time
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import codec
from topologies.topics import JOURNAL

Place = tuple[str, int]
"""(topic without prefix, partition)."""
BATCH = 2_000
STALL_S = 45.0


class Transcript:
    """What a reader saw: offset and digest of every record, by place."""

    def __init__(self) -> None:
        self.offsets: dict[Place, array] = defaultdict(lambda: array("q"))
        self.digests: dict[Place, array] = defaultdict(lambda: array("q"))

    def note(self, place: Place, message: Message) -> None:
        """The next record of a place."""
        self.offsets[place].append(message.offset())
        self.digests[place].append(hash((message.key(), message.value())))

    def between(self, begins: Mapping[Place, int], ends: Mapping[Place, int]) -> "Transcript":
        """What stands from `begins` on and below `ends`; offsets of a place only rise."""
        cut = Transcript()
        for place, offsets in list(self.offsets.items()):
            within = slice(bisect_left(offsets, begins[place]), bisect_left(offsets, ends[place]))
            cut.offsets[place], cut.digests[place] = offsets[within], self.digests[place][within]
        return cut

    def differences(self, other: "Transcript") -> list[str]:
        """A sentence for every place at which the two are not the same."""
        found = []
        for place in sorted({*self.offsets, *other.offsets}):
            mine = list(zip(self.offsets[place], self.digests[place], strict=True))
            theirs = list(zip(other.offsets[place], other.digests[place], strict=True))
            if mine == theirs:
                continue
            at = next((n for n, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), None)
            at = min(len(mine), len(theirs)) if at is None else at
            first = [seen[at][0] if at < len(seen) else "nothing more" for seen in (mine, theirs)]
            found.append(f"{place[0]} [{place[1]}]: record {at} is at {first[0]} for one, at {first[1]} for the other")
        return found


def make_consumer(config, isolation: str = "read_committed") -> Consumer:
    """A consumer that joins no group and starts where it is told."""
    return Consumer(
        config.client(
            **{
                "group.id": f"{config.prefix}faults",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": isolation,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 50,
                "fetch.queue.backoff.ms": 10,
                "log_level": 2,
            }
        )
    )


class LiveReader:
    """Reads everything read_committed from the first record on, in a thread; notes when each step arrived."""

    def __init__(self, config, places: list[Place]) -> None:
        self.seen = Transcript()
        self.failure: BaseException | None = None
        self._cut = len(config.prefix)
        self._decode = codec.decoder(JOURNAL.subject)
        self._steps: dict[int, list[tuple[int, float]]] = defaultdict(list)
        self._positions: dict[Place, int] = dict.fromkeys(places, 0)
        self._stop = threading.Event()
        self._consumer = make_consumer(config)
        self._consumer.assign([TopicPartition(config.prefix + topic, number, 0) for topic, number in places])
        self._thread = threading.Thread(target=self._listen, name="live reader", daemon=True)
        self._thread.start()

    def steps_after(self, partition: int, at: int) -> list[float]:
        """When (Unix time) each step of a partition that began after `at` (µs) was seen, first one first."""
        return [seen for began, seen in list(self._steps[partition]) if began > at]

    def has_reached(self, ends: Mapping[Place, int]) -> bool:
        """Whether everything below `ends` was seen or is no record."""
        if self.failure is not None:
            raise self.failure
        return all(self._positions[place] >= end for place, end in ends.items())

    def close(self) -> None:
        """Ends the thread and leaves Kafka."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _listen(self) -> None:
        try:
            while not self._stop.is_set():
                for message in self._consumer.consume(BATCH, 0.05):
                    self._take(message)
        except BaseException as error:  # noqa: BLE001  # told by `has_reached`
            self.failure = error

    def _take(self, message: Message) -> None:
        place = (message.topic()[self._cut :], message.partition()) if message.topic() else None
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                self._positions[place] = max(self._positions[place], message.offset())
            elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise KafkaException(error)
            return
        self.seen.note(place, message)
        self._positions[place] = message.offset() + 1
        if place[0] == JOURNAL.name:
            self._steps[place[1]].append((self._decode(message.value()).at, time.time()))


def read(
    config,
    ends: Mapping[Place, int],
    take: Callable[[Place, Message], None],
    *,
    starts: Mapping[Place, int] | None = None,
    isolation: str = "read_committed",
) -> None:
    """Gives every record below `ends` to `take`. Raises TimeoutError where nothing moves for `STALL_S`."""
    begin = starts or {}
    left = {place: end for place, end in ends.items() if end > begin.get(place, 0)}
    consumer = make_consumer(config, isolation)
    cut = len(config.prefix)
    try:
        consumer.assign([TopicPartition(config.prefix + place[0], place[1], begin.get(place, 0)) for place in left])
        moved_at = time.monotonic()
        while left:
            for message in consumer.consume(BATCH, 0.1):
                if not message.topic():
                    continue
                place = (message.topic()[cut:], message.partition())
                error = message.error()
                if error is None and message.offset() < ends[place]:
                    take(place, message)
                elif error is not None and error.code() != KafkaError._PARTITION_EOF:
                    continue
                moved_at = time.monotonic()
                if message.offset() + (error is None) >= ends[place]:
                    left.pop(place, None)
            if time.monotonic() - moved_at > STALL_S:
                raise TimeoutError(f"{next(iter(left))} can't be read to {next(iter(left.values()))}")
    finally:
        consumer.close()
