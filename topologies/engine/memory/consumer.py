"""The consumer of confluent_kafka, over the simulated Kafka: a group's member, or a reader by assignment."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from topologies.engine.memory.broker import Broker
from topologies.engine.memory.host import Host
from topologies.engine.memory.log import Fate, Place, Record
from topologies.engine.memory.members import GroupMetadata
from topologies.engine.memory.message import Message
from topologies.engine.memory.places import Place848, PlaceClassic

UNSTABLE_S = 0.1


class _Fetch:
    """Where a consumer stands on one partition."""

    __slots__ = ("begins", "eof", "following", "high", "paused", "position")

    def __init__(self, following: int, begins: float) -> None:
        self.following = following
        self.begins = begins
        """When its first records are there."""
        self.position = OFFSET_INVALID
        self.eof = -1
        self.high = OFFSET_INVALID
        self.paused = False


class MemoryConsumer:
    """Rebalance callbacks run inside `poll` and `consume` only."""

    def __init__(self, broker: Broker, host: Host, options: Mapping[str, Any]) -> None:
        self._broker = broker
        self._host = host
        self._options = options
        self._group = str(options["group.id"])
        self._committed_only = options.get("isolation.level", "read_committed") == "read_committed"
        self._tells_eof = bool(options.get("enable.partition.eof", False))
        self._fetches: dict[Place, _Fetch] = {}
        self._paused: set[Place] = set()
        self._callbacks: dict[str, Callable[..., None]] = {}
        self._place: PlaceClassic | Place848 | None = None

    # -- membership ------------------------------------------------------------------------------

    def subscribe(self, topics: Sequence[str], **callbacks: Callable[..., None]) -> None:
        """Joins the group in the polls to come. Callbacks: on_assign, on_revoke, on_lost."""
        self._host.enter("subscribe")
        place = Place848 if self._options.get("group.protocol") == "consumer" else PlaceClassic
        self._place = place(self._broker, self._host, self._options, topics)
        self._callbacks = callbacks

    def memberid(self) -> str:
        """The member's name; empty before it has joined."""
        return "" if self._place is None else self._place.name

    def consumer_group_metadata(self) -> GroupMetadata:
        """What a transaction shows of this member."""
        self._host.enter("consumer_group_metadata")
        place = self._place
        instance = self._options.get("group.instance.id")
        if place is None:
            return GroupMetadata(self._group, -1, "", instance)
        return GroupMetadata(self._group, place.generation, place.name, instance)

    def _follow_group(self) -> KafkaError | None:
        """Calls back for what its place in the group has become; an error that ends it."""
        if self._place is None:
            return None
        for name, places in self._place.follow():
            callback = self._callbacks.get(name)
            if callback is not None:
                callback(self, [TopicPartition(*place) for place in places])
        return self._place.fatal

    # -- where it reads --------------------------------------------------------------------------

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Reads from these offsets; a negative one is the beginning."""
        self._host.enter("assign")
        begins = self._broker.timeline.now + self._host.lag()
        stale = self._host.trouble("stale") if any(tp.offset > 0 for tp in partitions) else None
        self._fetches = {
            (tp.topic, tp.partition): _Fetch(max(0, tp.offset if stale is None else tp.offset - 3), begins)
            for tp in partitions
        }
        self._pause(partitions, paused=None)

    def unassign(self) -> None:
        """Reads nothing."""
        self._host.enter("unassign")
        self._fetches = {}

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        """Reads these, too."""
        self._host.enter("assign")
        begins = self._broker.timeline.now + self._host.lag()
        self._fetches |= {(tp.topic, tp.partition): _Fetch(max(0, tp.offset), begins) for tp in partitions}
        self._pause(partitions, paused=None)

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        """Reads these no more."""
        self._host.enter("unassign")
        for tp in partitions:
            del self._fetches[tp.topic, tp.partition]

    def seek(self, partition: TopicPartition) -> None:
        """Reads one partition from another offset on."""
        before = self._fetches[partition.topic, partition.partition]
        fetch = self._fetches[partition.topic, partition.partition] = _Fetch(
            partition.offset, self._broker.timeline.now
        )
        fetch.paused = before.paused

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Nothing more comes from these."""
        self._pause(partitions, paused=True)

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        """They come again."""
        self._pause(partitions, paused=False)

    def _pause(self, partitions: Sequence[TopicPartition], *, paused: bool | None) -> None:
        """None: as it was. A pause outlives the assignment in which it was asked for, as librdkafka's does."""
        for tp in partitions:
            place = (tp.topic, tp.partition)
            if paused is not None:
                (self._paused.add if paused else self._paused.discard)(place)
            if (fetch := self._fetches.get(place)) is not None:
                fetch.paused = place in self._paused

    def position(self, partitions: Sequence[TopicPartition]) -> list[TopicPartition]:
        """The offset after the last record or marker handed over; invalid before the first."""
        known = self._fetches
        return [
            TopicPartition(
                tp.topic, tp.partition, f.position if (f := known.get((tp.topic, tp.partition))) else OFFSET_INVALID
            )
            for tp in partitions
        ]

    def get_watermark_offsets(self, partition: TopicPartition, *, cached: bool) -> tuple[int, int]:
        """Beginning and end as last heard of."""
        assert cached, "only what the client has heard"
        fetch = self._fetches.get((partition.topic, partition.partition))
        return (OFFSET_INVALID if fetch is None or fetch.high < 0 else 0), (OFFSET_INVALID if not fetch else fetch.high)

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        """Committed offsets with their metadata; open transactions on them are waited for."""
        self._host.enter("committed")
        if self._host.trouble("committed") is not None:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))  # noqa: SLF001  # a public constant
        group = self._broker.group(self._group)
        deadline = self._broker.timeline.now + timeout
        places = [(tp.topic, tp.partition) for tp in partitions]
        while self._committed_only and any(map(group.unstable, places)):
            if self._broker.timeline.now > deadline:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001  # a public constant
            self._host.wait(UNSTABLE_S)
        found = []
        for place in places:
            offset, metadata = group.offsets.get(place, (OFFSET_INVALID, None))
            found.append(TopicPartition(*place, offset, metadata or ""))
        return found

    # -- records ---------------------------------------------------------------------------------

    def poll(self, timeout: float) -> Message | None:
        """One record or event, waiting at most `timeout` seconds for it."""
        self._host.enter("poll")
        found = self._take(1)
        if not found and timeout:
            self._host.wait(timeout)
            found = self._take(1)
        return found[0] if found else None

    def consume(self, num_messages: int, timeout: float) -> list[Message]:
        """Waits `timeout` seconds for `num_messages` records and events; what there is by then."""
        self._host.enter("consume")
        if timeout:
            self._host.wait(timeout)
        return self._take(num_messages)

    def _take(self, most: int) -> list[Message]:
        fatal = self._follow_group()
        if fatal is not None:
            return [Message("", -1, OFFSET_INVALID, None, fatal)]
        if self._fetches and self._host.trouble("consume") is not None:
            return [Message("", -1, OFFSET_INVALID, None, KafkaError(KafkaError._TRANSPORT))]  # noqa: SLF001  # a public constant
        found: list[Message] = []
        places = list(self._fetches)
        rng, now = self._host.rng, self._broker.timeline.now
        if len(places) > 1:
            rng.shuffle(places)
        for place in places:
            if len(found) >= most:
                break
            fetch = self._fetches[place]
            if fetch.begins > now:
                continue
            log = self._broker.logs[place]
            fetch.high = len(log.entries)
            limit = log.stable if self._committed_only else fetch.high
            if not log.first <= fetch.following <= fetch.high:
                found.append(Message(*place, fetch.following, None, KafkaError(KafkaError._AUTO_OFFSET_RESET)))  # noqa: SLF001
                fetch.following = limit
            elif not fetch.paused and (fetch.following < limit or (self._tells_eof and fetch.eof != limit)):
                room = most - len(found)
                self._read(place, fetch, limit, room if rng.random() < 0.7 else rng.randint(1, min(room, 5)), found)
        return found

    def _read(self, place: Place, fetch: _Fetch, limit: int, most: int, found: list[Message]) -> None:
        entries = self._broker.logs[place].entries
        offset = fetch.following
        while offset < limit and most:
            entry = entries[offset]
            offset += 1
            if isinstance(entry, Record) and (
                entry.span is None or entry.span.fate is Fate.COMMITTED or not self._committed_only
            ):
                found.append(Message(*place, offset - 1, entry))
                most -= 1
        if offset != fetch.following:
            fetch.following = fetch.position = offset
        if offset == limit and most and self._tells_eof and fetch.eof != limit:
            fetch.eof = limit
            found.append(Message(*place, limit, None, KafkaError(KafkaError._PARTITION_EOF)))  # noqa: SLF001

    def list_topics(self, timeout: float = -1) -> None:  # noqa: ARG002  # answered at once
        """The engine asks for metadata to warm the client's cache; there is none here."""
        self._host.enter("list_topics")

    def close(self) -> None:
        """Stops."""
        self._host.enter("consumer.close")
        self._fetches = {}
        if self._place is not None:
            self._place.close()
            self._place = None
