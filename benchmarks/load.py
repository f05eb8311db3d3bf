"""What the benchmarks publish: accounts, their money, and a backlog of transfers; seeded."""

from collections.abc import Iterator
from itertools import accumulate
from random import Random

from schemas.events import AccountAction, AccountCommand, Intent, Kind, Micros, Minor

TREASURIES = 16
CURRENCY = "EUR"
OPENING = Minor(1_000_000)
"""Minor units that each account starts with."""
HOUR = 3_600_000_000


def account(number: int) -> str:
    """The id of an account."""
    return f"account-{number:07}"


def _treasury(number: int) -> str:
    return f"treasury-{number % TREASURIES:02}"


def opened(accounts: int, at: Micros) -> Iterator[AccountCommand]:
    """Opens the treasuries and so many accounts."""
    for number in range(TREASURIES):
        name = _treasury(number)
        yield AccountCommand(f"open-{name}", name, AccountAction.OPEN, CURRENCY, at, ("DEBIT_NORMAL",))
    for number in range(accounts):
        name = account(number)
        yield AccountCommand(f"open-{name}", name, AccountAction.OPEN, CURRENCY, at, ("NO_OVERDRAFT",))


def funded(accounts: int, at: Micros) -> Iterator[Intent]:
    """Opening money for each account, from the treasuries (R7)."""
    for number in range(accounts):
        name = f"funding-{number:07}"
        yield Intent(
            name, name, Kind.TRANSFER, name, _treasury(number), account(number), OPENING, CURRENCY, Micros(at - 24 * HOUR)
        )  # fmt: skip


def backlog(payments: int, accounts: int, zipf: float, seed: int, at: Micros) -> Iterator[Intent]:
    """Transfers between the accounts over the 23 hours before `at`, in their order.

    `zipf` is the exponent by which debtors and creditors are drawn; 0 is uniform.
    """
    rng = Random(seed)
    numbers = range(accounts)
    weights = list(accumulate((rank + 1) ** -zipf for rank in numbers)) if zipf else None
    start = at - 23 * HOUR
    for n in range(payments):
        if weights is None:
            debtor, creditor = rng.randrange(accounts), rng.randrange(accounts)
        else:
            debtor, creditor = rng.choices(numbers, cum_weights=weights, k=2)
        if creditor == debtor:
            creditor = (creditor + 1) % accounts
        name = f"{seed}-{n:08}"
        yield Intent(
            f"intent-{name}", f"key-{name}", Kind.TRANSFER, f"payment-{name}", account(debtor), account(creditor),
            Minor(rng.randrange(1, 500)), CURRENCY, Micros(start + n * 23 * HOUR // payments),
        )  # fmt: skip
