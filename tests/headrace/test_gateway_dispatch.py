"""Who is called when: lanes that do not wait for each other, and offsets behind what is answered."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from notified import Notified, an_event
from worlds import Lists

import headrace.gateway.offsets
from headrace.gateway.calls import Outcome
from headrace.gateway.dispatch import AT_ONCE, NOBODY, Dispatch, Held
from headrace.gateway.endpoints import Endpoint
from headrace.gateway.metrics import GatewayMetrics, metric_names
from headrace.gateway.offsets import Answered, Progress, first_unanswered
from schemas.events import Micros
from schemas.internal import Attempt, AttemptAction, DeliveryState
from topologies.engine.config import ClusterConfig
from topologies.topics import ATTEMPTS, DELIVERIES

OK = Outcome(AttemptAction.DELIVERED, 200)


def held(offset, endpoint="hook", **fields):
    delivery = Notified().tell(an_event(f"pay-{offset}")).due[0]._replace(endpoint=endpoint, **fields)
    return Held(0, offset, 1, delivery)


class Calls:
    """Calls that end when a test lets them."""

    def __init__(self):
        self.under_way = {}
        self.most = 0

    async def call(self, endpoint, delivery):
        ended = asyncio.get_running_loop().create_future()
        self.under_way[endpoint.name, delivery.payment_id] = ended
        self.most = max(self.most, len(self.under_way))
        try:
            return await ended
        finally:
            del self.under_way[endpoint.name, delivery.payment_id]

    async def end(self, endpoint, offset, outcome=OK):
        self.under_way[endpoint, f"pay-{offset}"].set_result(outcome)
        await settled()


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


def dispatch(calls, answers, current=lambda held: True):
    endpoints = {name: Endpoint(name, "https://shop.example/", ()) for name in ("hook", "other")}
    metrics = GatewayMetrics()
    return Dispatch(
        endpoints, calls, lambda held, outcome: answers.append((held.offset, outcome)), current, metrics
    ), metrics


def test_a_dead_endpoint_keeps_nobody_waiting_but_itself():
    """So many calls of one are under way, its others wait; another endpoint is called at once."""

    async def run():
        calls, answers = Calls(), []
        made, metrics = dispatch(calls, answers)
        for offset in range(40):
            made.take(held(offset))
        made.take(held(99, "other"))
        await settled()
        assert len(calls.under_way) == AT_ONCE + 1
        await calls.end("other", 99)
        assert answers == [(99, OK)]
        assert b'headrace_webhook_pending{endpoint="hook"} 40.0' in metrics.render()
        await calls.end("hook", 3, Outcome(AttemptAction.FAILED, None, "timeout"))
        assert answers[1][0] == 3
        assert ("hook", f"pay-{AT_ONCE}") in calls.under_way
        assert calls.most == AT_ONCE + 1
        assert b'headrace_webhook_attempts_total{endpoint="hook",outcome="timeout"} 1.0' in metrics.render()
        await made.stop(0.01)
        assert not calls.under_way
        assert len(answers) == 2

    asyncio.run(run())


def test_what_nobody_is_to_be_called_for_is_answered_at_once():
    """Parked ones are counted, unknown endpoints fail, and what is somebody else's now is left to him."""

    async def run():
        calls, answers = Calls(), []
        made, metrics = dispatch(calls, answers, lambda held: held.offset != 7)
        made.take(held(1, state=DeliveryState.PARKED, parked_for="attempts-used"))
        made.take(held(2, state=DeliveryState.UNKNOWN))
        made.take(held(3, "nobody"))
        made.take(held(7))
        await settled()
        assert answers == [(1, None), (2, None), (3, NOBODY)]
        assert not calls.under_way
        assert b'headrace_webhook_parked_total{endpoint="hook",reason="attempts-used"} 1.0' in metrics.render()

    asyncio.run(run())


def test_a_call_that_raises_what_nobody_thought_of_is_an_outcome_too(caplog):
    """The delivery is tried again later; the lane goes on."""

    class Breaks:
        async def call(self, endpoint, delivery):
            raise RuntimeError("odd")

    async def run():
        answers = []
        made, _ = dispatch(Breaks(), answers)
        made.take(held(1))
        made.take(held(2))
        await settled()
        assert [(offset, outcome.reason) for offset, outcome in answers] == [(1, "unexpected"), (2, "unexpected")]

    asyncio.run(run())
    assert "nobody thought of" in caplog.text


@given(st.lists(st.integers(1, 3), min_size=1, max_size=30), st.randoms())
def test_an_offset_is_committed_only_behind_what_is_done(gaps, chance):
    """In whatever order answers come, and however markers make gaps between offsets."""
    offsets = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    progress = Progress(1)
    for offset in offsets:
        progress.read(offset)
    done = set()
    order = list(offsets)
    chance.shuffle(order)
    committed = 0
    for offset in order:
        progress.done(offset)
        done.add(offset)
        found = progress.to_commit()
        committed = committed if found is None else found
        assert all(one in done for one in offsets if one < committed)
        assert progress.held == len(offsets) - len(done)
    assert committed == offsets[-1] + 1
    assert progress.to_commit() is None


@given(st.permutations(list(range(1, 20))))
def test_numbers_that_were_answered_are_known_in_any_order(numbers):
    """Few are kept one by one."""
    answered = Answered()
    for n, number in enumerate(numbers, 1):
        answered.add(number)
        assert all((one in answered) == (one in numbers[:n]) for one in range(1, 21))
    assert answered._above == set()


def test_where_offsets_are_forgotten_the_topics_tell_where_to_begin(monkeypatch):
    """A gateway that was away for a week sends nothing again that was answered."""
    lists = Lists(topics=(ATTEMPTS.name, DELIVERIES.name), partitions=2)
    for number in range(1, 6):
        lists.append(DELIVERIES.name, 0, held(number, number=number).delivery)
    lists.append(DELIVERIES.name, 0, held(9, number=0, state=DeliveryState.PARKED).delivery)
    for number in (2, 1, 4):
        delivery = held(number).delivery
        lists.append(
            ATTEMPTS.name,
            0,
            Attempt(
                "hook", AttemptAction.FAILED, Micros(1), "alice", delivery.payment_id, delivery.event_id, number, 1
            ),
        )
    lists.append(ATTEMPTS.name, 0, Attempt("hook", AttemptAction.ENABLE, Micros(1), number=3))

    class Reads:
        def __init__(self, cluster):
            pass

        def __enter__(self):
            return lists

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(headrace.gateway.offsets, "Reader", Reads)
    found = first_unanswered(ClusterConfig("nowhere", "p."), [0, 1])
    assert [(place.topic, place.partition, place.offset) for place in found] == [
        ("p.notification.deliveries", 0, 2),
        ("p.notification.deliveries", 1, 0),
    ]
    for number in (3, 5):
        lists.append(ATTEMPTS.name, 0, Attempt("hook", AttemptAction.DELIVERED, Micros(1), number=number))
    assert [place.offset for place in first_unanswered(ClusterConfig("nowhere"), [0])] == [6]


def test_every_metric_has_the_prefix_and_a_unit_or_a_count():
    """Dashboards and alerts go by these names."""
    names = metric_names()
    assert {"headrace_webhook_attempts_total", "headrace_webhook_pending", "headrace_streams_open"} <= names
    assert all(name.startswith("headrace_") for name in names)


@pytest.mark.parametrize("endpoint", ["hook", "other"])
def test_pending_falls_back_to_zero(endpoint):
    """What was answered is not pending."""

    async def run():
        calls, answers = Calls(), []
        made, metrics = dispatch(calls, answers)
        made.take(held(1, endpoint))
        await settled()
        await calls.end(endpoint, 1)
        assert f'headrace_webhook_pending{{endpoint="{endpoint}"}} 0.0'.encode() in metrics.render()

    asyncio.run(run())
