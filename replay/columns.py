"""Avro values as Arrow columns: field by field over all records at once, without an object per record.

Source of the format: the Avro 1.12 specification, "Binary encoding". What the quick way has no words for
(an older schema, text that is not ASCII, blocks of a writer that is not ours, damaged bytes) is *odd*: such
records are decoded one by one by the schema's own decoder, which has the last word.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas import codec
from schemas.catalogue import Schema, catalogue
from schemas.codec import HEAD, MAGIC, STRING_MOST, Undecodable
from schemas.codegen import definitions, short

Ints = NDArray[np.int64]
Reads = Callable[["Lanes"], Any]
"""Reads one value in every lane, and moves the lanes on."""
MICROS = pa.timestamp("us", tz="UTC")
ITEMS = 64
"""Longer arrays and maps are odd."""
_PAD = 16
_HIGH = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)


class Lanes:
    """Where each record is being read: `pos` goes on towards `stop`; `odd` ones are given up."""

    __slots__ = ("data", "odd", "pos", "stop", "words")

    def __init__(self, data: NDArray[np.uint8], words: NDArray[np.uint64], pos: Ints, stop: Ints) -> None:
        self.data, self.words, self.pos, self.stop = data, words, pos, stop
        self.odd = np.zeros(len(pos), bool)

    @classmethod
    def of(cls, values: Sequence[bytes]) -> "Lanes":
        """Lanes over whole values, each behind its head."""
        joined = b"".join([*values, bytes(_PAD)])
        data = np.frombuffer(joined, np.uint8)
        words = np.ndarray((len(data) - 7,), "<u8", joined, 0, (1,))  # the eight bytes from each byte on
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        stop = np.cumsum(lengths)
        return cls(data, words, np.minimum(stop - lengths + HEAD, stop), stop)

    def __len__(self) -> int:
        return len(self.pos)

    def part(self, rows: Ints) -> "Lanes":
        """The lanes of some rows; `join` brings them back."""
        return Lanes(self.data, self.words, self.pos[rows], self.stop[rows])

    def join(self, rows: Ints, part: "Lanes") -> None:
        """Goes on where `part` stands."""
        self.pos[rows] = part.pos
        self.odd[rows] |= part.odd

    def skip(self, lengths: Any) -> None:
        """Moves on; who comes past its end is odd."""
        self.pos = self.pos + lengths
        if (over := self.pos > self.stop).any():
            self.odd |= over
            self.pos = np.minimum(self.pos, self.stop)

    def byte(self) -> NDArray[np.uint8]:
        """One byte."""
        found = self.data[self.pos]
        self.skip(1)
        return found

    def varint(self) -> NDArray[np.uint64]:
        """An unsigned varint of at most eight bytes; a longer one is odd."""
        word = self.words[self.pos]
        low = ~word & _HIGH  # the first byte without its high bit is the last one
        below = (low & (~low + _ONE)) - _ONE
        self.odd |= low == 0
        found = word & below & np.uint64(0x7F7F7F7F7F7F7F7F)
        for keep, above, shift in _SQUEEZE:
            found = (found & keep) | ((found & above) >> shift)
        self.skip((np.bitwise_count(below).astype(np.int64) + 1) >> 3)
        return found

    def long(self) -> Ints:
        """A zigzag varint."""
        raw = self.varint()
        return (raw >> _ONE).astype(np.int64) ^ -(raw & _ONE).astype(np.int64)

    def count(self, most: int) -> Ints:
        """A length that must be 0 to `most`; where it is not, the lane is odd and the length 0."""
        raw = self.varint().astype(np.int64)
        wrong = ((raw & 1) != 0) | (raw > 2 * most) | self.odd
        self.odd |= wrong
        return np.where(wrong, 0, raw >> 1)


_SQUEEZE = tuple(
    (np.uint64(keep), np.uint64(keep << width), np.uint64(shift))
    for keep, width, shift in ((0x007F007F007F007F, 8, 1), (0x00003FFF00003FFF, 16, 2), (0x0FFFFFFF, 32, 4))
)
"""Closes the gap of each byte's high bit: 7 bits of every 8 become 14 of 16, then 28 of 32, then 56."""


def _string(lanes: Lanes) -> Any:
    lengths = lanes.count(STRING_MOST)
    begin = lanes.pos
    lanes.skip(lengths)
    if lanes.odd.any():
        lengths = np.where(lanes.odd, 0, lengths)
    offsets = np.zeros(len(lanes) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    places = np.repeat(begin - offsets[:-1], lengths)
    places += np.arange(len(places))
    content = lanes.data[places]
    if len(content) and content.max() > 127:
        owners = np.repeat(np.arange(len(lanes)), lengths)
        lanes.odd[owners[content > 127]] = True
    return pa.StringArray.from_buffers(len(lanes), pa.py_buffer(offsets), pa.py_buffer(content))


def _long(lanes: Lanes) -> Any:
    return pa.array(lanes.long())


def _int(lanes: Lanes) -> Any:
    found = lanes.long()
    lanes.odd |= (found < -0x80000000) | (found > 0x7FFFFFFF)
    return pa.array(found.astype(np.int32))


def _micros(lanes: Lanes) -> Any:
    return pa.array(lanes.long()).view(MICROS)


def _boolean(lanes: Lanes) -> Any:
    found = lanes.byte()
    lanes.odd |= found > 1
    return pa.array(found == 1)


def _double(lanes: Lanes) -> Any:
    found = lanes.words[lanes.pos].view(np.float64)
    lanes.skip(8)
    return pa.array(found)


_PLAIN: dict[str, tuple[Any, Reads]] = {
    "string": (pa.string(), _string),
    "long": (pa.int64(), _long),
    "int": (pa.int32(), _int),
    "micros": (MICROS, _micros),
    "boolean": (pa.bool_(), _boolean),
    "double": (pa.float64(), _double),
}


def _enum(symbols: Sequence[str]) -> Reads:
    words = pa.array(symbols, pa.string())

    def read(lanes: Lanes) -> Any:
        found = lanes.byte()
        lanes.odd |= ((found & 1) != 0) | (found >> 1 >= len(symbols))
        return words.take(pa.array(np.where(lanes.odd, 0, found >> 1)))

    return read


def _optional(kind: Any, inner: Reads) -> Reads:
    def read(lanes: Lanes) -> Any:
        branch = lanes.byte()
        there = branch == 2
        lanes.odd |= (branch != 0) & ~there
        if not there.any():
            return pa.nulls(len(lanes), kind)
        if there.all():
            return inner(lanes)
        rows = np.flatnonzero(there)
        part = lanes.part(rows)
        found = inner(part)
        lanes.join(rows, part)
        places = np.zeros(len(lanes), np.int64)
        places[rows] = np.arange(len(rows))
        return found.take(pa.array(places, mask=~there))

    return read


def _items(item: Reads) -> Callable[[Lanes], tuple[Any, Any]]:
    """Reads a block of items and the empty one behind it: list offsets, and the items of all lanes one after another."""

    def read(lanes: Lanes) -> tuple[Any, Any]:
        counts = lanes.count(ITEMS)
        owners, found = [], []
        for number in range(int(counts.max(initial=0))):
            rows = np.flatnonzero(counts > number)
            part = lanes.part(rows)
            found.append(item(part))
            owners.append(rows)
            lanes.join(rows, part)
        full = np.flatnonzero(counts)
        part = lanes.part(full)
        part.odd |= part.byte() != 0
        lanes.join(full, part)
        offsets = np.zeros(len(lanes) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        if not found:
            return pa.array(offsets), item(lanes.part(np.zeros(0, np.int64)))
        order = np.argsort(np.concatenate(owners), kind="stable")
        return pa.array(offsets), pa.concat_arrays(found).take(pa.array(order))

    return read


def _array(item: Reads) -> Reads:
    block = _items(item)
    return lambda lanes: pa.ListArray.from_arrays(*block(lanes))


def _map(value: Reads) -> Reads:
    block = _items(lambda lanes: pa.StructArray.from_arrays([_string(lanes), value(lanes)], ["key", "value"]))

    def read(lanes: Lanes) -> Any:
        offsets, items = block(lanes)
        return pa.MapArray.from_arrays(offsets, items.field(0), items.field(1))

    return read


class _Reader:
    """Builds types and reads for one schema."""

    def __init__(self, schema: Schema) -> None:
        self._named = definitions(schema)

    def of(self, schema: Any) -> tuple[Any, Reads]:
        """Arrow type and read of a schema."""
        if isinstance(schema, str):
            schema = self._named.get(short(schema), schema)
        if isinstance(schema, list):
            kind, inner = self.of(schema[1])
            return kind, _optional(kind, inner)
        kind = schema if isinstance(schema, str) else schema["type"]
        if kind in _PLAIN:
            micros = not isinstance(schema, str) and schema.get("logicalType") == "timestamp-micros"
            return _PLAIN["micros" if micros else kind]
        if kind == "enum":
            return pa.string(), _enum(schema["symbols"])
        if kind == "array":
            item, read = self.of(schema["items"])
            return pa.list_(item), _array(read)
        if kind == "map":
            item, read = self.of(schema["values"])
            return pa.map_(pa.string(), item), _map(read)
        return self.record(schema)

    def record(self, schema: Schema) -> tuple[Any, Reads]:
        """A record as a struct."""
        names = [field["name"] for field in schema["fields"]]
        found = [self.of(field["type"]) for field in schema["fields"]]
        fields = [pa.field(name, kind) for name, (kind, _) in zip(names, found, strict=True)]
        reads = [read for _, read in found]
        return (
            pa.struct(fields),
            lambda lanes: pa.StructArray.from_arrays([read(lanes) for read in reads], fields=fields),
        )


class Columns:
    """Decodes values of a subject to Arrow tables of its current schema's fields."""

    def __init__(self, subject: str) -> None:
        current = catalogue().versions(subject)[-1]
        self._decode = codec.decoder(subject)
        self._head = bytes([MAGIC]) + current.id.to_bytes(4, "big")
        self._struct, self._read = _Reader(current.schema).record(current.schema)
        self.schema = pa.schema(list(self._struct))

    def decode(self, values: Sequence[bytes | None]) -> tuple[Any, dict[int, Undecodable]]:
        """(table, why not by position): rows stand in the order of `values`, those that are no records left out."""
        plain = [n for n, value in enumerate(values) if value is not None and value[:HEAD] == self._head]
        lanes = Lanes.of([values[n] or b"" for n in plain])
        table = pa.Table.from_struct_array(self._read(lanes))
        odd = lanes.odd | (lanes.pos != lanes.stop)
        if len(plain) == len(values) and not odd.any():
            return table, {}
        rows = np.array(plain, np.int64)
        rest = sorted(set(range(len(values))) - set(rows[~odd].tolist()))
        records, known, wrong = [], [], {}
        for n in rest:
            try:
                records.append(self._decode(values[n]))
                known.append(n)
            except Undecodable as error:
                wrong[n] = error
        whole = pa.concat_tables([table.filter(pa.array(~odd)), self.table(records)])
        order = np.argsort(np.concatenate([rows[~odd], np.array(known, np.int64)]), kind="stable")
        return whole.take(pa.array(order)), wrong

    def table(self, records: Iterable[Any]) -> Any:
        """Records, made one by one, as a table."""
        rows = list(records)
        columns = list(zip(*rows, strict=True)) or [()] * len(self.schema)
        return pa.table(
            [
                pa.array(map(_plain, column), field.type, size=len(column))
                for column, field in zip(columns, self.schema, strict=True)
            ],
            schema=self.schema,
        )


def _plain(value: Any) -> Any:
    """A value as pyarrow takes it: records as dicts, maps as pairs, symbols as text."""
    if isinstance(value, tuple):
        if hasattr(value, "_asdict"):
            return {name: _plain(part) for name, part in value._asdict().items()}
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return list(value.items())
    return str(value) if isinstance(value, str) else value


@cache
def columns_of(subject: str) -> Columns:
    """The decoder of a subject."""
    return Columns(subject)
