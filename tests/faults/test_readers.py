"""Two readers' transcripts."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from readers import Transcript  # the fault scripts are no package

PLACE = ("payments.events", 0)


class Seen:
    def __init__(self, offset, value):
        self.offset, self.key, self.value = lambda: offset, lambda: b"k", lambda: value


def transcript(*values):
    found = Transcript()
    for offset, value in values:
        found.note(PLACE, Seen(offset, value))
    return found


def test_the_same_records_are_no_difference():
    """Nor is what stands outside the compared range."""
    one = transcript((0, b"a"), (2, b"b"), (5, b"c"))
    other = transcript((2, b"b"))
    assert one.differences(transcript((0, b"a"), (2, b"b"), (5, b"c"))) == []
    assert one.between({PLACE: 1}, {PLACE: 5}).differences(other) == []


def test_a_record_that_only_one_reader_saw_is_found():
    """A missing, a further and a changed one, each with its place."""
    one = transcript((0, b"a"), (2, b"b"))
    assert "payments.events [0]: record 1 is at 2 for one, at nothing more" in one.differences(transcript((0, b"a")))[0]
    assert one.differences(transcript((0, b"a"), (1, b"x"), (2, b"b")))
    assert one.differences(transcript((0, b"a"), (2, b"B")))
    assert one.differences(Transcript())
