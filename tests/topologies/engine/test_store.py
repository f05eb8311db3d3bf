"""A store that can't be trusted is never used: it is moved aside, and what made it unusable is told."""

import os
from pathlib import Path

import pytest

from topologies.engine.errors import StoreCorrupt, StoreFailed
from topologies.engine.limits import Limits
from topologies.engine.store import COMPACTION_NICENESS, rocksdb_stores

ROWS = [(f"things\x00{number}".encode(), b"[1]" * 50) for number in range(20_000)]


@pytest.fixture
def stores():
    return rocksdb_stores(Limits(memtable_mb=1))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "p0"


def filled(stores, folder):
    store = stores.open(folder)
    store.write(ROWS, {"step": 7})
    store.close()
    return folder


def test_a_store_that_was_closed_is_clean(stores, folder):
    """Only a life that ended without closing has its rows read through."""
    first = stores.open(folder)
    assert not first.unclean
    first.close()
    again = stores.open(folder)
    assert not again.unclean
    again.close()


def test_a_store_that_was_not_closed_is_unclean(stores, folder):
    """A killed process leaves its mark."""
    filled(stores, folder)
    folder.with_name("p0.open").touch()
    again = stores.open(folder)
    assert again.unclean
    assert again.meta() == {"step": 7, "format": 3}
    again.close()


@pytest.mark.parametrize("spoil", ["flip", "cut", "gone"])
def test_damaged_files_are_found_when_every_row_is_read(stores, folder, spoil):
    """A flipped bit, a shortened file, a missing one: an error, never other rows."""
    filled(stores, folder)
    victim = max(folder.glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    if spoil == "flip":
        data[len(data) // 3] ^= 0x40
        victim.write_bytes(data)
    elif spoil == "cut":
        victim.write_bytes(data[: len(data) // 2])
    else:
        victim.unlink()
    for read in (walk, get_each, get_all):
        folder.with_name("p0.damaged").unlink(missing_ok=True)
        with pytest.raises(StoreCorrupt, match=str(folder)):
            read_through(stores, folder, read)


def walk(store):
    return store.count(b"things\x00")


def get_each(store):
    return sum(store.get(key) is not None for key, _ in ROWS)


def get_all(store):
    return sum(row is not None for row in store.get_many([key for key, _ in ROWS]))


def read_through(stores, folder, read):
    store = stores.open(folder)
    try:
        assert read(store) == len(ROWS)
    finally:
        store.close()


def test_a_store_that_is_opened_again_keeps_its_filters(stores, folder):
    """Without them a look-up of a key that is not there reads a block of every file: a fifth of a payment's time."""
    filled(stores, folder)
    stores.open(folder).close()
    latest = max(folder.glob("OPTIONS-*"), key=lambda path: path.name)
    assert "filter_policy=bloomfilter" in latest.read_text()


def test_damage_that_was_met_is_remembered(stores, folder):
    """The next life does not trust what still can be read; moved aside, the folder is free for a new store."""
    filled(stores, folder)
    folder.with_name("p0.damaged").touch()
    with pytest.raises(StoreCorrupt, match="damaged in its last life"):
        stores.open(folder)
    aside = stores.move_aside(folder)
    assert aside.is_dir()
    fresh = stores.open(folder)
    assert fresh.meta() is None
    fresh.close()


def test_a_store_that_is_in_use_is_not_called_damaged(stores, folder):
    """Another process has it: an error of its own, and nothing is moved."""
    filled(stores, folder)
    store = stores.open(folder)
    with pytest.raises(StoreFailed) as refused:
        stores.open(folder)
    assert not isinstance(refused.value, StoreCorrupt)
    assert not folder.with_name("p0.damaged").exists()
    store.close()


def test_a_failed_write_ends_in_an_error_that_names_the_store(stores, folder):
    """Nobody goes on without the rows of a committed step."""
    store = stores.open(folder)
    store.close()
    with pytest.raises(StoreFailed, match=str(folder)):
        store.write(ROWS[:1], None)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are told by Linux alone")
def test_compactions_give_way_to_payments(stores, folder):
    """A burst of them takes no core from a worker that has payments to decide; the worker's own thread stays as it is."""
    stores.open(folder).close()
    names = {int(task.name): (task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
    nice = {os.getpriority(os.PRIO_PROCESS, number) for number, name in names.items() if name == "rocksdb:low"}
    assert nice == {os.nice(0) + COMPACTION_NICENESS}
