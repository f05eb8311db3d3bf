"""A run counts only if every intent ended once and the money is all there."""

import pytest

from benchmarks.load import OPENING, backlog
from benchmarks.peers import job
from benchmarks.peers.judge import judge, outcomes_of
from schemas import codec
from schemas.events import Micros

AT = Micros(1_800_000_000_000_000)
INTENTS = list(backlog(200, 20, 0.0, 1, AT))


def done():
    """The outcomes and balances of a system that does the job."""
    rows, events = {}, []
    decode, read, write = codec.decoder("payments.events-value"), job.intent_reader(), job.event_writer()
    for intent in INTENTS:
        plain = read(codec.encode(intent))
        after, reason = job.debited(rows.get(intent.debtor), plain, OPENING)
        if after is not None:
            rows[intent.debtor] = after
            rows[intent.creditor] = job.credited(rows.get(intent.creditor), plain, OPENING)
        events.append(decode(write(plain, reason, AT)))
    return events, {name: job.unpacked(row)[0] for name, row in rows.items()}


def failed(events, balances, intents=INTENTS):
    """Names of the gates that do not hold."""
    offered = {intent.intent_id for intent in intents}
    return {gate.name for gate in judge(outcomes_of(events), offered, OPENING, balances) if not gate.ok}


def test_a_system_that_does_the_job_passes():
    """Every gate holds."""
    assert failed(*done()) == set()


def test_an_outcome_that_is_missing_is_seen():
    """One intent was forgotten."""
    events, balances = done()
    assert "one outcome per intent" in failed(events[1:], balances)


def test_an_outcome_that_comes_twice_is_seen():
    """One intent was answered twice."""
    events, balances = done()
    assert failed([*events, events[0]], balances) >= {"no outcome twice", "balances follow from the outcomes"}


def test_an_outcome_that_nobody_asked_for_is_seen():
    """An intent that was never offered."""
    events, balances = done()
    assert "one outcome per intent" in failed(events, balances, INTENTS[1:])


def test_money_that_is_made_is_seen():
    """One minor unit too much on one account."""
    events, balances = done()
    balances[INTENTS[0].debtor] += 1
    assert failed(events, balances) == {"sum of balances unchanged", "balances follow from the outcomes"}


def test_money_on_the_wrong_account_is_seen():
    """The sum is right, the accounts are not."""
    events, balances = done()
    balances[INTENTS[0].debtor] += 1
    balances[INTENTS[0].creditor] -= 1
    assert failed(events, balances) == {"balances follow from the outcomes"}


def test_a_system_that_declines_most_does_not_count():
    """Refusing is cheaper than paying."""
    events, balances = done()
    declined = [event._replace(status=event.status.__class__("DECLINED")) for event in events[:5]]
    assert "at most 2 % declined" in failed([*declined, *events[5:]], balances)


@pytest.mark.parametrize("balances", [None])
def test_an_echo_is_judged_by_its_outcomes_alone(balances):
    """It gives the intents back and keeps no balances."""
    assert failed(INTENTS, balances) == set()
    assert failed(INTENTS[1:], balances) == {"one outcome per intent"}
