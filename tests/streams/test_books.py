"""The one way to post: balanced, numbered, inside its bounds."""

import pytest

from schemas.events import EntryCode
from schemas.keys import digest, partition_of
from streams import books
from streams.tables import MemoryTable
from topologies import topics

CODE = EntryCode.PRINCIPAL


def some_accounts(**purses):
    """A table of accounts with these purses in EUR."""
    table = MemoryTable()
    for account, purse in purses.items():
        table.put(account, books.AccountRow(0, [["EUR", *purse]]))
    return table


def test_an_entry_carries_the_balances_after_it_and_the_next_number():
    """Invariant 4: numbers rise by one per account and currency, balances follow from the one before."""
    table = some_accounts(a=(0, 5, 0, 50, 7), b=(0, 0, 0, 0, 0))
    moves = [("a", CODE, books.DEBITS_POSTED, 10, "b", None), ("b", CODE, books.CREDITS_POSTED, 10, "a", 9)]
    first, second = books.post(table, "EUR", moves)
    assert first[6:] == (0, 15, 0, 50, 8, "b", None)
    assert second[6:] == (0, 0, 0, 10, 1, "a", 9)
    assert table.get("a").purses == [["EUR", 0, 15, 0, 50, 8]]


def test_a_hold_and_its_release_are_numbered_like_any_entry():
    """Invariant 4 knows no layers."""
    table = some_accounts(a=(0, 0, 0, 50, 7))
    hold = [
        ("a", CODE, books.DEBITS_PENDING, 10, None, None),
        ("~h/EUR/0-0", CODE, books.CREDITS_PENDING, 10, None, None),
    ]
    assert [entry.sequence for entry in books.post(table, "EUR", hold)] == [8, 1]
    free = [(name, code, place, -amount, None, None) for name, code, place, amount, _, _ in hold]
    assert [entry.sequence for entry in books.post(table, "EUR", free)] == [9, 2]
    assert table.get("a").purses == [["EUR", 0, 0, 0, 50, 9]]


def test_a_row_that_was_read_is_never_changed_in_place():
    """An aborted step must leave no trace."""
    table = some_accounts(a=(0, 0, 0, 50, 1), b=(0, 0, 0, 0, 0))
    before = table.get("a")
    kept = [[*purse] for purse in before.purses]
    books.post(table, "EUR", [("a", CODE, 2, 10, None, None), ("b", CODE, 4, 10, None, None)])
    assert before.purses == kept


def test_only_the_purse_of_the_currency_moves():
    """Two currencies are never added (R48)."""
    table = MemoryTable()
    table.put("a", books.AccountRow(0, [["USD", 1, 1, 1, 1, 1], ["EUR", 0, 0, 0, 0, 0], ["JPY", 2, 2, 2, 2, 2]]))
    books.post(table, "EUR", [("a", CODE, 2, 10, None, None), ("~x/EUR/0-0", CODE, 4, 10, None, None)])
    assert table.get("a").purses == [["USD", 1, 1, 1, 1, 1], ["EUR", 0, 10, 0, 0, 1], ["JPY", 2, 2, 2, 2, 2]]


@pytest.mark.parametrize(
    "moves",
    [
        [("a", CODE, 2, 10, None, None)],
        [("a", CODE, 2, 10, None, None), ("b", CODE, 4, 9, None, None)],
        [("a", CODE, 2, 10, None, None), ("b", CODE, 3, 10, None, None)],
        [("a", CODE, 1, -1, None, None), ("b", CODE, 3, -1, None, None)],
        [("a", CODE, 2, -1, None, None), ("b", CODE, 4, -1, None, None)],
        [("a", CODE, 2, 0, None, None), ("b", CODE, 4, 0, None, None)],
        [("a", CODE, 2, 2**63, None, None), ("b", CODE, 4, 2**63, None, None)],
        [("a", CODE, 2, 1, None, None), ("stranger", CODE, 4, 1, None, None)],
    ],
    ids=["one-sided", "unequal", "across layers", "below zero", "negative posted", "nothing", "too large", "not open"],
)
def test_a_posting_that_is_wrong_is_our_mistake(moves):
    """Invariants 1 and 3: it asserts, so that the step is given up."""
    with pytest.raises(AssertionError):
        books.post(some_accounts(a=(0, 0, 0, 50, 0), b=(0, 0, 0, 0, 0)), "EUR", moves)


@pytest.mark.parametrize("partitions", [1, 2, 4, 12])
def test_an_internal_account_lives_on_its_partition_with_the_smallest_k(partitions):
    """R6: so an entry of a partition is always on that partition's account."""
    for role in ("in-transit", "holds"):
        for partition in range(partitions):
            name = books.internal(role, "EUR", partition, partitions)
            head, k = name.rsplit("-", 1)
            assert head == f"~{role}/EUR/{partition}"
            assert partition_of(name, partitions) == partition
            assert all(partition_of(f"{head}-{less}", partitions) != partition for less in range(int(k)))


def test_ids_are_halves_of_the_digest_of_their_parts():
    """R7: 32 hex digits of SHA-256; what, topic, partition and offset all tell ids apart."""
    both = digest("intent", books.INTENTS, 3, 42)
    assert books.two_ids("intent", books.INTENTS, 3, 42) == (both[:32], both[32:])
    asked = [("intent", "t", 1, 11), ("intent", "t", 11, 1), ("deadline", "t", 1, 11), ("intent", "u", 1, 11)]
    assert len({name for parts in asked for name in books.two_ids(*parts)}) == 8


def test_deadlines_sort_by_time_then_debtor_then_payment():
    """R12, also where one id is the beginning of another or holds a NUL."""
    asked = [(9, "b", "x"), (10, "a", "x"), (10, "a", "y"), (10, "a\0", "x"), (10, "aa", "a"), (11, "a", "a")]
    keys = [books.deadline_key(*parts) for parts in asked]
    assert sorted(keys) == keys
    assert books.deadline_key(1, "a\0b", "c") != books.deadline_key(1, "a", "b\0c")


def test_keys_of_rows_never_run_together():
    """No two payments share a row, whatever their ids are made of."""
    assert books.payment_key("a", "1:b") != books.payment_key("a1", ":b")
    assert books.payment_key("1", "1:1") != books.payment_key("11", ":1")


def test_tables_stand_in_the_order_of_their_names():
    """`LedgerTables` is bound by position."""
    assert tuple(spec.name for spec in books.TABLES) == books.LedgerTables._fields


def test_the_topics_are_those_of_the_plan():
    """Names that decisions write are names of the contract."""
    known = {topic.name for topic in topics.CONTRACT}
    assert {books.INTENTS, books.EVENTS, books.ACCOUNT_EVENTS, books.POSTINGS, books.CREDITS, books.REVERSALS} <= known
