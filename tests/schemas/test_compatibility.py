"""What may change in a contract, and what breaks whom."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import avro.compatibility
import avro.schema
import pytest
from avro_values import PER_SUBJECT, SUBJECTS
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas
from schemas import compatibility
from schemas.catalogue import catalogue, fingerprint

AVRO = Path(schemas.__file__).parent / "avro"
LISTED = json.loads((AVRO / "catalogue.json").read_text(encoding="utf-8"))["subjects"]


def record(*fields: Any, name: str = "R") -> dict[str, Any]:
    """A record; a field is (name, type) or (name, type, default)."""
    rows = [dict(zip(("name", "type", "default"), field, strict=False)) for field in fields]
    return {"type": "record", "name": name, "fields": rows}


def symbols(*words: str, **more: str) -> dict[str, Any]:
    """An enum."""
    return {"type": "enum", "name": "E", "symbols": list(words), **more}


A = ("a", "string")
LIST = {"type": "array", "items": "long"}
BOTH, NEW, OLD = "both", "readers of the new version", "readers of the earlier version"

# (old, new, who suffers: nobody, one side or both, what the sentence says)
ROWS: list[tuple[Any, Any, str | None, str]] = [
    (record(A), record(A), None, ""),
    (record(A), record(A, ("b", ["null", "string"], None)), None, ""),
    (record(A, ("b", "long", 0)), record(A), None, ""),
    (record(A, ("b", "long")), record(("b", "long"), A), None, ""),
    (record(A), record(A, name="n.R"), None, ""),
    (record(A), record(A, ("b", "long")), NEW, "Give the new field a default"),
    (record(A, ("b", "long")), record(A), OLD, "Keep the field"),
    (record(A), record(("c", "string")), BOTH, "R.c: not written"),
    (record(A), record(A, name="S"), BOTH, "Keep the name"),
    (record(("a", "int")), record(("a", "long")), OLD, "long was written"),
    (record(("a", "double")), record(("a", "long")), NEW, "double was written"),
    (record(("a", "string")), record(("a", "bytes")), None, ""),
    (record(("a", "string")), record(("a", "long")), BOTH, "Keep the type"),
    (record(("a", "string")), record(("a", ["null", "string"])), OLD, "null was written"),
    (record(("a", ["null", "string"])), record(("a", ["null", "long"])), BOTH, "any branch"),
    (record(("a", ["null", "string"])), record(("a", ["string", "null"])), None, ""),
    (record(("a", LIST)), record(("a", {"type": "array", "items": "string"})), BOTH, r"R.a\[\]"),
    (record(("a", LIST)), record(("a", {"type": "map", "values": "long"})), BOTH, "array was written"),
    (record(("a", symbols("X"))), record(("a", symbols("X", "Y"))), OLD, "know no Y"),
    (record(("a", symbols("X", "Y"))), record(("a", symbols("X"))), NEW, "Keep the symbols"),
    (record(("a", symbols("X", default="X"))), record(("a", symbols("X", "Y", default="X"))), None, ""),
    (record(("a", record(("x", "long")))), record(("a", record(("x", "long"), ("y", "long")))), NEW, "R.a.y"),
    (record(("a", ["null", symbols("X")])), record(("a", ["null", symbols("X", "Y")])), OLD, "know no Y"),
]


@pytest.mark.parametrize(("old", "new", "who", "says"), ROWS)
def test_a_change_is_judged(old: Any, new: Any, who: str | None, says: str) -> None:
    """Each row: allowed, or what breaks, for whom, and the way out."""
    found = compatibility.check(old, new)
    sides = {side for side in (NEW, OLD) if any(side in sentence for sentence in found)}
    assert sides == {None: set(), BOTH: {NEW, OLD}}.get(who, {who})
    assert bool(found) == bool(who)
    if says:
        assert any(re.search(says, sentence) for sentence in found), found


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (record(("next", ["null", "R"], None)), "R.next: R holds itself"),
        (record(("a", {"type": "array", "items": "R"})), r"R.a[]: R holds itself"),
        (record(("a", record(("b", ["null", "n.R"]), name="S")), name="n.R"), "R.a.b: R holds itself"),
        (record(("a", {"type": "array", "items": "null"})), "R.a: its items take no bytes"),
        (record(("a", {"type": "array", "items": record(name="Nothing")})), "R.a: its items take no bytes"),
        (record(("a", {"type": "array", "items": record(("b", "null"), name="N")})), "R.a: its items take no bytes"),
    ],
)
def test_what_could_grow_without_bytes_is_banned(schema: Any, says: str) -> None:
    """Recursive schemas and arrays of null: refused as a first version, and as a change."""
    assert len(compatibility.bans(schema)) == 1
    assert compatibility.bans(schema)[0].startswith(says)
    assert compatibility.check(record(A), schema) == compatibility.check_all([], schema) == compatibility.bans(schema)


def test_every_earlier_version_counts() -> None:
    """A new version may suit the last one and still break the first."""
    first, second = record(A), record(A, ("b", "long", 0))
    third = record(A, ("b", "string", ""))
    assert compatibility.check(first, third) == []
    found = compatibility.check_all([first, second], third)
    assert {sentence.partition(":")[0] for sentence in found} == {"version 2"}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_current_schema_goes_with_all_its_earlier_versions(subject: str) -> None:
    """FULL_TRANSITIVE, and nothing banned."""
    versions = [version.schema for version in catalogue().versions(subject)]
    for n, schema in enumerate(versions):
        assert compatibility.check_all(versions[:n], schema) == []


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_published_schema_was_not_edited_in_place(subject: str) -> None:
    """The catalogue keeps each version's fingerprint; a change needs a version of its own."""
    for row in LISTED[subject]:
        schema = json.loads((AVRO / row["file"]).read_text(encoding="utf-8"))
        faults = compatibility.unchanged(row["file"].removesuffix(".avsc"), row["sha256"], schema)
        assert not faults, faults[0]


def test_an_edit_in_place_is_told_the_way_out() -> None:
    """The message says how to add a version; words may always be improved."""
    schema = copy.deepcopy(catalogue().versions(SUBJECTS[0])[0].schema)
    listed = fingerprint(schema)
    schema["doc"] = schema["fields"][0]["doc"] = "Better words."
    assert compatibility.unchanged("payments.intents", listed, schema) == []
    schema["fields"].append({"name": "doc", "type": "string", "default": ""})
    (sentence,) = compatibility.unchanged("payments.intents", listed, schema)
    assert "payments.intents.v<n>.avsc" in sentence
    assert "highest of all + 1" in sentence
    assert fingerprint(schema) in sentence


# -- against Apache's own checker --------------------------------------------------------------------

PRIMITIVES = st.sampled_from(["boolean", "int", "long", "float", "double", "string", "bytes"])


def enums() -> st.SearchStrategy[Any]:
    """Enums of one to three of three symbols, with or without a default."""
    words = st.lists(st.sampled_from("XYZ"), min_size=1, max_size=3, unique=True)
    return words.flatmap(lambda w: st.sampled_from([symbols(*w), symbols(*w, default=w[0])]))


def optional(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Unions with null, first or last, or of two primitives."""
    return st.one_of(
        inner.map(lambda each: ["null", each]),
        inner.map(lambda each: [each, "null"]),
        st.sampled_from([["string", "long"], ["int", "double"], ["null", "string", "boolean"], ["bytes"]]),
    )


@st.composite
def small(draw: st.DrawFn) -> dict[str, Any]:
    """A record of up to three fields out of three names; a named type stands in it once."""
    fields = []
    leaves = PRIMITIVES | optional(PRIMITIVES)
    for n, name in enumerate(draw(st.lists(st.sampled_from("abc"), max_size=3, unique=True))):
        kind = draw(
            leaves
            | leaves.filter(lambda each: each != "null").map(lambda each: {"type": "array", "items": each})
            | leaves.map(lambda each: {"type": "map", "values": each})
            | (enums() | optional(enums()) if n == 0 else leaves)
            | (st.sampled_from([record(("x", "int"), name="I"), record(("x", "long"), name="I"), record(name="I")])
               if n == 1 else leaves)
        )  # fmt: skip
        fields.append((name, ["null", kind], None) if kind == "string" and draw(st.booleans()) else (name, kind))
    return record(*fields, name=draw(st.sampled_from(["R", "R", "R", "S"])))


def apache_reads(reader: Any, writer: Any) -> bool:
    """The verdict of Apache's checker."""
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()
    parsed = [avro.schema.parse(json.dumps(each)) for each in (reader, writer)]
    verdict = checker.get_compatibility(*parsed).compatibility
    return verdict is avro.compatibility.SchemaCompatibilityType.compatible


@settings(deadline=None)
@given(old=small(), new=small())
def test_apaches_checker_agrees_on_small_schemas(old: Any, new: Any) -> None:
    """Both directions, on random schemas."""
    for reader, writer in ((old, new), (new, old)):
        assert (compatibility.reads(reader, writer) == []) == apache_reads(reader, writer)


def nodes(schema: Any) -> list[dict[str, Any]]:
    """Every dict inside a schema."""
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    return ([schema] if isinstance(schema, dict) else []) + [found for each in inner for found in nodes(each)]


@pytest.mark.parametrize("subject", SUBJECTS)
@PER_SUBJECT
@given(data=st.data())
def test_apaches_checker_agrees_on_changes_of_our_schemas(subject: str, data: st.DataObject) -> None:
    """Fields dropped, added, retyped, defaults lost, symbols lost and gained: the same verdict."""
    old = catalogue().versions(subject)[-1].schema
    new = copy.deepcopy(old)
    records = [node for node in nodes(new) if node.get("fields")]
    fields = data.draw(st.sampled_from(records))["fields"]
    field = data.draw(st.sampled_from(fields))
    listed = [node["symbols"] for node in nodes(new) if "symbols" in node] or [["UNKNOWN"]]
    match data.draw(st.sampled_from(["default", "add", "retype", "symbol", "no-default-symbol"])):
        case "default":
            field.pop("default", None)
        case "add":
            fields.append({"name": "added", "type": "long"} | data.draw(st.sampled_from([{}, {"default": 1}])))
        case "retype" if field["type"] in ("string", "long", "int", "boolean"):
            field["type"] = data.draw(st.sampled_from(["string", "long", "int", "double", "boolean"]))
        case "symbol":
            words = data.draw(st.sampled_from(listed))
            words[:] = ["UNKNOWN", "ADDED"]
        case "no-default-symbol":
            for node in nodes(new):
                if "symbols" in node:
                    node.pop("default")
                    node["symbols"].append("ADDED")
    agreed = apache_reads(new, old) and apache_reads(old, new)
    assert (compatibility.check(old, new) == []) == agreed
