"""Small, and only smaller."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
FILES = [
    p for folder in ("schemas", "streams", "topologies", "replay", "headrace") for p in (ROOT / folder).rglob("*.py")
]
GRANTED: dict[str, int] = {}
"""A ratchet: such a file may shrink, never grow."""


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small(path):
    """A page that fits the head: 400 lines a file, 50 a function."""
    name, text = path.relative_to(ROOT).as_posix(), path.read_text()
    assert text.count("\n") <= GRANTED.get(name, LONGEST_FILE), name
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, f"{name}: {node.name}"
