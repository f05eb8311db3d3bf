"""Measures for the board, beside the event loop: whether Kafka answers, rates, lag, dead letters.

Each part has a thread of its own, so that a slow one holds up no other. Whatever fails is told and tried again.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from threading import Event, Thread
from typing import Any

from confluent_kafka import OFFSET_END, KafkaException

from headrace.backlog import Backlog, Summary, Watch, by_group, summed
from headrace.cli import common, explain
from headrace.console.board import LAG, LETTERS, PULSE, RATES, Problem
from headrace.console.views import Bounded, amounts, told_letters
from headrace.dlq import Wish, look
from replay.letters import letter_topics
from replay.reader import Reader, consumer, unreachable
from replay.tail import Tail
from schemas import codec
from topologies.engine.config import ClusterConfig
from topologies.plan import Plan
from topologies.topics import EVENTS, REDRIVES

PULSE_S, SECOND_S, LOOK_S, LETTERS_S = 3.0, 1.0, 2.0, 3.0
"""How long Kafka may take to answer; what a rate is of; the least pauses between two looks, and between two counts."""
EASE = 3.0
"""A pause is so many times as long as the look before it, so that looking takes a quarter of the time at most."""
AGAIN_S = 1.0
"""Pause before what failed is tried again."""
JOIN_S = 2.0
"""How long the threads are waited for when they are told to stop."""
REPEAT, UNREADABLE = "repeat", "unreadable"
"""What stands for a status where an event says again what was said, or can't be decoded."""
LOG = logging.getLogger("headrace.console")


class Telling:
    """Where measures go: `Board`, through the loop that it lives on."""

    def __init__(self, hand_on: Callable[..., object], board: Any) -> None:
        """`hand_on(function, *arguments)` runs a function on the board's loop, as `call_soon_threadsafe` does."""
        self._hand_on, self._board = hand_on, board

    def tell(self, part: str, data: dict[str, Any]) -> None:
        """A part was measured."""
        self._on_loop(self._board.tell, part, data)

    def fine(self, part: str) -> None:
        """A part is as it was."""
        self._on_loop(self._board.fine, part)

    def fail(self, part: str, problem: Problem) -> None:
        """A part can't be measured."""
        self._on_loop(self._board.fail, part, problem)

    def _on_loop(self, *call: Any) -> None:
        try:
            self._hand_on(*call)
        except RuntimeError:
            return  # the loop has ended, and with it all pages


class Feed:
    """The threads that measure one cluster."""

    def __init__(self, cluster: ClusterConfig, plans: Sequence[Plan], telling: Telling) -> None:
        self._cluster, self._plans, self._telling = cluster, plans, telling
        self._stop = Event()
        bodies = {PULSE: self._pulse, RATES: self._rates, LAG: self._lag, LETTERS: self._letters}
        self._threads = [
            Thread(target=self._keep, args=(part, body), name=part, daemon=True) for part, body in bodies.items()
        ]

    def start(self) -> None:
        """Starts measuring."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends it; a thread that is held up in a call to Kafka is left behind, and ends with the process."""
        self._stop.set()
        deadline = time.monotonic() + JOIN_S
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _keep(self, part: str, body: Callable[[], None]) -> None:
        """Runs `body`, with new clients after each failure, until it is over."""
        while not self._stop.is_set():
            try:
                body()
            except Exception as error:
                explained = explain(error)
                if explained is None:
                    LOG.exception("measuring %s failed", part)
                    explained = f"{part} can't be measured: the console itself failed; its log says how", common.FAILED
                self._telling.fail(part, Problem(*explained))
                self._stop.wait(AGAIN_S)

    def _pulse(self) -> None:
        client = consumer(self._cluster, "console")
        try:
            while not self._stop.wait(SECOND_S):
                try:
                    client.list_topics(self._cluster.prefix + EVENTS.name, timeout=PULSE_S)
                except KafkaException as error:
                    raise unreachable(self._cluster, error.args[0]) from error
                self._telling.fine(PULSE)
        finally:
            client.close()

    def _rates(self) -> None:
        with Reader(self._cluster) as reader:
            partitions = reader.require([EVENTS.name])[EVENTS.name]
        with Tail(self._cluster, [EVENTS.name], {(EVENTS.name, p): OFFSET_END for p in range(partitions)}) as tail:
            status = _status_of()
            while not self._stop.is_set():
                begun = time.monotonic()
                counts: Counter[str] = Counter()
                while (left := begun + SECOND_S - time.monotonic()) > 0 and not self._stop.is_set():
                    counts.update(map(status, tail.poll(min(left, 0.2))))
                took = time.monotonic() - begun
                rates = {name: round(count / took, 1) for name, count in counts.items()}
                self._telling.tell(RATES, {"at": round(time.time(), 1), "rates": rates})

    def _lag(self) -> None:
        with Watch(self._cluster, self._plans) as watch:
            while not self._stop.is_set():
                begun = time.monotonic()
                found = watch.look()
                self._telling.tell(LAG, told_lag(found))
                self._stop.wait(max(LOOK_S, EASE * (time.monotonic() - begun)))

    def _letters(self) -> None:
        known = None
        with Reader(self._cluster) as reader:
            while not self._stop.is_set():
                begun = time.monotonic()
                source = Bounded(reader, self._stop)
                ends = source.ends([*letter_topics(source), REDRIVES.name])
                if ends == known:
                    self._telling.fine(LETTERS)
                else:
                    self._telling.tell(LETTERS, told_letters(*look(source, Wish(), self._cluster.prefix)))
                    known = ends
                self._stop.wait(max(LETTERS_S, EASE * (time.monotonic() - begun)))


def _status_of() -> Callable[[Any], str]:
    decode = codec.decoder(EVENTS.subject)

    def status(raw: Any) -> str:
        try:
            event = decode(raw.value)
        except codec.Undecodable:
            return UNREADABLE
        return REPEAT if event.repeat_intent_id is not None else str(event.status)

    return status


def told_lag(found: Sequence[Backlog]) -> dict[str, Any]:
    """A look as the page shows it: a line per group and one per partition, as `headrace lag --json` has them."""
    groups = summed(found, by_group)
    return {
        "at": round(time.time(), 1),
        "groups": [_line(one) for one in groups.values()],
        "partitions": [_line(one) for one in found],
    }


def _line(one: Backlog | Summary) -> dict[str, Any]:
    return {
        **{name: value for name, value in one._asdict().items() if not name.endswith(("_minute", "_minutes"))},
        "seconds": round(one.seconds, 3),
        "drain_seconds": None if one.drain_seconds is None else round(one.drain_seconds, 1),
        "money_shown": amounts(one.money),
    }
