"""The changelog: what each step leaves of its partition's rows, many rows to a record.

A value is one line of JSON, then the bytes of keys and rows, one after another:
`{"step": 7, "base": 0, "keys": [14, 12], "rows": [41, -1]}` says that a key of 14 bytes follows with a row of 41,
and a key of 12 whose row is deleted. A key is that of the store: `<table> NUL <key>`. Later rows replace earlier ones.
Reading from offset `base` on gives every row that lives: from there on the walk of a checkpoint has written even those
that never change.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import orjson

from topologies.topics import CHANGELOG_BYTES

Rows = Sequence[tuple[bytes, bytes | None]]
"""The store's keys and rows; None: deleted."""


class Head(NamedTuple):
    """What a record says of itself."""

    step: int
    base: int
    keys: list[int]
    """Lengths of the keys."""
    rows: list[int]
    """Lengths of the rows; -1: deleted."""


def pack(step: int, base: int, rows: Rows) -> list[bytes]:
    """The records of one step, at least one, each of at most about `CHANGELOG_BYTES`.

    A row that is larger than that has a record of its own.
    """
    keys = [len(key) for key, _ in rows]
    lengths = [-1 if row is None else len(row) for _, row in rows]
    ends = list(accumulate([len(key) + len(row or b"") for key, row in rows]))
    records: list[bytes] = []
    begin = before = 0
    while begin < len(rows) or not records:
        end = max(bisect_right(ends, before + CHANGELOG_BYTES, begin), min(begin + 1, len(rows)))
        head = {"step": step, "base": base, "keys": keys[begin:end], "rows": lengths[begin:end]}
        body = [piece for pair in rows[begin:end] for piece in pair if piece is not None]
        records.append(orjson.dumps(head) + b"\n" + b"".join(body))
        begin, before = end, ends[end - 1] if end else 0
    return records


def head_of(value: bytes) -> Head:
    """What a record says of itself. Raises ValueError where it is none."""
    try:
        found = orjson.loads(value[: value.index(b"\n")])
        head = Head(found["step"], found["base"], found["keys"], found["rows"])
        numbers = {type(number) for number in (head.step, head.base, *head.keys, *head.rows)}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"no record of a changelog: {value[:80]!r}") from error
    if numbers != {int}:
        raise ValueError(f"no record of a changelog: {value[:80]!r}")
    return head


def unpack(value: bytes) -> tuple[Head, Rows]:
    """What a record says of itself, and the store's keys and rows (None: deleted) in it. Raises ValueError."""
    head = head_of(value)
    keys, lengths = head.keys, head.rows
    place = value.index(b"\n") + 1
    if place + sum(keys) + sum(length for length in lengths if length > 0) != len(value):
        raise ValueError(f"a changelog record has {len(value)} bytes, not as many as it says")
    found: list[tuple[bytes, bytes | None]] = []
    for size, length in zip(keys, lengths, strict=True):
        key = value[place : place + size]
        place += size
        if length < 0:
            found.append((key, None))
        else:
            found.append((key, value[place : place + length]))
            place += length
    return head, found


def rows_of(value: bytes, table: str | None = None) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Table, key and row (None: deleted) of all rows of a record, or of one table's. Raises ValueError."""
    return by_table(unpack(value)[1], table)


def by_table(rows: Rows, table: str | None = None) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Table, key and row (None: deleted) of all rows, or of one table's."""
    prefix = b"" if table is None else table.encode() + b"\0"
    for stored, row in rows:
        if stored.startswith(prefix):
            name, _, key = stored.partition(b"\0")
            yield name.decode(errors="replace"), key, row
