"""Bytes and records: Avro in Confluent's wire format (0x00, the schema's id in 4 bytes, big-endian, the value).

Decoding is strict: whatever the bytes are, the result is a record or an `Undecodable` with a code and
a reason. The functions for current schemas are generated (`schemas/codegen.py`); values of an older
version are checked by a generated decoder of that version, then resolved by fastavro.
"""

import json
import struct
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any, NamedTuple, NoReturn

import fastavro

from schemas import events
from schemas.codegen import Schema, definitions, short, source_of

VALUE_MOST = 256 * 1024
"""Bytes of one value."""
STRING_MOST = 8 * 1024
"""Bytes of one string."""
ITEMS_MOST = 10_000
"""Items of one array."""
ENTRIES_MOST = 64
"""Entries of one map."""
MAGIC = 0
HEAD = 5


class Undecodable(Exception):
    """These bytes are no record. `code` is kebab-case, `reason` a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Unencodable(Exception):
    """This record does not fit its schema: a mistake of the program, not of a stranger."""


class Version(NamedTuple):
    """One version of a subject's schema."""

    subject: str
    version: int
    id: int
    schema: Schema


class Catalogue:
    """Schemas by id and by subject. This one is in the package; a registry's can take its place."""

    def __init__(self, versions: list[Version]) -> None:
        self._by_id = {version.id: version for version in versions}
        self._by_subject: dict[str, list[Version]] = {}
        for version in sorted(versions, key=lambda v: v.version):
            self._by_subject.setdefault(version.subject, []).append(version)

    def by_id(self, schema_id: int) -> Version | None:
        """The version with this id, or None."""
        return self._by_id.get(schema_id)

    def versions(self, subject: str) -> list[Version]:
        """Every version of a subject, oldest first; the last one is current. KeyError where there is none."""
        return self._by_subject[subject]

    def subjects(self) -> list[str]:
        """Every subject."""
        return list(self._by_subject)


@cache
def catalogue() -> Catalogue:
    """The catalogue in `schemas/avro`."""
    folder = resources.files("schemas") / "avro"
    listed = json.loads((folder / "catalogue.json").read_text())["subjects"]
    return Catalogue(
        [
            Version(subject, v["version"], v["id"], json.loads((folder / v["file"]).read_text()))
            for subject, versions in listed.items()
            for v in versions
        ]
    )


# -- what the generated functions call ---------------------------------------------------------------

TRUNCATED = Undecodable("truncated", "the value ends in the middle of a field")


def _more(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """The rest of a varint of more than one byte: (unsigned value, next position)."""
    value, shift = first & 127, 7
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                raise Undecodable("bad-varint", "a number has more than 64 bits")
            return value, pos
        shift += 7
        if shift > 63:
            raise Undecodable("bad-varint", "a number has more than ten bytes")


def _bad_length(raw: int) -> NoReturn:
    if raw & 1:
        raise Undecodable("negative-length", "a string has a negative length")
    raise Undecodable("string-too-long", f"a string has {raw >> 1} bytes; {STRING_MOST} are allowed")


def _too_many(count: int) -> NoReturn:
    raise Undecodable("too-many-items", f"a collection has {count} items in one block, more than allowed")


_PAIRS = [bytes((low & 127 | 128, low >> 7 | 128)) for low in range(1 << 14)]
"""Two continued varint bytes for each 14 bits."""


def _put(out: bytearray, raw: int) -> None:
    while raw > 0x3FFF:
        out += _PAIRS[raw & 0x3FFF]
        raw >>= 14
    if raw > 127:
        out.append(raw & 127 | 128)
        out.append(raw >> 7)
    else:
        out.append(raw)


def _put_long(out: bytearray, value: int) -> None:
    if value.__class__ is not int or not -(1 << 63) <= value < 1 << 63:
        raise Unencodable(f"{value!r} is no 64-bit integer")
    _put(out, (value << 1) ^ (value >> 63))


def _put_int(out: bytearray, value: int) -> None:
    if value.__class__ is not int or not -(1 << 31) <= value < 1 << 31:
        raise Unencodable(f"{value!r} is no 32-bit integer")
    _put(out, (value << 1) ^ (value >> 63))


def _put_length(out: bytearray, length: int) -> None:
    if length > STRING_MOST:
        raise Unencodable(f"a string of {length} bytes; {STRING_MOST} are allowed")
    _put(out, length << 1)


def _put_count(out: bytearray, count: int, most: int) -> None:
    if count > most:
        raise Unencodable(f"a collection of {count} items; {most} are allowed")
    _put(out, count << 1)


def _tools() -> dict[str, Any]:
    return {
        "Undecodable": Undecodable,
        "TRUNCATED": TRUNCATED,
        "TWICE_STRING_MOST": 2 * STRING_MOST,
        "ITEMS_MOST": ITEMS_MOST,
        "ENTRIES_MOST": ENTRIES_MOST,
        "BOOLEANS": {False: 0, True: 1},
        "new": tuple.__new__,
        "more": _more,
        "bad_length": _bad_length,
        "too_many": _too_many,
        "put_long": _put_long,
        "put_int": _put_int,
        "put_length": _put_length,
        "put_count": _put_count,
        "pack_double": struct.Struct("<d").pack,
        "unpack_double": struct.Struct("<d").unpack_from,
    }


def _compile(schema: Schema, classes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The generated functions of a schema; without classes, records are plain tuples and enums their symbols."""
    space = _tools()
    for name, found in definitions(schema).items():
        cls = tuple if classes is None else classes[name]
        if found["type"] == "enum":
            symbols = [symbol if classes is None else cls(symbol) for symbol in found["symbols"]]
            space[f"SYMBOLS_{name}"] = tuple(symbols)
            space[f"INDEX_{name}"] = {symbol: 2 * index for index, symbol in enumerate(symbols)}
        else:
            space[name] = cls
    exec(compile(source_of(schema), f"<{schema['name']}>", "exec"), space)  # noqa: S102  # our own schemas' source
    return space


# -- the door ----------------------------------------------------------------------------------------


@cache
def decoder(subject: str) -> Callable[[bytes | None], Any]:
    """The function that decodes values of a subject to records of its current schema; it raises Undecodable."""
    current = catalogue().versions(subject)[-1]
    name = short(current.schema["name"])
    decode_body = _compile(current.schema, vars(events))[f"decode_{name}"]
    head = bytes([MAGIC]) + current.id.to_bytes(4, "big")

    def decode(data: bytes | None) -> Any:
        if data is None or data[:HEAD] != head or len(data) > VALUE_MOST:
            return _other(subject, data)
        try:
            record, end = decode_body(data, HEAD, len(data))
        except IndexError:
            raise TRUNCATED from None
        except UnicodeDecodeError:
            raise Undecodable("bad-utf8", "a string is not UTF-8") from None
        if end != len(data):
            raise Undecodable("trailing-bytes", f"{len(data) - end} bytes follow the value")
        return record

    return decode


def _other(subject: str, data: bytes | None) -> Any:
    """Values that are not in the current schema: an older version's, or nobody's."""
    if not data:
        raise Undecodable("no-value", "the record has no value")
    if len(data) > VALUE_MOST:
        raise Undecodable("value-too-long", f"the value has {len(data)} bytes; {VALUE_MOST} are allowed")
    if data[0] != MAGIC:
        raise Undecodable("bad-magic", f"the value starts with 0x{data[0]:02x}, not with 0x00 and a schema id")
    if len(data) < HEAD:
        raise Undecodable("truncated", "the value ends before its schema id")
    schema_id = int.from_bytes(data[1:HEAD], "big")
    version = catalogue().by_id(schema_id)
    if version is None:
        raise Undecodable("unknown-schema", f"no schema has the id {schema_id}")
    if version.subject != subject:
        raise Undecodable("other-subject", f"schema {schema_id} is of {version.subject}, not of {subject}")
    return _older(version)(data)


@cache
def _older(version_of: Version) -> Callable[[bytes], Any]:
    return resolving_decoder(version_of.schema, catalogue().versions(version_of.subject)[-1].schema)


def resolving_decoder(writer: Schema, reader: Schema) -> Callable[[bytes], Any]:
    """Decodes what `writer` wrote to records of `reader`, checked as strictly as current values."""
    name = short(writer["name"])
    check = _compile(writer, None)[f"decode_{name}"]
    plain_writer = fastavro.parse_schema(_without_logical(writer))
    plain_reader = fastavro.parse_schema(_without_logical(reader))

    def decode(data: bytes) -> Any:
        try:
            _, end = check(data, HEAD, len(data))
        except IndexError:
            raise TRUNCATED from None
        except UnicodeDecodeError:
            raise Undecodable("bad-utf8", "a string is not UTF-8") from None
        if end != len(data):
            raise Undecodable("trailing-bytes", f"{len(data) - end} bytes follow the value")
        found = fastavro.schemaless_reader(BytesIO(data[HEAD:]), plain_writer, plain_reader)
        return record_of(reader, found, definitions(reader))

    return decode


def _without_logical(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_logical(branch) for branch in schema]
    if isinstance(schema, dict):
        return {key: _without_logical(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def record_of(schema: Any, found: Any, named: Mapping[str, Schema]) -> Any:
    """fastavro's dicts, lists and strings as records, tuples and enums of `schemas.events`."""
    if isinstance(schema, str):
        schema = named.get(short(schema), schema)
    if isinstance(schema, list):
        return None if found is None else record_of(schema[1], found, named)
    if isinstance(schema, str):
        return found
    kind = schema["type"]
    if kind == "record":
        values = [record_of(field["type"], found[field["name"]], named) for field in schema["fields"]]
        return vars(events)[short(schema["name"])](*values)
    if kind == "enum":
        return vars(events)[short(schema["name"])](found)
    if kind == "array":
        return tuple(record_of(schema["items"], item, named) for item in found)
    if kind == "map":
        return {key: record_of(schema["values"], item, named) for key, item in found.items()}
    return found


@cache
def encoder(record_type: type) -> Callable[[Any], bytes]:
    """The function that encodes records of a type; it raises Unencodable. KeyError where no subject has the type."""
    wanted = record_type.__name__
    current = next(
        versions[-1]
        for versions in (catalogue().versions(subject) for subject in catalogue().subjects())
        if short(versions[-1].schema["name"]) == wanted
    )
    encode_body = _compile(current.schema, vars(events))[f"encode_{wanted}"]
    head = bytes([MAGIC]) + current.id.to_bytes(4, "big")

    def encode(record: Any) -> bytes:
        out = bytearray(head)
        try:
            encode_body(out, record)
        except (TypeError, AttributeError, KeyError, ValueError, struct.error) as error:
            raise Unencodable(f"{wanted}: {error}") from error
        if len(out) > VALUE_MOST:
            raise Unencodable(f"{wanted}: {len(out)} bytes; {VALUE_MOST} are allowed")
        return bytes(out)

    return encode


def encode(record: Any) -> bytes:
    """A record as a value, by its type. Raises Unencodable."""
    return encoder(type(record))(record)
