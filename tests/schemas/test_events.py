"""Records and schemas are two spellings of one contract; a test holds them to each other."""

import enum
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest

import schemas
from schemas import events, internal
from schemas.codec import RECORDS
from schemas.codegen import definitions, short

AVRO = Path(schemas.__file__).parent / "avro"
LISTED = json.loads((AVRO / "catalogue.json").read_text(encoding="utf-8"))["subjects"]
ROWS = [(subject, row) for subject, rows in LISTED.items() for row in rows]
CURRENT = {
    subject: json.loads((AVRO / rows[-1]["file"]).read_text(encoding="utf-8")) for subject, rows in LISTED.items()
}
NAMED = [(subject, name) for subject, schema in CURRENT.items() for name in definitions(schema)]


def spelled(annotation: Any) -> Any:
    """The Avro type of a field's annotation, without logical types; named types by name."""
    if isinstance(annotation, typing.NewType):
        return "micros" if annotation is events.Micros else "long"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is types.UnionType or origin is typing.Union:
        assert arguments[1] is types.NoneType
        return ["null", spelled(arguments[0])]
    if origin is tuple:
        return {"array": spelled(arguments[0])}
    if origin is dict:
        return {"map": spelled(arguments[1])}
    return {str: "string", int: "long", float: "double", bool: "boolean"}.get(annotation, annotation.__name__)


def written(schema: Any) -> Any:
    """An Avro type in the words of `spelled`."""
    if isinstance(schema, list):
        return [written(branch) for branch in schema]
    if isinstance(schema, str):
        return "long" if schema == "int" else short(schema)
    if schema["type"] in {"array", "map"}:
        return {schema["type"]: written(schema["items" if schema["type"] == "array" else "values"])}
    if schema.get("logicalType") == "timestamp-micros":
        return "micros"
    return short(schema["name"]) if "name" in schema else written(schema["type"])


def default_of(schema: Any, named: dict[str, Any], default: Any) -> Any:
    """A JSON default as the record has it."""
    if isinstance(schema, str):
        schema = named.get(short(schema), schema)
    if isinstance(schema, dict) and schema["type"] == "enum":
        return RECORDS[short(schema["name"])](default)
    return tuple(default) if isinstance(default, list) else default


@pytest.mark.parametrize(("subject", "name"), NAMED)
def test_a_record_mirrors_its_schema(subject: str, name: str) -> None:
    """Names, order, types and defaults of fields; symbols of enums, and their default UNKNOWN."""
    named = definitions(CURRENT[subject])
    schema, mirror = named[name], RECORDS[name]
    if schema["type"] == "enum":
        assert [symbol.value for symbol in mirror] == schema["symbols"]
        assert [symbol.name for symbol in mirror] == schema["symbols"]
        assert schema["default"] == "UNKNOWN"
        assert issubclass(mirror, enum.StrEnum)
        return
    fields = schema["fields"]
    assert list(mirror._fields) == [field["name"] for field in fields]
    hints = typing.get_type_hints(mirror)
    for field in fields:
        assert spelled(hints[field["name"]]) == written(field["type"]), field["name"]
    defaults = {f["name"]: default_of(f["type"], named, f["default"]) for f in fields if "default" in f}
    assert mirror._field_defaults == defaults
    assert {key: type(value) for key, value in mirror._field_defaults.items()} == {
        key: type(value) for key, value in defaults.items()
    }


@pytest.mark.parametrize(("subject", "name"), NAMED)
def test_schemas_and_records_say_what_they_are(subject: str, name: str) -> None:
    """Every schema and field has a doc, and a record's docstring is its schema's."""
    schema = definitions(CURRENT[subject])[name]
    assert inspect.getdoc(RECORDS[name])
    assert schema["doc"].endswith(".")
    assert [field["name"] for field in schema.get("fields", ()) if not field.get("doc")] == []


def test_every_record_and_enum_stands_in_a_schema() -> None:
    """Nothing in `schemas/events.py` and `schemas/internal.py` is without a contract."""
    declared = {
        name
        for name, thing in RECORDS.items()
        if inspect.isclass(thing)
        and thing.__module__ in {events.__name__, internal.__name__}
        and (hasattr(thing, "_fields") or issubclass(thing, enum.Enum))
    }
    assert declared == {name for _, name in NAMED}


def test_one_name_means_the_same_in_every_schema() -> None:
    """An enum that two topics carry has the same symbols in both."""
    seen: dict[str, Any] = {}
    for schema in CURRENT.values():
        for name, found in definitions(schema).items():
            bare = {key: value for key, value in found.items() if key not in {"doc", "namespace"}}
            assert seen.setdefault(name, bare) == bare, name


def test_every_schema_file_is_catalogued_once() -> None:
    """No schema is forgotten, none has two ids."""
    files = [row["file"] for _, row in ROWS]
    assert sorted(files) == sorted(path.name for path in AVRO.glob("*.avsc"))


def test_ids_are_unique_and_versions_count_up() -> None:
    """An id means one schema for ever."""
    ids = [row["id"] for _, row in ROWS]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(each, int) and each > 0 for each in ids)
    for subject, rows in LISTED.items():
        assert [row["version"] for row in rows] == list(range(1, len(rows) + 1)), subject


def test_files_are_named_after_their_topic_and_version() -> None:
    """The current schema is <topic>.avsc, an earlier one <topic>.v<n>.avsc."""
    for subject, rows in LISTED.items():
        topic = subject.removesuffix("-value")
        assert rows[-1]["file"] == f"{topic}.avsc"
        assert [row["file"] for row in rows[:-1]] == [f"{topic}.v{row['version']}.avsc" for row in rows[:-1]]
