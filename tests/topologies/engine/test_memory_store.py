"""Stores in memory: what survives a process, a power cut, a full disk."""

from pathlib import Path

import pytest

from topologies.engine.errors import StoreFailed
from topologies.engine.memory.host import PlainHost, Trouble
from topologies.engine.memory.store import PIECE, Disk, MemoryStores
from topologies.engine.memory.timeline import Timeline

FOLDER = Path("p0")


class Host(PlainHost):
    killed = False

    def dead(self):
        return self.killed


@pytest.fixture
def disk():
    return Disk()


def host():
    return Host(Timeline())


def rows(count, start=0):
    return [(b"t\x00%03d" % n, b"%d" % n) for n in range(start, start + count)]


def test_rows_come_in_key_order_and_survive_the_process(disk):
    """Another life opens what the last one left, and sees that it was not closed."""
    first = host()
    store = MemoryStores(disk, first).open(FOLDER)
    store.write(rows(8)[::-1], {"step": 3})
    first.killed = True
    again = MemoryStores(disk, host()).open(FOLDER)
    assert again.unclean
    assert again.meta()["step"] == 3
    assert list(again.rows(b"t\x00003", b"t\x00", 3)) == rows(3, 3)
    assert (again.count(b"t\x00"), again.get_many([b"t\x00001", b"x"])) == (8, [b"1", None])


def test_a_store_is_open_once(disk):
    """Closed, the next one may have it."""
    store = MemoryStores(disk, host()).open(FOLDER)
    with pytest.raises(StoreFailed, match="open already"):
        MemoryStores(disk, host()).open(FOLDER)
    store.close()
    assert not MemoryStores(disk, host()).open(FOLDER).unclean


def test_a_power_cut_takes_the_last_writes_in_their_order(disk):
    """What is left is a state that the store really was in."""
    store = MemoryStores(disk, host()).open(FOLDER)
    for step in (1, 2, 3):
        store.write([(b"k", b"%d" % step), (b"k%d" % step, b"")], {"step": step})
    store.write([(b"k1", None)], None)
    disk.stores[FOLDER].lose_tail(2)
    assert (store.meta()["step"], store.get(b"k"), store.get(b"k1"), store.get(b"k3")) == (2, b"2", b"", None)


def test_a_full_disk_stops_a_write_in_its_middle(disk):
    """The meta rides in the last piece, so it is not there; nothing can be written any more."""
    full = host()
    store = MemoryStores(disk, full).open(FOLDER)
    full.troubles["store.write"] = [None, Trouble("full")]
    with pytest.raises(StoreFailed, match="no space"):
        store.write(rows(2 * PIECE), {"step": 1})
    assert (store.meta(), store.count(b"t\x00")) == (None, PIECE)
    with pytest.raises(StoreFailed):
        store.write([], {"step": 1})


def test_a_store_that_is_moved_aside_begins_anew(disk):
    """Its rows are kept beside."""
    stores = MemoryStores(disk, host())
    store = stores.open(FOLDER)
    store.write(rows(1), None)
    store.close()
    aside = stores.move_aside(FOLDER)
    assert stores.open(FOLDER).count(b"") == 0
    assert disk.stores[aside].rows


def test_a_backup_is_not_changed_by_later_writes(disk):
    """An old copy is old."""
    store = MemoryStores(disk, host()).open(FOLDER)
    store.write(rows(1), None)
    copy = disk.stores[FOLDER].copy()
    store.write([(b"t\x00000", None)], None)
    assert copy.rows == dict(rows(1))
