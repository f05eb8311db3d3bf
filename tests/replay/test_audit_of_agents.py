"""The audit judges what the real agents write, on the in-memory driver."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from builders import AT, a_claim, a_command, an_intent
from worlds import lists_of

from replay.audit import AuditReport, judge
from schemas.events import Intent, Kind, Micros, Minor, RiskDecision
from streams import screening
from streams.turn import Decided, Turn
from topologies import topics
from topologies.engine.memory import Memory
from topologies.payments import CORE

NAMES = tuple(f"customer-{n}" for n in range(12))
ALIAS = "EMAIL:one@example.org"
HOUR = 3_600_000_000


def doubt(batch: Sequence[Any], turn: Turn[Any]) -> Decided:
    """Screening that sends every transfer of 50.00 to review, so that reviews are sure to happen."""
    decided = screening.screen(batch, turn)
    decided.handed_on = [
        one._replace(risk_decision=RiskDecision.REVIEW) if one.admitted.intent.amount_minor == 5000 else one
        for one in decided.handed_on
    ]
    return decided


DOUBTFUL = replace(
    CORE,
    agents=tuple(replace(a, inlets={"admission": doubt}) if a.name == "screening" else a for a in CORE.agents),
)


def opened() -> Memory:
    """Funded accounts and one alias."""
    memory = Memory(DOUBTFUL, now=int(AT))
    memory.publish(topics.COMMANDS, "bank", a_command("bank", flags=("DEBIT_NORMAL",)))
    for name in NAMES:
        memory.publish(topics.COMMANDS, name, a_command(name))
    memory.publish(topics.ALIASES, ALIAS, a_claim(ALIAS, NAMES[1]))
    memory.run()
    for name in NAMES:
        fund = an_intent(
            f"fund-{name}", debtor="bank", creditor=name, amount_minor=Minor(500_000), requested_at=memory.now
        )
        memory.publish(topics.INTENTS, "bank", fund)
    return memory.run()


def something(random: Random, number: int, sent: list[Intent], now: Micros) -> tuple[str, Intent | bytes]:
    """Key and value of the next record: a transfer, a repeat, a conflict, a verdict on a review, or poison."""
    dice = random.random()
    if sent and dice < 0.35:
        intent = random.choice(sent)
        if dice < 0.1:
            return intent.debtor, intent
        if dice < 0.15:
            return intent.debtor, intent._replace(amount_minor=Minor(intent.amount_minor + 1), intent_id=f"c-{number}")
        kind = Kind.APPROVE if dice < 0.3 else Kind.REJECT
        key = f"verdict-{random.randrange(number)}"
        return intent.debtor, intent._replace(kind=kind, intent_id=f"v-{number}", idempotency_key=key, decided_by="ann")
    if dice < 0.39:
        return random.choice(NAMES), b"poison"
    alias = random.choice((None, None, None, ALIAS, "EMAIL:nobody@example.org"))
    intent = an_intent(
        f"pay-{random.randrange(2 * number + 2)}",
        intent_id=f"i-{number}",
        idempotency_key=f"k-{number}",
        debtor=random.choice(NAMES),
        creditor="" if alias else random.choice((*NAMES, "nobody")),
        creditor_alias=alias,
        amount_minor=Minor(random.choice((100, 5000, 5000, 90_000, 10_000_000))),
        requested_at=now,
        expires_at=random.choice((None, None, Micros(now + 600_000_000))),
    )
    sent.append(intent)
    return intent.debtor, intent


def failed(report: AuditReport) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if not check.ok}


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_what_the_agents_write_passes_at_every_moment(batch: int):
    """However the records are cut into steps, every audit on the way and at the end finds nothing."""
    random, sent, memory = Random(batch), [], opened()
    for number in range(1, 601):
        memory.now = Micros(memory.now + random.randrange(1, 20_000_000))
        key, value = something(random, number, sent, memory.now)
        memory.publish(topics.INTENTS, key, value)
        if random.random() < 0.3:
            memory.run(batch=batch)
        if not number % 200:
            assert failed(judge(lists_of(memory))) == {}
    report = judge(lists_of(memory.run(batch=batch)), quiet=True)
    assert failed(report) == {}
    assert set(report.fates) >= {"COMPLETED", "DECLINED", "REVIEW", "REVERSED", "REPEATED", "DECIDING", "DEAD_LETTER"}
    memory.run(at=memory.now + 5 * HOUR)
    report = judge(lists_of(memory), quiet=True)
    assert failed(report) == {}
    assert (report.held, report.fates.get("REVIEW")) == ({}, None)
    assert sum(report.money["EUR"].values()) == 0


def test_a_run_of_agents_cut_short_anywhere_passes():
    """After every single step the topics pass: credits and reversals under way explain what is in transit."""
    memory, random, sent = opened(), Random(5), []
    for number in range(1, 61):
        memory.publish(topics.INTENTS, *something(random, number, sent, memory.now))
    seen, moving = set(), True
    while moving:
        moving = False
        for partition in range(4):
            if memory._step(partition, 1):
                moving = True
                seen.add(_judged(memory))
    assert len(seen) > 3, "money was never seen in transit"


def _judged(memory: Memory) -> int:
    report = judge(lists_of(memory))
    assert failed(report) == {}
    return report.in_transit.get("EUR", 0)


def test_a_payment_id_that_is_used_again_after_its_row_expired_is_another_payment():
    """After 90 days numbers begin anew: both payments were sent, refused and returned as their first credit."""
    memory = opened()
    for day in (0, 91):
        memory.now = Micros(memory.now + day * 24 * HOUR)
        intent = an_intent(
            "again", intent_id=f"i-{day}", idempotency_key=f"k-{day}", debtor=NAMES[0], creditor="nobody"
        )
        memory.publish(topics.INTENTS, NAMES[0], intent._replace(requested_at=memory.now))
        memory.run()
    report = judge(lists_of(memory), quiet=True)
    assert failed(report) == {}
    assert report.fates["REVERSED"] == 2
