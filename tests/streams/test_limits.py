"""Limits (R26): one payment, sliding windows, and what gives room back."""

import pytest
from world import World, a_world, decide, order, pay

from schemas.events import AccountAction, RiskDecision
from streams import limits
from streams.books import LimitRow
from streams.rules import HOUR

LIMIT = AccountAction.LIMIT


def limited(world: World, **fields) -> World:
    """Alice gets a limit."""
    return world.send(order("alice", LIMIT, **({"command_id": str(fields)} | fields))).run()


@pytest.mark.parametrize(("window_s", "hours"), [(3_600, 1), (86_400, 24), (2_592_000, 720)])
def test_a_window_slides_in_sixty_buckets(window_s, hours):
    """What was paid leaves the window after its length, within one bucket, and never later."""
    world = limited(a_world(), window_s=window_s, max_amount_minor=100)
    bucket = window_s * 1_000_000 // 60
    world.at += bucket - world.at % bucket
    assert pay(world, "p1", amount_minor=100).story("p1") == ["COMPLETED"]
    world.at += hours * HOUR - 1
    assert pay(world, "p2", amount_minor=1).story("p2") == ["DECLINED AM14"]
    world.at += 1
    assert pay(world, "p3", amount_minor=100).story("p3") == ["COMPLETED"]


def test_a_window_counts_payments_too():
    """AM14 from one payment more than `max_count`."""
    world = limited(a_world(), window_s=3600, max_count=2)
    stories = [pay(world, f"p{n}", amount_minor=1).story(f"p{n}") for n in range(3)]
    assert stories == [["COMPLETED"], ["COMPLETED"], ["DECLINED AM14"]]


def test_one_payment_may_move_exactly_the_limit():
    """AM02 begins one cent above."""
    world = limited(a_world(), max_payment_minor=100)
    assert pay(world, "p1", amount_minor=101).story("p1") == ["DECLINED AM02"]
    assert pay(world, "p2", amount_minor=100).story("p2") == ["COMPLETED"]


def test_money_that_came_back_no_longer_counts():
    """REVERSED, REJECT and a passed deadline give the room back, once, to the window that counted it."""
    world = limited(a_world(), window_s=86_400, max_amount_minor=100, max_count=1)
    assert pay(world, "back", amount_minor=100, creditor="nobody").story("back") == ["REVERSED AC03"]
    world.verdict("i-pay-1", RiskDecision.REVIEW)
    assert pay(world, "pay-1", amount_minor=100).story("pay-1") == ["REVIEW"]
    assert pay(world, "p2", amount_minor=1).story("p2") == ["DECLINED AM14"]
    decide(world, "REJECT")
    world.verdict("i-p3", RiskDecision.REVIEW)
    assert pay(world, "p3", amount_minor=100).story("p3") == ["REVIEW"]
    world.at += 5 * HOUR
    world.run()
    assert pay(world, "p4", amount_minor=100).story("p4") == ["COMPLETED"]
    assert pay(world, "p5", amount_minor=1).story("p5") == ["DECLINED AM14"]


def test_a_declined_payment_never_counted():
    """Funds are judged after the window, and nothing is counted before the last guard."""
    world = limited(a_world(), window_s=3600, max_count=1)
    assert pay(world, "p1", amount_minor=9_999).story("p1") == ["DECLINED AM04"]
    assert pay(world, "p2", amount_minor=1).story("p2") == ["COMPLETED"]


def test_a_window_gives_back_only_what_it_counted():
    """A payment older than the limit leaves the window as it is when it comes back."""
    world = a_world().verdict("i-pay-1", RiskDecision.REVIEW)
    limited(world, window_s=3_600, max_count=9)
    pay(world, "pay-1", amount_minor=100)
    limited(world, window_s=86_400, max_amount_minor=100)
    assert pay(world, "p2", amount_minor=100).story("p2") == ["COMPLETED"]
    decide(world, "REJECT")
    assert pay(world, "p3", amount_minor=1).story("p3") == ["DECLINED AM14"]


def test_limits_can_be_changed_and_lifted():
    """A changed window keeps its count; a window without maxima, or a LIMIT with nothing, lifts."""
    world = limited(a_world(), window_s=3600, max_amount_minor=100)
    pay(world, "p1", amount_minor=100)
    limited(world, window_s=3600, max_amount_minor=150)
    assert pay(world, "p2", amount_minor=51).story("p2") == ["DECLINED AM14"]
    assert pay(world, "p3", amount_minor=50).story("p3") == ["COMPLETED"]
    limited(world, window_s=3600)
    assert pay(world, "p4", amount_minor=500).story("p4") == ["COMPLETED"]
    limited(world, max_payment_minor=1, window_s=3600, max_count=0)
    limited(world)
    assert pay(world, "p5", amount_minor=500).story("p5") == ["COMPLETED"]


def test_a_limit_holds_for_its_currency_alone():
    """Two currencies are never added."""
    world = a_world().open("alice", command_id="usd", currency="USD")
    world.open("bank", command_id="usd", currency="USD", flags=())
    pay(world, "usd", debtor="bank", creditor="alice", currency="USD", amount_minor=100)
    limited(world, max_payment_minor=1)
    assert pay(world, "p1", amount_minor=2, currency="USD", creditor="bank").story("p1") == ["COMPLETED"]
    assert pay(world, "p2", amount_minor=2).story("p2") == ["DECLINED AM02"]


def test_a_window_never_keeps_more_than_its_buckets():
    """Rows stay small, however much is paid."""
    row = LimitRow(None, 1, [[3600, 10**15, None, 1, []]])
    for n in range(500):
        row = limits.count(row, 1, n * 60_000_000)
    assert len(row.windows[0][4]) == limits.BUCKETS


def test_a_review_counts_from_its_hold_on():
    """Money counts when it is held; approval does not count it twice."""
    world = limited(a_world().verdict("i-pay-1", RiskDecision.REVIEW), window_s=86_400, max_count=2)
    pay(world, "pay-1", amount_minor=1)
    decide(world, "APPROVE")
    assert pay(world, "p2", amount_minor=1).story("p2") == ["COMPLETED"]
    assert pay(world, "p3", amount_minor=1).story("p3") == ["DECLINED AM14"]
