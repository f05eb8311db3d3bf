"""Rows packed into few records come out as they went in, and nothing else is taken for a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topologies.engine import changelog
from topologies.engine.changelog import head_of, pack, rows_of, unpack
from topologies.engine.store import row_key

KEYS = st.builds(row_key, st.sampled_from(["accounts", "credits"]), st.text(max_size=6))
ROWS = st.lists(st.tuples(KEYS, st.none() | st.binary(max_size=60)), max_size=12)


@pytest.fixture(autouse=True)
def small_records(monkeypatch):
    """Records that a few rows fill."""
    monkeypatch.setattr(changelog, "CHANGELOG_BYTES", 40)


@given(ROWS)
def test_what_was_packed_comes_out_in_its_order(rows):
    """Over all records of a step, of all tables or of one."""
    packed = pack(7, 3, rows)
    assert [pair for value in packed for pair in unpack(value)[1]] == rows
    credits_ = [(key.removeprefix(b"credits\0"), row) for key, row in rows if key.startswith(b"credits\0")]
    assert [(key, row) for value in packed for _, key, row in rows_of(value, "credits")] == credits_
    assert {table for value in packed for table, _, _ in rows_of(value)} <= {"accounts", "credits"}


@given(ROWS)
def test_a_record_is_small_unless_one_row_is_large(rows):
    """Kafka takes it; and each one says by itself of which step it is."""
    for value in pack(7, 3, rows):
        head = head_of(value)
        assert (head.step, head.base) == (7, 3)
        assert sum(head.keys) + sum(max(row, 0) for row in head.rows) <= 40 or len(head.keys) == 1


def test_a_step_without_rows_leaves_a_record():
    """The changelog's last record says at which step it ends."""
    [value] = pack(7, 3, [])
    assert (head_of(value).step, list(rows_of(value))) == (7, [])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda v: v[:-1],
        lambda v: v + b"x",
        lambda v: v.replace(b"\n", b" "),
        lambda _: b"",
        lambda v: v.replace(b"[11]", b'["11"]'),
    ],
)
def test_bytes_that_are_no_record_are_refused(spoil):
    """A damaged record is never read as other rows."""
    [value] = pack(7, 3, [(row_key("credits", "key"), b"row")])
    with pytest.raises(ValueError, match="changelog"):
        list(rows_of(spoil(value)))
