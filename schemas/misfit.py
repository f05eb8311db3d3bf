"""Says which field of a record does not fit its schema, and why: for a program's mistake, off the hot path."""

from collections.abc import Mapping
from typing import Any

from schemas.catalogue import Schema
from schemas.codegen import definitions, short
from schemas.wire import ENTRIES_MOST, ITEMS_MOST, STRING_MOST

BITS = {"int": 32, "long": 64}


def misfit(schema: Schema, value: Any, path: str) -> str | None:
    """The first misfit as a sentence that starts with its path, such as `Posting.entries[1].currency`; None: all fits."""
    return _misfit(schema, value, path, definitions(schema))


def _misfit(schema: Any, value: Any, path: str, named: Mapping[str, Schema]) -> str | None:
    if isinstance(schema, str):
        schema = named.get(short(schema), schema)
    if isinstance(schema, list):
        return None if value is None else _misfit(schema[1], value, path, named)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return _misfit_of_record(schema, value, path, named)
    if kind in {"array", "map"}:
        return _misfit_of_collection(schema, value, path, named)
    if kind == "enum":
        fits = isinstance(value, str) and value in schema["symbols"]
        return None if fits else f"{path}: {value!r} is no symbol of {short(schema['name'])}"
    return _misfit_of_plain(kind, value, path)


def _misfit_of_plain(kind: str, value: Any, path: str) -> str | None:
    if kind == "string":
        return _misfit_of_string(value, path)
    if kind == "boolean":
        return None if isinstance(value, bool) else f"{path}: {value!r} is no boolean"
    if kind == "double":
        return None if isinstance(value, float | int) else f"{path}: {value!r} is no number"
    bits = BITS[kind]
    fits = type(value) is int and -(1 << bits - 1) <= value < 1 << bits - 1
    return None if fits else f"{path}: {value!r} is no integer of {bits} bits"


def _misfit_of_string(value: Any, path: str) -> str | None:
    if not isinstance(value, str):
        return f"{path}: {value!r} is no text"
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        return f"{path}: {value!r} can't be written as UTF-8"
    return None if length <= STRING_MOST else f"{path}: {length} bytes of text; {STRING_MOST} are allowed"


def _misfit_of_record(schema: Schema, value: Any, path: str, named: Mapping[str, Schema]) -> str | None:
    fields = schema["fields"]
    if not isinstance(value, tuple) or len(value) != len(fields):
        return f"{path}: {type(value).__name__} is no {short(schema['name'])} of {len(fields)} fields"
    for field, item in zip(fields, value, strict=True):
        if found := _misfit(field["type"], item, f"{path}.{field['name']}", named):
            return found
    return None


def _misfit_of_collection(schema: Schema, value: Any, path: str, named: Mapping[str, Schema]) -> str | None:
    is_map = schema["type"] == "map"
    most = ENTRIES_MOST if is_map else ITEMS_MOST
    if not isinstance(value, dict if is_map else tuple | list):
        return f"{path}: {value!r} is no {'dict' if is_map else 'tuple'}"
    if len(value) > most:
        return f"{path}: {len(value)} items; {most} are allowed"
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        if is_map and (found := _misfit_of_string(key, f"{path}, key {key!r}")):
            return found
        if found := _misfit(schema["values" if is_map else "items"], item, f"{path}[{key!r}]", named):
            return found
    return None
