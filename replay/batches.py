"""Reads topics batch by batch, for whoever reads millions; joins no group, commits nothing."""

from collections.abc import Iterator, Mapping
from time import monotonic
from typing import NamedTuple

from confluent_kafka import KafkaException, Message, TopicPartition

from replay.reader import CALL_S, STALL_S, Place, Reader, unreachable

AT_ONCE = 50_000
"""Records taken from the client at once."""
_WAIT_S = 0.1


class Batch(NamedTuple):
    """The next committed records of one partition."""

    partition: int
    messages: list[Message]
    following: int
    """All below this offset was handed out."""


class BatchReader(Reader):
    """A `Reader` that also hands out the client's own messages, and finds offsets by time."""

    def batches(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int]) -> Iterator[Batch]:
        """The committed records of `topic` from `starts` on and below `ends`, each partition in its order.

        The last batch of a partition is followed by its end. Raises as `read` does.
        """
        left = {p: end for (name, p), end in ends.items() if name == topic and starts.get((topic, p), 0) < end}
        last = dict(left)
        if not left:
            return
        name = self._prefix + topic
        self._consumer.assign([TopicPartition(name, p, starts.get((topic, p), 0)) for p in left])
        deadline = monotonic() + STALL_S
        try:
            while left:
                before = set(left)
                found, moved = self._sorted(left)
                for partition in before - left.keys():
                    yield Batch(partition, found.pop(partition, []), last[partition])
                for partition, messages in found.items():
                    if messages:
                        yield Batch(partition, messages, _offset(messages[-1]) + 1)
                if moved:
                    deadline = monotonic() + STALL_S
                elif monotonic() > deadline:
                    raise self._stalled(topic, left)
        finally:
            self._consumer.unassign()

    def _sorted(self, left: dict[int, int]) -> tuple[dict[int, list[Message]], bool]:
        """What the client has, by partition; takes partitions out of `left` that have come to their ends."""
        found: dict[int, list[Message]] = {}
        moved = False
        for message in self._consumer.consume(1, _WAIT_S) + self._consumer.consume(AT_ONCE, 0):
            if (error := message.error()) is not None:
                moved |= self._ended(error, message, left)
                continue
            partition, offset = message.partition(), message.offset()
            end = left.get(partition)
            if end is None:
                continue
            moved = True
            if offset < end:
                found.setdefault(partition, []).append(message)
            if offset + 1 >= end:
                del left[partition]
        return found, moved

    def cluster_id(self) -> str:
        """What the cluster is called. Raises Unreachable."""
        try:
            return str(self._consumer.list_topics(timeout=CALL_S).cluster_id)
        except KafkaException as error:
            raise unreachable(self._cluster, error.args[0]) from error

    def offsets_at(self, topic: str, at: int, ends: Mapping[Place, int]) -> dict[Place, int]:
        """By partition the first offset whose timestamp is at or after `at` (µs); the end where there is none.

        Raises Unreachable.
        """
        places = [place for place in ends if place[0] == topic]
        wanted = [TopicPartition(self._prefix + topic, p, max(at // 1_000, 0)) for _, p in places]
        try:
            found = self._consumer.offsets_for_times(wanted, timeout=CALL_S)
        except KafkaException as error:
            raise unreachable(self._cluster, error.args[0]) from error
        if errors := [one.error for one in found if one.error is not None]:
            raise unreachable(self._cluster, errors[0])
        return {(topic, one.partition): ends[topic, one.partition] if one.offset < 0 else one.offset for one in found}


def _offset(message: Message) -> int:
    return int(message.offset() or 0)
