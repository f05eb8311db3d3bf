"""Keys land where Java's clients put them, and ids say what they are for (R7)."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import keys

# org.apache.kafka.common.utils.UtilsTest.testMurmur2
JAVA = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("text", "signed"), JAVA.items())
def test_murmur2_is_javas(text: str, signed: int) -> None:
    """The vectors of Kafka's own test, as Java's signed int."""
    assert int.from_bytes(keys.murmur2(text.encode()).to_bytes(4, "big"), "big", signed=True) == signed


@pytest.mark.parametrize(("text", "signed"), JAVA.items())
def test_a_partition_is_the_positive_hash_modulo_their_number(text: str, signed: int) -> None:
    """Java's toPositive drops the sign bit; it does not negate."""
    for partitions in (1, 4, 12):
        assert keys.partition_of(text, partitions) == (signed & 0x7FFFFFFF) % partitions


@settings(deadline=None)
@given(key=st.text(max_size=40), partitions=st.integers(1, 64))
def test_every_key_has_one_partition(key: str, partitions: int) -> None:
    """In range, and the same each time."""
    keys.remembered.cache_clear()
    first = keys.partition_of(key, partitions)
    keys.remembered.cache_clear()
    assert 0 <= first < partitions
    assert keys.partition_of(key, partitions) == first


def test_keys_too_long_for_an_id_are_not_remembered() -> None:
    """A stranger who sends ever new keys of 8 KiB can't fill the memory, and still hears the right partition."""
    long = "x" * 8192
    before = keys.remembered.cache_info()
    assert keys.partition_of(long, 4) == (keys.murmur2(long.encode()) & 0x7FFFFFFF) % 4
    assert keys.remembered.cache_info() == before
    keys.partition_of("x" * 255, 4)
    assert sum(keys.remembered.cache_info()[:2]) == sum(before[:2]) + 1


PARTS = st.lists(st.text(alphabet="ab:1€0", max_size=4), max_size=4)


@settings(deadline=None)
@given(one=PARTS, other=PARTS)
def test_parts_cannot_run_into_each_other(one: list[str], other: list[str]) -> None:
    """Other parts, another id, wherever the borders are and whatever stands in them."""
    assert (keys.derive_id(*one) == keys.derive_id(*other)) == (one == other)
    assert (keys.digest(*one) == keys.digest(*other)) == (one == other)


def test_borders_between_parts_count() -> None:
    """The cases that naive joining gets wrong."""
    alike = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("2:ab1:c",), ("2:ab", "1:c")]
    assert len({keys.derive_id(*parts) for parts in alike}) == len(alike)


def test_an_id_never_changes() -> None:
    """Ids are on the log: their recipe is a contract, the head of SHA-256 over length-prefixed parts."""
    whole = hashlib.sha256("16:payments.intents1:32:427:€".replace("27:", "21:").encode()).hexdigest()
    assert keys.digest("payments.intents", 3, 42, "€") == whole
    assert keys.derive_id("payments.intents", 3, 42, "€") == whole[:32]
