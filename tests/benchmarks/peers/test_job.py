"""The common job's rules and bytes: what every peer does alike."""

import struct

import pytest

from benchmarks.load import OPENING, backlog
from benchmarks.peers import job
from schemas import codec
from schemas.events import Intent, Micros, PaymentEvent, Status

AT = 1_800_000_000_000_000


def an_intent(amount=100, at=AT):
    return {
        "intent_id": "i-1", "idempotency_key": "k-1", "payment_id": "p-1", "debtor": "a", "creditor": "b",
        "amount_minor": amount, "currency": "EUR", "requested_at": at,
    }  # fmt: skip


def test_an_unknown_account_starts_with_the_opening_money():
    """No peer has to move the opening money through its own pipeline."""
    after, reason = job.debited(None, an_intent(amount=100), OPENING)
    assert reason is None
    assert job.unpacked(after)[0] == OPENING - 100
    assert job.unpacked(job.credited(None, an_intent(amount=100), OPENING))[0] == OPENING + 100


@pytest.mark.parametrize(
    ("row", "amount", "reason"),
    [
        ((100,), 100, None),
        ((99,), 100, job.TOO_POOR),
        ((10**12, AT // job.SLICE, job.COUNT_MOST - 1, 0), 1, None),
        ((10**12, AT // job.SLICE, job.COUNT_MOST, 0), 1, job.TOO_FAST),
        ((10**12, AT // job.SLICE, 1, job.SUM_MOST - 1), 1, None),
        ((10**12, AT // job.SLICE, 1, job.SUM_MOST), 1, job.TOO_FAST),
        ((0, AT // job.SLICE, job.COUNT_MOST, 0), 1, job.TOO_FAST),
    ],
)
def test_a_debit_is_refused_for_speed_before_it_is_refused_for_money(row, amount, reason):
    """Velocity first, then the balance, each at its very edge; a refusal changes no row."""
    after, found = job.debited(job.packed(row), an_intent(amount=amount), OPENING)
    assert found == reason
    assert (after is None) == (reason is not None)


def test_what_is_an_hour_old_no_longer_counts():
    """The window slides by five minutes and the row keeps no slice outside it."""
    old, young = AT // job.SLICE - job.SLICES, AT // job.SLICE - job.SLICES + 1
    row = job.packed((1_000, old, job.COUNT_MOST, 7, young, 1, 9))
    after, reason = job.debited(row, an_intent(amount=10), OPENING)
    assert reason is None
    assert job.unpacked(after) == (990, young, 1, 9, AT // job.SLICE, 1, 10)


def test_intents_of_one_slice_share_its_count():
    """A busy account's row stays short: at most one entry each five minutes."""
    row = None
    for _ in range(50):
        row, _ = job.debited(row, an_intent(amount=2), OPENING)
    assert job.unpacked(row) == (OPENING - 100, AT // job.SLICE, 50, 100)


def test_a_credit_leaves_the_window_alone():
    """Only what a debtor asks for counts against it."""
    row = job.packed((5, AT // job.SLICE, 3, 30))
    assert job.unpacked(job.credited(row, an_intent(amount=10), OPENING)) == (15, AT // job.SLICE, 3, 30)


def test_rows_are_big_endian_int64s_as_java_reads_them():
    """ByteBuffer's order, so that one reader checks every peer's balances."""
    assert job.packed((1, -2)) == struct.pack(">qq", 1, -2)
    assert job.unpacked(job.packed((1, -2))) == (1, -2)


def test_peers_read_our_intents_and_write_our_events():
    """The same schema and wire format: our own codec reads what the peers' fastavro wrote."""
    intent = next(backlog(1, 10, 0.0, 1, Micros(AT)))
    read = job.intent_reader()(codec.encode(intent))
    assert {name: read[name] for name in Intent._fields} == {**intent._asdict(), "kind": intent.kind.value}
    decode = codec.decoder("payments.events-value")
    done = decode(job.event_writer()(read, None, AT))
    assert isinstance(done, PaymentEvent)
    assert (done.intent_id, done.status, done.amount_minor) == (intent.intent_id, Status.COMPLETED, intent.amount_minor)
    refused = decode(job.event_writer()(read, job.TOO_POOR, AT))
    assert (refused.status, refused.reason, refused.occurred_at) == (Status.DECLINED, "AM04", AT)


def test_a_value_of_another_schema_is_not_read_as_an_intent():
    """The id in the head is looked at."""
    intent = next(backlog(1, 10, 0.0, 1, Micros(AT)))
    with pytest.raises(ValueError, match="0000000002"):
        job.intent_reader()(b"\0\0\0\0\2" + codec.encode(intent)[5:])


def test_workers_share_the_partitions():
    """Each partition has one worker, and no worker stands idle."""
    told = job.Told("", "", "", "", "", "", 0, 3, 8, OPENING, {})
    mine = [told._replace(worker=number).mine() for number in range(3)]
    assert all(len(numbers) >= 2 for numbers in mine)
    assert sorted(number for numbers in mine for number in numbers) == list(range(8))
