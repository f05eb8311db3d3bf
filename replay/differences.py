"""Where two records differ, field by field, in words."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

from schemas import codec
from topologies.topics import BY_NAME

Pair = tuple[bytes | None, bytes | None]
"""Key and value."""
_NOTHING: Any = object()
SHOWN = 120
"""Characters of a value that are told."""


def difference(topic: str, expected: Pair, found: Pair) -> tuple[int, str]:
    """How many fields differ, and the first of them: name, what was expected, what was found."""
    ways = list(_ways(topic, expected, found))
    if not ways:
        return 0, "nothing differs"
    more = f" (and {len(ways) - 1} more fields)" if len(ways) > 1 else ""
    return len(ways), ways[0] + more


def _ways(topic: str, expected: Pair, found: Pair) -> Iterator[str]:
    if expected[0] != found[0]:
        yield _told("key", expected[0], found[0])
    if expected[1] == found[1]:
        return
    values = _decoded(topic, expected[1]), _decoded(topic, found[1])
    if isinstance(values[0], tuple) and isinstance(values[1], tuple):
        yield from (_told(path, *two) for path, *two in _paths("", *values))
    else:
        yield _told("value", *values)


def _decoded(topic: str, value: bytes | None) -> Any:
    """The record, or the bytes where they are none."""
    if topic not in BY_NAME:
        return value
    try:
        return codec.decoder(BY_NAME[topic].subject)(value)
    except codec.Undecodable:
        return value


def _paths(path: str, expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    """Path, expected and found value of each leaf that differs."""
    if expected == found:
        return
    if not (isinstance(expected, tuple) and isinstance(found, tuple)):
        yield path, expected, found
        return
    names = getattr(expected, "_fields", None)
    for number, (one, two) in enumerate(zip_longest(expected, found, fillvalue=_NOTHING)):
        here = f"{path}.{names[number]}".lstrip(".") if names and number < len(names) else f"{path}[{number}]"
        yield from _paths(here, one, two)


def _told(path: str, expected: Any, found: Any) -> str:
    return f"{path}: expected {_shown(expected)}, found {_shown(found)}"


def _shown(value: Any) -> str:
    text = "nothing" if value is _NOTHING else str(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
