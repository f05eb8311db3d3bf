"""When settlement windows end: the cut-off on business days, in local time (R28). Whole numbers only.

Days are numbered from 1970-01-01, which is day 0, a Thursday. A day may have 23 or 25 hours: how far the
cut-off is from midnight in UTC stands in a `Clock`, worked out when the settings are loaded.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

from streams.settlement_rules import Calendar, day_of

SECOND = 1_000_000
DAY_S = 86_400


@lru_cache(maxsize=64)
def _days(holidays: tuple[str, ...]) -> frozenset[int]:
    return frozenset(day for date in holidays if (day := day_of(date)) is not None)


def is_business_day(day: int, calendar: Calendar) -> bool:
    """Whether a window ends on this day."""
    return (day + 3) % 7 + 1 not in calendar.weekend and day not in _days(calendar.holidays)


def cut_off(day: int, clock: Sequence[tuple[int, int]]) -> int:
    """The moment (µs) of a day's cut-off."""
    _, second = clock[bisect_right(clock, (day, DAY_S * 4)) - 1]
    return (day * DAY_S + second) * SECOND


def window(at: int, calendar: Calendar, clock: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Start and end (µs) of the window `[start, end)` that holds the moment `at`: between two cut-offs."""
    day = at // SECOND // DAY_S - 2
    while not (is_business_day(day, calendar) and cut_off(day, clock) > at):
        day += 1
    before = day - 1
    while not is_business_day(before, calendar):
        before -= 1
    return cut_off(before, clock), cut_off(day, clock)


def window_every(at: int, every_s: int) -> tuple[int, int]:
    """The same where windows have a fixed length."""
    every = every_s * SECOND
    start = at - at % every
    return start, start + every
