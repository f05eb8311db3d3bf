"""What the benchmarks publish: accounts, their money, and transfers, as a backlog or by a schedule; seeded."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import Literal

from schemas.events import AccountAction, AccountCommand, Intent, Kind, Micros, Minor

TREASURIES = 16
CURRENCY = "EUR"
OPENING = Minor(1_000_000)
"""Minor units that each account starts with."""
HOUR = 3_600_000_000
SECOND = 1_000_000
Hot = Literal["debtor", "creditor"]
"""Which side of every transfer is one account, number 0."""
Arrival = Literal["poisson", "constant"]
Pairs = Iterator[tuple[int, int]]
"""Numbers of debtors and creditors."""


def account(number: int) -> str:
    """The id of an account."""
    return f"account-{number:07}"


def _treasury(number: int) -> str:
    return f"treasury-{number % TREASURIES:02}"


def opened(
    accounts: int, at: Micros, flags: tuple[str, ...] = ("NO_OVERDRAFT",), merchants: int = 0
) -> Iterator[AccountCommand]:
    """Opens the treasuries and so many accounts, the first `merchants` of them as merchants.

    Without flags they may go below zero, and need no money first.
    """
    for number in range(TREASURIES):
        name = _treasury(number)
        yield AccountCommand(f"open-{name}", name, AccountAction.OPEN, CURRENCY, at, ("DEBIT_NORMAL",))
    for number in range(accounts):
        name = account(number)
        told = (*flags, "MERCHANT") if number < merchants else flags
        yield AccountCommand(f"open-{name}", name, AccountAction.OPEN, CURRENCY, at, told)


def funded(accounts: int, at: Micros) -> Iterator[Intent]:
    """Opening money for each account, from the treasuries (R7)."""
    for number in range(accounts):
        name = f"funding-{number:07}"
        yield Intent(
            name, name, Kind.TRANSFER, name, _treasury(number), account(number), OPENING, CURRENCY, Micros(at - 24 * HOUR)
        )  # fmt: skip


def uniform(accounts: int, rng: Random) -> Pairs:
    """Everybody pays everybody."""
    while True:
        debtor, creditor = rng.randrange(accounts), rng.randrange(accounts)
        yield debtor, creditor if creditor != debtor else (creditor + 1) % accounts


def shopping(accounts: int, merchants: int, rng: Random) -> Pairs:
    """Everybody else pays one of the first `merchants`."""
    while True:
        yield rng.randrange(merchants, accounts), rng.randrange(merchants)


def skewed(accounts: int, zipf: float, rng: Random) -> Pairs:
    """Debtors and creditors by Zipf's law: the account of rank r is drawn in proportion to r ** -zipf."""
    numbers = range(accounts)
    weights = list(accumulate((rank + 1) ** -zipf for rank in numbers))
    while True:
        debtor, creditor = rng.choices(numbers, cum_weights=weights, k=2)
        yield debtor, creditor if creditor != debtor else (creditor + 1) % accounts


def hot(accounts: int, side: Hot, rng: Random) -> Pairs:
    """One account is debtor or creditor of every transfer, the others are drawn evenly."""
    while True:
        other = rng.randrange(1, accounts)
        yield (0, other) if side == "debtor" else (other, 0)


def transfers(pairs: Pairs, payments: int, rng: Random, name: str, at: Micros) -> Iterator[Intent]:
    """So many transfers over the 23 hours before `at`, in their order; `name` is part of every id."""
    start = at - 23 * HOUR
    for n, (debtor, creditor) in zip(range(payments), pairs, strict=False):
        one = f"{name}-{n:08}"
        yield Intent(
            f"intent-{one}", f"key-{one}", Kind.TRANSFER, f"payment-{one}", account(debtor), account(creditor),
            Minor(rng.randrange(1, 500)), CURRENCY, Micros(start + n * 23 * HOUR // payments),
        )  # fmt: skip


def backlog(payments: int, accounts: int, zipf: float, seed: int, at: Micros) -> Iterator[Intent]:
    """Transfers between the accounts over the 23 hours before `at`, in their order.

    `zipf` is the exponent by which debtors and creditors are drawn; 0 is uniform.
    """
    rng = Random(seed)
    pairs = skewed(accounts, zipf, rng) if zipf else uniform(accounts, rng)
    return transfers(pairs, payments, rng, str(seed), at)


def schedule(arrival: Arrival, per_s: float, seconds: float, seed: int) -> list[int]:
    """When to send: µs after the start, rising; all of them below `seconds`.

    `poisson` draws the gaps from an exponential distribution, `constant` has them all the same.
    """
    end, gap = seconds * SECOND, SECOND / per_s
    if arrival == "constant":
        return [int(n * gap) for n in range(int(seconds * per_s))]
    rng, moment, found = Random(seed), 0.0, []
    while (moment := moment + rng.expovariate(1.0) * gap) < end:
        found.append(int(moment))
    return found


def timed(moments: Sequence[int], start: Micros, accounts: int, seed: int) -> Iterator[Intent]:
    """Transfers with `requested_at` = `start` + each of `moments`; an intent's id tells that moment: `intended`."""
    rng = Random(seed)
    for n, (moment, (debtor, creditor)) in enumerate(zip(moments, uniform(accounts, rng), strict=False)):
        at = start + moment
        name = f"{seed}-{n:08}-{at}"
        yield Intent(
            f"intent-{name}", f"key-{name}", Kind.TRANSFER, f"payment-{name}", account(debtor), account(creditor),
            Minor(rng.randrange(1, 500)), CURRENCY, Micros(at),
        )  # fmt: skip


def intended(intent_id: str) -> int:
    """The moment (µs) at which an intent of `timed` was to be sent. ValueError where it is none of those."""
    return int(intent_id.rpartition("-")[2])
