"""Imports go one way: headrace, replay, topologies, streams, schemas."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAYERS = ("schemas", "streams", "topologies", "replay", "headrace")
ENGINE_ONLY = {"faust", "mode", "rocksdict"}
PURE = {"schemas", "streams"}
FORBIDDEN_IN_DECISIONS = {
    "time", "datetime", "random", "uuid", "secrets", "os", "pathlib", "socket", "threading", "asyncio", "logging",
    "subprocess", "io", "urllib", "http", "confluent_kafka", "aiohttp", "requests",
}  # fmt: skip


def modules():
    return [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]


def imports_of(path):
    """Every module that a file imports, also inside functions; relative imports are not used here."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_module_imports_only_what_stands_below_it(path):
    """Headrace → replay → topologies → streams → schemas, and never up."""
    mine = LAYERS.index(path.relative_to(ROOT).parts[0])
    for name in imports_of(path):
        top = name.split(".")[0]
        if top in LAYERS:
            assert LAYERS.index(top) <= mine, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_engine_knows_faust_and_rocksdb(path):
    """The engine can be replaced because nobody else knows what it is made of."""
    if name_of(path).startswith("topologies/engine/"):
        return
    for name in imports_of(path):
        assert name.split(".")[0] not in ENGINE_ONLY, f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_only_the_engine_makes_producers(path):
    """Whoever wants to write to Kafka asks the engine."""
    if name_of(path).startswith("topologies/engine/"):
        return
    assert not any(name.endswith(".Producer") for name in imports_of(path)), name_of(path)


@pytest.mark.parametrize("path", [p for p in modules() if name_of(p).startswith("streams/")], ids=name_of)
def test_a_decision_reads_no_clock_no_chance_and_no_network(path):
    """Run elsewhere tomorrow, a decision gives the same bytes."""
    for name in imports_of(path):
        assert name.split(".")[0] not in FORBIDDEN_IN_DECISIONS, f"{name_of(path)} imports {name}"


def test_the_audit_shares_no_code_with_what_it_judges():
    """A mistake in the rules can't hide in the audit."""
    for path in sorted((ROOT / "replay").glob("*.py")):
        for name in imports_of(path):
            assert not name.startswith("streams"), f"{name_of(path)} imports {name}"


def test_replay_loads_without_faust():
    """An analyst who reads topics starts no worker's machinery."""
    code = "import sys, replay.audit, replay.reader; sys.exit(any(m in sys.modules for m in ('faust', 'rocksdict')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
