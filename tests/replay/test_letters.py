"""A dead letter tells where it came from, why, and what it holds, whoever wrote its headers."""

import pytest
from batched import Batches
from builders import an_intent
from worlds import INTENTS, LETTERS, Lists, letter_headers

from replay.letters import (
    BadLetterId,
    LetterId,
    NoSuchLetter,
    Origin,
    ReceiptUnreadable,
    letter_of,
    letter_topics,
    letters,
    receipts,
    shown,
    the_letter,
)
from replay.reader import Raw
from schemas import codec
from schemas.events import Micros
from schemas.internal import Redrive
from topologies.topics import REDRIVES

OURS = [
    *letter_headers("demo-x.payments.intents", 1, 5, "key-mismatch"),
    ("__dlq.errors.message", b"The record key is odd."),
]
CONNECT = [
    ("__connect.errors.topic", b"demo-x.payments.intents"),
    ("__connect.errors.partition", b"1"),
    ("__connect.errors.offset", b"5"),
    ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
    ("__connect.errors.exception.message", b"Failed to deserialize"),
]
SPRING = [
    ("kafka_dlt-original-topic", b"demo-x.payments.intents"),
    ("kafka_dlt-original-partition", (1).to_bytes(4, "big")),
    ("kafka_dlt-original-offset", (5).to_bytes(8, "big")),
    ("kafka_dlt-original-timestamp", (1_763_719_200_000).to_bytes(8, "big")),
    ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
    ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
    ("kafka_dlt-exception-message", b"Listener failed"),
]


def a_letter(headers, value=None, key=b"alice"):
    data = codec.encode(an_intent("rent")) if value is None else value
    return letter_of(Raw(LETTERS, 2, 7, 1_000, key, data, headers), "demo-x.")


@pytest.mark.parametrize(
    ("headers", "code", "message"),
    [
        (OURS, "key-mismatch", "The record key is odd."),
        (CONNECT, "org.apache.kafka.connect.errors.DataException", "Failed to deserialize"),
        (SPRING, "java.lang.IllegalStateException", "Listener failed"),
    ],
    ids=["ours", "connect", "spring"],
)
def test_origin_reason_and_record_are_read_from_three_families(headers, code, message):
    """Text or binary numbers: the same place, and the record by the schema of its topic."""
    letter = a_letter(headers)
    assert letter.origin == letter.latest == Origin("demo-x.payments.intents", 1, 5)
    assert (letter.code, letter.message, letter.undecodable) == (code, message, "")
    assert (letter.record.payment_id, letter.money) == ("rent", ("EUR", 1200))
    assert (str(letter.id), letter.replays) == (f"{LETTERS}:2:7", 0)


def test_the_first_origin_and_the_latest_failure_are_told_apart():
    """A letter of a redriven record: where it began, where it failed at last, how often."""
    again = [*OURS[:3], ("headrace.replay-count", b"2"), *letter_headers("demo-x.payments.intents", 3, 9, "truncated")]
    letter = a_letter(again)
    assert (letter.origin.offset, letter.latest.offset, letter.code, letter.replays) == (5, 9, "truncated", 2)


def test_bytes_that_are_no_record_are_a_letter_all_the_same():
    """It says why they can't be read; no money is guessed."""
    letter = a_letter(OURS, b"nonsense")
    assert (letter.record, letter.money, letter.undecodable.partition(":")[0]) == (None, None, "bad-magic")


@pytest.mark.parametrize("headers", [[], [("__dlq.errors.topic", None)], [("__dlq.errors.topic", b"somebody-elses")]])
def test_a_letter_of_nobodys_topic_is_not_decoded(headers):
    """Nor guessed at."""
    letter = a_letter(headers)
    assert (letter.record, letter.code, letter.undecodable) == (None, "unknown", "no schema is known of what it is")


def test_headers_that_lie_break_nothing():
    """Offsets that are no numbers, bytes that are no text."""
    odd = [("__dlq.errors.topic", b"\xff"), ("__dlq.errors.partition", b"-1"), ("__dlq.errors.offset", b"9" * 99)]
    letter = a_letter([*odd, ("headrace.error.code", b"\xff\0"), ("headrace.replay-count", b"many")])
    assert letter.origin == Origin("\\xff", None, None)
    assert (letter.code, letter.replays) == ("hex:ff00", 0)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("kafka_dlt-original-offset", (77).to_bytes(8, "big"), 77),
        ("retry_topic-original-timestamp", (1_763_719_200_000).to_bytes(6, "big"), 1_763_719_200_000),
        ("kafka_dlt-original-offset", b"", ""),
        ("x", b"plain", "plain"),
        ("x", b"two\nlines", "two\nlines"),
        ("x", b"\x1b[31m", "hex:1b5b33316d"),
        ("x", None, None),
    ],
)
def test_a_header_is_shown_as_people_read_it(name, value, told):
    """Spring's numbers as numbers, text as text, and nothing that a terminal obeys."""
    assert shown(name, value) == told


def test_a_place_is_written_as_it_is_read():
    """Topic names have dots and no colons."""
    assert LetterId.parse(f"{LETTERS}:2:7") == LetterId(LETTERS, 2, 7)
    assert str(LetterId.parse(f"{LETTERS}:2:7")) == f"{LETTERS}:2:7"


@pytest.mark.parametrize(
    "text", ["", LETTERS, f"{LETTERS}:2", f"{LETTERS}:x:7", ":2:7", f"{LETTERS}:2:-7", f"{LETTERS}:2:²"]
)
def test_a_text_that_names_no_letter_is_refused(text):
    """With the form that it should have."""
    with pytest.raises(BadLetterId, match="TOPIC:PARTITION:OFFSET"):
        LetterId.parse(text)


@pytest.fixture
def source():
    lists = Lists(topics=(LETTERS, REDRIVES.name, INTENTS))
    for number in range(3):
        lists.append(LETTERS, 1, codec.encode(an_intent(f"p-{number}")), letter_headers(INTENTS, 1, number, "odd"))
    return Batches(lists)


def test_every_letter_is_found_and_one_by_its_place(source):
    """A place without a letter is told, not answered with another one."""
    assert [one.record.payment_id for one in letters(source, letter_topics(source), "")] == ["p-0", "p-1", "p-2"]
    assert the_letter(source, LetterId(LETTERS, 1, 1), "").record.payment_id == "p-1"
    source.log[LETTERS, 1][1] = None
    for place in (LetterId(LETTERS, 1, 1), LetterId(LETTERS, 1, 3), LetterId(LETTERS, 99, 0)):
        with pytest.raises(NoSuchLetter, match=str(place)):
            the_letter(source, place, "")


def test_receipts_name_what_was_redriven_and_one_that_cannot_be_read_stops_everything(source):
    """Whoever does not know what was done may do it twice."""
    source.append(REDRIVES.name, 0, Redrive(LETTERS, 1, 2, Micros(5), "ana"))
    assert receipts(source) == {LetterId(LETTERS, 1, 2)}
    source.append(REDRIVES.name, 3, b"\0torn")
    with pytest.raises(ReceiptUnreadable, match="partition 3 offset 0"):
        receipts(source)
