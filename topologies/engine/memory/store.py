"""Stores in memory that outlive the process: a disk that can lose its tail, get an old copy, or be full."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from topologies.engine.errors import StoreFailed
from topologies.engine.memory.host import Host
from topologies.engine.store import FORMAT, META

PIECE = 5
"""Rows per write batch: few, so that a write has a middle."""
UNSYNCED = 24
"""Write batches that a power cut may take."""

Undo = list[tuple[bytes, bytes | None]]


class Files:
    """One store's rows on disk."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.order: list[bytes] = []
        self.holder: Host | None = None
        """The process that has it open."""
        self._tail: deque[Undo] = deque(maxlen=UNSYNCED)

    def write(self, batch: list[tuple[bytes, bytes | None]]) -> None:
        """One write batch: all or nothing."""
        self._tail.append([(key, self.rows.get(key)) for key, _ in batch])
        for key, value in batch:
            self._put(key, value)

    def _put(self, key: bytes, value: bytes | None) -> None:
        there = key in self.rows
        if value is not None:
            self.rows[key] = value
            if not there:
                insort(self.order, key)
        elif there:
            del self.rows[key]
            del self.order[bisect_left(self.order, key)]

    def lose_tail(self, batches: int) -> None:
        """A power cut: the last `batches` writes were never synced."""
        for _ in range(min(batches, len(self._tail))):
            for key, value in reversed(self._tail.pop()):
                self._put(key, value)

    def copy(self) -> "Files":
        """A backup."""
        copy = Files()
        copy.rows, copy.order = dict(self.rows), list(self.order)
        return copy


class Disk:
    """All stores of one machine, by folder."""

    def __init__(self) -> None:
        self.stores: dict[Path, Files] = {}


class MemoryStores:
    """Opens a process's stores, and moves those that can't be used out of the way."""

    def __init__(self, disk: Disk, host: Host) -> None:
        self._disk = disk
        self._host = host

    def open(self, folder: Path) -> "MemoryStore":
        """The store of a folder. Raises StoreFailed where a living process has it open."""
        self._host.enter("store.open")
        files = self._disk.stores.setdefault(folder, Files())
        if files.holder is not None and not files.holder.dead():
            raise StoreFailed(f"the store {folder} can't be opened: it is open already")
        return MemoryStore(folder, files, self._host)

    def move_aside(self, folder: Path) -> Path:
        """Renames a store that is not open."""
        aside = folder.with_name(f"{folder.name}.aside")
        self._disk.stores[aside] = self._disk.stores.pop(folder)
        return aside


class MemoryStore:
    """One partition's store, with the methods of `topologies.engine.store.Store`."""

    def __init__(self, folder: Path, files: Files, host: Host) -> None:
        self.folder = folder
        self._files = files
        self._host = host
        self._broken = False
        self.unclean = files.holder is not None
        """Whether its last life did not close it."""
        files.holder = host

    def meta(self) -> dict[str, Any] | None:
        """What the rows stand for, or None in a new store."""
        data = self.get(META)
        return None if data is None else orjson.loads(data)

    def get(self, key: bytes) -> bytes | None:
        """The bytes under `key`."""
        return self._files.rows.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The bytes under each key."""
        return [self._files.rows.get(key) for key in keys]

    def rows(self, start: bytes, prefix: bytes, most: int) -> Iterator[tuple[bytes, bytes]]:
        """At most `most` rows from `start` on whose keys begin with `prefix`, in key order."""
        order, first = self._files.order, bisect_left(self._files.order, start)
        for key in order[first : first + most]:
            if not key.startswith(prefix):
                return
            yield key, self._files.rows[key]

    def count(self, prefix: bytes) -> int:
        """How many keys begin with `prefix`."""
        order = self._files.order
        return bisect_left(order, prefix + b"\xff") - bisect_left(order, prefix)

    def write(self, rows: Iterable[tuple[bytes, bytes | None]], meta: dict[str, Any] | None) -> None:
        """Writes rows (None deletes) in pieces; `meta` goes with the last piece."""
        batch: list[tuple[bytes, bytes | None]] = []
        for row in rows:
            batch.append(row)
            if len(batch) >= PIECE:
                self._write(batch)
                batch = []
        if meta is not None:
            batch.append((META, orjson.dumps({**meta, "format": FORMAT})))
        if batch:
            self._write(batch)

    def _write(self, batch: list[tuple[bytes, bytes | None]]) -> None:
        self._host.enter("store.write")
        if self._broken or self._host.trouble("store.write") is not None:
            self._broken = True
            raise StoreFailed(f"the store {self.folder} can't be written: no space left on device")
        self._files.write(batch)

    def close(self) -> None:
        """Others may open it."""
        if self._files.holder is self._host and not self._host.dead():
            self._files.holder = None
