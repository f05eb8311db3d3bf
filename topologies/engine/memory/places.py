"""A consumer's place in its group, as librdkafka keeps it: joining, heartbeats, what was given and taken.

`follow` runs inside a poll and tells what to call back: (`on_assign`, `on_revoke` or `on_lost`, partitions).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError

from topologies.engine.memory.broker import Broker
from topologies.engine.memory.coordinator import Refused
from topologies.engine.memory.host import Host
from topologies.engine.memory.log import Place

Calls = list[tuple[str, list[Place]]]


class _Place:
    def __init__(self, broker: Broker, host: Host, options: Mapping[str, Any], topics: Sequence[str]) -> None:
        self.name = ""
        """The member's id; empty before it has joined."""
        self.generation = -1
        self.fatal: KafkaError | None = None
        self._timeline = broker.timeline
        self._host = host
        self._instance = str(options["group.instance.id"])
        self._session = float(options.get("session.timeout.ms", 1_500)) / 1000
        self._topics = list(topics)
        self._closed = False
        self._next_beat = 0.0

    def _alive(self) -> bool:
        return not self._closed and self._host.alive()

    def _beats(self) -> bool:
        """Whether a heartbeat's answer is here."""
        if self._timeline.now < self._next_beat:
            return False
        self._next_beat = self._timeline.now + self._session / 5 * self._host.rng.random()
        return True

    def _end(self, code: int) -> Calls:
        self.fatal = KafkaError(code, None, True, False, False)
        return []


class PlaceClassic(_Place):
    """The classic protocol: everything is taken, then everything is given."""

    def __init__(self, broker: Broker, host: Host, options: Mapping[str, Any], topics: Sequence[str]) -> None:
        super().__init__(broker, host, options, topics)
        self._group = broker.classic(str(options["group.id"]))
        self._joined = False
        self._held: list[Place] | None = None

    def follow(self) -> Calls:
        """Joins, hears of rebalances with its heartbeats."""
        if self.fatal is not None:
            return []
        try:
            if not self._joined:
                self.name = self._group.join(self._instance, self.name, self._topics, self._session, self._alive)
                self._joined = True
            if self._held is None:
                return self._given()
            if self._beats():
                self._group.heartbeat(self._instance, self.name, self.generation)
        except Refused as refused:
            return self._lost(refused.code)
        return []

    def _given(self) -> Calls:
        synced = self._group.sync(self._instance, self.name)
        if synced is None:
            return []
        self.generation, held = synced
        self._held = list(held)
        self._next_beat = self._timeline.now + self._session / 5
        return [("on_assign", self._held)]

    def _lost(self, code: int) -> Calls:
        if code == KafkaError.FENCED_INSTANCE_ID:
            return self._end(code)
        rebalances = code == KafkaError.REBALANCE_IN_PROGRESS
        self._joined = False
        if not rebalances:
            self.name, self.generation = "", -1
        held, self._held = self._held, None
        return [] if held is None else [("on_revoke" if rebalances else "on_lost", held)]

    def close(self) -> None:
        """A static member does not leave."""
        self._closed = True


class Place848(_Place):
    """The consumer protocol: partitions come and go one by one."""

    def __init__(self, broker: Broker, host: Host, options: Mapping[str, Any], topics: Sequence[str]) -> None:
        super().__init__(broker, host, options, topics)
        self._group = broker.reconciling(str(options["group.id"]))
        self._held: set[Place] = set()

    def follow(self) -> Calls:
        """Joins; then each heartbeat brings it nearer to its target."""
        if self.fatal is not None or not self._beats():
            return []
        try:
            if not self.name:
                self.name = self._group.join(self._instance, self._topics, self._alive)
            self.generation, wanted = self._group.heartbeat(self._instance, self.name, self._held)
        except Refused as refused:
            if refused.code == KafkaError.UNRELEASED_INSTANCE_ID:
                return self._end(refused.code)
            return self._lost()
        gone, new = sorted(self._held - wanted), sorted(wanted - self._held)
        self._held = wanted
        calls = [("on_revoke", gone)] if gone else []
        return [*calls, ("on_assign", new)] if new else calls

    def _lost(self) -> Calls:
        held, self._held = sorted(self._held), set()
        self.name, self.generation = "", -1
        return [("on_lost", held)] if held else []

    def close(self) -> None:
        """It says that it will be back."""
        if self.name and not self._host.dead():
            self._group.leave(self._instance, self.name)
        self._closed = True
