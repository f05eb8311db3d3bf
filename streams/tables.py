"""Tables: the keyed state that decisions read and write.

A table belongs to one agent and to one partition. Decisions know this protocol alone; behind it
stands the engine's overlay over RocksDB, or the `MemoryTable` of the tests.
"""

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

Row = TypeVar("Row")

new = tuple.__new__
"""`new(Class, (all fields,))` makes a record in a third of the time that a call by name takes. For what runs with
every payment."""


class Table(Protocol[Row]):
    """Rows by key. A row is an immutable `NamedTuple`: never change one in place, `put` a new one."""

    def get(self, key: str) -> Row | None:
        """The row under `key`, or None."""

    def put(self, key: str, row: Row) -> None:
        """Sets the row under `key`."""

    def delete(self, key: str) -> None:
        """Forgets `key`; no error where there is none."""

    def first(self, before: str, most: int) -> list[tuple[str, Row]]:
        """At most `most` rows whose keys stand before `before`, in the order of their UTF-8 keys."""

    def prefetch(self, keys: Iterable[str]) -> None:
        """Says that these keys will be asked for soon, so that they can be read together."""


class TableSpec(NamedTuple):
    """What the engine must know of a table.

    `row` is the `NamedTuple` type of its rows. Rows are kept as JSON arrays, so every field is a
    str, int, float, bool, None or a (nested) sequence of these; a sequence comes back as a list,
    an enum as its plain string: compare with `==`. New fields go last and have a default.
    `expires` gives the moment (µs) from which a row means nothing and may be swept away, or None
    for never; decisions must judge by that moment themselves, never by the row being gone.
    """

    name: str
    row: Callable[..., Any]
    expires: Callable[[Any], int | None] | None = None


class MemoryTable(Generic[Row]):
    """A table in a dict: for tests and the in-memory driver."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def get(self, key: str) -> Row | None:
        """The row under `key`, or None."""
        return self.rows.get(key)

    def put(self, key: str, row: Row) -> None:
        """Sets the row under `key`."""
        self.rows[key] = row

    def delete(self, key: str) -> None:
        """Forgets `key`."""
        self.rows.pop(key, None)

    def first(self, before: str, most: int) -> list[tuple[str, Row]]:
        """At most `most` rows whose keys stand before `before`, in order."""
        end = before.encode()
        found = sorted((key for key in self.rows if key.encode() < end), key=str.encode)
        return [(key, self.rows[key]) for key in found[:most]]

    def prefetch(self, keys: Iterable[str]) -> None:
        """Nothing to do: all is at hand."""
