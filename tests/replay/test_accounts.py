"""An account's books are what its entries say, and an entry that does not fit is not passed over."""

import pytest
from builders import PARTITIONS, a_command
from worlds import ANSWERS, COMMANDS, CREDIT, DEBIT, PENDING, POSTINGS, World

from replay.accounts import BooksDisagree, UnknownAccount, account_books
from schemas.events import AccountEvent, Micros, Minor
from schemas.keys import partition_of


@pytest.fixture
def world():
    """A treasury that pays 100.00 to alice, who pays 12.00 to the shop; carol is open and has no entry."""
    world = World()
    world.open("treasury", "DEBIT_NORMAL")
    for account in ("alice", "shop", "carol"):
        world.open(account, "NO_OVERDRAFT")
    world.pay("fund", debtor="treasury", creditor="alice", amount_minor=Minor(10_000))
    world.pay("rent")
    return world


def hold(world, account, *amounts):
    """Holds amounts on an account, or releases them where they are negative."""
    intent, _ = world.ask("held", debtor=account)
    home = partition_of(account, PARTITIONS)
    for amount in amounts:
        moves = ((account, DEBIT, amount, PENDING), ("~holds", CREDIT, amount, PENDING))
        world.append(POSTINGS, home, world.posting(intent, *moves))


def test_an_account_has_what_its_entries_sum_up_to(world):
    """100.00 in, 12.00 out: posted and available 88.00, the number and the time of its last entry."""
    found = account_books(world, "alice")
    (balance,) = found.balances
    assert (balance.currency, balance.posted, balance.held, balance.available) == ("EUR", 8_800, 0, 8_800)
    assert (balance.debits_posted, balance.credits_posted, balance.sequence) == (1_200, 10_000, 2)
    assert balance.at == found.entries[-1].at
    assert found.partition == partition_of("alice", PARTITIONS)


def test_held_money_is_posted_but_not_available(world):
    """A hold leaves the balance and takes from what may go out (R4); a release gives it back (R1)."""
    hold(world, "alice", 1_000, 500, -500)
    (balance,) = account_books(world, "alice").balances
    assert (balance.posted, balance.held, balance.available) == (8_800, 1_000, 7_800)


def test_a_treasury_is_read_from_its_own_side_and_has_no_limit(world):
    """DEBIT_NORMAL: what it gave out counts as positive (R3); without NO_OVERDRAFT nothing ends (R7)."""
    (balance,) = account_books(world, "treasury").balances
    assert (balance.posted, balance.available) == (10_000, None)


def test_the_latest_entries_are_kept_oldest_first(world):
    """As many as are asked for, with payment and the rest."""
    for number in range(5):
        world.pay(f"more-{number}", amount_minor=Minor(100 + number))
    lines = account_books(world, "alice", 2).entries
    assert [(line.payment_id, line.sequence, line.amount_minor) for line in lines] == [
        ("more-3", 6, 103),
        ("more-4", 7, 104),
    ]
    assert account_books(world, "alice", 0).entries == ()


def test_an_open_account_without_entries_has_nothing(world):
    """It is known, with zero in its currency."""
    found = account_books(world, "carol")
    assert [(one.currency, one.posted, one.available, one.sequence, one.at) for one in found.balances] == [
        ("EUR", 0, 0, 0, None)
    ]


def test_each_currency_has_its_own_balance(world):
    """Opened in a second currency, with the account's flags (R5)."""
    home = partition_of("alice", PARTITIONS)
    world.append(COMMANDS, home, a_command("alice", command_id="c-usd", currency="USD", flags=()))
    world.append(ANSWERS, home, AccountEvent("c-usd", "alice", True, Micros(world.at)))
    found = account_books(world, "alice").balances
    assert [(one.currency, one.posted, one.available) for one in found] == [("EUR", 8_800, 8_800), ("USD", 0, 0)]


@pytest.mark.parametrize("account", ["nobody", "ali", "alice2", "", "\ud800"])
def test_an_account_that_never_was_is_unknown(world, account):
    """A part of another's name is nobody either; nor is what can't be written."""
    with pytest.raises(UnknownAccount, match=r"no account|never opened"):
        account_books(world, account)


def test_a_refused_opening_opens_nothing(world):
    """Only what was accepted counts."""
    home = partition_of("dave", PARTITIONS)
    world.append(COMMANDS, home, a_command("dave"))
    world.append(ANSWERS, home, AccountEvent("c-dave", "dave", False, Micros(world.at), "AM11"))
    with pytest.raises(UnknownAccount):
        account_books(world, "dave")


def test_only_the_accounts_own_partition_is_read(world):
    """Nothing on another partition can change what is said of it."""
    other = (partition_of("alice", PARTITIONS) + 1) % PARTITIONS
    world.append(POSTINGS, other, b"alice, and no posting")
    assert account_books(world, "alice").balances[0].posted == 8_800


def spoil(posting, **fields):
    """The posting's entries with fields of alice's replaced; empty where none is hers."""
    if all(entry.account != "alice" for entry in posting.entries):
        return ()
    return tuple(entry._replace(**fields) if entry.account == "alice" else entry for entry in posting.entries)


@pytest.mark.parametrize("spoilt", [{"debits_posted": 1}, {"sequence": 3}, {"direction": "UNKNOWN"}], ids=str)
def test_an_entry_that_does_not_follow_is_named(world, spoilt):
    """A lost or changed entry is told with its place, and no balance is made up (invariant 4)."""
    home = partition_of("alice", PARTITIONS)
    log = world.log[POSTINGS, home]
    offset = next(n for n, kept in enumerate(log) if kept.value.payment_id == "rent" and spoil(kept.value, **spoilt))
    world.change(POSTINGS, home, offset, entries=spoil(log[offset].value, **spoilt))
    with pytest.raises(BooksDisagree, match=f"partition {home} offset {offset}.*headrace audit"):
        account_books(world, "alice")


def test_a_posting_that_cannot_be_read_is_named(world):
    """Guessing at money is no answer."""
    world.append(POSTINGS, partition_of("alice", PARTITIONS), b"alice, and no posting")
    with pytest.raises(BooksDisagree, match="can't be decoded"):
        account_books(world, "alice")


def test_at_a_moment_only_what_had_happened_counts(world):
    """Up to the moment and at it; one µs earlier the entry is not there yet."""
    at = account_books(world, "alice").entries[-1].at
    then = account_books(world, "alice", until=at).balances[0]
    before = account_books(world, "alice", until=at - 1)
    assert (then.posted, before.balances[0].posted, before.balances[0].sequence) == (8_800, 10_000, 1)
    assert [line.payment_id for line in before.entries] == ["fund"]


def test_before_its_opening_an_account_was_not_there(world):
    """It is told when it was opened; a name that never was stays unknown."""
    opened = next(kept.value for log in world.log.values() for kept in log if getattr(kept.value, "accepted", False))
    assert account_books(world, "carol", until=world.at).balances[0].posted == 0
    with pytest.raises(UnknownAccount, match="was not open yet: it was opened at 2025-"):
        account_books(world, "carol", until=opened.occurred_at - 1)
    with pytest.raises(UnknownAccount, match="never opened"):
        account_books(world, "nobody", until=world.at)


def test_time_that_goes_back_is_not_passed_over(world):
    """An entry of before the moment behind one of after it: the fold has a hole, and says so."""
    world.at += 10_000_000
    world.pay("late")
    late = account_books(world, "alice").entries[-1].at
    world.at -= 20_000_000
    world.pay("early")
    with pytest.raises(BooksDisagree):
        account_books(world, "alice", until=late - 1)
