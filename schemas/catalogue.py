"""Which schema has which id: `schemas/avro/catalogue.json`, where a registry's answers can stand later.

A published version never changes: the catalogue keeps its fingerprint. What a schema's words explain (`doc`)
may be said better at any time; everything else needs a new version.
"""

import hashlib
import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

Schema = dict[str, Any]


class Version(NamedTuple):
    """One version of a subject's schema."""

    subject: str
    version: int
    id: int
    schema: Schema
    fingerprint: str = ""
    """As it was when the version was published: 64 hex digits."""
    file: str = ""
    """Its name in `schemas/avro`."""


class Catalogue:
    """Schemas by id and by subject."""

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
    """The catalogue that is in the package."""
    folder = resources.files("schemas") / "avro"
    listed = json.loads((folder / "catalogue.json").read_text(encoding="utf-8"))["subjects"]
    return Catalogue(
        [
            Version(
                subject,
                v["version"],
                v["id"],
                json.loads((folder / v["file"]).read_text(encoding="utf-8")),
                v["sha256"],
                v["file"],
            )
            for subject, versions in listed.items()
            for v in versions
        ]
    )


def fingerprint(schema: Any) -> str:
    """SHA-256 of all that a schema says about bytes and names, 64 hex digits.

    Avro's parsing canonical form with what readers also go by kept: defaults, aliases, logical types.
    """
    return hashlib.sha256(json.dumps(canonical(schema), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def canonical(schema: Any) -> Any:
    """A schema without its explanations; `{"type": "int"}` is `"int"`."""
    if isinstance(schema, list):
        return [canonical(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "doc"}
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = canonical(kept[key])
    if "fields" in kept:
        kept["fields"] = [canonical_field(field) for field in kept["fields"]]
    return kept["type"] if set(kept) == {"type"} else kept


def canonical_field(field: Schema) -> Schema:
    """A field without its explanation; its default stays word for word."""
    return {key: canonical(value) if key == "type" else value for key, value in field.items() if key != "doc"}
