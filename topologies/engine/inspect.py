"""Looks into workers' stores from outside, also while the workers run: read-only, as they stood when they were opened."""

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

import orjson
from rocksdict import AccessType, Options, Rdict

from topologies.engine.errors import StoreFailed
from topologies.engine.store import DAMAGE, META, distrust, row_key, rows_from

ATTEMPTS = 5
"""A file that RocksDB names may be gone before it is opened, as the worker goes on: then it is tried again."""
_PARTITION = re.compile(r"p(\d+)")


def store_folders(home: Path, prefix: str, role: str) -> list[tuple[Path, int]]:
    """The stores of a role's workers under `home`, each with its partition; those that were moved aside are left out."""
    found = []
    for folder in sorted((home / "state").glob(f"{prefix}{role}-*/p*")):
        match = _PARTITION.fullmatch(folder.name)
        if match is not None and folder.is_dir():
            found.append((folder, int(match[1])))
    return found


class Snapshot:
    """A partition's store as it stood when it was opened. Nothing in its folder is changed.

    Raises StoreFailed where it can't be read.
    """

    def __init__(self, folder: Path, partition: int) -> None:
        self.folder, self.partition = folder, partition
        self._logs = TemporaryDirectory(prefix="headrace-inspect-")
        try:
            self._db = self._open()
            self.meta: dict[str, Any] = orjson.loads(self._db.get(META) or b"{}")
            """What its rows stand for, see `recovery.store_meta`; empty in a store that was never written."""
        except Exception as error:
            self._logs.cleanup()
            raise StoreFailed(f"the store {self.folder} can't be read: {error}") from error

    def _open(self) -> Rdict:
        options = Options(raw_mode=True)
        options.set_db_log_dir(self._logs.name)
        options.set_max_open_files(-1)  # files that are open stay readable when the worker deletes them
        for attempt in range(ATTEMPTS):
            try:
                return Rdict(str(self.folder), options=options, access_type=AccessType.read_only())
            except Exception as error:  # RocksDB's errors have no type of their own
                if attempt == ATTEMPTS - 1 or DAMAGE[1] not in str(error):
                    raise
        raise AssertionError

    def distrust(self, cluster_id: str) -> str | None:
        """Why a worker would not use this store but move it aside, None where it would."""
        if not self.meta:
            return "was never written"
        return distrust(self.meta, cluster_id)

    def rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        """Key and JSON row of a table, in key order. Raises StoreFailed."""
        prefix = row_key(table, "")
        try:
            for key, value in rows_from(self._db, prefix, prefix):
                yield key[len(prefix) :], value
        except Exception as error:
            raise StoreFailed(f"the store {self.folder} can't be read: {error}") from error

    def close(self) -> None:
        """Ends the view."""
        self._db.close()
        self._logs.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
