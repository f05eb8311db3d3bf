"""Several roles, one audit: each role's journal, counts, changelog and bytes are judged, none is taken for another's."""

from dataclasses import replace

from journalled import Journalled, Logs
from settling import EVERY_MINUTE, SHOPS, Both

from replay.audit import judge
from replay.same_bytes import replay_of
from replay.state import Further
from schemas.events import Minor
from schemas.keys import partition_of
from streams.notification_rules import EndpointRule, NotificationRules
from topologies.engine.changelog import head_of, pack
from topologies.engine.store import row_key
from topologies.payments import CORE, NOTIFICATION, PLANS, SETTLEMENT
from topologies.topics import DELIVERIES, EVENTS, JOURNAL, POSTINGS, changelog, dead_letters

SEVEN, EIGHT = "7 each member in one batch", "8 replay gives the same bytes"
CHANGELOG = changelog("settlement").name


def failed(logs: Logs, *, quiet: bool = True) -> dict[str, str]:
    further = Further(replay_of([CORE, SETTLEMENT], lambda: logs))
    return {check.name: check.detail for check in judge(logs, quiet=quiet, further=further).checks if not check.ok}


def a_life() -> Both:
    return Both(seed=11).live(60).rest()


def steps_of(logs: Logs, role: str):
    return [place for place in logs.places(JOURNAL) if logs.decoded(JOURNAL, place[2]).role == role]


def test_a_lost_step_of_settlement_is_found():
    """Its steps join on their own; the core's between them do not matter."""
    logs = a_life().logs()
    partition, offset, _ = steps_of(logs, "settlement")[1]
    logs.log[JOURNAL.name, partition][offset] = None
    assert "role settlement: expected step" in failed(logs)["journal joins"]


def test_a_changelog_of_settlement_that_lost_a_step_is_found():
    """Invariant 6: a lost store would be rebuilt without it."""
    logs = a_life().logs()
    partition = next(p for (topic, p), log in logs.log.items() if topic == CHANGELOG and len(log) > 2)
    logs.log[CHANGELOG, partition].pop()
    assert f"{CHANGELOG} partition {partition} ends at step" in failed(logs)["6 account rows equal postings"]


def test_a_row_of_settlement_that_no_step_leaves_is_found():
    """Invariant 8 compares rows of every role."""
    logs = a_life().logs()
    partition = next(p for (topic, p), log in logs.log.items() if topic == CHANGELOG and len(log) > 2)
    kept = logs.log[CHANGELOG, partition][-1]
    head = head_of(kept.value)
    [packed] = pack(head.step, head.base, [(row_key("ranges", "4:shopEUR"), b"[1,1]")])
    logs.log[CHANGELOG, partition].append(kept._replace(value=packed))
    assert "table ranges, key '4:shopEUR'" in failed(logs)[EIGHT]


def test_a_settled_event_of_other_bytes_is_found():
    """Both roles write to payments.events: each record is looked for among its own role's."""
    logs = a_life().logs()
    partition, offset, _ = next(
        place for place in logs.places(EVENTS) if logs.decoded(EVENTS, place[2]).status == "SETTLED"
    )
    logs.change(EVENTS, partition, offset, risk_score=999)
    found = failed(logs)
    assert set(found) == {EIGHT}
    assert "settlement's partition" in found[EIGHT]
    assert "risk_score" in found[EIGHT]


def test_a_posting_that_became_a_dead_letter_is_in_no_batch():
    """What settlement could not gather is told as a letter; batches, ranges and counts hold without it."""
    both = a_life()
    both.later(1).pay("customer-0", SHOPS[1], 500)
    both.core.run()
    where = partition_of(SHOPS[1], 4)
    [lost] = both.core._log[POSTINGS.name, where][both.settlement._done[POSTINGS.name, where] :]
    both.settlement.condemn(POSTINGS, where)
    both.pay("customer-1", SHOPS[1], 700)
    both.rest()
    logs = both.logs()
    assert failed(logs) == {}
    assert len(logs.places(dead_letters("settlement"))) == 1
    posting = logs.decoded(POSTINGS, lost)
    assert posting.payment_id not in {event.payment_id for event in both.settled()}
    assert both.batches()[-1].gross_minor == 700
    assert both.batches()[-1].first_sequence < both.batches()[-1].last_sequence - 1


def test_money_of_merchants_is_net_of_fees():
    """What the batches owe is what the books hold (R30)."""
    both = Both(seed=4)
    for number in range(40):
        both.later(3).pay(f"customer-{number % 6}", SHOPS[number % 5], Minor(1000 + number))
    both.rest()
    report = judge(both.logs(), quiet=True)
    assert report.money["EUR"]["merchants"] == sum(batch.net_minor for batch in both.batches())
    assert sum(batch.fees_minor for batch in both.batches()) == sum(
        minor for kind, minor in report.money["EUR"].items() if kind.startswith("fees")
    )


def three_roles() -> Logs:
    """The core, settlement, and notification of an endpoint that never answers, on one log."""
    rules = replace(EVERY_MINUTE, notification=NotificationRules((EndpointRule("hook"),)))
    both = Both(rules, seed=8).live(40).rest()
    told = Journalled(NOTIFICATION, rules, 9)
    told._log = both.core._log
    told.use(rules)
    told.now = both.core.now
    told.run()
    return Logs(both.core, tuple(PLANS.values()))


def all_failed(logs: Logs) -> dict[str, str]:
    further = Further(replay_of(list(PLANS.values()), lambda: logs))
    return {check.name: check.detail for check in judge(logs, quiet=True, further=further).checks if not check.ok}


def test_all_roles_are_judged_together():
    """What each of three roles wrote is counted, and taken once more, beside the others'."""
    logs = three_roles()
    assert all_failed(logs) == {}
    assert len(logs.places(DELIVERIES)) > 20


def test_a_lost_delivery_is_found():
    """Nobody else would miss it: the payment is settled, its webhook never called."""
    logs = three_roles()
    partition, offset, _ = logs.places(DELIVERIES)[0]
    logs.log[DELIVERIES.name, partition][offset] = None
    found = all_failed(logs)
    assert set(found) == {"journal counts", EIGHT}
    assert f"{DELIVERIES.name} partition {partition}" in found["journal counts"]
    assert "notification's partition" in found[EIGHT]


def test_a_role_that_writes_for_the_first_time_while_the_audit_reads_is_no_offence():
    """Its steps are behind the cut: what the core wrote up to there is not looked for among its records."""
    logs = three_roles()
    begun = logs.ends([JOURNAL.name])
    for partition, offset, _ in reversed(steps_of(logs, "notification")):
        begun[JOURNAL.name, partition] = offset
    answers = [begun]
    ends = logs.ends
    logs.ends = lambda names: answers.pop() if answers and names == [JOURNAL.name] else ends(names)  # type: ignore[method-assign]
    assert all_failed(logs) == {}
    assert not answers
    assert logs.places(DELIVERIES)
