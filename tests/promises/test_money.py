"""Promises about money, whatever is asked for: none is made or lost, nothing is done twice."""

from collections import defaultdict
from typing import Any

from builders import an_intent
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Oracle
from world import World

from schemas.events import CreditAction, Kind, Reversal, ReversalAction, RiskDecision
from streams.rules import HOUR

ACCOUNTS = ("alice", "bob", "carla", "shop", "bank")
NAMES = (*ACCOUNTS, "nobody")
VERDICTS = (RiskDecision.APPROVE, RiskDecision.REVIEW, RiskDecision.STEP_UP, RiskDecision.DECLINE)

transfers = st.builds(
    lambda pay, key, debtor, creditor, amount: an_intent(
        f"p{pay}", idempotency_key=f"k{key}", debtor=debtor, creditor=creditor, amount_minor=amount
    ),
    st.integers(0, 12), st.integers(0, 12), st.sampled_from(NAMES), st.sampled_from(NAMES), st.integers(1, 60),
)  # fmt: skip
decisions = st.builds(
    lambda pay, kind, debtor, creditor, by: an_intent(
        f"p{pay}", idempotency_key=f"d{pay}{kind}", kind=kind, debtor=debtor, creditor=creditor, decided_by=by,
        method="step_up",
    ),
    st.integers(0, 12), st.sampled_from([Kind.APPROVE, Kind.REJECT]), st.sampled_from(ACCOUNTS),
    st.sampled_from(ACCOUNTS), st.sampled_from(["ana", "alice"]),
)  # fmt: skip
some = settings(max_examples=60, deadline=None)


def numbered(wanted: list[Any]) -> list[Any]:
    """Each intent with an id of its own."""
    return [intent._replace(intent_id=f"i{n}") for n, intent in enumerate(wanted)]


def a_world(wanted: list[Any] = (), verdicts: list[RiskDecision] = ()) -> World:  # type: ignore[assignment]
    """Five accounts; everybody but the bank starts with 100 of its money and can't overdraw."""
    world = World().open(*ACCOUNTS[:-1]).open("bank", flags=("DEBIT_NORMAL",))
    for account in ACCOUNTS[:-1]:
        world.send(an_intent(f"start-{account}", debtor="bank", creditor=account, amount_minor=100))
    for intent, verdict in zip(wanted, verdicts, strict=False):
        world.verdict(intent.intent_id, verdict)
    return world.run()


def in_flight(world: World) -> int:
    """What was sent and neither credited nor given back, in cents, by the topics alone."""
    sent = {}
    for p in range(world.partitions):
        for topic, ends in (("ledger.credits", False), ("ledger.reversals", True)):
            for n, record in enumerate(world.log[topic, p]):
                value = record.value
                key = (value.debtor, value.payment_id, value.sequence)
                if value.action == CreditAction.CREDIT:
                    sent.setdefault(key, value.amount_minor)
                if ends and value.action == ReversalAction.RETURN and n < world.read[topic, p]:
                    sent[key] = 0
    for event in world.events:
        if event.status == "COMPLETED":
            sent[event.debtor, event.payment_id, event.sequence] = 0
    return sum(sent.values())


def check_books(world: World) -> None:
    """Invariants 1, 3 and 4, after every posting in the order in which they were written."""
    balances: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for posting in world.order:
        sums: dict[tuple[str, str], int] = defaultdict(int)
        for e in posting.entries:
            after = [e.debits_pending, e.debits_posted, e.credits_pending, e.credits_posted, e.sequence]
            place = (e.direction == "CREDIT") * 2 + (e.layer == "POSTED")
            known = balances[e.account, e.currency]
            known[place] += e.amount_minor
            known[4] += 1
            assert known == after, posting
            assert min(after) >= 0
            if e.account in ACCOUNTS[:-1]:
                assert e.debits_posted + e.debits_pending <= e.credits_posted, posting
            sums[e.currency, e.layer] += e.amount_minor if e.direction == "DEBIT" else -e.amount_minor
        assert not any(sums.values()), posting
    books = {key: purse for key, purse in world.purses().items() if purse[4]}
    assert books == dict(balances)


@some
@given(
    st.lists(transfers | decisions, max_size=40), st.lists(st.sampled_from(VERDICTS)), st.integers(1, 7), st.randoms()
)
def test_no_money_is_made_or_lost_at_any_step(wanted, verdicts, most, random):
    """Whatever the order of the steps: balanced postings, no overdraft, no gap, in-transit = what is undecided."""
    wanted = numbered(wanted)
    world = a_world(wanted, verdicts).send(*wanted)
    for _ in range(30):
        world.step(random.randrange(world.partitions), most)
        transit = sum(p[3] - p[1] for (account, _), p in world.purses().items() if account.startswith("~in-transit"))
        assert transit == in_flight(world)
        assert sum(p[3] - p[1] for p in world.purses().values()) == 0
    world.run(most)
    check_books(world)
    assert in_flight(world) == 0
    world.at += 5 * HOUR
    check_books(world.run())
    assert sum(p[0] + p[2] for p in world.purses().values()) == 0
    assert not world.letters


@some
@given(st.lists(transfers | decisions, max_size=40), st.lists(st.sampled_from(VERDICTS)), st.integers(1, 7))
def test_every_intent_has_exactly_one_fate(wanted, verdicts, most):
    """Invariant 2: when all is quiet and no review is open, one event ends each intent, by its id and offset."""
    wanted = numbered(wanted)
    world = a_world(wanted, verdicts).send(*wanted).run(most)
    world.at += 5 * HOUR
    fates: dict[str, int] = defaultdict(int)
    for event in world.run().events:
        if event.repeat_intent_id is not None:
            fates[event.repeat_intent_id] += 1
        elif event.status != "REVIEW":
            fates[event.intent_id] += 1
            if event.decided_by_intent_id is not None:
                fates[event.decided_by_intent_id] += 1
        else:
            fates[event.intent_id] += 0
    waiting = {e.repeat_intent_id for e in world.events if e.repeat_intent_id}
    assert {i.intent_id: fates[i.intent_id] for i in wanted} == {i.intent_id: 1 for i in wanted}, waiting
    numbers = [(e.debtor, e.payment_id, e.sequence) for e in world.events if e.repeat_intent_id is None]
    assert len(numbers) == len(set(numbers))


@some
@given(st.lists(transfers | decisions, max_size=30), st.lists(st.sampled_from(VERDICTS)), st.sampled_from([0, 23, 30]))
def test_feeding_all_again_moves_no_money(wanted, verdicts, hours):
    """Invariant 5: a repeat changes no balance and gets the first intent's event, same id and sequence."""
    wanted = numbered(wanted)
    world = a_world(wanted, verdicts).send(*wanted).run()
    world.at += 5 * HOUR
    books, told = world.run().purses(), len(world.order)
    ids = {event.event_id for event in world.events}
    world.at += hours * HOUR if all(i.kind == Kind.TRANSFER and i.debtor != i.creditor for i in wanted) else 0
    world.send(*(intent._replace(intent_id=f"again-{intent.intent_id}") for intent in wanted)).run()
    assert (world.purses(), len(world.order)) == (books, told)
    for event in world.events:
        assert event.event_id in ids or event.reason == "AM05"
    assert not world.letters


@some
@given(st.lists(transfers | decisions, max_size=40), st.lists(st.sampled_from(VERDICTS)), st.integers(1, 5))
def test_it_does_not_matter_where_a_batch_is_cut(wanted, verdicts, most):
    """One partition, one `at`: intents judged one by one or together give the same records and rows."""
    wanted = numbered(wanted)
    ends = []
    for size in (1_000, most):
        world = a_world(wanted, verdicts).send(*wanted)
        for partition in range(world.partitions):
            while world.read["payments.intents", partition] < len(world.log["payments.intents", partition]):
                _intents_only(world, partition, size)
        ends.append(({key: [r.value for r in log] for key, log in world.log.items() if log}, world.purses()))
    assert ends[0] == ends[1]


def _intents_only(world: World, partition: int, most: int) -> None:
    """A step that reads no credits and no reversals, so that only the cuts differ."""
    held = {key: world.read[key] for key in list(world.read) if key[0].startswith("ledger.")}
    for key in [("ledger.credits", partition), ("ledger.reversals", partition)]:
        held.setdefault(key, world.read[key])
        world.read[key] = len(world.log[key])
    world.step(partition, most)
    world.read.update(held)


@some
@given(st.lists(transfers, max_size=40))
def test_the_ledger_agrees_with_a_naive_one(wanted):
    """One intent at a time, legs and partitions make no difference: same answers, same balances."""
    world = a_world()
    naive = Oracle(set(ACCOUNTS), {"bank"})
    for account in ACCOUNTS[:-1]:
        naive.pay(an_intent(f"start-{account}", debtor="bank", creditor=account, amount_minor=100))
    for intent in numbered(wanted):
        world.send(intent).run()
        (event,) = [
            e
            for e in world.events
            if intent.intent_id in {e.repeat_intent_id, e.intent_id if not e.repeat_intent_id else None}
        ]
        answer = f"{event.status} {event.reason}" if event.reason else str(event.status)
        assert answer == naive.pay(intent)
    assert {account: world.balance(account) for account in ACCOUNTS} == {a: naive.balance[a] for a in ACCOUNTS}


def test_the_checks_see_a_lost_cent():
    """Who checks the checks: a posting that is dropped or a return that is forged is found."""
    world = a_world()
    dropped = world.order.pop()
    try:
        check_books(world)
    except AssertionError:
        world.order.append(dropped)
    else:
        raise AssertionError("a dropped posting was not seen")
    forged = Reversal(ReversalAction.RETURN, "start-alice", "x", "bank", "alice", 100, "EUR", 1, world.at, "AC03")
    world._append("ledger.reversals", "bank", forged)
    assert len(world.run().letters) == 1
    check_books(world)
