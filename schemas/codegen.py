"""Writes Python source that decodes and encodes one Avro schema, with every length checked.

Source of the format: the Avro 1.12 specification, "Binary encoding". A record becomes a tuple of
the class in `schemas.events` that has its name; of an older writer's schema, a plain tuple.
"""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]


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
            known.setdefault(short(schema["name"]), schema)
        elif not isinstance(kind, str):
            definitions(kind, known)
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
        """What stands behind a name; a schema that only wraps a type, unwrapped."""
        if isinstance(schema, str) and short(schema) in self.named:
            return self.named[short(schema)]
        if isinstance(schema, dict) and schema["type"] in {"string", "long", "int", "boolean", "double"}:
            return schema["type"]
        return schema


def source_of(schema: Schema) -> str:
    """The source of `decode_<record>(data, pos, size)` and `encode_<record>(out, value)` for every record inside."""
    named = definitions(schema)
    source = _Source(named)
    for name, found in named.items():
        if found["type"] == "record":
            _decoder(source, name, found)
            _encoder(source, name, found)
    return "\n".join(source.lines)


def _decoder(source: _Source, name: str, schema: Schema) -> None:
    source.add(0, f"def decode_{name}(data, pos, size):")
    values = []
    for field in schema["fields"]:
        values.append(source.name())
        _read(source, 1, values[-1], field["type"])
    source.add(1, f"return new({name}, ({', '.join(values)},)), pos", "")


def _raw(source: _Source, depth: int, into: str) -> None:
    """An unsigned varint."""
    source.add(depth, f"{into} = data[pos]", "pos += 1")
    source.add(depth, f"if {into} > 127:", f"    {into}, pos = more(data, pos, {into})")


def _read(source: _Source, depth: int, into: str, schema: Any) -> None:
    schema = source.resolved(schema)
    add = source.add
    if isinstance(schema, list):
        assert schema[0] == "null", "the only union is an optional value"
        assert len(schema) == 2, "the only union is an optional value"  # noqa: PLR2004  # null and the other
        _raw(source, depth, into)
        add(depth, f"if {into} == 0:", f"    {into} = None", f"elif {into} == 2:")
        _read(source, depth + 1, into, schema[1])
        add(depth, "else:", f"    raise Undecodable('bad-union', f'a union has no branch {{{into} >> 1}}')")
    elif schema in ("long", "int"):  # noqa: PLR6201  # a schema may be a dict
        _raw(source, depth, into)
        add(depth, f"{into} = ({into} >> 1) ^ -({into} & 1)")
        if schema == "int":
            add(depth, f"if not -0x80000000 <= {into} <= 0x7fffffff:", "    raise Undecodable('bad-int', 'beyond 32 bits')")
    elif schema == "string":
        end = source.name()
        _raw(source, depth, into)
        add(depth, f"if {into} & 1 or {into} > TWICE_STRING_MOST:", f"    bad_length({into})")
        add(depth, f"{end} = pos + ({into} >> 1)", f"if {end} > size:", "    raise TRUNCATED")
        add(depth, f"{into} = data[pos:{end}].decode()", f"pos = {end}")
    elif schema == "boolean":
        add(depth, f"{into} = data[pos]", "pos += 1", f"if {into} > 1:")
        add(depth, "    raise Undecodable('bad-boolean', 'a boolean is 0 or 1')", f"{into} = {into} == 1")
    elif schema == "double":
        add(depth, "if pos + 8 > size:", "    raise TRUNCATED", f"({into},) = unpack_double(data, pos)", "pos += 8")
    else:
        _read_complex(source, depth, into, schema)


def _read_complex(source: _Source, depth: int, into: str, schema: Schema) -> None:
    kind = schema["type"]
    if kind == "enum":
        _raw(source, depth, into)
        source.add(depth, f"if {into} & 1 or {into} >= {2 * len(schema['symbols'])}:")
        source.add(depth, f"    raise Undecodable('bad-enum', f'{short(schema['name'])} has no such symbol')")
        source.add(depth, f"{into} = SYMBOLS_{short(schema['name'])}[{into} >> 1]")
    elif kind == "record":
        source.add(depth, f"{into}, pos = decode_{short(schema['name'])}(data, pos, size)")
    else:
        _read_blocks(source, depth, into, schema)


def _read_blocks(source: _Source, depth: int, into: str, schema: Schema) -> None:
    """Arrays and maps: blocks of items; a negative count is followed by the block's size in bytes."""
    is_map = schema["type"] == "map"
    count, item, key = source.name(), source.name(), source.name()
    add = source.add
    add(depth, f"{into} = {'{}' if is_map else '[]'}", "while True:")
    inner = depth + 1
    _raw(source, inner, count)
    add(inner, f"if {count} == 0:", "    break", f"if {count} & 1:", f"    {count} = ({count} + 1) & ~1")
    _raw(source, inner + 1, item)
    add(inner, f"{count} >>= 1", f"if {count} + len({into}) > {'ENTRIES_MOST' if is_map else 'ITEMS_MOST'}:")
    add(inner, f"    too_many({count})", f"for _ in range({count}):")
    if is_map:
        _read(source, inner + 1, key, "string")
    _read(source, inner + 1, item, schema["values" if is_map else "items"])
    add(inner + 1, f"{into}[{key}] = {item}" if is_map else f"{into}.append({item})")
    if not is_map:
        add(depth, f"{into} = tuple({into})")


def _encoder(source: _Source, name: str, schema: Schema) -> None:
    values = [source.name() for _ in schema["fields"]]
    source.add(0, f"def encode_{name}(out, value):", f"    {', '.join(values)}, = value")
    for value, field in zip(values, schema["fields"], strict=True):
        _write(source, 1, value, field["type"])
    source.add(0, "")


def _write(source: _Source, depth: int, value: str, schema: Any) -> None:
    schema = source.resolved(schema)
    add = source.add
    if isinstance(schema, list):
        add(depth, f"if {value} is None:", "    out.append(0)", "else:", "    out.append(2)")
        _write(source, depth + 1, value, schema[1])
    elif schema in ("long", "int"):  # noqa: PLR6201  # a schema may be a dict
        put = "put_long" if schema == "long" else "put_int"
        add(depth, f"if {value}.__class__ is int and 0 <= {value} < 64:", f"    out.append({value} << 1)")
        add(depth, "else:", f"    {put}(out, {value})")
    elif schema == "string":
        data = source.name()
        add(depth, f"{data} = {value}.encode()", f"if len({data}) < 64:", f"    out.append(len({data}) << 1)")
        add(depth, "else:", f"    put_length(out, len({data}))", f"out += {data}")
    elif schema == "boolean":
        add(depth, f"out.append(BOOLEANS[{value}])")
    elif schema == "double":
        add(depth, f"out += pack_double({value})")
    elif schema["type"] == "enum":
        add(depth, f"out.append(INDEX_{short(schema['name'])}[{value}])")
    elif schema["type"] == "record":
        add(depth, f"encode_{short(schema['name'])}(out, {value})")
    else:
        _write_block(source, depth, value, schema)


def _write_block(source: _Source, depth: int, value: str, schema: Schema) -> None:
    is_map = schema["type"] == "map"
    item, key = source.name(), source.name()
    source.add(depth, f"if {value}:", f"    put_count(out, len({value}), {'ENTRIES_MOST' if is_map else 'ITEMS_MOST'})")
    if is_map:
        source.add(depth + 1, f"for {key}, {item} in {value}.items():")
        _write(source, depth + 2, key, "string")
    else:
        source.add(depth + 1, f"for {item} in {value}:")
    _write(source, depth + 2, item, schema["values" if is_map else "items"])
    source.add(depth, "out.append(0)")
