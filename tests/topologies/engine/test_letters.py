"""A dead letter keeps its input byte for byte, and fits into its topic whatever the input was."""

from topologies import topics
from topologies.engine.letters import letter_of
from topologies.engine.step import Parcel, Raw


def letter(value, headers=()):
    parcel = Parcel("admission", topics.INTENTS, 3, Raw(7, 0, b"key", value, lambda: headers), "undecodable", "no")
    return letter_of(parcel, "t.", "t.headrace.core")


def test_key_value_and_headers_are_kept():
    """Ours come behind theirs."""
    key, value, headers = letter(b"bytes", [("theirs", b"1")])
    assert (key, value, headers[0]) == (b"key", b"bytes", ("theirs", b"1"))
    assert dict(headers)["__dlq.errors.topic"] == b"t.payments.intents"
    assert dict(headers)["__dlq.errors.offset"] == b"7"


def test_an_input_that_fits_no_letter_stays_where_it_was_read():
    """A compressed batch may hold a record of any size: the letter says where it is and how large."""
    key, value, headers = letter(b"x" * topics.LETTER_BYTES, [("theirs", b"1")])
    assert (key, value) == (None, None)
    found = dict(headers)
    assert int(found["headrace.error.left-out"]) > topics.LETTER_BYTES
    assert found["__dlq.errors.partition"] == b"3"
    assert "theirs" not in found
