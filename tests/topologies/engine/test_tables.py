"""One contract for every table: in memory, and RocksDB under an overlay."""

import tracemalloc
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.tables import MemoryTable, TableSpec
from topologies.engine.limits import WITHOUT_ROWS_MB, Limits
from topologies.engine.memory import MemoryBase
from topologies.engine.overlay import Overlay
from topologies.engine.store import RowCache, StoreTable, encode_row, rocksdb_stores, row_key


class Row(NamedTuple):
    name: str
    count: int = 0
    parts: tuple = ()


SPEC = TableSpec("things", Row)


@pytest.fixture(params=["memory", "overlay", "rocksdb"])
def table(request, tmp_path):
    if request.param == "memory":
        yield MemoryTable()
    elif request.param == "overlay":
        yield Overlay(MemoryBase())
    else:
        store = rocksdb_stores(Limits()).open(tmp_path / "p0")
        yield Overlay(StoreTable(store, SPEC, RowCache(4)))
        store.close()


def test_a_row_comes_back_as_it_was_put(table):
    """Put, get, delete."""
    assert table.get("a") is None
    table.put("a", Row("x", 2))
    assert table.get("a") == Row("x", 2)
    table.delete("a")
    table.delete("never-there")
    assert table.get("a") is None


def test_the_first_rows_come_in_the_order_of_their_keys(table):
    """Deadlines are carried out in order."""
    for key in ("b", "a", "ü", "c", "z"):
        table.put(key, Row(key))
    table.delete("b")
    assert [key for key, _ in table.first("z", 10)] == ["a", "c"]
    assert [key for key, _ in table.first("￿", 10)] == ["a", "c", "z", "ü"]
    assert [key for key, _ in table.first("z", 1)] == ["a"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["put", "delete", "keep", "drop"]), st.sampled_from("abcdef"), st.integers(0, 3))
    )
)
@settings(max_examples=100, deadline=None)
def test_an_overlay_over_rocksdb_equals_a_dict(tmp_path_factory, calls):
    """Whatever is put, deleted, kept and dropped, both know the same rows; kept rows survive a reopening."""
    store = rocksdb_stores(Limits()).open(tmp_path_factory.mktemp("store") / "p0")
    table = Overlay(StoreTable(store, SPEC, RowCache(2)))
    kept, now = {}, {}
    for call, key, number in calls:
        if call == "put":
            table.put(key, Row(key, number))
            now[key] = (key, number)
        elif call == "delete":
            table.delete(key)
            now.pop(key, None)
        elif call == "keep":
            store.write(
                [(row_key("things", k), row and encode_row(row)) for k, row in table.changed.items()], {"step": 1}
            )
            table.keep()
            kept = dict(now)
        else:
            table.drop()
            now = dict(kept)
        assert {k: table.get(k)[:2] for k in "abcdef" if table.get(k)} == now
        assert [k for k, _ in table.first(key, number)] == [k for k in sorted(now) if k < key][:number]
        assert {k: row[:2] for k, row in table.first("z", 10)} == now
    folder = store.folder
    store.close()
    again = rocksdb_stores(Limits()).open(folder)
    assert {k: row[:2] for k, row in StoreTable(again, SPEC, RowCache(2)).first("z", 10)} == kept
    again.close()


def test_rows_that_are_not_in_the_cache_are_read_together(tmp_path):
    """A prefetch fills the cache, and changes nothing."""
    store = rocksdb_stores(Limits()).open(tmp_path / "p0")
    rows = {f"k{number}": Row("x", number, (("a", 1),)) for number in range(50)}
    store.write([(row_key("things", key), encode_row(row)) for key, row in rows.items()], {"step": 1})
    table = StoreTable(store, SPEC, RowCache(100))
    table.prefetch([*rows, "absent", "k1"])
    store.close()
    assert table.get("k49") == Row("x", 49, [["a", 1]])


def test_a_row_of_a_step_that_never_happened_is_never_read(tmp_path):
    """Its bytes were made for the transaction that failed; the next step of the same keys has others."""
    store = rocksdb_stores(Limits()).open(tmp_path / "p0")
    store.write([(row_key("things", key), encode_row(Row(key))) for key in ("a", "b")], {"step": 1})
    base = StoreTable(store, SPEC, RowCache(100))
    table = Overlay(base)
    for number, committed in ((1, False), (2, True), (3, False)):
        for key in ("a", "b"):
            table.put(key, table.get(key)._replace(count=number))
        written = base.encode(table.changed)
        if committed:
            store.write(written, {"step": 2})
            table.keep()
        else:
            table.drop()
    assert [table.get(key).count for key in ("a", "b")] == [2, 2]
    assert [row.count for _, row in base.first("z", 10)] == [2, 2]
    table.put("a", Row("a", 9))
    table.keep()
    assert table.get("a").count == 9
    store.close()


def test_what_a_reader_does_to_a_row_changes_nothing(tmp_path):
    """Each reader has a row of its own."""
    store = rocksdb_stores(Limits()).open(tmp_path / "p0")
    store.write([(row_key("things", "a"), encode_row(Row("x", 1, ("part",))))], {"step": 1})
    table = Overlay(StoreTable(store, SPEC, RowCache(100)))
    table.get("a").parts.clear()
    assert table.get("a").parts == ["part"]
    store.close()


def test_what_a_store_stands_for_rides_with_its_rows(tmp_path):
    """The offsets are there once the rows are."""
    store = rocksdb_stores(Limits()).open(tmp_path / "p0")
    assert store.meta() is None
    store.write([(row_key("things", "a"), encode_row(Row("x")))], {"step": 7})
    store.close()
    again = rocksdb_stores(Limits()).open(tmp_path / "p0")
    assert again.meta()["step"] == 7
    assert again.get(row_key("things", "a")) == b'["x",0,[]]'
    again.close()


def test_a_table_knows_about_how_many_rows_it_has(tmp_path):
    """Counted once, then kept up with each commit."""
    store = rocksdb_stores(Limits()).open(tmp_path / "p0")
    store.write([(row_key("things", f"k{n}"), encode_row(Row("x", n))) for n in range(7)], {"step": 1})
    store.write([(row_key("thingz", "other"), encode_row(Row("x")))], None)
    table = StoreTable(store, SPEC, RowCache(100))
    table.measure()
    assert table.size == 7
    overlay = Overlay(table)
    overlay.put("new", Row("y"))
    overlay.get("k1")
    overlay.put("k1", Row("z"))
    overlay.delete("k2")
    overlay.keep()
    assert table.size == 7
    store.close()


def test_all_tables_of_a_worker_keep_no_more_rows_than_it_has_memory_for(tmp_path):
    """One setting bounds memory, whatever the number of partitions, tables and accounts."""
    most = 60
    cache, stores = RowCache(most), rocksdb_stores(Limits(memtable_mb=1))
    store = stores.open(tmp_path / "p0")
    try:
        tables = [StoreTable(store, SPEC._replace(name=f"t{n}"), cache) for n in range(3)]
        for n in range(1_000):
            table = tables[n % 3]
            store.write([(row_key(f"t{n % 3}", f"k{n}"), encode_row(Row(n)))], None)
            assert table.get(f"k{n}") is not None
        assert sum(table.kept for table in tables) <= most
        assert all(table.kept for table in tables)
    finally:
        store.close()


def test_the_row_cache_follows_from_the_memory_that_is_set():
    """More memory, more rows; little memory still works."""
    assert Limits(memory_mb=1_024).cached_rows > Limits(memory_mb=512).cached_rows > Limits(memory_mb=1).cached_rows > 0


def test_a_full_cache_of_accounts_and_profiles_takes_no_more_memory_than_is_set(tmp_path):
    """Half of the rows are accounts, half profiles of debtors with 20 payments."""
    budget_mb, without = 8, Limits(memory_mb=0)
    memory_mb = budget_mb + without.store_cache_mb + without.memtables_mb + WITHOUT_ROWS_MB
    most = Limits(memory_mb=memory_mb).cached_rows
    numbers = list(range(354_000_000, 354_000_020))
    flow = ("EUR", 20, 40_000, 90_000_000, numbers, [1] * 20, [12_345] * 20)
    rows = {"accounts": Row("EUR", 123_456, ("ACTIVE", 12)), "profiles": Row((flow,), 0, (" abcd" * 20, "", None))}
    cache, store = RowCache(most), rocksdb_stores(Limits()).open(tmp_path / "p0")
    keys = [f"account-{n:08d}" for n in range(most)]
    tables = [StoreTable(store, SPEC._replace(name=name), cache) for name in rows]
    for name, row in rows.items():
        store.write([(row_key(name, key), encode_row(row)) for key in keys], None)
    tracemalloc.start()
    try:
        for begin in range(0, most, 1_000):
            for table in tables:
                table.prefetch(keys[begin : begin + 1_000])
        _, used = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        store.close()
    assert most <= 2 * sum(table.kept for table in tables) <= 2 * most
    assert used < budget_mb << 20
