"""Windows between cut-offs: business days, holidays, days of 23 and 25 hours."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.windows import clock
from streams.calendar import is_business_day, window, window_every
from streams.settlement_rules import Calendar, day_of

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "Asia/Kathmandu")
CLOCKS = {zone: clock(zone, time(17)) for zone in ZONES}
HOLIDAYS = Calendar(holidays=("2026-12-25", "2027-01-01"))


def micros(text: str, zone: str = "UTC") -> int:
    """A local time as µs."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1_000_000


ROWS = [
    # moment, zone, start, end
    ("2026-11-18T12:00", "UTC", "2026-11-17T17:00", "2026-11-18T17:00"),  # a Wednesday
    ("2026-11-18T17:00", "UTC", "2026-11-18T17:00", "2026-11-19T17:00"),  # the end is the next one's start
    ("2026-11-20T17:00", "UTC", "2026-11-20T17:00", "2026-11-23T17:00"),  # the weekend joins Monday
    ("2026-11-22T12:00", "UTC", "2026-11-20T17:00", "2026-11-23T17:00"),
    ("2026-12-24T18:00", "UTC", "2026-12-24T17:00", "2026-12-28T17:00"),  # Christmas on a Friday, then a weekend
    ("2026-12-31T18:00", "UTC", "2026-12-31T17:00", "2027-01-04T17:00"),
    ("2026-11-18T16:59:59", "Europe/Berlin", "2026-11-17T17:00", "2026-11-18T17:00"),
    ("2026-11-18T16:59:59", "America/New_York", "2026-11-17T17:00", "2026-11-18T17:00"),
    ("2026-03-29T12:00", "Europe/Berlin", "2026-03-27T17:00", "2026-03-30T17:00"),  # clocks go forward
    ("2026-10-25T12:00", "Europe/Berlin", "2026-10-23T17:00", "2026-10-26T17:00"),  # and back
    ("2028-02-29T12:00", "UTC", "2028-02-28T17:00", "2028-02-29T17:00"),
]


@pytest.mark.parametrize(("moment", "zone", "start", "end"), ROWS)
def test_a_moment_is_in_the_window_between_two_cut_offs(moment: str, zone: str, start: str, end: str):
    """R28: [start, end), in the merchant's own time."""
    found = window(micros(moment, zone), HOLIDAYS, CLOCKS[zone])
    assert found == (micros(start, zone), micros(end, zone))


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-10-20", 24)])
def test_a_day_may_have_23_or_25_hours(day: str, hours: int):
    """Where every day has a cut-off, windows are as long as the days."""
    always = Calendar(weekend=())
    start, end = window(micros(f"{day}T12:00", "Europe/Berlin"), always, CLOCKS["Europe/Berlin"])
    assert end - start == hours * 3_600_000_000


@settings(max_examples=300, deadline=None)
@given(
    moment=st.datetimes(datetime(2021, 1, 1), datetime(2044, 1, 1)),  # noqa: DTZ001, hypothesis wants naive bounds
    zone=st.sampled_from(ZONES),
    weekend=st.sets(st.integers(1, 7), max_size=6),
)
def test_windows_join_and_end_at_the_local_cut_off(moment: datetime, zone: str, weekend: set[int]):
    """Whatever the zone and the weekend: a window holds its moment, the next begins at its end, 17:00 on a business day."""
    calendar, found = Calendar(weekend=tuple(weekend)), CLOCKS[zone]
    at = int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000
    start, end = window(at, calendar, found)
    assert start <= at < end
    assert window(end, calendar, found)[0] == end
    assert window(start, calendar, found) == (start, end)
    local = datetime.fromtimestamp(end // 1_000_000, ZoneInfo(zone))
    assert (local.hour, local.minute) == (17, 0)
    assert local.isoweekday() not in weekend


def test_days_are_numbered_as_the_calendar_does():
    """Every day up to 2110, 2100 without a leap day and all."""
    day = date(1970, 1, 1)
    for number in range(51_134):
        assert day_of(day.isoformat()) == number
        assert is_business_day(number, Calendar()) == (day.isoweekday() < 6)
        day += timedelta(days=1)


@pytest.mark.parametrize(
    "text", ["2026-02-29", "2100-02-29", "2026-13-01", "2026-00-10", "1969-12-31", "2026-1-1", "x"]
)
def test_what_is_no_day_has_no_number(text: str):
    """Written wrong, or there is no such day."""
    assert day_of(text) is None


def test_windows_of_a_fixed_length_join():
    """For tests and demonstrations."""
    assert window_every(1_763_719_213_000_000, 10) == (1_763_719_210_000_000, 1_763_719_220_000_000)
    assert window_every(1_763_719_220_000_000, 10)[0] == 1_763_719_220_000_000
