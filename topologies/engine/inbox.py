"""What was fetched for one partition and is not decided yet.

Records stay here until their transaction is definitely committed, so an aborted step needs no
rewind: it takes the same records again.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice

from topologies.engine.step import Raw, Taken
from topologies.plan import Plan
from topologies.topics import Topic


class Inbox:
    """Queues by input topic, and the next offset that each commit will name."""

    def __init__(self, plan: Plan, start: Mapping[str, int]) -> None:
        self._plan = plan
        self._queues: dict[str, deque[Raw]] = {topic.name: deque() for topic in plan.inputs}
        self.next = dict(start)
        """Offset after the last decided record, by topic: what Kafka has, or will be told."""
        self._expected = dict(start)
        self._positions = dict(start)

    def add(self, topic: str, raw: Raw) -> None:
        """Keeps a fetched record; one from before the expected offset is stale and left out."""
        if raw.offset >= self._expected[topic]:
            self._queues[topic].append(raw)
            self._expected[topic] = raw.offset + 1

    def arrived_at(self, topic: str, position: int) -> None:
        """The consumer's position: all below it was handed over; it also steps over transaction markers."""
        self._positions[topic] = max(self._positions[topic], position)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def waiting(self, topic: str) -> Sequence[Raw]:
        """Undecided records of a topic."""
        return self._queues[topic]

    def take(self, most: int, ends: Mapping[str, int]) -> list[Taken]:
        """At most `most` records, in the order of R12: money comes in before it goes out.

        The last input keeps at least a quarter of `most`, so that neither intents nor credits starve.
        `ends` gives the end of each topic's partition, where it is known.
        """
        quarter = max(1, most // 4)
        left = most
        found = []
        for topic in self._plan.inputs:
            reserved = quarter if most > 1 else 0
            room = max(left, reserved) if topic is self._plan.last_input else left - reserved
            room = max(0, room)
            found.append(self._taken(topic, room, ends))
            left -= len(found[-1].raws)
        return found

    def take_alone(self, name: str, ends: Mapping[str, int]) -> list[Taken]:
        """The first record of topic `name`, and none of the others."""
        return [self._taken(topic, int(topic.name == name), ends) for topic in self._plan.inputs]

    def _taken(self, topic: Topic, room: int, ends: Mapping[str, int]) -> Taken:
        queue = self._queues[topic.name]
        raws = list(islice(queue, room))
        first = self.next[topic.name]
        following = raws[-1].offset + 1 if raws else first
        if len(raws) == len(queue):
            following = max(following, self._positions[topic.name])
        end = ends.get(topic.name)
        return Taken(topic, raws, first, following, end is not None and following >= end)

    def settle(self, taken: Sequence[Taken]) -> None:
        """These records are decided for good."""
        for topic, raws, _first, following, _to_end in taken:
            queue = self._queues[topic.name]
            for _ in raws:
                queue.popleft()
            self.next[topic.name] = following

    def idle_offsets(self) -> bool:
        """Whether only transaction markers stand between what is committed and what was read."""
        return not len(self) and any(self._positions[name] > offset for name, offset in self.next.items())
