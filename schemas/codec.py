"""Bytes and records: Avro in Confluent's wire format (0x00, the schema's id in 4 bytes, big-endian, the value).

Decoding is strict: whatever the bytes are, the result is a record or an `Undecodable` with a code and
a reason. The functions for current schemas are generated (`schemas/codegen.py`); values of an older
version are checked by a generated decoder of that version, then resolved by fastavro.
"""

import struct
from collections.abc import Callable, Mapping
from functools import cache
from io import BytesIO
from typing import Any, NamedTuple

import fastavro

from schemas import events, internal
from schemas.catalogue import Catalogue, Schema, Version, catalogue
from schemas.codegen import definitions, head_source_of, short, source_of
from schemas.misfit import misfit
from schemas.wire import ENTRIES_MOST, ITEMS_MOST, STEPS, STRING_MOST, TOOLS, VALUE_MOST, Undecodable, truncated

__all__ = [
    "ENTRIES_MOST",
    "ITEMS_MOST",
    "STRING_MOST",
    "VALUE_MOST",
    "Catalogue",
    "Undecodable",
    "Unencodable",
    "Version",
    "catalogue",
    "choosing_decoder",
    "decoder",
    "encode",
    "encoder",
    "resolving_decoder",
]

RECORDS = {**vars(events), **vars(internal)}
"""Records and enums by their names in the schemas."""

MAGIC = 0
HEAD = 5


class Unencodable(Exception):
    """A record that does not fit its schema: a mistake of the program, not of a stranger."""


def _compile(schema: Schema, classes: Mapping[str, Any] | None) -> dict[str, Any]:
    """The generated functions of a schema; without classes, records are plain tuples and enums their symbols."""
    space = _space(schema, classes)
    exec(compile(source_of(schema), f"<{schema['name']}>", "exec"), space)  # noqa: S102  # our own schemas' source
    return space


def _space(schema: Schema, classes: Mapping[str, Any] | None) -> dict[str, Any]:
    """What generated functions may use."""
    space = dict(TOOLS)
    for name, found in definitions(schema).items():
        cls = tuple if classes is None else classes[name]
        if found["type"] == "enum":
            symbols = tuple(symbol if classes is None else cls(symbol) for symbol in found["symbols"])
            space[f"SYMBOLS_{name}"] = symbols
            space[f"BYTES_{name}"] = tuple(
                symbols[byte >> 1] if byte < 2 * len(symbols) and not byte & 1 else None for byte in range(256)
            )
            space[f"INDEX_{name}"] = {symbol: bytes([2 * index]) for index, symbol in enumerate(symbols)}
        else:
            space[name] = cls
    return space


# -- reading -----------------------------------------------------------------------------------------


@cache
def decoder(subject: str) -> Callable[[bytes | None], Any]:
    """The function that decodes values of a subject to records of its current schema; it raises Undecodable.

    KeyError where the catalogue has no such subject.
    """
    current = catalogue().versions(subject)[-1]
    decode_body = _compile(current.schema, RECORDS)[f"decode_{short(current.schema['name'])}"]
    head = _head(current)

    def decode(data: bytes | None) -> Any:
        if data is None or data[:HEAD] != head or (size := len(data)) > VALUE_MOST:
            return _other(subject, data)
        try:
            record, end = decode_body(data, HEAD, size)
        except IndexError:
            raise truncated() from None
        except UnicodeDecodeError as error:
            raise _bad_text(data, error.object) from None
        if end != size:
            raise _bad_end(end, size)
        return record

    return decode


def choosing_decoder(
    subject: str, head: type[NamedTuple], wanted: Callable[[Any], bool]
) -> Callable[[bytes | None], Any]:
    """A decoder that looks at the first fields of a value, and at the rest only where it is `wanted`.

    `head` is a NamedTuple of some of the record's fields, in their order. Gives the whole record, or the head where
    `wanted(head)` is false: then nothing behind the head was checked. Values that are not in the current schema
    are always decoded whole. Raises Undecodable; KeyError where the catalogue has no such subject.
    """
    decode, decode_head, begins = (
        decoder(subject),
        _head_decoder(subject, head),
        _head(catalogue().versions(subject)[-1]),
    )

    def choose(data: bytes | None) -> Any:
        if data is None or data[:HEAD] != begins:
            return decode(data)
        try:
            found = decode_head(data, HEAD, len(data))
        except (IndexError, UnicodeDecodeError, Undecodable):
            return decode(data)  # which says what is wrong
        return decode(data) if wanted(found) else found

    return choose


@cache
def _head_decoder(subject: str, head: Any) -> Callable[[bytes, int, int], Any]:
    schema = catalogue().versions(subject)[-1].schema
    space = _space(schema, RECORDS) | {"Head": head}
    exec(compile(head_source_of(schema, head._fields), f"<{head.__name__}>", "exec"), space)  # noqa: S102  # our own schemas' source
    found: Callable[[bytes, int, int], Any] = space["decode_head"]
    return found


def _head(version: Version) -> bytes:
    return bytes([MAGIC]) + version.id.to_bytes(4, "big")


def _bad_end(end: int, size: int) -> Undecodable:
    """Short strings are cut without asking, so the end tells whether there was enough."""
    return truncated() if end > size else Undecodable("trailing-bytes", f"{size - end} bytes follow the value")


def _bad_text(data: bytes, text: bytes) -> Undecodable:
    """Not UTF-8; but a short string that the value's end cuts inside a character is only cut."""
    if data.endswith(text) and STEPS[data[-len(text) - 1]] > len(text) + 1:
        return truncated()
    return Undecodable("bad-utf8", "a string is not UTF-8")


def _other(subject: str, data: bytes | None) -> Any:
    """Values that are not in the current schema: an older version's, or nobody's."""
    if not data:
        raise Undecodable("no-value", "the record has no value")
    if len(data) > VALUE_MOST:
        raise Undecodable("value-too-long", f"the value has {len(data)} bytes; {VALUE_MOST} are allowed")
    if data[0] == 1:
        raise Undecodable(
            "bad-magic", "the value starts with 0x01, wire format V1; write V0: 0x00 and a 4-byte schema id"
        )
    if data[0] != MAGIC:
        raise Undecodable("bad-magic", f"the value starts with 0x{data[0]:02x}, not with 0x00 and a 4-byte schema id")
    if len(data) < HEAD:
        raise Undecodable("truncated", "the value ends before its schema id")
    schema_id = int.from_bytes(data[1:HEAD], "big")
    version = catalogue().by_id(schema_id)
    if version is None:
        raise Undecodable("unknown-schema", f"no schema has the id {schema_id}")
    if version.subject != subject:
        raise Undecodable("other-subject", f"schema {schema_id} is of {version.subject}, not of {subject}")
    return _older(schema_id)(data)


@cache
def _older(schema_id: int) -> Callable[[bytes], Any]:
    version = catalogue().by_id(schema_id)
    assert version is not None, schema_id
    return resolving_decoder(version.schema, catalogue().versions(version.subject)[-1].schema)


def resolving_decoder(writer: Schema, reader: Schema) -> Callable[[bytes], Any]:
    """Decodes what `writer` wrote to records of `reader`, checked as strictly as current values.

    The five bytes before the value are not looked at. What the reader added gets its default.
    """
    check = _compile(writer, None)[f"decode_{short(writer['name'])}"]
    plain_writer = fastavro.parse_schema(_without_logical(writer))
    plain_reader = fastavro.parse_schema(_without_logical(reader))
    named = definitions(reader)

    def decode(data: bytes) -> Any:
        try:
            _, end = check(data, HEAD, len(data))
        except IndexError:
            raise truncated() from None
        except UnicodeDecodeError as error:
            raise _bad_text(data, error.object) from None
        if end != len(data):
            raise _bad_end(end, len(data))
        try:
            found = fastavro.schemaless_reader(BytesIO(data[HEAD:]), plain_writer, plain_reader)
            return _record_of(reader, found, named)
        except (fastavro.read.SchemaResolutionError, ValueError, TypeError, EOFError, OverflowError) as error:
            raise Undecodable(
                "unresolvable", f"an older version's value does not fit the current one: {error}"
            ) from None

    return decode


def _without_logical(schema: Any) -> Any:
    """Times stay ints."""
    if isinstance(schema, list):
        return [_without_logical(branch) for branch in schema]
    if isinstance(schema, dict):
        return {key: _without_logical(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def _record_of(schema: Any, found: Any, named: Mapping[str, Schema]) -> Any:
    """What fastavro gives (dicts, lists, strings) as records, tuples and enums."""
    if isinstance(schema, str):
        schema = named.get(short(schema), schema)
    if isinstance(schema, list):
        return None if found is None else _record_of(schema[1], found, named)
    if isinstance(schema, str):
        return found
    kind = schema["type"]
    if kind == "record":
        values = [_record_of(field["type"], found[field["name"]], named) for field in schema["fields"]]
        return RECORDS[short(schema["name"])](*values)
    if kind == "enum":
        return RECORDS[short(schema["name"])](found)
    if kind == "array":
        return tuple(_record_of(schema["items"], item, named) for item in found)
    if kind == "map":
        return {key: _record_of(schema["values"], item, named) for key, item in found.items()}
    return found


# -- writing -----------------------------------------------------------------------------------------


@cache
def encoder(record_type: Any) -> Callable[[Any], bytes]:
    """The function that encodes records of a type; it raises Unencodable, naming the field.

    Unencodable also where no subject has the type.
    """
    name = record_type.__name__
    newest = [catalogue().versions(subject)[-1] for subject in catalogue().subjects()]
    current = {short(version.schema["name"]): version for version in newest}.get(name)
    if current is None or RECORDS[name] is not record_type:
        raise Unencodable(f"{name}: no subject has values of this type")
    schema, head = current.schema, _head(current)
    encode_body = _compile(schema, RECORDS)[f"encode_{name}"]

    def encode(record: Any) -> bytes:
        try:
            data: bytes = head + encode_body(record)
        except (TypeError, AttributeError, ValueError, LookupError, struct.error, OverflowError) as error:
            raise Unencodable(misfit(schema, record, name) or f"{name}: {error}") from error
        if len(data) > VALUE_MOST:
            raise Unencodable(f"{name}: {len(data)} bytes; {VALUE_MOST} are allowed")
        return data

    return encode


def encode(record: Any) -> bytes:
    """A record as a value, by its type. Raises Unencodable."""
    return encoder(record.__class__)(record)
