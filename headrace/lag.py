"""Lag seen from outside, with a true zero.

A transaction's marker takes an offset, so "end − committed" is never zero behind a transactional writer. This
reads: at the committed offset, read_committed, the first thing that comes is either a record that waits or the
end of the partition, and then nothing waits. It joins no group and commits nothing.
"""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from headrace.missing import MissingTopics, missing_sentence
from headrace.pace import Members
from replay.reader import PASSING, consumer
from topologies.engine.admin import ClusterUnreachable, admin_client
from topologies.engine.config import ClusterConfig
from topologies.engine.offsets import Where, log_offsets
from topologies.plan import Plan

CALL_S = 3.0
"""One call: the first one of a new cluster may hang, for the broker makes its offsets topic only then."""
GIVE_UP_S = 30.0
RETRY_S = 0.1
_PASSING = PASSING | {
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError._TIMED_OUT,  # noqa: SLF001 - its public name
}
"""Answers of a cluster whose leaders are moving, or whose topics are very new."""
_SPARING = {
    "auto.offset.reset": "earliest",
    "enable.partition.eof": True,
    "queued.min.messages": 1,
    "fetch.message.max.bytes": 65_536,
    "fetch.wait.max.ms": 20,
}
"""For a client that wants one record of each partition."""


class PartitionLag(NamedTuple):
    """One input partition. Topic names carry the prefix."""

    topic: str
    partition: int
    committed: int | None
    """Offset from which the group goes on; None before its first commit."""
    end: int
    """Where a read_committed reader ends (last stable offset)."""
    records: int
    """Records that wait, at most: markers and aborted records behind the first one count too. 0 is exact."""
    seconds: float
    """Age of the first record that waits, by its timestamp; 0.0 when none waits."""
    uncommitted_tail: int
    """Offsets of open transactions, behind `end`."""
    tail_seconds: float = 0.0
    """Age of the oldest open transaction, by its first record's timestamp; 0.0 when none is open."""
    start: int = 0
    """`committed`, or the first offset that is there where that is later."""


class Lag(NamedTuple):
    """All input partitions of a group."""

    group: str
    partitions: tuple[PartitionLag, ...]

    @property
    def records(self) -> int:
        """Records that wait, at most."""
        return sum(one.records for one in self.partitions)

    @property
    def seconds(self) -> float:
        """Age of the oldest record that waits."""
        return max((one.seconds for one in self.partitions), default=0.0)

    @property
    def uncommitted_tail(self) -> int:
        """Offsets of open transactions."""
        return sum(one.uncommitted_tail for one in self.partitions)


class _Ends(NamedTuple):
    first: dict[Where, int]
    stable: dict[Where, int]
    high: dict[Where, int]


def group_name(cluster: ClusterConfig, plan: Plan) -> str:
    """The consumer group of a plan's workers."""
    return f"{cluster.prefix}headrace.{plan.role}"


def measure(cluster: ClusterConfig, plan: Plan) -> Lag:
    """The lag of the plan's group, now.

    Raises ClusterUnreachable, and MissingTopics where an input of the plan is not there.
    """
    with Meter(cluster, (plan,)) as meter:
        return meter.read()[0]


class Meter:
    """Measures the lag of some plans' groups, again and again with the same clients.

    A call is tried again for `patience_s` while leaders and coordinators move.
    """

    def __init__(self, cluster: ClusterConfig, plans: Sequence[Plan], patience_s: float = GIVE_UP_S) -> None:
        self._cluster, self._plans, self._patience_s = cluster, plans, patience_s
        self._admin: AdminClient | None = None
        self._consumers: dict[str, Consumer] = {}

    def close(self) -> None:
        """Ends the clients; the next reading makes new ones."""
        self._admin = None
        for client in self._consumers.values():
            client.close()
        self._consumers.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def read(self) -> tuple[Lag, ...]:
        """A Lag of each plan, now. Raises ClusterUnreachable, MissingTopics; the next reading begins anew."""
        deadline = time.monotonic() + self._patience_s
        if self._admin is None:
            self._admin = admin_client(self._cluster)
        admin = self._admin
        while True:
            try:
                return self._read(admin, deadline)
            except KafkaException as failed:
                error = failed.args[0]
                if error.code() not in _PASSING or time.monotonic() > deadline:
                    self.close()
                    groups = " and ".join(group_name(self._cluster, plan) for plan in self._plans)
                    raise ClusterUnreachable(
                        f"Kafka at {self._cluster.bootstrap} did not tell the offsets of {groups}: {error.str()}; "
                        "try again"
                    ) from failed
            except (ClusterUnreachable, MissingTopics):
                self.close()
                raise
            time.sleep(RETRY_S)

    def _read(self, admin: AdminClient, deadline: float) -> tuple[Lag, ...]:
        places = {plan.role: self._places(admin, plan) for plan in self._plans}
        committed = {role: self._committed(role, found) for role, found in places.items()}
        # Offsets before ends: else progress in between looks like less than nothing.
        ends = self._ends(admin, sorted({place for found in places.values() for place in found}))
        hidden = {place: end for place, end in ends.stable.items() if end < ends.high[place]}
        opened = self._first(hidden, deadline, **{"isolation.level": "read_uncommitted"})
        lags = []
        for plan in self._plans:
            known = committed[plan.role]
            starts = {place: max(known.get(place, 0), ends.first[place]) for place in places[plan.role]}
            behind = {place: start for place, start in starts.items() if start < ends.stable[place]}
            waiting = self._first(behind, deadline)
            now = time.time()
            found = tuple(
                PartitionLag(
                    *place,
                    committed=known.get(place),
                    end=ends.stable[place],
                    records=max(ends.stable[place] - waiting[place][0], 1) if place in waiting else 0,
                    seconds=max(now - waiting[place][1], 0.0) if place in waiting else 0.0,
                    uncommitted_tail=max(ends.high[place] - ends.stable[place], 0),
                    tail_seconds=max(now - opened[place][1], 0.0) if place in opened else 0.0,
                    start=start,
                )
                for place, start in starts.items()
            )
            lags.append(Lag(group_name(self._cluster, plan), found))
        return tuple(lags)

    def _places(self, client: AdminClient, plan: Plan) -> list[Where]:
        """Raises MissingTopics."""
        there = client.list_topics(timeout=CALL_S).topics
        names = [self._cluster.prefix + topic.name for topic in plan.inputs]
        if missing := [name for name in names if name not in there]:
            raise MissingTopics(missing_sentence(self._cluster, missing))
        return [(name, number) for name in names for number in sorted(there[name].partitions)]

    def _committed(self, role: str, places: list[Where]) -> dict[Where, int]:
        """By a consumer: librdkafka 2.16's admin client crashes in this call where a coordinator has moved."""
        if role not in self._consumers:
            self._consumers[role] = consumer(self._cluster, role, **{"isolation.level": "read_uncommitted"})
        client = self._consumers[role]
        found = client.committed([TopicPartition(*place) for place in places], timeout=CALL_S)
        if errors := [one.error for one in found if one.error is not None]:
            raise KafkaException(errors[0])
        return {(one.topic, one.partition): one.offset for one in found if one.offset >= 0}

    @staticmethod
    def _ends(client: AdminClient, places: list[Where]) -> _Ends:
        def told(spec: Any, isolation: IsolationLevel) -> dict[Where, int]:
            return log_offsets(client, places, spec, CALL_S, isolation)

        return _Ends(
            told(OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED),
            told(OffsetSpec.latest(), IsolationLevel.READ_COMMITTED),
            told(OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED),
        )

    def _first(self, starts: Mapping[Where, int], deadline: float, **more: object) -> dict[Where, tuple[int, float]]:
        """Offset and timestamp (s) of the first record at or behind each start; partitions without one are left out.

        Raises ClusterUnreachable where a partition neither gives a record nor ends before the deadline.
        """
        if not starts:
            return {}
        client = consumer(
            self._cluster, "lag", **_SPARING, **more
        )  # a new one fetches at once, an idle one in a second
        try:
            return self._heads(client, starts, deadline)
        finally:
            client.close()

    def _heads(self, client: Consumer, starts: Mapping[Where, int], deadline: float) -> dict[Where, tuple[int, float]]:
        found: dict[Where, tuple[int, float]] = {}
        open_places = set(starts)
        client.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        while open_places:
            message = client.poll(RETRY_S)
            if message is None:
                if time.monotonic() > deadline:
                    topic, partition = min(open_places)
                    raise ClusterUnreachable(
                        f"{topic} [{partition}] could not be read within {self._patience_s:.0f} s; try again"
                    )
                continue
            place = (str(message.topic()), int(message.partition() or 0))
            error = message.error()
            if place not in open_places or (error is not None and error.code() != KafkaError._PARTITION_EOF):  # noqa: SLF001 - its public name
                continue
            open_places.discard(place)
            if error is None:
                found[place] = (int(message.offset() or 0), message.timestamp()[1] / 1000)
                client.pause([TopicPartition(*place)])
        return found


def members_of(cluster: ClusterConfig, group: str) -> Members | None:
    """Who is in a group now; None where Kafka does not say.

    A client of its own, thrown away: librdkafka 2.16's calls about groups are no good after a coordinator has moved.
    So call it only where the cluster has just answered.
    """
    client: AdminClient = AdminClient(cluster.client(log_level=0))
    try:
        found = client.describe_consumer_groups([group], request_timeout=CALL_S)[group].result(2 * CALL_S)
    except KafkaException as failed:
        return Members("dead", 0, {}) if failed.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND else None
    except TimeoutError:
        return None
    owners = {
        (tp.topic, tp.partition): str(member.client_id)
        for member in found.members
        if member.assignment is not None
        for tp in member.assignment.topic_partitions
    }
    return Members(found.state.name.lower(), len(found.members), owners)
