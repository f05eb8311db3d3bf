"""Records as Parquet files: the schema's fields, then where each record stands. Needs pyarrow."""

from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from confluent_kafka import Message

from replay.columns import MICROS, columns_of
from replay.selection import Selection
from replay.sums import add_table
from replay.texts import MASK, SENSITIVE, Rows, Unreadable
from replay.window import DAY, iso

HEADER = pa.struct([("name", pa.string()), ("value", pa.binary())])
PLACE = pa.schema(
    [("_offset", pa.int64()), ("_timestamp", MICROS), ("_key", pa.binary()), ("_headers", pa.list_(HEADER))]
)


class Parquet:
    """Tables per day: `amount_minor` stays a whole number, times are `timestamp[us, UTC]`, bytes stay bytes."""

    suffix = ".parquet"

    def __init__(self, selection: Selection, _topic: str, *, mask: bool) -> None:
        self._selection, self._mask = selection, mask
        self._columns = None if selection.subject is None else columns_of(selection.subject)

    def encode(self, messages: Sequence[Message]) -> tuple[list[Rows], Unreadable]:
        """The records that are meant, by day; values that are no records are left out and told."""
        selection = self._selection
        if selection.wanted.fields:
            messages = [picked.message for picked in selection.pick(messages)]
        elif selection.wanted.key is not None:
            messages = [message for message in messages if selection.near(message)]
        table, wrong = self._decoded([message.value() for message in messages])
        unreadable = [(messages[n].offset() or 0, error.code) for n, error in wrong.items()]
        if wrong:
            messages = [message for n, message in enumerate(messages) if n not in wrong]
        if not messages:
            return [], unreadable
        table = self._placed(table, messages)
        return self._by_day(table, messages), unreadable

    def _decoded(self, values: list[bytes | None]) -> tuple[Any, dict[int, Any]]:
        if self._columns is None:
            return pa.table({"_value": pa.array(values, pa.binary())}), {}
        return self._columns.decode(values)

    def _placed(self, table: Any, messages: Sequence[Message]) -> Any:
        """The table with the columns of `PLACE`."""
        timestamps = np.array([message.timestamp()[1] for message in messages], np.int64) * 1_000
        keys = [message.key() for message in messages]
        headers = [message.headers() for message in messages]
        found: dict[str, Any] = {
            "_offset": pa.array([message.offset() for message in messages], pa.int64()),
            "_timestamp": pa.array(timestamps).view(MICROS),
            "_key": pa.array(keys, pa.binary()),
            "_headers": pa.nulls(len(keys), PLACE.field("_headers").type)
            if not any(headers)
            else pa.array([_named(one) for one in headers], PLACE.field("_headers").type),
        }
        if self._mask:
            table = _masked(table)
            if self._selection.masks_key:
                found["_key"] = pa.array([MASK.encode()] * len(keys), pa.binary())
        return pa.table([*table.columns, *found.values()], schema=pa.schema([*table.schema, *PLACE]))

    def _by_day(self, table: Any, messages: Sequence[Message]) -> list[Rows]:
        """What is inside the window, cut at midnight, UTC."""
        time = table["occurred_at" if "occurred_at" in table.column_names else "_timestamp"]
        times = time.cast(pa.int64()).to_numpy()
        inside = _inside(self._selection, table["_offset"].to_numpy(), times)
        days = times // DAY
        found = []
        for day in np.unique(days[inside]).tolist():
            rows = Rows(iso(day * DAY)[:10])
            here = inside & (days == day)
            whole = bool(here.all())
            rows.messages = list(messages if whole else compress(messages, here.tolist()))
            part = table if whole else table.filter(pa.array(here))
            rows.content.append(part)
            add_table(rows.sums, part)
            found.append(rows)
        return found

    def write(self, path: Path, contents: Sequence[Any]) -> None:
        """One file, compressed with zstd."""
        pq.write_table(pa.concat_tables(contents), path, compression="zstd", store_schema=False)


def _named(headers: list[tuple[str, bytes | None]] | None) -> list[dict[str, Any]] | None:
    return None if headers is None else [{"name": name, "value": value} for name, value in headers]


def _inside(selection: Selection, offsets: Any, times: Any) -> Any:
    """`Window.holds` for all rows at once."""
    begin, end = selection.window
    inside = np.ones(len(offsets), bool)
    if begin is not None:
        inside &= offsets >= begin.offset if begin.at is None else times >= begin.at
    if end is not None:
        inside &= offsets < end.offset if end.at is None else times < end.at
    return inside


def _masked(table: Any) -> Any:
    for number, name in enumerate(table.column_names):
        if name in SENSITIVE:
            kind = table.schema.field(name).type
            if kind == pa.string():
                hidden = pc.if_else(pc.is_valid(table[name]), pa.scalar(MASK), pa.scalar(None, pa.string()))
            else:
                hidden = pa.nulls(len(table), kind)
            table = table.set_column(number, table.schema.field(name), hidden)
    return table
