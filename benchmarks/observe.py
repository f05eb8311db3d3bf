"""The observer of an open loop: a process that sees terminal events as a read_committed reader does.

It reads one partition in eight, at least one: a reader of everything would cost as much as the broker. A payment's
latency runs from the moment at which its intent was to be sent, which its id tells, to when this process has its
terminal event.
"""

from collections.abc import Mapping
from multiprocessing.connection import Connection
from time import monotonic, process_time, time_ns
from typing import NamedTuple

from confluent_kafka import TopicPartition

from benchmarks import load
from benchmarks.histogram import Histogram
from benchmarks.processes import Address
from replay.reader import Place, consumer
from schemas import codec
from schemas.events import Micros, Status
from topologies import topics

TERMINAL = {Status.COMPLETED, Status.REVERSED, Status.DECLINED}
BATCH = 5_000
STALL_S = 120.0


def looked_at(partitions: int) -> range:
    """One partition in eight."""
    return range(0, partitions, 8)


class Window(NamedTuple):
    """Intents of which moments count: warm-up and end are cut."""

    begin: Micros
    end: Micros


class Seen(NamedTuple):
    """What was seen."""

    events: int
    """All terminal events, also outside the window."""
    halves: tuple[bytes, bytes]
    """Histograms of the intents of the window's first and second half."""
    cpu_s: float


class Observation:
    """Counts events as they come."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._middle = (window.begin + window.end) // 2
        self._halves = Histogram(), Histogram()
        self.events = 0
        self._decode = codec.decoder(topics.EVENTS.subject)

    def add(self, value: bytes | None, now: int) -> None:
        """An event that was seen at `now` (µs)."""
        event = self._decode(value)
        if event.status not in TERMINAL:
            return
        self.events += 1
        moment = load.intended(event.intent_id)
        if self._window.begin <= moment < self._window.end:
            self._halves[moment >= self._middle].add(now - moment)

    def seen(self, cpu_s: float) -> Seen:
        """What was seen so far."""
        first, second = self._halves
        return Seen(self.events, (first.encoded(), second.encoded()), cpu_s)


def observe(where: Address, partitions: int, starts: Mapping[Place, int], pipe: Connection) -> None:
    """The process: tells that it reads, is told the window, then how many events are to come; tells what it saw."""
    cluster = where.cluster()
    reader = consumer(cluster, "observer", **{"fetch.wait.max.ms": 5, "queued.max.messages.kbytes": 16_384})
    name = topics.EVENTS.name
    reader.assign([TopicPartition(cluster.prefix + name, p, starts[name, p]) for p in looked_at(partitions)])
    reader.poll(0.5)  # nothing is there yet: this finds the leader before the first event comes
    pipe.send("reading")
    observation = Observation(pipe.recv())
    expected, moved, used = None, monotonic(), process_time()
    while expected is None or (observation.events < expected and monotonic() - moved < STALL_S):
        messages = reader.consume(1, 0.05) + reader.consume(BATCH, 0)
        now = time_ns() // 1_000
        for message in messages:
            if message.error() is None:
                observation.add(message.value(), now)
        if messages:
            moved = monotonic()
        if expected is None and pipe.poll():
            expected, moved = pipe.recv(), monotonic()
    pipe.send(observation.seen(process_time() - used))
    reader.close()
