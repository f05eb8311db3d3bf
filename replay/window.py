"""Windows `[from, to)` over a topic, by time or by offset, as people and kcat write them."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_SPAN = re.compile(r"(?:\d+[smhdw])+")
_PARTS = re.compile(r"(\d+)([smhdw])")
SECOND = 1_000_000
DAY = 86_400 * SECOND
LONGEST = 100 * 365 * 86_400 * SECOND
"""µs: a span of more than a century is a slip of the finger."""
EARLIEST_MS = 100_000_000_000
"""Numbers below it are seconds, not ms: 1973 in the one, the year 5138 in the other."""
FORMS = "ISO 8601 with a zone (2026-11-20T09:00:00Z), ms since 1970, -2h (s, m, h, d, w), now, or offset:N"


class BadWindow(Exception):
    """A window that means nothing, is empty, or is inverted. Exit 2."""


class Bound(NamedTuple):
    """One end of a window: a time in µs since 1970, or an offset, which counts in every partition."""

    at: int | None = None
    offset: int | None = None

    def __str__(self) -> str:
        return f"offset:{self.offset}" if self.at is None else iso(self.at)


class Window(NamedTuple):
    """Records from `begin` on (None: the first) and before `end` (None: the last there is)."""

    begin: Bound | None = None
    end: Bound | None = None

    def holds(self, offset: int, at: int) -> bool:
        """Whether a record at `offset` that happened at `at` (µs) is inside."""
        begin, end = self
        if begin is not None and (offset < (begin.offset or 0) if begin.at is None else at < begin.at):
            return False
        return end is None or (offset < (end.offset or 0) if end.at is None else at < end.at)

    @property
    def timed(self) -> bool:
        """Whether times bound it."""
        return any(bound is not None and bound.at is not None for bound in self)

    def __str__(self) -> str:
        return f"[{self.begin or 'the first record'}, {self.end or 'the last record'})"


def iso(micros: int) -> str:
    """µs since 1970 as ISO 8601 in UTC, to the µs."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_span(text: str) -> int:
    """A span such as 10m or 1h30m in µs. Raises BadWindow."""
    if not _SPAN.fullmatch(text):
        raise BadWindow(f"{text!r} is no span of time; write numbers with s, m, h, d or w, as in 1h30m")
    span = sum(int(number) * _UNITS[unit] for number, unit in _PARTS.findall(text)) * SECOND
    if span > LONGEST:
        raise BadWindow(f"{text!r} is more than a century; write a shorter span")
    return span


def parse_moment(text: str, now: int) -> int:
    """A time as µs since 1970; `now` is what "-2h" counts from. Raises BadWindow."""
    if text == "now":
        return now
    if text.startswith("-"):
        return now - parse_span(text[1:])
    if text.isascii() and text.isdecimal():
        if not EARLIEST_MS <= int(text) < 100 * EARLIEST_MS:
            raise BadWindow(f"{text!r} is no time in ms since 1970; seconds need three more digits")
        return int(text) * 1_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadWindow(f"{text!r} is no time; write {FORMS}") from None
    if moment.tzinfo is None:
        raise BadWindow(f"{text!r} has no zone, so it is another moment in every place; add Z for UTC, or +01:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def parse_bound(text: str, now: int) -> Bound:
    """One end of a window. Raises BadWindow."""
    kind, colon, number = text.partition(":")
    if kind == "offset" and colon:
        if not (number.isascii() and number.isdecimal()) or int(number) >= 1 << 63:
            raise BadWindow(f"{text!r} names no offset; write offset:N, N counting from 0")
        return Bound(offset=int(number))
    return Bound(at=parse_moment(text, now))


def parse_window(begin: str | None, end: str | None, kcat: Sequence[str], now: int) -> Window:
    """The window that `--from`, `--to` and kcat's `s@…`, `e@…` name. Raises BadWindow.

    A window that can hold nothing, whatever the topic has, is refused: empty, inverted, or in the future.
    """
    given: dict[str, list[str]] = {"s": [begin] if begin is not None else [], "e": [end] if end is not None else []}
    for text in kcat:
        side, at, moment = text.partition("@")
        if side not in given or not at:
            raise BadWindow(f"{text!r} is no end of a window; write s@TIME or e@TIME, as for kcat")
        given[side].append(moment)
    for side, name in (("s", "begins"), ("e", "ends")):
        if len(given[side]) > 1:
            raise BadWindow(f"the window {name} twice, at {' and '.join(given[side])}; name one")
    first, last = ([parse_bound(text, now) for text in given[side]] for side in "se")
    window = Window(first[0] if first else None, last[0] if last else None)
    _check(window, now)
    return window


def _check(window: Window, now: int) -> None:
    begin, end = window
    if begin is not None and begin.at is not None and begin.at > now:
        raise BadWindow(f"the window {window} begins in the future: it is {iso(now)}")
    if end == Bound(offset=0):
        raise BadWindow(f"the window {window} is empty: nothing stands before offset 0")
    if begin is None or end is None or (begin.at is None) != (end.at is None):
        return
    first, last = (begin.offset, end.offset) if begin.at is None else (begin.at, end.at)
    assert first is not None
    assert last is not None
    if first == last:
        raise BadWindow(f"the window {window} is empty: `to` is not part of it")
    if first > last:
        raise BadWindow(f"the window {window} is inverted: it ends before it begins; swap --from and --to")
