"""Lists as `replay.batches.BatchReader` gives them: the client's own messages, in batches that a test can cut short."""

from collections.abc import Iterator

from worlds import Kept, Lists

from replay.batches import Batch
from schemas import codec
from schemas.keys import partition_of

START_MS = 1_763_719_200_000
"""2025-11-21 10:00:00 UTC: the timestamp of each partition's first record; then a second for each offset."""


class Message:
    """As much of confluent_kafka's as is asked for."""

    def __init__(self, partition, offset, kept: Kept) -> None:
        self._partition, self._offset, self._kept = partition, offset, kept

    def partition(self):
        return self._partition

    def offset(self):
        return self._offset

    def key(self):
        value = self._kept.value
        names = [getattr(value, name, None) for name in ("debtor", "account")]
        return next((name.encode() for name in names if name), b"key")

    def value(self):
        value = self._kept.value
        return value if isinstance(value, bytes) else codec.encode(value)

    def headers(self):
        return self._kept.headers

    def timestamp(self):
        return 1, START_MS + 1_000 * self._offset


class Interrupted(Exception):
    """The test has pulled the plug."""


class Batches(Lists):
    """A reader over lists. `die_after`: so many batches are given, then Interrupted is raised."""

    def __init__(self, lists: Lists, at_once: int = 3) -> None:
        super().__init__(lists.partitions)
        self.log = lists.log
        self.at_once, self.die_after = at_once, None
        self.begun: list[dict] = []
        """Where each reading began."""

    def starts(self, topics):
        return {(topic, p): 0 for topic in topics for p in range(self.partitions)}

    def cluster_id(self):
        return "a-cluster"

    def offsets_at(self, topic, at, ends):
        return {
            (topic, p): min(max(-(-(at // 1_000 - START_MS) // 1_000), 0), ends[topic, p])
            for p in range(self.partitions)
        }

    def batches(self, topic, ends, starts) -> Iterator[Batch]:
        self.begun.append(dict(starts))
        given = 0
        for (name, partition), end in ends.items():
            first = starts[name, partition]
            while first < end:
                if self.die_after is not None and given >= self.die_after:
                    raise Interrupted
                following = min(first + self.at_once, end)
                found = [
                    Message(partition, offset, kept)
                    for offset, kept in enumerate(self.log[topic, partition][first:following], first)
                    if kept is not None
                ]
                yield Batch(partition, found, following)
                first, given = following, given + 1


def home(account: str) -> int:
    """The partition of an account."""
    return partition_of(account, 4)
