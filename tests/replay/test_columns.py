"""Columns say what the schema's own decoder says, record by record, whatever the bytes are."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from avro_values import PER_SUBJECT, SUBJECTS, head, records
from builders import an_intent
from hostile import values
from hypothesis import given
from hypothesis import strategies as st
from worlds import a_world

from replay.columns import columns_of
from schemas import codec

INTENTS = "payments.intents-value"


def check(subject, found):
    """Both ways give the same rows, and leave out the same values for the same reasons."""
    decode, columns = codec.decoder(subject), columns_of(subject)
    decoded, wrong = [], {}
    for number, value in enumerate(found):
        try:
            decoded.append(decode(value))
        except codec.Undecodable as error:
            wrong[number] = error.code
    table, odd = columns.decode(found)
    assert {number: error.code for number, error in odd.items()} == wrong
    assert comparable(table).equals(comparable(columns.table(decoded)))


def comparable(table):
    """The table with a number for NaN, which equals nothing, itself least of all."""
    for number, field in enumerate(table.schema):
        if field.type == pa.float64():
            column = table[field.name]
            table = table.set_column(number, field.name, pc.if_else(pc.is_nan(column), -1.5, column))
    return table


@pytest.mark.parametrize("subject", SUBJECTS)
@PER_SUBJECT
@given(data=st.data())
def test_every_record_is_the_one_that_the_decoder_gives(subject, data):
    """Nulls, enums, nested lists, maps, long numbers, any text: all at once as one by one."""
    check(subject, [codec.encode(one) for one in data.draw(st.lists(records(subject), max_size=6))])


@pytest.mark.parametrize("subject", SUBJECTS)
@PER_SUBJECT
@given(data=st.data())
def test_damaged_bytes_between_good_ones_cost_no_good_one(subject, data):
    """Noise, flips, cuts, wrong heads, no value at all: each is left out with its code, its neighbours stay."""
    good = [codec.encode(one) for one in data.draw(st.lists(records(subject), max_size=3))]
    bad = data.draw(st.lists(values(subject) | st.none(), min_size=1, max_size=3))
    check(subject, data.draw(st.permutations([*good, *bad])))


def test_a_day_of_all_topics_needs_no_second_look(monkeypatch):
    """The quick way is taken for all that we write ourselves: no record is decoded one by one."""
    world = a_world()
    for topic in ("payments.events", "ledger.postings", "ledger.credits", "headrace.journal", "accounts.commands"):
        found = [
            codec.encode(kept.value) for (name, _), log in world.log.items() if name == topic for kept in log if kept
        ]
        columns = columns_of(f"{topic}-value")
        monkeypatch.setattr(columns, "_decode", None)
        table, odd = columns.decode(found)
        assert (table.num_rows, odd) == (len(found), {})


def test_rows_stand_in_the_order_of_their_values():
    """One that is decoded by itself comes back between its neighbours."""
    found = [codec.encode(an_intent(name)) for name in ("a", "größer", "c", "d")]
    table, _ = columns_of(INTENTS).decode([found[0], b"\0nonsense", *found[1:]])
    assert table["payment_id"].to_pylist() == ["a", "größer", "c", "d"]


def test_no_values_are_no_rows():
    """An empty batch has its columns all the same."""
    table, odd = columns_of(INTENTS).decode([])
    assert (table.num_rows, odd, table.column_names[:2]) == (0, {}, ["intent_id", "idempotency_key"])


def test_a_value_of_its_head_alone_is_truncated():
    """Five bytes, and then the next record's: nobody's field is taken from there."""
    table, odd = columns_of(INTENTS).decode([head(INTENTS), codec.encode(an_intent())])
    assert (table.num_rows, odd[0].code) == (1, "truncated")


def test_a_number_of_nine_bytes_is_not_cut_after_eight():
    """Read as eight bytes these would be another receipt, of the same length: time 32, and somebody called NUL."""
    value = head("headrace.redrives-value") + b"\x02t\x00" + b"\x80" * 7 + b"\x81\x40\x02\x02\x00"
    check("headrace.redrives-value", [value])
    table, odd = columns_of("headrace.redrives-value").decode([value])
    assert (table["offset"].to_pylist(), table["redriven_by"].to_pylist(), odd) == (
        [(0x40 << 56 | 1 << 49) >> 1],
        [""],
        {},
    )


def test_bytes_behind_a_value_are_not_passed_over():
    """A value that goes on is no value."""
    _, odd = columns_of(INTENTS).decode([codec.encode(an_intent()) + b"\0"])
    assert odd[0].code == "trailing-bytes"


def test_a_list_in_several_blocks_is_read_whole():
    """Others' writers may cut a list: its pieces are one."""
    subject = "accounts.commands-value"
    value = head(subject) + b"\x02c\x02x\x0a\x06EUR\x0a" + b"\x02\x02F\x02\x02G\0" + b"\0\0\0\0"
    check(subject, [value])
    assert columns_of(subject).decode([value])[0]["flags"].to_pylist() == [["F", "G"]]
