"""The committed rows of one partition in RocksDB, and how far they go.

A row is kept under `<table> NUL <key>` as a JSON array. `META` says which cluster the rows belong to
and up to which step, offsets and changelog offset they stand; it rides in the last write batch.
"""

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from weakref import WeakSet

import orjson
from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompressionType,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteBufferManager,
)

from streams.tables import TableSpec
from topologies.engine.errors import StoreCorrupt, StoreFailed
from topologies.engine.limits import Limits

log = logging.getLogger(__name__)
META = b"\x00meta"
FORMAT = 3
DAMAGE = ("Corruption", "No such file", "checksum mismatch")
"""What RocksDB says of files that are damaged or gone."""
PIECE = 2_000
"""Rows per write batch: `write` holds Python's lock."""
FLUSHES = 8
"""So many flushed write buffers are compacted at once. Keys of answers are digests, so each time rewrites what is there."""
COMPACTION_NICENESS = 8
"""Above the worker's own. Beside a busy thread that leaves them a seventh of a core; they need less than a tenth."""


def encode_row(row: Any) -> bytes:
    """A row as a JSON array."""
    return orjson.dumps(row, default=tuple)


def encode_rows(table: str, changed: Mapping[str, Any | None]) -> list[tuple[bytes, bytes | None]]:
    """Changed rows of a table as the store and the changelog have them: key and row; None deletes."""
    prefix, dumps = f"{table}\x00", orjson.dumps
    # To join nothing makes a copy: orjson cuts its own bytes out of a KiB, and to keep many of those takes 2 µs a row.
    return [
        ((prefix + key).encode(), None if row is None else dumps(row[:], default=tuple).join((b"", b"")))
        for key, row in changed.items()
    ]


def row_key(table: str, key: str) -> bytes:
    """The store's key of a row."""
    return f"{table}\x00{key}".encode()


def rows_from(db: Rdict, start: bytes, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Rows from `start` on whose keys begin with `prefix`, in key order. Raises what RocksDB says of damage."""
    found = db.iter(ReadOptions())
    found.seek(start)
    while found.valid() and (key := found.key()).startswith(prefix):
        yield key, found.value()
        found.next()
    found.status()  # a damaged block ends an iterator as if there were no more rows


def distrust(meta: dict[str, Any], cluster_id: str) -> str | None:
    """Why a store with this `meta` can't be used but is moved aside, None where it can."""
    if meta["cluster"] != cluster_id:
        return "is of another cluster, or of topics that were deleted since"
    if meta["format"] != FORMAT:
        return f"has format {meta['format']}, not {FORMAT}"
    return None


def open_options(limits: Limits) -> Options:
    """RocksDB options of a worker's stores, which share one block cache and one bound of write buffers."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(limits.memtable_mb << 20)
    options.set_write_buffer_manager(WriteBufferManager(limits.memtables_mb << 20, allow_stall=False))
    options.set_max_write_buffer_number(3)
    options.set_level_zero_file_num_compaction_trigger(FLUSHES)
    options.set_max_background_jobs(1)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_keep_log_file_num(2)
    options.set_max_open_files(128)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.05)
    blocks = BlockBasedOptions()
    blocks.set_block_cache(Cache(limits.store_cache_mb << 20))
    blocks.set_block_size(2_048)
    blocks.set_bloom_filter(10, block_based=False)
    # Some 3 bytes a row beside the cache: in it, ten million rows push them out, and a look-up reads them again.
    blocks.set_cache_index_and_filter_blocks(False)
    options.set_block_based_table_factory(blocks)
    return options


def let_compactions_give_way() -> None:
    """Payments go before RocksDB's compactions, which come in bursts of a whole core.

    RocksDB itself can only make them so nice that a busy machine would starve them. Where there is no /proc nothing changes.
    """
    for task in Path("/proc/self/task").glob("*"):
        try:
            if (task / "comm").read_text() == "rocksdb:low\n":
                os.setpriority(os.PRIO_PROCESS, int(task.name), os.nice(0) + COMPACTION_NICENESS)
        except OSError as error:
            log.debug("thread %s keeps its niceness: %s", task.name, error)


class Store:
    """One partition's RocksDB. Every failure is a StoreFailed: the worker must not go on without its books."""

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self._open = folder.with_name(f"{folder.name}.open")
        self.unclean = self._open.exists()
        """Whether its last life did not close it: every row is read once then, to find damage early."""
        if self._damage.exists():
            raise StoreCorrupt(f"the store {folder} was damaged in its last life")
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._open.touch()
            # Without `column_families` a store that is opened again loses its filters and its cache.
            self._db = Rdict(str(folder), options=options, column_families={"default": options})
        except Exception as error:
            raise self._failed("opened", error) from error

    @property
    def _damage(self) -> Path:
        """A file beside the store: its rows can't be trusted any more."""
        return self.folder.with_name(f"{self.folder.name}.damaged")

    def _failed(self, verb: str, error: Exception) -> StoreFailed:
        reason = f"the store {self.folder} can't be {verb}: {error}"
        if not any(word in str(error) for word in DAMAGE):
            return StoreFailed(reason)
        self._damage.touch()
        return StoreCorrupt(reason)

    def meta(self) -> dict[str, Any] | None:
        """What the rows stand for, or None in a new store."""
        data = self.get(META)
        return None if data is None else orjson.loads(data)

    def get(self, key: bytes) -> bytes | None:
        """The bytes under `key`."""
        try:
            found: bytes | None = self._db.get(key)
        except Exception as error:
            raise self._failed("read", error) from error
        return found

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The bytes under each key, in one call."""
        try:
            found: list[bytes | None] = self._db.get(keys)
        except Exception as error:
            raise self._failed("read", error) from error
        return found

    def rows(self, start: bytes, prefix: bytes, most: int) -> Iterator[tuple[bytes, bytes]]:
        """At most `most` rows from `start` on whose keys begin with `prefix`, in key order."""
        try:
            yield from islice(rows_from(self._db, start, prefix), most)
        except Exception as error:
            raise self._failed("read", error) from error

    def count(self, prefix: bytes) -> int:
        """How many keys begin with `prefix`; reads all their rows."""
        return sum(1 for _ in self.rows(prefix, prefix, sys.maxsize))

    def write(self, rows: Sequence[tuple[bytes, bytes | None]], meta: dict[str, Any] | None) -> None:
        """Writes rows (None deletes) in pieces; `meta` goes with the last piece."""
        try:
            for begin in range(0, max(len(rows), 1), PIECE):
                batch = WriteBatch(raw_mode=True)
                for key, value in rows[begin : begin + PIECE]:
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)
                if meta is not None and begin + PIECE >= len(rows):
                    batch.put(META, orjson.dumps({**meta, "format": FORMAT}))
                self._db.write(batch)
        except Exception as error:
            raise self._failed("written", error) from error

    def close(self) -> None:
        """Closes RocksDB. An error here costs nothing, Kafka has every row, but the store counts as not closed."""
        try:
            self._db.close()
        except Exception as error:  # noqa: BLE001  # whatever RocksDB says
            log.warning("%s", self._failed("closed", error))
        else:
            self._open.unlink(missing_ok=True)


def rocksdb_stores(limits: Limits) -> "Stores":
    """A worker's stores: RocksDB in folders."""
    return Stores(open_options(limits))


class Stores:
    """Opens stores by their folders, and moves those that can't be used out of the way."""

    def __init__(self, options: Options) -> None:
        self._options = options

    def open(self, folder: Path) -> Store:
        """The store in a folder, made where there is none. Raises StoreFailed, and StoreCorrupt of damaged files."""
        store = Store(folder, self._options)
        let_compactions_give_way()
        return store

    @staticmethod
    def move_aside(folder: Path) -> Path:
        """Renames a store that is not open and can't be used; an older one that was moved goes. Returns its place."""
        aside = folder.with_name(f"{folder.name}.aside")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        folder.with_name(f"{folder.name}.damaged").unlink(missing_ok=True)
        return aside


class RowCache:
    """How many rows a worker keeps in memory: each table that keeps any has an equal share. Made anew with each recovery."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tables: WeakSet[StoreTable] = WeakSet()
        self.half = max(1, most // 2)
        """Half of a table's share: what its younger generation holds."""

    def join(self, table: "StoreTable") -> None:
        """A table that begins to keep rows."""
        self._tables.add(table)
        self.half = max(1, self._most // 2 // len(self._tables))


class StoreTable:
    """The committed rows of one table: a bounded cache over the store.

    It keeps rows as their bytes: as Python's objects they are scattered over the heap, and slow down all that is done beside them.
    """

    def __init__(self, store: Store, spec: TableSpec, cache: RowCache) -> None:
        self._store = store
        self._cache = cache
        self._row = spec.row
        self._name = spec.name
        self._prefix = f"{spec.name}\x00"
        self._young: dict[str, bytes] = {}
        self._old: dict[str, bytes] = {}
        self._encoded: tuple[Mapping[str, Any | None], list[tuple[bytes, bytes | None]]] = {}, []
        """The changes that were encoded last, and their rows."""
        self._absent: set[str] = set()
        """Keys that a prefetch did not find; forgotten with the next commit."""
        self._least = ""
        """No committed key is less. Rows deleted at the front leave marks, over which RocksDB would step each time."""
        self.size = 0
        """About how many rows there are: counted by `measure`, then kept up with each commit."""

    def measure(self) -> None:
        """Counts the rows in the store."""
        self.size = self._store.count(self._prefix.encode())

    def get(self, key: str) -> Any | None:
        """The committed row."""
        data = self._young.get(key)
        if data is None:
            data = self._old.get(key)
            if data is None:
                if key in self._absent:
                    return None
                data = self._store.get((self._prefix + key).encode())
                if data is None:
                    return None
            self._remember(key, data)
        return self._row(*orjson.loads(data))

    def _remember(self, key: str, data: bytes) -> None:
        self._young[key] = data
        self._turn_over()

    def _turn_over(self) -> None:
        kept = len(self._young)
        if kept == 1:
            self._cache.join(self)
        if kept >= self._cache.half:
            self._old, self._young = self._young, {}

    @property
    def kept(self) -> int:
        """Rows in memory."""
        return len(self._young) + len(self._old)

    def prefetch(self, keys: Iterable[str]) -> None:
        """Reads the rows that are not cached in one call."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._young and key not in self._old]
        if not wanted:
            return
        prefix = self._prefix
        found = self._store.get_many([(prefix + key).encode() for key in wanted])
        for key, data in zip(wanted, found, strict=True):
            if data is None:
                self._absent.add(key)
            else:
                self._remember(key, data)

    def first(self, before: str, most: int) -> list[tuple[str, Any]]:
        """At most `most` committed rows before `before`, in key order."""
        prefix = self._prefix.encode()
        cut, least = len(prefix), before
        found: list[tuple[str, Any]] = []
        if not most or before <= self._least:
            return found
        for key, data in self._store.rows(prefix + self._least.encode(), prefix, most):
            name = key[cut:].decode()
            least = least if found else name
            if name >= before:
                break
            found.append((name, self._row(*orjson.loads(data))))
        self._least = least
        return found

    def after(self, key: str, most: int) -> list[tuple[str, Any]]:
        """At most `most` committed rows from `key` on, in key order: one slice of a sweep."""
        prefix = self._prefix.encode()
        rows = self._store.rows(prefix + key.encode(), prefix, most)
        return [(k[len(prefix) :].decode(), self._row(*orjson.loads(data))) for k, data in rows]

    def encode(self, changes: Mapping[str, Any | None]) -> list[tuple[bytes, bytes | None]]:
        """Changed rows as the store and the changelog have them. `apply` of the same changes keeps these bytes."""
        rows = encode_rows(self._name, changes)
        self._encoded = changes, rows
        return rows

    def apply(self, changes: dict[str, Any | None]) -> None:
        """The cache follows a committed step; the store itself is written by its owner.

        A new row stays out until it is read: most are written once and never asked for again.
        """
        self._absent.clear()
        if self._least:
            self._least = min([self._least, *(key for key, row in changes.items() if row is not None)])
        encoded, rows = self._encoded
        if encoded is not changes:
            rows = encode_rows(self._name, changes)
        self._encoded = {}, []
        young, old = self._young, self._old
        for key, (_, data) in zip(changes, rows, strict=True):
            if data is None:
                young.pop(key, None)
                old.pop(key, None)
                self.size -= 1
            elif key in young or key in old:
                young[key] = data
            else:
                self.size += 1  # a row that was there had been read, so it would be cached
        self._turn_over()
