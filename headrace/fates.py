"""Which intents have their fate: deliveries on one side, events and dead letters on the other."""

from array import array
from collections import Counter
from collections.abc import Sequence
from time import time_ns

from confluent_kafka import Message

from replay.reader import Raw
from schemas import codec
from schemas.events import PaymentEvent, Status
from topologies import topics

_OFFSET_BITS = 44
LETTERS = "dlq.payments."


class Fates:
    """Matches every delivered intent with its one answer: an event or a dead letter.

    Answered counts an intent in review too; a latency is taken only from terminal events.
    """

    def __init__(self, prefix: str) -> None:
        self.delivered = 0
        self.answered = 0
        self.by_status: Counter[str] = Counter()
        self.by_reason: Counter[tuple[str, str]] = Counter()
        """Events by status and reason, where there is a reason."""
        self.dead_letters: Counter[str] = Counter()
        """Dead letters by code."""
        self.repeats = 0
        self.decided = 0
        self.failed: str | None = None
        """Why an intent could not be delivered."""
        self._intents = (prefix + topics.INTENTS.name).encode()
        self._decode = codec.decoder(topics.EVENTS.subject)
        self._waiting: dict[int, int] = {}
        self._early: dict[int, int] = {}
        self._seen: set[int] = set()
        self._latencies = array("q")

    @property
    def waiting(self) -> int:
        """Delivered intents without an answer."""
        return len(self._waiting)

    def note(self, error: Exception | None, message: Message) -> None:
        """A delivery report of the producer."""
        if error is not None:
            self.failed = self.failed or str(error)
            return
        self.delivered += 1
        place = message.partition() << _OFFSET_BITS | message.offset()
        appended = message.timestamp()[1] * 1_000
        seen = self._early.pop(place, None)
        if seen is None:
            self._waiting[place] = appended
            return
        self.answered += 1
        if seen:
            self._latencies.append(max(seen - appended, 0))

    def observe(self, records: Sequence[Raw]) -> None:
        """Records of payments.events and of dead-letter topics, seen now."""
        if not records:
            return
        now = time_ns() // 1_000
        for raw in records:
            if raw.topic == topics.EVENTS.name:
                assert raw.value is not None, raw
                self._event(raw.partition, self._decode(raw.value), now)
            elif raw.topic.startswith(LETTERS):
                self._letter(raw)

    def _event(self, partition: int, event: PaymentEvent, now: int) -> None:
        if event.status == Status.SETTLED:
            return  # it answers no intent
        offset = event.intent_offset
        if event.repeat_intent_offset is not None:
            offset = event.repeat_intent_offset
            self.repeats += 1
        elif event.decided_by_intent_offset is not None:
            offset = event.decided_by_intent_offset
            self.decided += 1
        assert offset is not None, event
        self.by_status[str(event.status)] += 1
        if event.reason is not None:
            self.by_reason[str(event.status), event.reason] += 1
        self._answer(partition << _OFFSET_BITS | offset, 0 if event.status == Status.REVIEW else now)

    def _letter(self, raw: Raw) -> None:
        headers = {name: value or b"" for name, value in raw.headers or ()}
        self.dead_letters[headers.get("headrace.error.code", b"unknown").decode()] += 1
        if headers.get("__dlq.errors.topic") == self._intents:
            partition, offset = (int(headers[f"__dlq.errors.{name}"]) for name in ("partition", "offset"))
            self._answer(partition << _OFFSET_BITS | offset, 0)

    def _answer(self, place: int, seen: int) -> None:
        if place in self._seen:
            return
        self._seen.add(place)
        appended = self._waiting.pop(place, None)
        if appended is None:
            self._early[place] = seen
            return
        self.answered += 1
        if seen:
            self._latencies.append(max(seen - appended, 0))

    def percentiles_ms(self) -> dict[str, float]:
        """p50, p95 and p99 of append to terminal event, in ms; 0.0 each where there is none."""
        ordered = sorted(self._latencies)
        most = len(ordered) - 1
        return {
            f"p{percent}": round(ordered[most * percent // 100] / 1_000, 1) if ordered else 0.0
            for percent in (50, 95, 99)
        }
