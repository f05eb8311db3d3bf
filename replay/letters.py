"""Dead letters as they stand: whose they are, why, what they hold, and which have been redriven.

Headers of three families are read: ours and Kafka Streams' (text), Kafka Connect's (text), and Spring's, whose
numbers are binary. Of several headers with one name the first tells of the record's first topic, the last of
the latest failure.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from replay.reader import Raw
from replay.selection import ACCOUNTS
from replay.source import Source
from schemas import codec
from schemas.codec import Undecodable
from schemas.events import Minor
from topologies.topics import BY_NAME, REDRIVES

DLQ = "dlq."
"""How the names of dead-letter topics begin."""
REPLAYS = "headrace.replay-count"
LEFT_OUT = "headrace.error.left-out"
FAMILIES = (
    ("__dlq.errors.topic", "__dlq.errors.partition", "__dlq.errors.offset"),
    ("__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset"),
    ("__streams.errors.topic", "__streams.errors.partition", "__streams.errors.offset"),
    ("kafka_dlt-original-topic", "kafka_dlt-original-partition", "kafka_dlt-original-offset"),
)
"""Names of the headers that tell where a letter's record stood."""
CODES = (
    "headrace.error.code", "__connect.errors.exception.class.name", "kafka_dlt-exception-cause-fqcn",
    "kafka_dlt-exception-fqcn", "__streams.errors.exception",
)  # fmt: skip
MESSAGES = (
    "__dlq.errors.message", "__connect.errors.exception.message", "kafka_dlt-exception-message", "__streams.errors.message",
)  # fmt: skip
NUMBERS = frozenset(
    {
        "kafka_dlt-original-partition", "kafka_dlt-original-offset", "kafka_dlt-original-timestamp", "kafka_deliveryAttempt",
        "retry_topic-attempts", "retry_topic-original-timestamp", "retry_topic-backoff-timestamp",
    }
)  # fmt: skip
"""Spring's headers that are big-endian integers."""
Headers = Sequence[tuple[str, bytes | None]]


class NoSuchLetter(Exception):
    """No letter stands there. Exit 1."""


class BadLetterId(Exception):
    """A text that names no letter. Exit 2."""


class ReceiptUnreadable(Exception):
    """A receipt can't be decoded, so what was redriven is not known. Exit 1."""


class LetterId(NamedTuple):
    """Where a letter stands; the topic without the prefix."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "LetterId":
        """As in "dlq.payments.ledger:2:17". Raises BadLetterId."""
        topic, *numbers = text.rsplit(":", 2)
        if not topic or len(numbers) != 2 or not all(n.isascii() and n.isdecimal() and len(n) < 19 for n in numbers):
            raise BadLetterId(
                f"{text!r} names no letter; write TOPIC:PARTITION:OFFSET, as `headrace dlq list` prints it"
            )
        return cls(topic, int(numbers[0]), int(numbers[1]))


class Origin(NamedTuple):
    """Where a record stood before it was a letter: the topic as Kafka has it; None where no header tells."""

    topic: str
    partition: int | None
    offset: int | None


class Letter(NamedTuple):
    """A dead letter."""

    id: LetterId
    at: int
    """Its timestamp, µs."""
    key: bytes | None
    value: bytes | None
    headers: Headers
    origin: Origin | None
    """Where the record stood first."""
    latest: Origin | None
    """Where it failed at last; the same, unless it was redriven."""
    code: str
    message: str
    replays: int
    """How often it has been redriven."""
    left_out: bool
    """Whether its bytes stayed where they were, being too many."""
    record: Any
    """What it holds, by the schema of its first topic; None where that can't be said."""
    undecodable: str
    """Why it can't, "" where it can."""

    @property
    def money(self) -> tuple[str, Minor] | None:
        """(currency, minor units) of what it holds, if it is about money."""
        if not hasattr(self.record, "amount_minor"):
            return None
        return self.record.currency, self.record.amount_minor

    def names(self, payment: str | None, account: str | None) -> bool:
        """Whether it is about this payment and this account; None: about any."""
        if payment is not None and getattr(self.record, "payment_id", None) != payment:
            return False
        if account is None or self.key == account.encode(errors="replace"):
            return True
        return any(getattr(self.record, name, None) == account for name in ACCOUNTS)


def shown(name: str, value: bytes | None) -> str | int | None:
    """A header's value as people read it: text, Spring's numbers, or hexadecimal digits."""
    if value is None:
        return None
    if name in NUMBERS and 1 <= len(value) <= 8:
        return int.from_bytes(value, "big", signed=True)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return f"hex:{value.hex()}"
    return text if text.isprintable() or "\n" in text else f"hex:{value.hex()}"


def _number(name: str, value: bytes | None) -> int | None:
    found = shown(name, value)
    if isinstance(found, int):
        return found
    return int(found) if found is not None and found.isascii() and found.isdecimal() and len(found) < 19 else None


def _origin(headers: Mapping[str, bytes | None]) -> Origin | None:
    for topic, partition, offset in FAMILIES:
        name = headers.get(topic)
        if name is not None:
            numbers = (_number(partition, headers.get(partition)), _number(offset, headers.get(offset)))
            return Origin(name.decode("utf-8", "backslashreplace"), *numbers)
    return None


def _word(headers: Mapping[str, bytes | None], names: Sequence[str]) -> str:
    found = next((str(shown(name, headers[name])) for name in names if headers.get(name) is not None), "")
    return found.rsplit("\n", 1)[-1]


def letter_of(raw: Raw, prefix: str) -> Letter:
    """A record of a dead-letter topic as a letter."""
    headers = list(raw.headers or ())
    last = dict(headers)
    first = dict(reversed(headers))
    origin = _origin(first)
    record, why = None, ""
    known = BY_NAME.get(origin.topic.removeprefix(prefix)) if origin is not None else None
    left_out = LEFT_OUT in last
    if left_out:
        why = "its bytes were too many for a letter"
    elif known is None:
        why = "no schema is known of what it is"
    else:
        try:
            record = codec.decoder(known.subject)(raw.value)
        except Undecodable as error:
            why = f"{error.code}: {error.reason}"
    return Letter(
        LetterId(raw.topic, raw.partition, raw.offset), raw.timestamp, raw.key, raw.value, headers, origin, _origin(last),
        _word(last, CODES) or "unknown", _word(last, MESSAGES), _number(REPLAYS, last.get(REPLAYS)) or 0, left_out, record, why,
    )  # fmt: skip


def letter_topics(source: Source) -> list[str]:
    """Names of the dead-letter topics that are there."""
    return sorted(name for name in source.require([]) if name.startswith(DLQ))


def letters(source: Source, topics: Sequence[str], prefix: str) -> Iterator[Letter]:
    """Every letter of some topics, topic by topic, each partition in its order. Raises Unreachable, TopicMissing."""
    for topic in topics:
        for raw in source.read(topic, source.ends([topic])):
            yield letter_of(raw, prefix)


def the_letter(source: Source, where: LetterId, prefix: str) -> Letter:
    """The letter at a place. Raises NoSuchLetter, Unreachable, TopicMissing."""
    there = source.require([where.topic])
    place = (where.topic, where.partition)
    if where.partition < there[where.topic]:
        ends, starts = source.ends([where.topic]), source.starts([where.topic])
        if starts[place] <= where.offset < ends[place]:
            for raw in source.read(where.topic, {place: where.offset + 1}, {place: where.offset}):
                if raw.offset == where.offset:
                    return letter_of(raw, prefix)
    raise NoSuchLetter(f"no letter stands at {where}; `headrace dlq list --each` tells what there is")


def receipts(source: Source) -> set[LetterId]:
    """The letters that were redriven. Raises ReceiptUnreadable, Unreachable, TopicMissing."""
    decode = codec.decoder(REDRIVES.subject)
    found = set()
    for raw in source.read(REDRIVES.name, source.ends([REDRIVES.name])):
        try:
            receipt = decode(raw.value)
        except Undecodable as error:
            raise ReceiptUnreadable(
                f"{REDRIVES.name} partition {raw.partition} offset {raw.offset} can't be decoded ({error.reason}), so what "
                "was redriven is not known for certain; find out who wrote there before anything is redriven"
            ) from error
        found.add(LetterId(receipt.topic, receipt.partition, receipt.offset))
    return found
