"""Which points are measured, and what is made of them."""

import pytest

from benchmarks import scale, sustained
from benchmarks.scale import AGAIN, BASE, Budget, Drained
from benchmarks.system import Run, Shape, Void

SHAPE = Shape(accounts=1_000, overdraft=True)


def run(rate, workers_us=50.0):
    return Run(rate, rate, 1.0, 4.0, {"workers": workers_us, "broker": None, "observer": 1.0}, [100.0])


def test_the_base_is_measured_first_and_again_among_its_own():
    """Points of one group stand together, so that accounts are opened once."""
    found = scale.points(SHAPE, list(scale.SWEEPS), [500, 1_000, 2_000])
    assert found[0].name == BASE
    groups = [point.group for point in found]
    assert len(set(groups)) == sum(one != after for one, after in zip(groups, [None, *groups], strict=False))
    assert next(point for point in found if point.name == AGAIN).group == found[0].group


def test_every_sweep_has_its_points_and_none_repeats_the_base():
    """Accounts, partitions and workers of the base are the base."""
    names = [point.name for point in scale.points(SHAPE, list(scale.SWEEPS), [500, 1_000, 2_000])]
    assert names == [
        BASE, "zipf 1.0", "zipf 1.5", "zipf 2.0", "one hot creditor", "one hot debtor", AGAIN,
        "workers 1", "workers 4", "partitions 8", "partitions 16", "accounts 500", "accounts 2,000",
    ]  # fmt: skip


def test_ratios_are_to_the_median_of_the_base_of_the_same_run():
    """10,000 and 12,000: the base is 11,000. What was not run has none."""
    done = [Drained(BASE, run(10_000.0)), Drained("zipf 1.0", run(5_500.0)), Drained(AGAIN, run(12_000.0)), Drained("accounts 1", None, "late")]  # fmt: skip
    assert scale.ratios(done) == {BASE: 0.909, "zipf 1.0": 0.5, AGAIN: 1.091, "accounts 1": None}


def test_a_point_that_does_not_fit_into_the_limit_says_how_long_it_would_take(monkeypatch):
    """1,000 accounts took 2 s and a drain 10 s: a million take more than the hour."""
    monkeypatch.setattr(scale, "monotonic", lambda: 0.0)
    budget = Budget(3_600)
    budget.prepared(1_000, 2.0)
    budget.drained(10.0)
    assert budget.refusal(0) is None
    assert budget.refusal(10_000) is None
    assert budget.refusal(1_000_000) == "it would take about 5,213 s, and 3,600 s are left"


def test_the_time_to_open_accounts_is_taken_from_the_most_that_were_opened(monkeypatch):
    """Few accounts take as long as the workers take to start: that says nothing of a million."""
    monkeypatch.setattr(scale, "monotonic", lambda: 0.0)
    budget = Budget(3_600)
    budget.prepared(100_000, 20.0)
    budget.prepared(100, 10.0)
    assert budget.refusal(1_000_000) is None


def test_a_hot_account_that_was_not_run_reaches_no_goal():
    """Not measured is not reached."""
    done = [
        Drained(BASE, run(10_000.0)),
        Drained("one hot creditor", None, "late"),
        Drained("one hot debtor", run(8_000.0)),
    ]
    found = {goal["id"]: goal["ok"] for goal in scale.goals(done)}
    assert found == {"one hot creditor": False, "one hot debtor": True}


def test_growing_cost_over_accounts_misses_its_goal():
    """A quarter more is above 20 %; the points that were left out are told."""
    done = [
        Drained(BASE, run(10_000.0, 50.0)),
        Drained("accounts 10", run(10_000.0, 60.0)),
        Drained("accounts 1e7", None, "late"),
    ]
    (goal,) = scale.goals(done)
    assert (goal["value"], goal["ok"]) == (20.0, True)
    assert "of the points that were run" in goal["id"]
    (goal,) = scale.goals([*done, Drained("accounts 100", run(10_000.0, 62.5))])
    assert (goal["value"], goal["ok"]) == (25.0, False)


@pytest.mark.parametrize("start", [1_000.0, 12_000.0, 20_000.0, 70_000.0])
def test_the_search_finds_the_highest_rate_to_three_percent(start):
    """From below and from above."""
    found = sustained.search(start, lambda rate: rate <= 20_000)
    assert 20_000 / sustained.PRECISION <= found <= 20_000


@pytest.mark.parametrize("answer", [True, False])
def test_a_search_without_an_end_is_void(answer):
    """Whatever is tried, the answer is the same: something else is wrong."""
    with pytest.raises(Void, match="no sustained rate"):
        sustained.search(1_000.0, lambda _rate: answer)
