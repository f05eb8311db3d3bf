"""Invariant 7: what settlement wrote is right, and each single record that is not is found."""

import copy
from collections.abc import Callable

import pytest
from journalled import Logs
from settling import Both

from replay.audit import judge
from replay.same_bytes import replay_of
from replay.state import Further
from schemas.events import Micros, Minor, PaymentState
from schemas.keys import derive_id
from topologies.payments import CORE, SETTLEMENT
from topologies.topics import BATCHES, EVENTS, JOURNAL, POSTINGS

SEVEN = "7 each member in one batch"


@pytest.fixture(scope="module")
def life():
    return Both(seed=5).live(150).rest()


def failed(logs: Logs, *, quiet: bool = True) -> dict[str, str]:
    return {check.name: check.detail for check in judge(logs, quiet=quiet).checks if not check.ok}


def settled_at(logs: Logs) -> tuple[int, int, object]:
    """Partition, offset and record of the last SETTLED event on the log."""
    return next(place for place in reversed(logs.places(EVENTS)) if _event(logs, place).status == "SETTLED")


def _event(logs, place):
    return logs.decoded(EVENTS, place[2])


def a_member(logs: Logs):
    """Partition, offset and posting of a merchant's credit with a fee."""
    for partition, offset, kept in logs.places(POSTINGS):
        posting = logs.decoded(POSTINGS, kept)
        if any(entry.settled_sequence for entry in posting.entries) and len(posting.entries) == 6:
            return partition, offset, posting
    raise LookupError


def entries(logs: Logs, **by_code):
    """Changes fields of the entries of a member's posting: of those with a code, and of the merchant's."""
    partition, offset, posting = a_member(logs)
    changed = tuple(e._replace(**by_code.get(f"{e.code}_{e.direction}", {})) for e in posting.entries)
    logs.change(POSTINGS, partition, offset, entries=changed)


def says_members(logs: Logs, members: int):
    """A member's posting tells another number of them."""
    partition, offset, _ = a_member(logs)
    logs.change(POSTINGS, partition, offset, members=members)


def batch(logs: Logs, **fields):
    """Changes an account's last batch but one."""
    places = [(place, logs.decoded(BATCHES, place[2])) for place in logs.places(BATCHES)]
    of_first = [place for place, one in places if one.account == places[0][1].account]
    partition, offset, kept = of_first[-2]
    found = logs.decoded(BATCHES, kept)
    logs.change(BATCHES, partition, offset, **{name: change(found) for name, change in fields.items()})


def event(logs: Logs, **fields):
    """Changes a SETTLED event."""
    partition, offset, _ = settled_at(logs)
    logs.change(EVENTS, partition, offset, **fields)


def last_batch(logs: Logs):
    """Partition, offset and record of the last batch of a partition."""
    partition, offset, kept = logs.places(BATCHES)[-1]
    return partition, offset, logs.decoded(BATCHES, kept)


def told_last(logs: Logs, **fields):
    """Changes the last SETTLED event of the last batch of a partition."""
    account = last_batch(logs)[2].account
    mine = [
        place
        for place in logs.places(EVENTS)
        if (one := _event(logs, place)).status == "SETTLED" and one.creditor == account
    ]
    partition, offset, _ = max(mine, key=lambda place: _event(logs, place).occurred_at)
    logs.change(EVENTS, partition, offset, **fields)


def a_window_ends_early(logs: Logs):
    """Before its members; the id agrees."""
    partition, offset, one = last_batch(logs)
    end = one.window_start + 1
    identity = derive_id("batch", one.account, one.currency, end)
    logs.change(BATCHES, partition, offset, window_end=Micros(end), batch_id=identity)


def a_batch_is_lost(logs: Logs):
    partition, offset, _ = last_batch(logs)
    logs.log[BATCHES.name, partition][offset] = None


def a_batch_stands_twice(logs: Logs):
    partition, offset, kept = logs.places(BATCHES)[0]
    logs.log[BATCHES.name, partition].insert(offset, kept)


def a_batch_stands_elsewhere(logs: Logs):
    """The first one of a partition stands on the one before it."""
    partition, offset, kept = next(place for place in logs.places(BATCHES) if place[0] > 0)
    logs.log[BATCHES.name, partition][offset] = None
    logs.log[BATCHES.name, partition - 1].insert(0, kept)


def a_settled_is_lost(logs: Logs):
    partition, offset, _ = next(place for place in logs.places(EVENTS) if _event(logs, place).status == "SETTLED")
    logs.log[EVENTS.name, partition][offset] = None


def a_settled_stands_twice(logs: Logs):
    partition, offset, kept = next(place for place in logs.places(EVENTS) if _event(logs, place).status == "SETTLED")
    logs.log[EVENTS.name, partition].insert(offset, kept)


def a_posting_was_not_read(logs: Logs):
    """Settlement's journal says that it has read nothing."""
    for partition, offset, kept in logs.places(JOURNAL):
        step = logs.decoded(JOURNAL, kept)
        if step.role == "settlement":
            [read] = step.inputs
            logs.change(JOURNAL, partition, offset, inputs=(read._replace(first_offset=0, next_offset=0, records=0),))


SPOILS: dict[str, tuple[Callable[[Logs], None], str]] = {
    "gross": (
        lambda logs: batch(logs, gross_minor=lambda b: b.gross_minor + 1, net_minor=lambda b: b.net_minor + 1),
        "its members come to",
    ),
    "fees": (
        lambda logs: batch(logs, fees_minor=lambda b: b.fees_minor + 1, net_minor=lambda b: b.net_minor - 1),
        "its members come to",
    ),
    "net": (lambda logs: batch(logs, net_minor=lambda b: b.net_minor + 1), "is not gross"),
    "count": (lambda logs: batch(logs, payment_count=lambda b: b.payment_count + 1), "its members come to"),
    "first sequence": (
        lambda logs: batch(logs, first_sequence=lambda b: b.first_sequence + 1), "ranges do not join",
    ),
    "last sequence": (lambda logs: batch(logs, last_sequence=lambda b: b.last_sequence - 1), "ranges do not join"),
    "currency": (lambda logs: batch(logs, currency=lambda _: "USD"), "ranges do not join"),
    "account": (lambda logs: batch(logs, account=lambda _: "shop-x"), "ranges do not join"),
    "id": (lambda logs: batch(logs, batch_id=lambda _: "0" * 32), "its id is another's"),
    "window end": (lambda logs: batch(logs, window_end=lambda b: Micros(b.window_end + 1)), "its id is another's"),
    "window start": (lambda logs: batch(logs, window_start=lambda b: b.window_end), "is empty or overlaps"),
    "window ends early": (a_window_ends_early, "was posted after the window"),
    "batch lost": (a_batch_is_lost, "is SETTLED, and in no batch"),
    "batch twice": (a_batch_stands_twice, "ranges do not join"),
    "batch elsewhere": (a_batch_stands_elsewhere, "where its account does not live"),
    "settled lost": (a_settled_is_lost, "were never told SETTLED"),
    "settled twice": (a_settled_stands_twice, "SETTLED once more"),
    "settled amount": (lambda logs: event(logs, amount_minor=Minor(7)), "tells another intent"),
    "settled intent": (lambda logs: event(logs, intent_id="another"), "tells another intent"),
    "settled id": (lambda logs: event(logs, event_id="0" * 32), "tells another intent"),
    "settled currency": (lambda logs: event(logs, currency="USD"), "tells another intent"),
    "settled payment": (lambda logs: told_last(logs, payment_id="nobody's"), "no posting lets settle"),
    "settled sequence": (lambda logs: told_last(logs, sequence=9), "no posting lets settle"),
    "settled state": (lambda logs: event(logs, payment_state=PaymentState.COMPLETED), "with the state COMPLETED"),
    "member without number": (
        lambda logs: entries(logs, PRINCIPAL_CREDIT={"settled_sequence": None}), "reserves no number",
    ),
    "member's number": (lambda logs: entries(logs, PRINCIPAL_CREDIT={"settled_sequence": 99}), "SETTLED"),
    "member's amount": (lambda logs: entries(logs, PRINCIPAL_CREDIT={"amount_minor": Minor(1)}), "more than the credit"),
    "fee amount": (lambda logs: entries(logs, FEE_DEBIT={"amount_minor": Minor(10**9)}), "more than the credit"),
    "members": (lambda logs: says_members(logs, 0), "says that settlement gathers 0 of its entries"),
    "fee of another": (lambda logs: entries(logs, FEE_DEBIT={"account": "shop-x"}), "beside no credit"),
    "posting not read": (a_posting_was_not_read, "no step has read it"),
}  # fmt: skip


def test_what_settlement_does_is_right(life):
    """Every credit is in one batch and told; a replay of both roles gives the same bytes."""
    logs = life.logs()
    report = judge(logs, quiet=True, further=Further(replay_of([CORE, SETTLEMENT], lambda: logs)))
    assert report.ok, [check for check in report.checks if not check.ok]
    assert report.events_by_status["SETTLED"] == len(life.members()) > 50
    assert "8 replay gives the same bytes" in {check.name for check in report.checks}


@pytest.mark.parametrize(("spoil", "told"), SPOILS.values(), ids=SPOILS.keys())
def test_each_wrong_record_is_found(life, spoil, told):
    """One record is changed, lost or doubled: invariant 7 says so."""
    logs = copy.copy(life.logs())
    logs.log = {place: list(log) for place, log in logs.log.items()}
    assert SEVEN not in failed(logs)
    spoil(logs)
    assert told in failed(logs)[SEVEN]


def test_a_running_system_is_judged_at_a_cut():
    """Windows that are open, postings that nobody has gathered, events that are still owed: told, and no offence."""
    both = Both(seed=9)
    for _ in range(20):
        both.live(10)
        logs = both.logs()
        report = judge(logs, further=Further(replay_of([CORE, SETTLEMENT], lambda logs=logs: logs)))
        assert report.ok, [check for check in report.checks if not check.ok]


def test_a_system_at_rest_has_gathered_and_told_all():
    """`--quiet` fails on a credit that settlement has not read, though nothing is wrong with it."""
    both = Both(seed=2).live(20).rest()
    assert failed(both.logs()) == {}
    both.later(1).pay("customer-0", "shop-1", 500)
    both.core.run()
    assert failed(both.logs(), quiet=False) == {}
    assert "1 credits of merchants are not gathered" in failed(both.logs())["quiet"]


def test_without_settlement_nothing_waits_for_it():
    """Whoever runs the core alone has a quiet system, whatever its merchants are owed."""
    both = Both(seed=2)
    both.later(1).pay("customer-0", "shop-1", 500)
    both.core.run()
    assert failed(both.logs()) == {}
