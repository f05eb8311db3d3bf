"""A step's own view of a table: what it has changed, over what is committed."""

from collections.abc import Iterable
from typing import Any, Protocol

_ABSENT: Any = object()


class Base(Protocol):
    """The committed rows of one table and partition."""

    def get(self, key: str) -> Any | None:
        """The committed row, or None."""

    def first(self, before: str, most: int) -> list[tuple[str, Any]]:
        """Committed rows in key order, from the first one on."""

    def prefetch(self, keys: Iterable[str]) -> None:
        """Reads these keys together."""

    def apply(self, changes: dict[str, Any | None]) -> None:
        """Makes changed rows (None: deleted) the committed ones."""


class Overlay:
    """A `Table` whose changes are kept apart until the step's transaction is definitely committed."""

    __slots__ = ("_base", "changed", "get_base")

    def __init__(self, base: Base) -> None:
        self._base = base
        self.get_base = base.get
        self.changed: dict[str, Any | None] = {}

    def get(self, key: str) -> Any | None:
        """The step's row, else the committed one."""
        row = self.changed.get(key, _ABSENT)
        return self.get_base(key) if row is _ABSENT else row

    def put(self, key: str, row: Any) -> None:
        """Sets the row for this step."""
        self.changed[key] = row

    def delete(self, key: str) -> None:
        """Forgets the row in this step."""
        self.changed[key] = None

    def first(self, before: str, most: int) -> list[tuple[str, Any]]:
        """At most `most` rows before `before`, in the order of their UTF-8 keys."""
        gone = sum(1 for row in self.changed.values() if row is None)
        end = before.encode()
        rows = dict(self._base.first(before, most + gone))
        rows.update((key, row) for key, row in self.changed.items() if key.encode() < end)
        found = sorted((key for key, row in rows.items() if row is not None), key=str.encode)
        return [(key, rows[key]) for key in found[:most]]

    def prefetch(self, keys: Iterable[str]) -> None:
        """Reads together what the step has not changed."""
        changed = self.changed
        self._base.prefetch([key for key in keys if key not in changed])

    def keep(self) -> None:
        """The step is committed: its rows become the committed ones."""
        self._base.apply(self.changed)
        self.changed = {}

    def drop(self) -> None:
        """The step never happened."""
        self.changed = {}
