"""What may change between two versions of a schema, by Avro's resolution rules.

A new version must be FULL_TRANSITIVE: its readers read what every earlier version wrote, and readers
of every earlier version read what it writes. Source: the Avro 1.12 specification, "Schema
Resolution"; aliases count for nothing here. Recursive schemas and arrays of items that take no bytes
(null) are banned, so no value can be deeper or larger than its bytes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from schemas.catalogue import Schema, fingerprint
from schemas.codegen import short

_PROMOTIONS = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""Reader's type: the other types that it may read."""

_NAMED = {"record", "enum", "fixed"}


class _Side(NamedTuple):
    """Who reads, in words, and the schemas behind both sides' names."""

    who: str
    has_changed: bool
    reader: dict[str, Schema]
    writer: dict[str, Schema]


def check(old: Schema, new: Schema) -> list[str]:
    """Sentences: what breaks, for whom, the way out. Empty when `new` may stand beside `old` (FULL)."""
    if banned := bans(new):
        return banned
    return reads(new, old) + _compare(new, old, "readers of the earlier version", has_changed=False)


def check_all(earlier: Sequence[Schema], new: Schema) -> list[str]:
    """`check` against every earlier version, oldest first (FULL_TRANSITIVE); sentences begin with the version."""
    if banned := bans(new):
        return banned
    return [f"version {n}: {found}" for n, old in enumerate(earlier, 1) for found in check(old, new)]


def reads(reader: Schema, writer: Schema) -> list[str]:
    """Sentences: why `reader`, the newer one, can't read what `writer` wrote."""
    return _compare(writer, reader, "readers of the new version", has_changed=True)


def unchanged(topic: str, listed: str, schema: Schema) -> list[str]:
    """Sentences: why a published schema may not look like this; `listed` is its fingerprint in the catalogue."""
    if fingerprint(schema) == listed:
        return []
    way_out = (
        f"Add a version instead: keep the old file as {topic}.v<n>.avsc (n: its version) and name it in its row, then "
        f"add a row for {topic}.avsc with the next version, an id that is the highest of all + 1 and "
        f'"sha256": "{fingerprint(schema)}".'
    )
    return [f"{topic}.avsc was edited in place, but values of the version it was are on the log. {way_out}"]


def bans(schema: Schema) -> list[str]:
    """Sentences: what no schema of ours may hold, whatever came before."""
    return _bans(schema, {}, (), short(schema["name"]))


def _bans(schema: Any, known: dict[str, Schema], above: tuple[str, ...], path: str) -> list[str]:
    if isinstance(schema, list):
        return [found for branch in schema for found in _bans(branch, known, above, path)]
    if isinstance(schema, str):
        if short(schema) in above:
            return [f"{path}: {short(schema)} holds itself, so a value could be endlessly deep. Keep an id instead."]
        return []
    kind = schema["type"]
    if kind in {"array", "map"}:
        items = schema["items" if kind == "array" else "values"]
        found = _bans(items, known, above, f"{path}[]")
        if kind == "array" and not found and _takes_no_bytes(items, known):
            return [f"{path}: its items take no bytes, so a few bytes could hold any number. Keep a count instead."]
        return found
    if kind in _NAMED:
        name = short(schema["name"])
        known[name] = schema
        fields = schema.get("fields", ())
        return [f for field in fields for f in _bans(field["type"], known, (*above, name), f"{path}.{field['name']}")]
    return []


def _takes_no_bytes(schema: Any, known: dict[str, Schema]) -> bool:
    if isinstance(schema, str):
        schema = known.get(short(schema), schema)
    if isinstance(schema, dict) and schema["type"] == "record":
        return all(_takes_no_bytes(field["type"], known) for field in schema["fields"])
    kind = schema["type"] if isinstance(schema, dict) else schema
    return bool(kind == "null" or (kind == "fixed" and schema["size"] == 0))


def _compare(writer: Schema, reader: Schema, who: str, *, has_changed: bool) -> list[str]:
    return _resolve(writer, reader, _Side(who, has_changed, _named(reader), _named(writer)), short(reader["name"]))


def _named(schema: Any, found: dict[str, Schema] | None = None) -> dict[str, Schema]:
    known: dict[str, Schema] = {} if found is None else found
    if isinstance(schema, dict):
        if schema["type"] in _NAMED:
            known[short(schema["name"])] = schema
        for inner in (schema.get("items"), schema.get("values"), *(f["type"] for f in schema.get("fields", ()))):
            _named(inner, known)
    for branch in schema if isinstance(schema, list) else ():
        _named(branch, known)
    return known


def _kind(schema: Any, named: dict[str, Schema]) -> tuple[Any, str]:
    """A schema with its name resolved, and its type's name."""
    if isinstance(schema, str):
        schema = named.get(short(schema), schema)
    if isinstance(schema, list):
        return schema, "union"
    return schema, schema["type"] if isinstance(schema, dict) else schema


def _resolve(writer: Any, reader: Any, side: _Side, path: str) -> list[str]:
    writer, written = _kind(writer, side.writer)
    reader, read = _kind(reader, side.reader)
    if written == "union":
        return list(dict.fromkeys(f for branch in writer for f in _resolve(branch, reader, side, path)))
    if read == "union":
        tries = [_resolve(writer, branch, side, path) for branch in reader]
        if not tries or all(tries):
            alike = [t for t, branch in zip(tries, reader, strict=True) if _kind(branch, side.reader)[1] == written]
            return alike[0] if alike else [_types(written, "any branch of the union", side, path)]
        return []
    if read != written:
        return [] if written in _PROMOTIONS.get(read, ()) else [_types(written, read, side, path)]
    if read in _NAMED and short(reader["name"]) != short(writer["name"]):
        names = f"{short(writer['name'])} was written, {short(reader['name'])} is read"
        return [f"{path}: {names}, so {side.who} can't read it. Keep the name."]
    if read == "record":
        return _resolve_fields(writer, reader, side, path)
    if read == "enum":
        return _resolve_symbols(writer, reader, side, path)
    if read == "fixed":
        return [] if reader["size"] == writer["size"] else [_types("another size", "this fixed", side, path)]
    if read in {"array", "map"}:
        inner = "items" if read == "array" else "values"
        return _resolve(writer[inner], reader[inner], side, f"{path}[]")
    return []


def _types(written: str, read: str, side: _Side, path: str) -> str:
    return (
        f"{path}: {written} was written, and {side.who} can't read it as {read}. "
        "Keep the type, and add a new field with a default."
    )


def _resolve_fields(writer: Schema, reader: Schema, side: _Side, path: str) -> list[str]:
    written = {field["name"]: field["type"] for field in writer["fields"]}
    way_out = "Give the new field a default." if side.has_changed else "Keep the field."
    found = []
    for field in reader["fields"]:
        here = f"{path}.{field['name']}"
        if field["name"] in written:
            found += _resolve(written[field["name"]], field["type"], side, here)
        elif "default" not in field:
            found.append(f"{here}: not written and without a default, so {side.who} can't read the record. {way_out}")
    return found


def _resolve_symbols(writer: Schema, reader: Schema, side: _Side, path: str) -> list[str]:
    lost = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if not lost or reader.get("default") in reader["symbols"]:
        return []
    way_out = "Keep the symbols." if side.has_changed else "Add a new field with a default instead."
    return [f"{path}: {side.who} know no {', '.join(lost)} and have no default symbol. {way_out}"]
