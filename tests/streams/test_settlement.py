"""Settlement's decisions: members into windows, windows closed when they are due, members told once."""

from typing import Any

import orjson
import pytest
from builders import AT, PARTITIONS, a_turn, memory

from schemas import codec
from schemas.events import Direction, Entry, EntryCode, Layer, Micros, Minor, PaymentState, Posting, RiskDecision
from schemas.keys import derive_id, partition_of
from streams.rules import Rules
from streams.settlement import TABLES, SettlementTables, expire, gather, next_deadline
from streams.settlement_rules import settlement_rules
from streams.turn import Decided, Received
from topologies.engine.store import encode_row
from topologies.payments import SETTLEMENT
from topologies.topics import POSTINGS

MINUTE = 60_000_000
START = AT // MINUTE * MINUTE
"""A window of a minute begins."""
SHOP = partition_of("shop", PARTITIONS)


def an_entry(account: str, code: EntryCode, direction: Direction, amount: int, **more: Any) -> Entry:
    entry = Entry(account, code, direction, Layer.POSTED, Minor(amount), "EUR", 0, 0, 0, 0, 1)
    return entry._replace(**more)


class Desk:
    """Settlement of one partition, with the shop's entries numbered as the ledger does."""

    def __init__(self, **rules: Any) -> None:
        self.tables = memory(SettlementTables, TABLES)
        self.use(**rules)
        self.sequence: dict[str, int] = {}
        self.count = 0
        self.batches: list[Any] = []
        self.events: list[Any] = []

    def use(self, **rules: Any) -> None:
        """A worker with these rules."""
        self.rules = Rules(settlement=settlement_rules({"every_s": 60, "grace_s": 5, **rules}))

    def _number(self, account: str) -> int:
        self.sequence[account] = self.sequence.get(account, 0) + 1
        return self.sequence[account]

    def sale(self, at: int, amount: int = 1000, fee: int = 0, account: str = "shop") -> Posting:
        """A posting that credits a merchant, less a fee."""
        self.count += 1
        entries = [
            an_entry("~in-transit/EUR/2-1", EntryCode.PRINCIPAL, Direction.DEBIT, amount),
            an_entry(account, EntryCode.PRINCIPAL, Direction.CREDIT, amount, sequence=self._number(account),
                     counterparty="alice", settled_sequence=2),
        ]  # fmt: skip
        if fee:
            entries.append(an_entry(account, EntryCode.FEE, Direction.DEBIT, fee, sequence=self._number(account)))
            entries.append(an_entry("~fees/EUR/2-1", EntryCode.FEE, Direction.CREDIT, fee))
        name = f"pay-{self.count}"
        return Posting(
            f"post-{self.count}", name, Micros(at), 1, tuple(entries), f"i-{name}", "alice", 7, RiskDecision.APPROVE
        )

    def other(self, at: int, account: str = "shop") -> Posting:
        """A posting that is nobody's sale: the account pays somebody."""
        return Posting("other", "pay-x", Micros(at), 0, (
            an_entry(account, EntryCode.PRINCIPAL, Direction.DEBIT, 1, sequence=self._number(account)),
            an_entry("~in-transit/EUR/2-1", EntryCode.PRINCIPAL, Direction.CREDIT, 1),
        ), "i", account)  # fmt: skip

    def step(self, *postings: Posting, at: int | None = None, most: int = 2_000, to_end: bool = True) -> Decided:
        """One step, as the engine takes it: deadlines first; rows go through JSON behind it."""
        moment = max([START, *(posting.occurred_at for posting in postings)]) if at is None else at
        turn = a_turn(
            self.tables, at=Micros(moment), partition=SHOP, rules=self.rules, read_to_end=to_end and not postings
        )
        decided = expire(turn, most)
        if postings:
            read = SETTLEMENT.agents[0].decoder(POSTINGS, self.rules)  # whole, or as much as it wants of it
            values = [read(codec.encode(one)) for one in postings]
            batch = [Received("ledger.postings", SHOP, n, AT, b"shop", one) for n, one in enumerate(values)]
            gathered = gather(batch, turn)
            assert not gathered.records
        for spec, table in zip(TABLES, self.tables, strict=True):
            table.rows = {key: spec.row(*orjson.loads(encode_row(row))) for key, row in table.rows.items()}
        self.batches += [out.value for out in decided.records if out.topic == "settlement.batches"]
        self.events += [out.value for out in decided.records if out.topic == "payments.events"]
        return decided

    def ranges(self) -> list[tuple[int, int, int]]:
        """Of each batch: payments, first and last sequence."""
        return [(b.payment_count, b.first_sequence, b.last_sequence) for b in self.batches]


def test_a_batch_adds_up_its_members():
    """Gross, fees, net, count, range and window; then each payment is told SETTLED."""
    desk = Desk()
    desk.step(desk.sale(START, 1000, fee=58), desk.other(START + 1), desk.sale(START + 2, 500))
    assert desk.batches == []
    desk.step(at=START + 65_000_000)
    [batch] = desk.batches
    assert batch.batch_id == derive_id("batch", "shop", "EUR", START + MINUTE)
    assert batch[1:] == ("shop", "EUR", 1500, 58, 1442, START, START + MINUTE, 2, 1, 4)
    first, second = desk.events
    assert first.event_id == derive_id("settled", batch.batch_id, "post-1")
    assert (first.payment_id, first.intent_id, first.sequence, first.debtor, first.creditor) == (
        "pay-1", "i-pay-1", 2, "alice", "shop")  # fmt: skip
    assert (first.status, first.payment_state, first.amount_minor, first.currency) == (
        "SETTLED", PaymentState.SETTLED, 1000, "EUR")  # fmt: skip
    assert (first.occurred_at, first.risk_score, first.risk_decision) == (START + 65_000_000, 7, "APPROVE")
    assert second.payment_id == "pay-2"
    assert not any(table.rows for table in (desk.tables.batches, desk.tables.members))


def test_a_record_goes_where_its_reader_lives():
    """The batch to the merchant's partition, SETTLED to the payer's home."""
    desk = Desk()
    desk.step(desk.sale(START))
    batch, event = desk.step(at=START + 65_000_000).records
    assert (batch.key, batch.partition) == ("shop", SHOP)
    assert (event.key, event.partition) == ("alice", None)


WINDOW_ENDS = [
    ("a posting just before the end", lambda desk: desk.step(desk.other(START + MINUTE - 1)), False),
    ("a posting at the end", lambda desk: desk.step(desk.other(START + MINUTE, "somebody")), True),
    ("a sale of another merchant", lambda desk: desk.step(desk.sale(START + MINUTE, account="kiosk")), True),
    ("time, all read, within the grace", lambda desk: desk.step(at=START + MINUTE + 4_999_999), False),
    ("time, all read, after the grace", lambda desk: desk.step(at=START + MINUTE + 5_000_000), True),
    ("time, with a backlog", lambda desk: desk.step(at=START + 10 * MINUTE, to_end=False), False),
    ("time, while a step reads", lambda desk: desk.step(desk.other(START + 1), at=START + 10 * MINUTE), False),
]


@pytest.mark.parametrize(("what", "happens", "closes"), WINDOW_ENDS, ids=[row[0] for row in WINDOW_ENDS])
def test_a_window_closes_when_it_is_due(what: str, happens: Any, closes: bool):
    """R29: on the partition's first posting at or after its end, or some time after where nothing is left to read."""
    desk = Desk()
    desk.step(desk.sale(START))
    happens(desk)
    desk.step(at=START, to_end=False)
    assert bool(desk.batches) == closes, what


def test_a_backlog_never_slips_a_window():
    """A worker that comes back late puts each sale where it belongs, in one step or in many."""
    for cut in (1, 2, 100):
        desk = Desk()
        sales = [desk.sale(START + n * MINUTE // 2) for n in range(6)]
        for n in range(0, 6, cut):
            desk.step(*sales[n : n + cut], at=START + 60 * MINUTE)
        desk.step(at=START + 60 * MINUTE)
        assert [(b.window_start, b.payment_count) for b in desk.batches] == [
            (START + n * MINUTE, 2) for n in range(3)
        ], cut


def test_a_late_member_goes_into_the_oldest_open_window():
    """Its window is closed: the next one takes it, and ranges join all the same."""
    desk = Desk()
    desk.step(desk.sale(START))
    desk.step(at=START + 2 * MINUTE)
    desk.step(desk.sale(START + 2), desk.sale(START + MINUTE + 3))
    desk.step(at=START + 5 * MINUTE)
    assert desk.ranges() == [(1, 1, 1), (2, 2, 3)]
    assert desk.batches[1].window_start == START + MINUTE


def test_what_is_no_sale_stands_in_a_range_and_counts_for_nothing():
    """Ranges join over entries that no batch counts."""
    desk = Desk()
    desk.step(desk.other(START), desk.sale(START, 100, fee=1), desk.other(START))
    desk.step(desk.other(START + MINUTE), desk.other(START + MINUTE), desk.sale(START + 3 * MINUTE))
    desk.step(at=START + 9 * MINUTE)
    assert desk.ranges() == [(1, 1, 3), (1, 4, 7)]


def test_a_window_without_a_sale_writes_nothing():
    """Quiet merchants have no batches."""
    desk = Desk()
    desk.step(desk.other(START), desk.other(START + 10 * MINUTE))
    desk.step(at=START + 60 * MINUTE)
    assert desk.batches == []
    assert next_deadline(desk.tables) is None


def test_a_merchant_has_a_batch_for_each_window_and_currency():
    """Merchants are kept apart, and so are currencies (R48)."""
    desk = Desk()
    dollars = desk.sale(START)
    dollars = dollars._replace(
        entries=tuple(entry._replace(currency="USD") for entry in desk.sale(START, account="shop-usd").entries)
    )
    desk.step(desk.sale(START), desk.sale(START, account="kiosk"), dollars)
    desk.step(at=START + 2 * MINUTE)
    assert sorted((b.account, b.currency) for b in desk.batches) == [
        ("kiosk", "EUR"), ("shop", "EUR"), ("shop-usd", "USD")]  # fmt: skip


@pytest.mark.parametrize("most", [1, 2, 7, 99, 100, 101, 251, 252])
def test_a_step_writes_no_more_than_it_may(most: int):
    """Batches and their events come out in order, however many a step may write; a step of so many again is the same."""
    desk = Desk()
    desk.step(*[desk.sale(START + n) for n in range(250)])
    written: list[Any] = []
    while next_deadline(desk.tables) is not None:
        before = {name: dict(table.rows) for name, table in desk.tables._asdict().items()}
        decided = desk.step(at=START + 2 * MINUTE, most=most)
        assert 0 < decided.deadlines == len(decided.records) <= most
        again = Desk()
        for name, rows in before.items():
            getattr(again.tables, name).rows = rows
        assert again.step(at=START + 2 * MINUTE, most=decided.deadlines).records == decided.records
        assert [table.rows for table in again.tables] == [table.rows for table in desk.tables]
        written += decided.records
    assert [out.value.payment_id for out in written[1:]] == [f"pay-{n + 1}" for n in range(250)]
    assert written[0].value.payment_count == 250


def test_the_next_deadline_is_when_the_oldest_window_closes():
    """At once where something is owed, else after the grace."""
    desk = Desk()
    assert next_deadline(desk.tables) is None
    desk.step(desk.sale(START))
    assert next_deadline(desk.tables) == START + MINUTE + 5_000_000
    desk.step(desk.other(START + MINUTE))
    assert next_deadline(desk.tables) == 0
    desk.step(at=START, most=1)
    assert next_deadline(desk.tables) == 0
    desk.step(at=START)
    assert next_deadline(desk.tables) is None


@pytest.mark.parametrize("every_s", [7, 60, 3_600, 0])
def test_other_settings_leave_no_gap_and_no_overlap(every_s: int):
    """Windows of another length: what is open stays open, the next window begins behind it."""
    desk = Desk(every_s=600)
    desk.step(desk.sale(START))
    desk.use(every_s=every_s)
    desk.step(desk.sale(START + MINUTE))
    desk.step(desk.sale(START + 15 * MINUTE))
    desk.step(at=START + 10_000 * MINUTE)
    desk.step(desk.sale(START + 10_000 * MINUTE))
    desk.step(at=START + 30_000 * MINUTE)
    assert desk.ranges() == [(2, 1, 2), (1, 3, 3), (1, 4, 4)]
    for before, after in zip(desk.batches, desk.batches[1:], strict=False):
        assert before.window_end <= after.window_start < after.window_end
    assert len({batch.batch_id for batch in desk.batches}) == 3


def test_windows_end_at_the_cut_off_of_the_merchants_zone():
    """R28, with the rules' own clocks: 17:00 is elsewhere at another time."""
    desk = Desk(every_s=0, zone="UTC", clocks={"UTC": [[0, 61_200]], "Tokyo": [[0, 28_800]]},
                merchants={"kiosk": {"zone": "Tokyo"}})  # fmt: skip
    desk.step(desk.sale(AT), desk.sale(AT, account="kiosk"))
    desk.step(at=AT + 30 * 86_400_000_000)
    ends = {batch.account: batch.window_end for batch in desk.batches}
    friday = AT // 86_400_000_000 * 86_400_000_000
    # AT is a Friday, 10:00 UTC: Tokyo's cut-off has passed, the next is on Monday.
    assert ends == {"shop": friday + 61_200_000_000, "kiosk": friday + 3 * 86_400_000_000 + 28_800_000_000}


@pytest.mark.parametrize("most", [1, 2, 3, 7, 150, 2_000])
def test_a_replay_that_is_told_how_much_was_done_does_the_same(most):
    """A journal keeps how many deadlines a step carried out, not how many it might have; both must close and tell alike."""
    live, again = Desk(), Desk()
    for desk in (live, again):
        for n in range(260):
            account = f"shop-{n % 7}"
            desk.step(desk.sale(START + n % 3 * MINUTE // 2, account=account), desk.sale(START + 1, account=account))
    for second in range(130, 600):
        done = live.step(at=START + second * 1_000_000, most=most)
        told = again.step(at=START + second * 1_000_000, most=done.deadlines)
        assert told.records == done.records
        assert [table.rows for table in again.tables] == [table.rows for table in live.tables]
    assert live.events
