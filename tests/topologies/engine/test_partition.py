"""A poisonous record is found by halving, and costs nobody else anything."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.admission import BoundKey
from streams.rules import Rules
from topologies import topics
from topologies.engine.errors import WorkerStopped
from topologies.engine.limits import Limits
from topologies.engine.memory import MemoryBase
from topologies.engine.partition import Partition
from topologies.engine.seams import SYSTEM
from topologies.engine.step import Place, Raw
from topologies.engine.store import RowCache, StoreTable, encode_row, rocksdb_stores, row_key
from topologies.payments import CORE


def partition_with(count, limits=None):
    zero = {topic.name: 0 for topic in CORE.inputs}
    state = SimpleNamespace(
        offsets=zero, step=0, at=0, tables={spec.name: MemoryBase() for spec in CORE.tables()}, store=None
    )
    partition = Partition(Place(CORE, 0, 4, Rules(), "hash"), state, limits or Limits(), SYSTEM)
    for offset in range(count):
        partition.inbox.add(topics.INTENTS.name, Raw(offset, 0, b"k", b"v", lambda: None))
    return partition


def offsets_of(step):
    return [raw.offset for taken in step.taken for raw in taken.raws]


def drive(partition, bad):
    """Settles good steps and fails those with a bad record; returns what was decided and what was lettered."""
    decided, lettered, steps = [], [], 0
    while (step := partition.next_step({}, {}, 100)) is not None:
        steps += 1
        assert steps < 2_000
        if partition.condemned:
            assert len(offsets_of(step)) == 1
            lettered += [parcel.raw.offset for parcel in step.parcels]
        elif set(offsets_of(step)) & bad:
            partition.failed(step, ValueError("poison"))
            continue
        else:
            decided += offsets_of(step)
        partition.settle(step)
    return decided, lettered


@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=6))
@settings(deadline=None)
def test_only_the_poisonous_records_become_dead_letters(count, bad):
    """Every good record is decided once and in order, every bad one is lettered once."""
    decided, lettered = drive(partition_with(count), bad)
    assert lettered == sorted(offset for offset in bad if offset < count)
    assert decided == [offset for offset in range(count) if offset not in bad]


def test_a_dead_letter_carries_the_trace():
    """Whoever reads the letter sees where it broke."""
    partition = partition_with(1)
    for _ in range(2):
        partition.failed(partition.next_step({}, {}, 100), ValueError("poison"))
    [parcel] = partition.next_step({}, {}, 100).parcels
    assert parcel.code == "unprocessable"
    assert "ValueError: poison" in parcel.exception


def test_a_bad_deployment_does_not_empty_a_topic_into_the_dead_letters():
    """After too many in a row the worker stops instead."""
    partition = partition_with(50, Limits(unknown_bad_in_a_row=5))
    with pytest.raises(WorkerStopped, match="bad deployment"):
        drive(partition, set(range(50)))
    assert partition.inbox.next[topics.INTENTS.name] == 5


def test_a_record_is_condemned_for_its_own_failures_only():
    """Money that comes in while a bad intent is tried again goes first, and is not taken for it."""
    partition = partition_with(1)
    for _ in range(2):
        partition.failed(partition.next_step({}, {}, 100), ValueError("poison"))
    partition.inbox.add(topics.CREDITS.name, Raw(0, 0, b"k", b"money", lambda: None))
    step = partition.next_step({}, {}, 100)
    assert [parcel.topic for parcel in step.parcels] == [topics.INTENTS]
    assert offsets_of(step) == [0]
    partition.settle(step)
    assert [taken.topic for taken in partition.next_step({}, {}, 100).taken if taken.raws] == [topics.CREDITS]


def test_two_records_that_fail_once_each_are_no_dead_letters():
    """Twice alone means the same record twice."""
    partition = partition_with(1)
    partition.failed(partition.next_step({}, {}, 100), ValueError("busy"))
    partition.inbox.add(topics.CREDITS.name, Raw(0, 0, b"k", b"money", lambda: None))
    partition.failed(partition.next_step({}, {}, 100), ValueError("busy"))
    assert not partition.condemned


def test_too_many_bad_records_among_good_ones_stop_the_worker():
    """A fifth of the last records, in any order; fewer do not."""
    limits = Limits(unknown_bad=4, unknown_bad_of=20)
    with pytest.raises(WorkerStopped, match="5 of the last 20 records"):
        drive(partition_with(60, limits), set(range(0, 60, 4)))
    assert len(drive(partition_with(60, limits), set(range(0, 60, 6)))[1]) == 10


def test_a_deadline_that_raises_stops_the_worker():
    """There is no record to blame."""
    partition = partition_with(3)
    step = partition.next_step({}, {}, 100)
    with pytest.raises(WorkerStopped, match="deadline"):
        partition.failed(step, ValueError("no such hold"), in_deadline=True)
    partition = partition_with(0)
    step = SimpleNamespace(taken=[])
    with pytest.raises(WorkerStopped, match="deadline"):
        partition.failed(step, ValueError("x"))


def test_a_steps_time_never_goes_back():
    """A clock that jumps back does not."""
    partition = partition_with(2)
    partition.state.at = 2**60
    assert partition.next_step({}, {}, 100).at == 2**60


def test_rows_that_mean_nothing_any_more_are_swept_away(tmp_path):
    """State is bounded: expired rows go, slice by slice; others stay, and so does what this step has changed."""
    store = rocksdb_stores(Limits()).open(tmp_path / "p0")
    rows = {f"{number:032x}": BoundKey("f" * 32, 100 if number % 2 else 10_000) for number in range(50)}
    store.write([(row_key("idempotency", key), encode_row(row)) for key, row in rows.items()], {"step": 1})
    tables = {spec.name: StoreTable(store, spec, RowCache(100)) for spec in CORE.tables()}
    zero = {topic.name: 0 for topic in CORE.inputs}
    state = SimpleNamespace(offsets=zero, step=0, at=0, tables=tables, store=store)
    partition = Partition(Place(CORE, 0, 4, Rules(), "hash"), state, Limits(sweep_rows=8), SYSTEM)
    table = partition.tables.overlays["idempotency"]
    renewed = f"{1:032x}"
    table.put(renewed, BoundKey("f" * 32, 20_000))
    for _ in range(40):
        partition.sweep(500)
    gone = {key for key, row in table.changed.items() if row is None}
    assert gone == {key for key, row in rows.items() if row.expires_at == 100} - {renewed}
    store.close()
