"""The generator of an open loop: a process that sends what was made before, at moments fixed before, come what may.

A send that the client refuses is dropped and counted; one that is behind its moment is sent at once and counted as
late. Latency runs from the intended moment, so what is late here counts against the system.
"""

from collections import Counter
from multiprocessing.connection import Connection
from time import process_time, sleep, time_ns
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Producer

from benchmarks import load
from benchmarks.histogram import Histogram
from benchmarks.processes import Address
from schemas import codec
from schemas.events import Micros
from schemas.keys import partition_of
from topologies import topics

LEAD_US = 1_000_000
"""All is made at least so long before the start."""
NAP_US = 200
"""A shorter wait than this is not slept."""
FLUSH_S = 60.0


class Score(NamedTuple):
    """What is to be sent."""

    arrival: load.Arrival
    per_s: float
    seconds: float
    accounts: int
    partitions: int
    seed: int


class Sent(NamedTuple):
    """What was sent."""

    start: Micros
    offered: int
    """Intents on the schedule."""
    dropped: int
    """Refused by the client, or never acknowledged by the broker."""
    by_partition: list[int]
    """Sent to each partition."""
    late: bytes
    """Histogram of µs behind the intended moment."""
    cpu_s: float


class Payloads(NamedTuple):
    """The whole score, encoded: `keys[n]` and `values[n]` are to be sent at `start` + `moments[n]`."""

    start: Micros
    moments: list[int]
    keys: list[bytes]
    values: list[bytes]


def made(score: Score) -> Payloads:
    """Everything, ready at least `LEAD_US` before it starts: the start is chosen anew until it is far enough off."""
    moments = load.schedule(score.arrival, score.per_s, score.seconds, score.seed)
    lead = LEAD_US + 40 * len(moments)
    while True:
        begun = time_ns() // 1_000
        start = Micros(begun + lead)
        keys, values = [], []
        for intent in load.timed(moments, start, score.accounts, score.seed):
            keys.append(intent.debtor.encode())
            values.append(codec.encode(intent))
        now = time_ns() // 1_000
        if start - now >= LEAD_US:
            return Payloads(start, moments, keys, values)
        lead = LEAD_US + 2 * (now - begun)


OPTIONS = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "linger.ms": 5,
    "queue.buffering.max.messages": 100_000,
    "delivery.report.only.error": True,
    "log_level": 2,
}
"""A client waits 5 ms for more records, as Kafka's do by themselves; that counts, since time runs from the intended moment."""


class Sending:
    """The client of the generator, and what became of its records."""

    def __init__(self, options: dict[str, object], topic: str) -> None:
        self._topic = topic
        self.dropped = 0
        self._producer = Producer({**options, "on_delivery": self._note})

    def connect(self) -> None:
        """Finds the topic's leaders, so that the first record waits for nothing."""
        self._producer.list_topics(self._topic, timeout=10)

    def _note(self, error: KafkaError | None, _message: Any) -> None:
        self.dropped += error is not None

    def send(self, key: bytes, value: bytes) -> bool:
        """Hands a record to the client; False where it is dropped."""
        try:
            self._producer.produce(self._topic, value, key)
        except BufferError:
            self.dropped += 1
            return False
        return True

    def serve(self) -> None:
        """Lets the client tell what failed."""
        self._producer.poll(0)

    def close(self, patience_s: float = FLUSH_S) -> None:
        """Waits for what is under way; what does not arrive is dropped."""
        self.dropped += self._producer.flush(patience_s)


def play(score: Score, payloads: Payloads, sending: Sending) -> Sent:
    """Sends all at their moments."""
    late, to = Histogram(), Counter[int]()
    start, used = payloads.start, process_time()
    for moment, key, value in zip(payloads.moments, payloads.keys, payloads.values, strict=True):
        ahead = start + moment - time_ns() // 1_000
        if ahead > NAP_US:
            sending.serve()
            sleep(ahead / 1e6)
            ahead = start + moment - time_ns() // 1_000
        late.add(-ahead)
        if sending.send(key, value):
            to[partition_of(key.decode(), score.partitions)] += 1
    cpu_s = process_time() - used
    sending.close()
    by_partition = [to[number] for number in range(score.partitions)]
    return Sent(start, len(payloads.moments), sending.dropped, by_partition, late.encoded(), cpu_s)


def generate(where: Address, score: Score, pipe: Connection) -> None:
    """The process: waits for a word, makes all, tells the start, plays, and tells what was sent."""
    cluster = where.cluster()
    sending = Sending(cluster.client(**OPTIONS), cluster.prefix + topics.INTENTS.name)
    sending.connect()
    pipe.recv()
    payloads = made(score)
    pipe.send(payloads.start)
    pipe.send(play(score, payloads, sending))
