"""A window means what was written, and one that can hold nothing is refused."""

import pytest

from replay.window import BadWindow, Bound, Window, iso, parse_moment, parse_span, parse_window

NOW = 1_763_719_200_000_000
"""2025-11-21 10:00:00 UTC, µs."""
HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2025-11-21T10:00:00Z", NOW),
        ("2025-11-21T11:00:00+01:00", NOW),
        ("2025-11-21T10:00:00.000001Z", NOW + 1),
        ("1763719200000", NOW),
        ("-2h", NOW - 2 * HOUR),
        ("-1h30m", NOW - HOUR * 3 // 2),
        ("-2d", NOW - 48 * HOUR),
        ("now", NOW),
    ],
)
def test_a_moment_may_be_written_in_many_ways(text, at):
    """ISO 8601 with any zone, ms since 1970, or so long ago."""
    assert parse_moment(text, NOW) == at


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2025-11-21T10:00:00", "no zone"),
        ("2025-11-21", "no zone"),
        ("1763719200", "three more digits"),
        ("yesterday", "is no time"),
        ("-2", "no span"),
        ("-2y", "no span"),
        ("-99999999d", "more than a century"),
        ("²", "is no time"),
    ],
)
def test_a_text_that_is_no_moment_is_refused_with_the_reason(text, told):
    """Seconds taken for ms, or a local time taken for another, would be another window without a word."""
    with pytest.raises(BadWindow, match=told):
        parse_moment(text, NOW)


def test_windows_hold_their_begin_and_not_their_end():
    """[from, to): two windows that join share no record and lose none."""
    window = parse_window("2025-11-21T09:00:00Z", "2025-11-21T10:00:00Z", (), NOW)
    held = [window.holds(0, at) for at in (NOW - HOUR - 1, NOW - HOUR, NOW - 1, NOW)]
    assert held == [False, True, True, False]
    window = parse_window("offset:5", "offset:7", (), NOW)
    assert [window.holds(offset, 0) for offset in (4, 5, 6, 7)] == [False, True, True, False]
    assert Window().holds(0, 0)


def test_kcats_own_words_mean_the_same():
    """Whoever knows `-o s@… -o e@…` need learn nothing, and may say -10m, which kcat can't."""
    times = parse_window("1763715600000", "1763719200000", (), NOW)
    assert parse_window(None, None, ("s@1763715600000", "e@1763719200000"), NOW) == times
    assert parse_window(None, None, ("s@-10m",), NOW).begin == Bound(at=NOW - 600_000_000)


def test_ends_of_both_kinds_go_together():
    """From a moment to an offset: nothing can be said of it beforehand."""
    window = parse_window("-2h", "offset:9", (), NOW)
    assert [window.holds(8, NOW), window.holds(9, NOW), window.holds(8, NOW - 3 * HOUR)] == [True, False, False]


@pytest.mark.parametrize(
    ("begin", "end", "kcat", "told"),
    [
        ("-1h", "-2h", (), "inverted"),
        ("-1h", "-1h", (), "empty"),
        ("offset:9", "offset:9", (), "empty"),
        ("offset:9", "offset:3", (), "inverted"),
        (None, "offset:0", (), "empty"),
        ("2999-01-01T00:00:00Z", None, (), "future"),
        ("-2h", None, ("s@-1h",), "begins twice"),
        (None, None, ("e@-1h", "e@-2h"), "ends twice"),
        (None, None, ("beginning",), "no end of a window"),
        ("offset:-1", None, (), "names no offset"),
        ("offset:", None, (), "names no offset"),
    ],
)
def test_a_window_that_can_hold_nothing_is_refused(begin, end, kcat, told):
    """Empty, inverted, in the future, or said twice."""
    with pytest.raises(BadWindow, match=told):
        parse_window(begin, end, kcat, NOW)


def test_a_bound_is_told_as_it_can_be_read_again():
    """A manifest keeps it so."""
    window = parse_window("-2h", "offset:9", (), NOW)
    assert (str(window.begin), str(window.end)) == (iso(NOW - 2 * HOUR), "offset:9")
    assert parse_window(str(window.begin), str(window.end), (), NOW) == window


def test_spans_are_in_microseconds():
    """One of each unit."""
    assert parse_span("1w1d1h1m1s") == (604_800 + 86_400 + 3_600 + 60 + 1) * 1_000_000
