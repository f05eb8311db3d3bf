"""Writes Python source that decodes and encodes one Avro schema, with every length checked.

Source of the format: the Avro 1.12 specification, "Binary encoding". A record becomes a tuple of
the class in `codec.RECORDS` that has its name; of an older writer's schema, a plain tuple.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from schemas.catalogue import Schema
from schemas.wire import ENTRIES_MOST, ITEMS_MOST

NULLS_AT_ONCE = 4
"""So many optional fields in a row are first looked at together: mostly they are all null."""


def definitions(schema: Any, found: dict[str, Schema] | None = None) -> dict[str, Schema]:
    """Every named schema inside `schema`, by its name without namespace, inner ones first."""
    known: dict[str, Schema] = {} if found is None else found
    if isinstance(schema, list):
        for branch in schema:
            definitions(branch, known)
    elif isinstance(schema, dict):
        kind = schema["type"]
        for field in schema.get("fields", ()):
            definitions(field["type"], known)
        if kind in {"array", "map"}:
            definitions(schema["items" if kind == "array" else "values"], known)
        elif kind in {"record", "enum"}:
            assert len(schema.get("symbols", ())) <= 64, "the index of a symbol is written as one byte"
            known.setdefault(short(schema["name"]), schema)
    return known


def short(name: str) -> str:
    """A schema's name without its namespace."""
    return name.rsplit(".", 1)[-1]


class _Source:
    """Lines of Python, and names for what they need one after another."""

    def __init__(self, named: Mapping[str, Schema]) -> None:
        self.named = named
        self.lines: list[str] = []
        self._count = 0

    def add(self, depth: int, *lines: str) -> None:
        """Adds lines, `depth` levels deep."""
        self.lines += ["    " * depth + line for line in lines]

    def name(self) -> str:
        """A name that was not used yet."""
        self._count += 1
        return f"v{self._count}"

    def resolved(self, schema: Any) -> Any:
        """What stands behind a name; a schema that only wraps a type, unwrapped; a time is `micros`."""
        if isinstance(schema, str):
            return self.named.get(short(schema), schema)
        if isinstance(schema, dict) and schema["type"] in {"string", "long", "int", "boolean", "double"}:
            return "micros" if schema.get("logicalType") == "timestamp-micros" else schema["type"]
        return schema


def source_of(schema: Schema) -> str:
    """The source of `decode_<record>(data, pos, size)` and `encode_<record>(value)` for every record inside."""
    named = definitions(schema)
    source = _Source(named)
    for name, found in named.items():
        if found["type"] == "record":
            _decoder(source, name, found)
            _encoder(source, name, found)
    return "\n".join(source.lines)


def head_source_of(schema: Schema, kept: tuple[str, ...]) -> str:
    """The source of `decode_head(data, pos, size)`: the fields `kept`, in a Head; nothing behind them is looked at."""
    names = [field["name"] for field in schema["fields"]]
    assert list(kept) == [name for name in names if name in kept], f"{kept} are no fields of {names} in their order"
    source = _Source(definitions(schema))
    source.add(0, "def decode_head(data, pos, size):")
    for field in schema["fields"][: names.index(kept[-1]) + 1]:
        if field["name"] in kept:
            _read(source, 1, f"f_{field['name']}", field["type"])
        else:
            _skip(source, 1, field["type"])
    source.add(1, "if pos > size:", "    raise truncated()")
    source.add(1, f"return new(Head, ({', '.join(f'f_{name}' for name in kept)},))", "")
    return "\n".join(source.lines)


def _runs(schema: Schema, values: list[str]) -> Iterator[tuple[bool, list[tuple[str, Any]]]]:
    """Fields with their names, cut where optional ones begin and end; true for many optional ones."""
    for optional, run in groupby(
        zip(values, schema["fields"], strict=True), key=lambda pair: isinstance(pair[1]["type"], list)
    ):
        fields = [(value, field["type"]) for value, field in run]
        yield optional and len(fields) >= NULLS_AT_ONCE, fields


def _inner(union: list[Any]) -> Any:
    assert len(union) == 2, union
    assert union[0] == "null", f"the only union is an optional value, null first: {union}"
    return union[1]


# -- decoding ----------------------------------------------------------------------------------------


def _decoder(source: _Source, name: str, schema: Schema) -> None:
    source.add(0, f"def decode_{name}(data, pos, size):")
    values = [source.name() for _ in schema["fields"]]
    for many, fields in _runs(schema, values):
        depth = 1
        if many:
            nulls = b"\0" * len(fields)
            source.add(1, f"if data.startswith({nulls!r}, pos):", f"    {' = '.join(v for v, _ in fields)} = None")
            source.add(1, f"    pos += {len(fields)}", "else:")
            depth = 2
        for value, kind in fields:
            _read(source, depth, value, kind)
    source.add(1, f"return new({name}, ({', '.join(values)},)), pos", "")


def _read(source: _Source, depth: int, into: str, schema: Any) -> None:
    schema = source.resolved(schema)
    add = source.add
    if isinstance(schema, list):
        add(depth, f"{into} = data[pos]", "pos += 1", f"if {into} and {into} != 2:")
        add(depth + 1, f"{into}, pos = branch(data, pos, {into})")
        add(depth, f"if {into}:")
        _read(source, depth + 1, into, _inner(schema))
        add(depth, "else:", f"    {into} = None")
    elif schema == "string":
        end = source.name()
        add(depth, f"{end} = STEPS[data[pos]]", f"if {end}:", f"    {end} += pos")
        add(depth + 1, f"{into} = data[pos + 1:{end}].decode()", f"pos = {end}")
        add(depth, "else:", f"    {into}, pos = string(data, pos, size)")
    elif schema == "micros":
        add(depth, f"{into}, pos = micros(data, pos, size)")
    elif schema == "double":
        add(depth, "if pos + 8 > size:", "    raise truncated()", f"({into},) = unpack_double(data, pos)", "pos += 8")
    elif isinstance(schema, str):
        add(depth, f"{into} = data[pos]", "pos += 1")
        if schema == "boolean":
            add(depth, f"{into} = {into} == 1 if {into} < 2 else bad_boolean({into})")
        else:
            assert schema in {"long", "int"}, f"the codec has no {schema}"
            add(depth, f"if {into} > 127:", f"    {into}, pos = more_{schema}(data, pos, {into})")
            add(depth, "else:", f"    {into} = {into} >> 1 ^ -({into} & 1)")
    else:
        _read_complex(source, depth, into, schema)


def _skip(source: _Source, depth: int, schema: Any) -> None:
    """Steps over a value without making it."""
    if source.resolved(schema) != "string":
        _read(source, depth, source.name(), schema)
        return
    step = source.name()
    source.add(depth, f"{step} = STEPS[data[pos]]", f"if {step}:", f"    pos += {step}")
    source.add(depth, "else:", f"    {step}, pos = string(data, pos, size)")


def _read_complex(source: _Source, depth: int, into: str, schema: Schema) -> None:
    kind = schema["type"]
    if kind == "record":
        source.add(depth, f"{into}, pos = decode_{short(schema['name'])}(data, pos, size)")
    elif kind == "enum":
        name = short(schema["name"])
        source.add(depth, f"{into} = BYTES_{name}[data[pos]]", f"if {into} is None:")
        source.add(depth, f"    {into}, pos = symbol(data, pos, '{name}', SYMBOLS_{name})", "else:", "    pos += 1")
    else:
        _read_blocks(source, depth, into, schema)


def _read_blocks(source: _Source, depth: int, into: str, schema: Schema) -> None:
    """Arrays and maps: blocks of items; a negative count is followed by the block's size in bytes."""
    is_map = schema["type"] == "map"
    most = ENTRIES_MOST if is_map else ITEMS_MOST
    count, item, key, end = source.name(), source.name(), source.name(), source.name()
    seen = source.name()
    add = source.add
    add(depth, "if not data[pos]:", f"    {into} = {'{}' if is_map else '()'}", "    pos += 1", "else:")
    add(depth + 1, f"{into} = {'{}' if is_map else '[]'}", f"{seen} = 0", "while True:")
    inner = depth + 2
    add(inner, f"{count} = data[pos]", "pos += 1", f"if not {count}:", "    break")
    add(inner, f"if {count} & 129:", f"    {count}, {end}, pos = block(data, pos, {count})")
    add(inner, f"    if not {count}:", "        break")
    add(inner, "else:", f"    {count} >>= 1", f"    {end} = 0")
    add(inner, f"{seen} += {count}", f"if {seen} > {most}:", f"    too_many({seen}, {most})")
    add(inner, f"for _ in range({count}):")
    if is_map:
        _read(source, inner + 1, key, "string")
    _read(source, inner + 1, item, schema["values" if is_map else "items"])
    add(inner + 1, f"{into}[{key}] = {item}" if is_map else f"{into}.append({item})")
    add(inner, f"if {end} and {end} != pos:", "    bad_block()")
    if not is_map:
        add(depth + 1, f"{into} = tuple({into})")


# -- encoding ----------------------------------------------------------------------------------------


def _encoder(source: _Source, name: str, schema: Schema) -> None:
    """`encode_<record>(value)`: each field becomes pieces of bytes, and the pieces are joined once."""
    source.add(0, f"def encode_{name}(value):")
    source.add(1, f"return join(({', '.join(_write_fields(source, 1, 'value', schema))},))", "")


def _is_record(schema: Any) -> bool:
    return isinstance(schema, dict) and schema["type"] == "record"


def _write_fields(source: _Source, depth: int, record: str, schema: Schema) -> list[str]:
    """Adds what makes the pieces of a record's fields; gives back their expressions."""
    values = [source.name() for _ in schema["fields"]]
    source.add(depth, f"{', '.join(values)}, = {record}")
    pieces: list[str] = []
    for many, fields in _runs(schema, values):
        if not many:
            pieces += [piece for value, kind in fields for piece in _write(source, depth, value, kind)]
            continue
        pieces.append(source.name())
        nulls = b"\0" * len(fields)
        source.add(
            depth, f"if {' is '.join(value for value, _ in fields)} is None:", f"    {pieces[-1]} = {nulls!r}", "else:"
        )
        inner = [piece for value, kind in fields for piece in _write(source, depth + 1, value, kind)]
        source.add(depth + 1, f"{pieces[-1]} = join(({', '.join(inner)},))")
    return pieces


def _write(source: _Source, depth: int, value: str, schema: Any) -> list[str]:
    """Adds what makes the pieces of one value; gives back their expressions."""
    schema = source.resolved(schema)
    if isinstance(schema, list):
        return [_write_optional(source, depth, value, source.resolved(_inner(schema)))]
    if schema == "string":
        data = source.name()
        source.add(depth, f"{data} = {value}.encode()")
        return [f"LENGTHS[len({data})]", data]
    if schema == "micros":
        return [f"((TIMES.get({value}) if {value}.__class__ is int else None) or time_bytes({value}))"]
    if schema == "double":
        return [f"pack_double({value})"]
    if schema == "boolean":
        return [f"boolean_bytes({value})"]
    if isinstance(schema, str):
        return [_number(value, schema)]
    if schema["type"] == "enum":
        return [f"INDEX_{short(schema['name'])}[{value}]"]
    if schema["type"] == "record":
        return [f"encode_{short(schema['name'])}({value})"]
    return [_write_block(source, depth, value, schema)]


def _number(value: str, schema: str) -> str:
    """The expression of a long or int: numbers from 0 on, up to 6 bytes, without a call."""
    most = {"int": 1 << 31, "long": 1 << 41}[schema]
    low, other = f"LOWS[{value} & 8191]", f"{schema}_bytes({value})"
    return (
        f"({other} if {value}.__class__ is not int or {value} < 0 else LONGS[{value}] if {value} < {1 << 13} "
        f"else {low} + VARINTS[{value} >> 13] if {value} < {1 << 27} "
        f"else {low} + PAIRS[{value} >> 13 & 16383] + VARINTS[{value} >> 27] if {value} < {most} else {other})"
    )


def _write_optional(source: _Source, depth: int, value: str, schema: Any) -> str:
    piece = source.name()
    source.add(depth, f"if {value} is None:", rf"    {piece} = b'\0'", "else:")
    pieces = _write(source, depth + 1, value, schema)
    if schema == "string":
        source.add(depth + 1, f"{piece} = OPTIONAL_{pieces[0]} + {pieces[1]}")
    else:
        source.add(depth + 1, rf"{piece} = b'\2' + {pieces[0]}")
    return piece


def _write_block(source: _Source, depth: int, value: str, schema: Schema) -> str:
    is_map = schema["type"] == "map"
    item, key, pieces = source.name(), source.name(), source.name()
    kinds, most = ("MAPS", ENTRIES_MOST) if is_map else ("ARRAYS", ITEMS_MOST)
    source.add(depth, f"{pieces} = [count_bytes({value}, {kinds}, {most})]")
    source.add(depth, f"for {key}, {item} in {value}.items():" if is_map else f"for {item} in {value}:")
    inner = _write(source, depth + 1, key, "string") if is_map else []
    kind = source.resolved(schema["values" if is_map else "items"])
    inner += _write_fields(source, depth + 1, item, kind) if _is_record(kind) else _write(source, depth + 1, item, kind)
    source.add(depth + 1, f"{pieces} += ({', '.join(inner)},)")
    source.add(depth, f"if {value}:", rf"    {pieces}.append(b'\0')")
    return f"join({pieces})"
