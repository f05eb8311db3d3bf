"""What the benchmarks publish."""

from itertools import pairwise
from random import Random

import pytest

from benchmarks import load
from schemas.events import Micros

AT = Micros(1_700_000_000_000_000)


def test_the_same_seed_gives_the_same_backlog_and_another_seed_other_ids():
    """Runs can be repeated, and no id of one comes again in the next."""
    first, again, other = (list(load.backlog(200, 50, 0.0, seed, AT)) for seed in (1, 1, 2))
    assert first == again
    assert not {one.intent_id for one in first} & {one.intent_id for one in other}


@pytest.mark.parametrize("zipf", [0.0, 1.0, 2.0])
def test_nobody_pays_himself(zipf):
    """Also where one account is drawn nearly always."""
    assert all(one.debtor != one.creditor for one in load.backlog(500, 5, zipf, 1, AT))


@pytest.mark.parametrize(("side", "others"), [("debtor", "creditor"), ("creditor", "debtor")])
def test_a_hot_account_is_on_one_side_of_every_transfer_and_never_on_the_other(side, others):
    """The other side is spread over all other accounts."""
    rng = Random(1)
    found = list(load.transfers(load.hot(10, side, rng), 500, rng, "hot", AT))
    assert {getattr(one, side) for one in found} == {load.account(0)}
    assert {getattr(one, others) for one in found} == {load.account(number) for number in range(1, 10)}


def test_a_skewed_backlog_prefers_low_numbers():
    """With exponent 2 the first account has about 61 % of all."""
    found = list(load.backlog(5_000, 1_000, 2.0, 1, AT))
    share = sum(one.debtor == load.account(0) for one in found) / len(found)
    assert share == pytest.approx(0.61, abs=0.03)


def test_a_constant_schedule_has_one_gap():
    """400 a second for half a second: every 2.5 ms."""
    moments = load.schedule("constant", 400, 0.5, 1)
    assert len(moments) == 200
    assert {after - one for one, after in pairwise(moments)} == {2_500}


def test_a_poisson_schedule_keeps_the_rate_and_spreads_the_gaps():
    """Of exponential gaps 63 % are below their mean."""
    moments = load.schedule("poisson", 1_000, 20, 1)
    gaps = [after - one for one, after in pairwise(moments)]
    assert len(moments) == pytest.approx(20_000, rel=0.03)
    assert all(gap >= 0 for gap in gaps)
    assert moments[-1] < 20 * load.SECOND
    assert sum(gap < 1_000 for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.02)


def test_an_intent_is_requested_when_it_is_to_be_sent_and_its_id_says_when():
    """The observer needs nothing but the id."""
    moments = [0, 7, 1_000_000]
    found = list(load.timed(moments, AT, 10, 3))
    assert [one.requested_at for one in found] == [AT + moment for moment in moments]
    assert [load.intended(one.intent_id) for one in found] == [AT + moment for moment in moments]


def test_two_intents_of_one_moment_are_two():
    """Ids have a number too."""
    assert len({one.idempotency_key for one in load.timed([5, 5, 5], AT, 10, 1)}) == 3
