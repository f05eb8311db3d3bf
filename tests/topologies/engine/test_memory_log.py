"""A partition of the simulated Kafka: what takes offsets, what readers see, what is stable."""

import pytest

from topologies.engine.memory.log import Marker, PartitionLog, Record


def record(value=b"v", key=b"k"):
    return Record(0, key, value)


def seen(log):
    return [offset for offset, _ in log.committed()]


def test_records_and_markers_take_offsets():
    """A committed transaction of two records ends with a third offset that nobody reads."""
    log = PartitionLog()
    assert log.append_batch(1, 1, [record(), record()]) == 0
    log.mark(1, 0, committed=True)
    assert (log.end, seen(log)) == (3, [0, 1])
    assert log.entries[2] == Marker(1, True)


def test_aborted_records_stay_and_are_seen_by_nobody():
    """The next record stands behind them."""
    log = PartitionLog()
    log.append_batch(1, 1, [record()])
    log.mark(1, 0, committed=False)
    log.append(record())
    assert (seen(log), log.aborted) == ([2], 1)


def test_the_first_open_transaction_holds_the_stable_offset():
    """Whoever came later waits behind it, committed or not."""
    log = PartitionLog()
    log.append_batch(1, 1, [record()])
    log.append_batch(2, 1, [record()])
    log.mark(2, 0, committed=True)
    assert (log.stable, log.end) == (0, 3)
    log.mark(1, 0, committed=True)
    assert log.stable == log.end == 4


def test_a_batch_that_comes_twice_is_there_once():
    """An idempotent producer's retry gets no offset."""
    log = PartitionLog()
    assert log.append_batch(1, 7, [record()]) == 0
    assert log.append_batch(1, 7, [record()]) == -1
    assert log.end == 1


def test_a_new_epoch_numbers_its_batches_anew():
    """A fresh producer begins with batch 1 again."""
    log = PartitionLog()
    log.accept(1, 0)
    log.append_batch(1, 1, [record()])
    log.mark(1, 1, committed=False)
    log.accept(1, 2)
    assert log.append_batch(1, 1, [record()]) == 2


def test_a_deleted_head_leaves_the_offsets_as_they_are():
    """And nothing that is not stable can be deleted."""
    log = PartitionLog()
    for value in (b"1", b"2", b"3"):
        log.append(record(value))
    log.delete_before(2)
    log.delete_before(1)
    assert (seen(log), log.first, log.end) == ([2], 2, 3)
    log.append_batch(1, 1, [record(b"4")])
    with pytest.raises(AssertionError):
        log.delete_before(4)
