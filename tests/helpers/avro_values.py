"""Values of Avro schemas for tests: hypothesis strategies, and fastavro as the other bank."""

from io import BytesIO
from typing import Any

import fastavro
from hypothesis import settings
from hypothesis import strategies as st

from schemas.catalogue import catalogue
from schemas.codec import RECORDS
from schemas.codegen import definitions, short

SUBJECTS = catalogue().subjects()
PER_SUBJECT = settings(max_examples=40, deadline=None)
"""For properties that run once for each subject, on machines that do other things as well."""


def current(subject: str) -> dict[str, Any]:
    """The current schema of a subject."""
    return catalogue().versions(subject)[-1].schema


def head(subject: str) -> bytes:
    """The five bytes before a value of a subject's current schema."""
    return b"\0" + catalogue().versions(subject)[-1].id.to_bytes(4, "big")


def records(subject: str) -> st.SearchStrategy[Any]:
    """Any record of a subject that its schema and our limits allow."""
    return _values(current(subject), definitions(current(subject)))


def _values(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    if isinstance(schema, list):
        return st.none() | _values(schema[1], named)
    if isinstance(schema, str):
        schema = named.get(short(schema), {"type": schema})
    kind = schema["type"]
    if kind == "record":
        record = RECORDS[short(schema["name"])]
        return st.tuples(*[_values(field["type"], named) for field in schema["fields"]]).map(record._make)
    if kind == "enum":
        return st.sampled_from([RECORDS[short(schema["name"])](symbol) for symbol in schema["symbols"]])
    if kind == "array":
        return st.lists(_values(schema["items"], named), max_size=3).map(tuple)
    if kind == "map":
        return st.dictionaries(st.text(max_size=8), _values(schema["values"], named), max_size=3)
    return {
        "string": st.text(max_size=90),
        "long": st.integers(-(2**63), 2**63 - 1) | st.integers(-70, 70),
        "int": st.integers(-(2**31), 2**31 - 1),
        "boolean": st.booleans(),
        "double": st.floats(allow_nan=False),
    }[kind]


def plain(value: Any) -> Any:
    """A record as fastavro wants it: dicts, lists, strings."""
    if hasattr(value, "_fields"):
        return {name: plain(getattr(value, name)) for name in value._fields}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, str) else value


def timeless(schema: Any) -> Any:
    """The schema without logical types, so that times stay integers."""
    if isinstance(schema, dict):
        return {key: timeless(value) for key, value in schema.items() if key != "logicalType"}
    return [timeless(each) for each in schema] if isinstance(schema, list) else schema


def written_by_fastavro(schema: dict[str, Any], value: Any) -> bytes:
    """The body of a value, without the five bytes before it."""
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(timeless(schema)), plain(value))
    return out.getvalue()


def read_by_fastavro(schema: dict[str, Any], body: bytes) -> Any:
    """What fastavro finds in the body of a value."""
    return fastavro.schemaless_reader(BytesIO(body), fastavro.parse_schema(timeless(schema)), None)
