"""What a worker's decisions depend on, as one hash: code, schemas, settings."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import orjson

import schemas
import streams
import topologies
from streams.rules import Rules


def settings_json(rules: Rules) -> bytes:
    """The rules as JSON with sorted keys."""
    return orjson.dumps(asdict(rules), option=orjson.OPT_SORT_KEYS)


def code_hash(rules: Rules) -> str:
    """SHA-256 (64 hex digits) over every source and schema file that decides, and the settings."""
    found = hashlib.sha256(settings_json(rules))
    for package in (schemas, streams, topologies):
        assert package.__file__ is not None
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*")):
            if path.suffix in {".py", ".avsc", ".json"}:
                found.update(path.relative_to(folder.parent).as_posix().encode())
                found.update(path.read_bytes())
    return found.hexdigest()
