"""Any bytes at the codec's door: a record that every Avro reader finds too, or a refusal with a code."""

import tracemalloc

import pytest
from avro_values import SUBJECTS, head
from endured import value_is_judged
from hostile import bombs, values, varint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import codec, wire
from schemas.codec import Undecodable

FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("subject", SUBJECTS)
@FEW
@given(data=st.data())
def test_any_bytes_are_a_record_for_every_reader_or_refused(subject, data):
    """Noise, flips, bombs, cuts and wrong heads: never another exception, never another reading than fastavro's."""
    value_is_judged(subject, data.draw(values(subject)))


HUGE = [
    varint(2 * (2**62)),
    varint(2 * (2**62) - 1),
    varint(2**64 - 1),
    varint(2 * wire.VALUE_MOST),
    b"\xff" * 9 + b"\x01",
]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_length_that_lies_takes_no_memory(subject):
    """A few bytes that promise 2^62 of something are refused for about what they are."""
    decode = codec.decoder(subject)
    lies = [
        head(subject) + prefix + huge * repeated
        for prefix in (b"", b"\x02x", b"\0" * 5)
        for huge in HUGE
        for repeated in (1, 9)
    ]
    tracemalloc.start()
    try:
        for lie in lies:
            with pytest.raises(Undecodable):
                decode(lie)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000, peak


@FEW
@given(subject=st.sampled_from(SUBJECTS), pieces=st.lists(bombs, max_size=40))
def test_a_value_takes_memory_in_proportion_to_its_bytes(subject, pieces):
    """At most what a list of one-byte strings takes, which is the worst that can be asked for."""
    value = head(subject) + b"".join(pieces)
    tracemalloc.start()
    try:
        value_or_code(subject, value)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000 + 100 * min(len(value), wire.VALUE_MOST), (peak, len(value))


def value_or_code(subject, value):
    try:
        return codec.decoder(subject)(value)
    except Undecodable as refused:
        return refused.code
