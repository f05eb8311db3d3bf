"""From looks to a status: the rules alone, without Kafka."""

import pytest

from headrace.pace import (
    CURRENT_S,
    FIVE_MINUTES_S,
    STANDSTILL_S,
    LagStatus,
    Look,
    Members,
    Rate,
    joined,
    judge,
    rate,
    stood_s,
)

PLACE = ("payments.intents", 0)
TRANSACTION_S = 10.0
ONE = Members("stable", 1, {PLACE: "headrace-core-a"})
NOBODY = Members("empty", 0, {})


def looks(*rows, age_s=30.0):
    """Looks from (at, start, end); what waits is `age_s` old."""
    return tuple(Look(at, start, end, end - start, age_s if end > start else 0.0) for at, start, end in rows)


ROWS = {
    "nothing waits": (looks((0, 50, 50)), None, "ok"),
    "nothing waits and nobody is there": (looks((0, 50, 50)), NOBODY, "ok"),
    "young records are on their way": (looks((0, 50, 60), age_s=CURRENT_S), ONE, "ok"),
    "young records and nobody there": (looks((0, 50, 60), age_s=0.1), NOBODY, "stopped"),
    "one look at something old": (looks((0, 50, 60)), ONE, "unknown"),
    "a little time without a commit": (looks((0, 50, 60), (1, 50, 60)), ONE, "unknown"),
    "a pause after progress": (looks((0, 40, 60), (1, 50, 60), (4, 50, 60)), ONE, "unknown"),
    "more is consumed than comes": (looks((0, 0, 900), (1, 100, 950)), None, "catching-up"),
    "as much comes as is consumed": (looks((0, 0, 900), (1, 100, 1_000)), None, "falling-behind"),
    "more comes than is consumed": (looks((0, 0, 900), (1, 100, 1_500)), None, "falling-behind"),
    "a standstill with a worker": (looks((0, 50, 60), (STANDSTILL_S, 50, 90)), ONE, "stalled"),
    "a standstill and nobody knows who is there": (looks((0, 50, 60), (STANDSTILL_S, 50, 60)), None, "unknown"),
    "a standstill and nobody there": (looks((0, 50, 60), (STANDSTILL_S, 50, 60)), NOBODY, "stopped"),
    "an idle time is no standstill": (looks((0, 50, 50), (60, 50, 60), age_s=0.5), ONE, "ok"),
}


@pytest.mark.parametrize(("seen", "members", "status"), ROWS.values(), ids=ROWS)
def test_the_looks_give_the_status(seen, members, status):
    """One row per rule; the last look is judged."""
    assert judge(seen, PLACE, members, TRANSACTION_S).status == status


def test_every_status_has_a_row_that_reaches_it():
    """A new word comes with the looks that produce it; `blocked` has a test of its own."""
    assert {row[2] for row in ROWS.values()} | {"blocked"} == set(LagStatus)


def test_a_transaction_that_is_too_old_blocks_whatever_else_is_so():
    """Nothing behind it is read, not even by the workers that are there; its age and offset are told."""
    (now,) = looks((0, 50, 50))
    young, old = now._replace(tail_seconds=TRANSACTION_S), now._replace(tail_seconds=73.0)
    assert judge((young,), PLACE, None, TRANSACTION_S).status is LagStatus.OK
    for members in (None, ONE, NOBODY):
        verdict = judge((old,), PLACE, members, TRANSACTION_S)
        assert (verdict.status, verdict.drain_seconds) == (LagStatus.BLOCKED, None)
        assert "73 s at offset 50" in verdict.cause


def test_the_drain_is_the_lag_by_what_is_gained():
    """800 wait after 2 s in which 200 went and 100 came: 50 are gained a second, so 16 s."""
    assert judge(looks((0, 0, 900), (2, 200, 1_000)), PLACE, None, TRANSACTION_S).drain_seconds == 16.0


def test_nothing_that_waits_is_drained_at_once_and_what_grows_never():
    """0.0 and None."""
    assert judge(looks((0, 5, 5)), PLACE, None, TRANSACTION_S).drain_seconds == 0.0
    assert judge(looks((0, 0, 900), (1, 100, 1_500)), PLACE, None, TRANSACTION_S).drain_seconds is None


def test_a_steady_flow_has_a_drain_even_where_nothing_is_gained():
    """As much comes as goes, and what waits is young: it is gone in the time that its consumption takes."""
    verdict = judge(looks((0, 0, 100), (1, 1_000, 1_100), age_s=0.1), PLACE, None, TRANSACTION_S)
    assert (verdict.status, verdict.drain_seconds) == (LagStatus.OK, 0.1)


CAUSES = {
    "the group rebalances": (Members("preparing_rebalancing", 2, {}), "preparing_rebalancing"),
    "nobody has the partition": (Members("stable", 3, {}), "none of the group's 3 workers"),
    "somebody has it": (ONE, "headrace-core-a"),
}


@pytest.mark.parametrize(("members", "told"), CAUSES.values(), ids=CAUSES)
def test_a_standstill_names_its_cause(members, told):
    """What can be known from outside."""
    verdict = judge(looks((0, 50, 60), (7, 50, 60)), PLACE, members, TRANSACTION_S)
    assert verdict.status is LagStatus.STALLED
    assert told in verdict.cause
    assert "7 s" in verdict.cause


def test_a_rate_covers_its_window_and_no_more():
    """Of looks over 90 s the last minute's are taken, and all of them for five minutes."""
    seen = looks((0, 0, 0), (30, 900, 900), (60, 1_000, 1_000), (90, 1_200, 1_500))
    assert rate(seen, 60.0) == Rate(5.0, 10.0)
    assert rate(seen, FIVE_MINUTES_S) == Rate(1_200 / 90, 1_500 / 90)


def test_looks_that_are_too_close_give_no_rate():
    """A commit in a tenth of a second would be a rate of its own."""
    assert rate(looks((0, 0, 9)), 60.0) is None
    assert rate(looks((0, 0, 9), (0.1, 9, 9)), 60.0) is None


def test_a_standstill_is_counted_from_the_first_look_at_which_something_waited():
    """Neither the idle time before nor the progress before counts."""
    assert stood_s(looks((0, 40, 40), (50, 40, 40), (60, 40, 50), (64, 40, 55))) == 4.0
    assert stood_s(looks((0, 30, 50), (60, 40, 50), (64, 40, 55))) == 4.0


def test_after_a_standstill_the_rates_begin_anew():
    """Killed for 20 s and back: what is gained now is told, not an average over the dead time."""
    seen = ()
    for look in looks((0, 0, 0), (10, 0, 10_000), (20, 0, 20_000), (21, 3_000, 21_000)):
        seen = joined(seen, look)
    assert rate(seen, 60.0) == Rate(3_000.0, 1_000.0)
    assert judge(seen, PLACE, None, TRANSACTION_S).status is LagStatus.CATCHING_UP


@pytest.mark.parametrize("now", [(5, 10, 90), (5, 60, 70)], ids=["offsets put back", "another topic"])
def test_where_an_offset_goes_back_the_past_is_forgotten(now):
    """No rate is below zero."""
    (look,) = looks(now)
    assert joined(looks((0, 50, 80)), look) == (look,)


def test_looks_are_kept_for_five_minutes():
    """Memory has a bound."""
    seen = ()
    for at in range(0, 1_000, 10):
        seen = joined(seen, Look(at, at, at, 0, 0.0))
    assert [look.at_s for look in seen] == list(range(690, 1_000, 10))
