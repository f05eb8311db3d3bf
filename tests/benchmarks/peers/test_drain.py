"""How fast a drain was, from what was seen of it."""

import pytest

from benchmarks.peers.drain import Sample, figures

CPU = {"workers": 0.0}


def samples(*rows):
    return [Sample(at, credits_, outcomes, {"workers": at}) for at, credits_, outcomes in rows]


def test_a_steady_drain_has_one_speed():
    """100 payments a second, whatever the warm-up."""
    seen = samples(*((second, 100 * second, 100 * second) for second in range(11)))
    for warm_up in (0.0, 0.2, 0.5):
        found = figures(seen, 1_000, warm_up)
        assert found.payments_per_s == pytest.approx(100)
        assert found.overall_per_s == pytest.approx(100)
        assert found.cpu_us["workers"] == pytest.approx(10_000)


def test_a_system_that_takes_all_first_legs_first_is_not_timed_by_its_second_legs():
    """Ten seconds of first legs, then ten of second ones: 50 payments a second, not 100."""
    seen = samples(*((s, 100 * min(s, 10), 100 * max(0, s - 10)) for s in range(21)))
    assert figures(seen, 1_000, 0.2).payments_per_s == pytest.approx(50)


def test_an_echo_without_second_legs_is_timed_by_its_outcomes():
    """No credits are written: outcomes are all the work."""
    seen = samples(*((second, 0, 100 * second) for second in range(11)))
    assert figures(seen, 1_000, 0.2).payments_per_s == pytest.approx(100)


def test_markers_among_the_credits_do_not_make_a_system_faster():
    """Every transaction's marker takes an offset; progress is a share of the last one."""
    seen = samples(*((second, 130 * second, 100 * second) for second in range(11)))
    assert figures(seen, 1_000, 0.2).payments_per_s == pytest.approx(100)


def test_waiting_before_the_first_record_is_no_part_of_the_drain():
    """A process that starts slowly is timed from its first work on."""
    seen = samples((0, 0, 0), (30, 0, 0), *((31 + s, 100 * s, 100 * s) for s in range(11)))
    assert figures(seen, 1_000, 0.0).overall_per_s == pytest.approx(100)


def test_a_stall_is_timed_to_the_last_thing_that_moved():
    """How far it came is told beside it; the silence after it is no speed."""
    seen = samples(*((s, 100 * s, 100 * s) for s in range(6)), (6, 500, 500), (60, 500, 500))
    found = figures(seen, 1_000, 0.2)
    assert found.payments_per_s == pytest.approx(100)
    assert found.warm_up_s + found.measured_s == pytest.approx(5)


def test_what_never_moved_has_no_speed():
    """No number is better than a made-up one."""
    found = figures(samples((0, 0, 0), (60, 0, 0)), 1_000, 0.2)
    assert found.payments_per_s is None
    assert found.overall_per_s is None


def test_one_burst_has_no_speed_after_the_warm_up():
    """All at once: there is nothing to measure behind the warm-up."""
    assert figures(samples((0, 0, 0), (1, 1_000, 1_000)), 1_000, 0.2).payments_per_s is None
