"""Invariant 6: an account's row is what its entries on `ledger.postings` add up to.

A row says at which entry of each currency it stands, so it can be judged while a system runs: its
balances must be those after that entry, and it may not stand behind what it is known to hold.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import orjson

from replay.books import NOTHING, Account, Balances
from replay.verdicts import Verdict
from schemas.events import Posting

ACCOUNTS = "accounts"
"""The table that keeps the balances."""


class Rows:
    """Account rows of one partition from one place (a changelog, a store), compared with its postings in their order."""

    def __init__(self, where: str, least: int, verdict: Verdict) -> None:
        """`where` names the place in a sentence; `least`: how many postings its rows must hold."""
        self._where, self._least, self._verdict = where, least, verdict
        self._at: dict[Account, Balances] = {}
        self._met: set[Account] = set()

    def add(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Account and JSON row of each."""
        for key, data in rows:
            account = key.decode(errors="replace")
            self._verdict.examined += 1
            try:
                purses = list(_purses(data))
            except (ValueError, TypeError, IndexError):
                self._offends(account, f"{data[:200]!r} is no row of an account")
                continue
            for currency, balances in purses:
                self._at[account, currency] = balances
                if balances == NOTHING:
                    self._met.add((account, currency))

    def _offends(self, account: str, told: str) -> None:
        self._verdict.offends(f"{self._where}, account {account}: {told}")

    def post(self, number: int, posting: Posting) -> None:
        """The partition's next posting, its `number`-th."""
        must = number <= self._least
        for entry in posting.entries:
            place = (entry.account, entry.currency)
            at = self._at.get(place)
            if at is None:
                if must:
                    missing = f"entry {entry.sequence} of posting {posting.posting_id} is not in it"
                    self._offends(entry.account, f"has no {entry.currency}, {missing}")
            elif entry.sequence == at[4]:
                self._met.add(place)
                if at != (now := entry[6:11]):
                    entries = f"entry {entry.sequence} of ledger.postings leaves {Purse(*now)}"
                    self._offends(entry.account, f"{Purse(*at)} {entry.currency}, {entries}")
            elif must and entry.sequence > at[4]:
                missing = f"entry {entry.sequence} of posting {posting.posting_id} is not in it"
                self._offends(entry.account, f"stands at entry {at[4]} {entry.currency}, {missing}")

    def close(self) -> None:
        """All postings were seen: nothing may stand at an entry that never came."""
        for (account, currency), at in self._at.items():
            if (account, currency) not in self._met:
                missing = f"but ledger.postings has no entry {at[4]} of it: the row is ahead of the books"
                self._offends(account, f"{Purse(*at)} {currency}, {missing}")


class Purse(NamedTuple):
    """Balances as a sentence tells them."""

    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    entry: int


def _purses(data: bytes) -> Iterator[tuple[str, Balances]]:
    """Currency and balances of a row. Raises ValueError, TypeError, IndexError where it is none."""
    _flags, purses = orjson.loads(data)[:2]
    for currency, held, spent, due, earned, sequence in purses:
        yield str(currency), (int(held), int(spent), int(due), int(earned), int(sequence))
