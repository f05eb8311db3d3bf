"""Records as lines of text: JSON as kcat writes it with -J, and CSV that no spreadsheet takes for formulas."""

import csv
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Message

from replay.selection import Picked, Selection
from replay.sums import add_record
from replay.window import DAY, iso
from schemas.catalogue import catalogue
from schemas.codegen import definitions

TYPES = {0: "none", 1: "create", 2: "logappend"}
"""Kinds of timestamps, by their number, in kcat's words."""
SENSITIVE = frozenset({"alias", "creditor_alias", "metadata", "device_id", "latitude", "longitude"})
"""Fields that tell of a person more than an account does (R45)."""
MASK = "****"
GUARDED = ("=", "+", "-", "@", "\t", "\r")
"""A text that begins so is a formula to a spreadsheet (OWASP, CSV injection)."""
PLACE = ("_partition", "_offset", "_timestamp", "_key", "_headers")


class Rows:
    """What passed of one partition and one day."""

    def __init__(self, day: str) -> None:
        self.day = day
        self.messages: list[Message] = []
        self.content: list[Any] = []
        self.sums: Counter[str] = Counter()


Unreadable = list[tuple[int, str]]
"""(offset, code) of values that are no records."""


def text(data: bytes | None) -> str | None:
    """Bytes as text; what is not UTF-8 is escaped."""
    return None if data is None else data.decode("utf-8", "backslashreplace")


@cache
def _times() -> frozenset[str]:
    """Names of the fields that are times, in any schema."""
    schemas = (catalogue().versions(subject)[-1].schema for subject in catalogue().subjects())
    records = (record for schema in schemas for record in definitions(schema).values())
    fields = (field for record in records for field in record.get("fields", ()))
    return frozenset(field["name"] for field in fields if "timestamp-micros" in str(field["type"]))


def plain(record: Any) -> dict[str, Any]:
    """A record as JSON takes it: nested ones as objects, times in ISO 8601."""
    found: dict[str, Any] = record._asdict()
    for name in _times() & found.keys():
        if found[name] is not None:
            found[name] = iso(found[name])
    for name, value in found.items():
        if isinstance(value, tuple):
            found[name] = [plain(one) if hasattr(one, "_asdict") else one for one in value]
    return found


def masked(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields with the sensitive ones made unreadable; null stays null."""
    hidden = {name: MASK for name in SENSITIVE & fields.keys() if fields[name] is not None}
    return fields | hidden


class Lines:
    """What both kinds of text share: picking records, and putting them under their days."""

    suffix = ""

    def __init__(self, selection: Selection, topic: str, *, mask: bool) -> None:
        """`topic`: the name to be told, with its prefix."""
        self._selection, self._topic, self._mask = selection, topic, mask

    def heading(self) -> bytes:
        """What stands before the first record of a file."""
        return b""

    def encode(self, messages: Sequence[Message]) -> tuple[list[Rows], Unreadable]:
        """The records that are meant, by day."""
        days: dict[int, Rows] = {}
        wrong: Unreadable = []
        for picked in self._selection.pick(messages):
            day = picked.at // DAY
            rows = days.get(day)
            if rows is None:
                rows = days[day] = Rows(iso(day * DAY)[:10])
            rows.messages.append(picked.message)
            rows.content.append(self.line(picked))
            if picked.error is not None:
                wrong.append((picked.message.offset() or 0, picked.error.code))
            elif picked.record is not None:
                add_record(rows.sums, picked.record)
        return list(days.values()), wrong

    def line(self, picked: Picked) -> bytes:
        """One record."""
        raise NotImplementedError

    def write(self, path: Path, contents: Sequence[Any]) -> None:
        """A file of lines."""
        with path.open("wb") as file:
            file.write(self.heading())
            file.writelines(contents)

    def key_of(self, message: Message) -> str | None:
        """The record's key as text."""
        key = text(message.key())
        return MASK if key is not None and self._mask and self._selection.masks_key else key

    def fields_of(self, record: Any) -> dict[str, Any]:
        """A record's fields as JSON takes them."""
        found = plain(record)
        return masked(found) if self._mask else found


class JsonLines(Lines):
    """A JSON object per record: topic, partition, offset, tstype, ts (ms), headers, key, payload.

    The payload is the record, or the value's text where the topic has no schema. A value that is no record
    has `payload` null, `error`, and its bytes as hexadecimal digits in `value`.
    """

    suffix = ".jsonl"

    def line(self, picked: Picked) -> bytes:
        """One record on one line."""
        message = picked.message
        kind, ts = message.timestamp()
        found: dict[str, Any] = {
            "topic": self._topic, "partition": message.partition(), "offset": message.offset(), "tstype": TYPES.get(kind),
            "ts": ts, "headers": headers_of(message), "key": self.key_of(message),
        }  # fmt: skip
        if picked.record is not None:
            found["payload"] = self.fields_of(picked.record)
        elif picked.error is None:
            found["payload"] = text(message.value())
        else:
            found |= {"payload": None, "error": picked.error.code, "value": (message.value() or b"").hex()}
        return orjson.dumps(found) + b"\n"


def headers_of(message: Message) -> list[str | None]:
    """Names and values, one after another, as kcat has them."""
    return [part for name, value in message.headers() or () for part in (name, text(value))]


class Csv(Lines):
    """A row per record: the schema's fields, then where the record stands; every cell quoted.

    Texts that a spreadsheet would take for a formula get an apostrophe, sensitive fields are masked: it is for
    people's eyes. An empty cell is null; nested fields are JSON.
    """

    suffix = ".csv"

    def __init__(self, selection: Selection, topic: str, *, mask: bool = True) -> None:
        super().__init__(selection, topic, mask=mask)
        self._names = selection.names or ("_value",)

    def heading(self) -> bytes:
        """The names of the columns."""
        return _row([*self._names, *PLACE])

    def line(self, picked: Picked) -> bytes:
        """One record; a value that is none has its place and empty cells."""
        message = picked.message
        found: Mapping[str, Any] = {}
        if picked.record is not None:
            found = self.fields_of(picked.record)
        elif picked.error is None:
            found = {"_value": text(message.value())}
        headers = headers_of(message)
        place = (
            message.partition(), message.offset(), iso(message.timestamp()[1] * 1_000), self.key_of(message),
            headers or None,
        )  # fmt: skip
        return _row([_cell(one) for one in (*(found.get(name) for name in self._names), *place)])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return "'" + value if value.startswith(GUARDED) else str(value)
    if isinstance(value, list | dict):
        return orjson.dumps(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _row(cells: Sequence[str]) -> bytes:
    line = StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return line.getvalue().encode("utf-8", "backslashreplace")


FORMS: dict[str, Callable[..., Lines]] = {"jsonl": JsonLines, "csv": Csv}
