"""Times are shown whole and in UTC."""

import pytest
from builders import AT

from headrace.moments import shown


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (None, None),
        (0, "1970-01-01T00:00:00.000000Z"),
        (AT, "2025-11-21T10:00:00.000000Z"),
        (AT + 1, "2025-11-21T10:00:00.000001Z"),
        (7_258_118_399_999_999, "2199-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_is_iso_8601_to_the_microsecond(micros, text):
    """No float rounds it, no local zone moves it."""
    assert shown(micros) == text
