"""Promises about settlement, whatever is sold and however it is cut into steps."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from journalled import Journalled
from settling import EVERY_MINUTE, Both

from replay.audit import judge
from replay.same_bytes import replay_of
from replay.state import Further
from topologies import topics
from topologies.payments import CORE, SETTLEMENT

some = settings(max_examples=25, deadline=None)


@some
@given(seed=st.integers(0, 10**6), count=st.integers(0, 120), leap_s=st.sampled_from([0.01, 5.0, 40.0, 500.0]))
def test_every_credit_is_in_one_batch_and_told_once(seed: int, count: int, leap_s: float):
    """Sums of batches are the sums of the members, with the fees; the audit agrees, and a replay gives the same bytes."""
    both = Both(seed=seed).live(count, leap_s).rest()
    gross: Counter[Any] = Counter()
    fees: Counter[Any] = Counter()
    for _, entry, taken in both.members():
        gross[entry.account] += entry.amount_minor
        fees[entry.account] += sum(fee.amount_minor for fee in taken)
    for batch in both.batches():
        gross[batch.account] -= batch.gross_minor
        fees[batch.account] -= batch.fees_minor
        assert batch.net_minor == batch.gross_minor - batch.fees_minor
    assert not any(gross.values())
    assert not any(fees.values())
    told = [(event.debtor, event.payment_id, event.sequence) for event in both.settled()]
    members = [(posting.debtor, posting.payment_id, entry.settled_sequence) for posting, entry, _ in both.members()]
    assert sorted(told) == sorted(members)
    logs = both.logs()
    report = judge(logs, quiet=True, further=Further(replay_of([CORE, SETTLEMENT], lambda: logs)))
    assert report.ok, [check for check in report.checks if not check.ok]


@some
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_cuts_make_no_difference(seed: int, cuts: list[int]):
    """However the postings are cut into steps, the same batches with the same members come out."""
    both = Both(seed=seed)
    both.live(60, 30.0).core.run()
    found = []
    for pieces in (cuts, [1_000_000]):
        alone = Journalled(SETTLEMENT, EVERY_MINUTE, seed)
        for topic in (topics.POSTINGS.name,):
            alone._log.update({place: log for place, log in both.core._log.items() if place[0] == topic})
        alone.now = both.core.now
        for number in range(400):
            alone._step(number % 4, pieces[number % len(pieces)])
        alone.now += 120_000_000
        alone.run()
        events = sorted((event.event_id, event.payment_id) for event in alone.records(topics.EVENTS))
        found.append((alone.records(topics.BATCHES), events))
    assert found[0] == found[1]
    assert found[0][0]
