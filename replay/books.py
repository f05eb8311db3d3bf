"""The books folded from `ledger.postings` by a judge: invariants 1, 3 and 4, and the money in transit."""

from collections.abc import Mapping
from typing import Any

from replay.verdicts import Verdicts
from schemas.events import Posting
from schemas.keys import partition_of

Account = tuple[str, str]
"""(account, currency)."""
Paid = tuple[str, str, str]
"""(debtor, payment id, currency)."""
Balances = tuple[int, int, int, int, int]
"""Debits pending, debits posted, credits pending, credits posted, sequence of the last entry."""

NOTHING: Balances = (0, 0, 0, 0, 0)
TRANSIT = "~in-transit/"


class Books:
    """Every account's balances, rebuilt entry by entry."""

    def __init__(
        self,
        verdicts: Verdicts,
        partitions: int,
        flags: Mapping[Account, tuple[str, ...]],
        conflicts: Mapping[tuple[str, str], str],
    ) -> None:
        """`flags` by account; `conflicts`: (debtor, intent id) that may move no money -> where it stands."""
        self._verdicts = verdicts
        self._partitions = partitions
        self._flags = flags
        self._guarded = frozenset(account for account, held in flags.items() if "NO_OVERDRAFT" in held)
        self._conflicts = conflicts
        self._rows: list[dict[Account, Balances]] = [{} for _ in range(partitions)]
        self.transit: dict[Paid, int] = {}
        """Credits less debits of the in-transit accounts by payment; zeros are left out."""

    def post(self, partition: int, offset: int, posting: Posting) -> None:
        """The next posting of a partition."""
        verdicts, entries = self._verdicts, posting.entries
        verdicts.balance.examined += 1
        verdicts.sequences.examined += len(entries)
        if (wrong := _unbalanced(entries)) is not None:
            verdicts.balance.offends(f"{_where(partition, offset, posting)}: {wrong}")
        rows = self._rows[partition]
        guarded = False
        for entry in entries:
            account, _code, direction, layer, amount, currency, *after = entry[:11]
            key = (account, currency)
            before = rows.get(key)
            if before is None:
                self._at_home(partition, offset, posting, account)
                before = NOTHING
            now: Balances = tuple(after)  # type: ignore[assignment]
            if now != _following(before, direction, layer, amount):
                self._broken(partition, offset, posting, (entry, before))
            rows[key] = now
            if key in self._guarded:
                guarded = True
            elif account.startswith(TRANSIT):
                self._move(partition, offset, posting, (currency, amount if direction == "CREDIT" else -amount))
        if guarded:
            self._overdraft(partition, offset, posting, rows)
        if self._conflicts and (posting.debtor or "", posting.intent_id or "") in self._conflicts:
            intent = self._conflicts[posting.debtor or "", posting.intent_id or ""]
            verdicts.keys.offends(
                f"{_where(partition, offset, posting)} moves money for {intent}, which has another body than the "
                "intent that had its key first: a second payment under one key"
            )

    def _overdraft(self, partition: int, offset: int, posting: Posting, rows: Mapping[Account, Balances]) -> None:
        verdict = self._verdicts.overdraft
        verdict.examined += 1
        for entry in posting.entries:
            key = (entry.account, entry.currency)
            if key not in self._guarded:
                continue
            held, spent, _, earned, _ = rows[key]
            if spent + held > earned:
                verdict.offends(
                    f"{_where(partition, offset, posting)}: account {entry.account} was opened NO_OVERDRAFT and now has "
                    f"debits of {spent} and holds of {held} against credits of {earned} {entry.currency}, "
                    f"{spent + held - earned} more than it owns"
                )

    def _broken(self, partition: int, offset: int, posting: Posting, step: tuple[Any, Balances]) -> None:
        entry, before = step
        where = f"{_where(partition, offset, posting)}: account {entry.account} {entry.currency}"
        if entry.sequence != before[4] + 1:
            meaning = "an entry was written twice" if entry.sequence <= before[4] else "an entry is lost"
            self._verdicts.sequences.offends(
                f"{where}: expected entry {before[4] + 1}, found {entry.sequence}: {meaning}"
            )
            return
        expected = _following(before, entry.direction, entry.layer, entry.amount_minor)
        self._verdicts.sequences.offends(
            f"{where}: after entry {entry.sequence}, {entry.direction} {entry.layer} {entry.amount_minor}, expected "
            f"{_told(expected)}, found {_told(entry[6:11])}: the balances do not follow from the entry before"
        )

    def _at_home(self, partition: int, offset: int, posting: Posting, account: str) -> None:
        if (home := partition_of(account, self._partitions)) != partition:
            self._verdicts.sequences.offends(
                f"{_where(partition, offset, posting)}: account {account} lives on partition {home}, "
                f"partition {partition} posted to it: two writers for one account"
            )

    def _move(self, partition: int, offset: int, posting: Posting, moved: tuple[str, int]) -> None:
        currency, amount = moved
        if posting.debtor is None:
            self._verdicts.transit.offends(
                f"{_where(partition, offset, posting)} moves money in transit and names no debtor: nobody can say whose"
            )
            return
        key = (posting.debtor, posting.payment_id, currency)
        left = self.transit.get(key, 0) + amount
        if left:
            self.transit[key] = left
        else:
            del self.transit[key]

    def compare_transit(self, undecided: Mapping[Paid, int]) -> None:
        """What the in-transit entries leave is what undecided credits and reversals carry (invariant 10)."""
        for paid in sorted({*self.transit, *undecided}):
            there, expected = self.transit.get(paid, 0), undecided.get(paid, 0)
            if there != expected:
                debtor, payment_id, currency = paid
                meaning = (
                    "money was debited that nobody will credit or return"
                    if there > expected
                    else "money will be credited that was never debited"
                )
                self._verdicts.transit.offends(
                    f"payment {payment_id} of {debtor}: in-transit entries of ledger.postings leave {there} {currency}, "
                    f"its undecided credits and reversals carry {expected}: {meaning}"
                )

    def money(self) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
        """Posted credits less posted debits, currency -> kind -> minor units; and customers' holds by currency."""
        found: dict[str, dict[str, int]] = {}
        held: dict[str, int] = {}
        for rows in self._rows:
            for (account, currency), row in rows.items():
                kind = kind_of(account, self._flags.get((account, currency), ()))
                kinds = found.setdefault(currency, {})
                kinds[kind] = kinds.get(kind, 0) + row[3] - row[1]
                if account[:1] != "~" and row[0]:
                    held[currency] = held.get(currency, 0) + row[0]
        return {c: dict(sorted(kinds.items())) for c, kinds in sorted(found.items())}, dict(sorted(held.items()))


def kind_of(account: str, flags: tuple[str, ...]) -> str:
    """What an account is for: its internal role, or sources, merchants, customers by its flags."""
    if account[:1] == "~":
        return account[1:].split("/", 1)[0]
    if "DEBIT_NORMAL" in flags:
        return "sources"
    return "merchants" if "MERCHANT" in flags else "customers"


def _following(before: Balances, direction: str, layer: str, amount: int) -> Balances | None:
    """The balances after an entry (R1), None for a direction or layer that nobody knows."""
    held, spent, due, earned, sequence = before
    if layer == "POSTED":
        if direction == "DEBIT":
            return (held, spent + amount, due, earned, sequence + 1)
        if direction == "CREDIT":
            return (held, spent, due, earned + amount, sequence + 1)
    elif layer == "PENDING":
        if direction == "DEBIT" and held + amount >= 0:
            return (held + amount, spent, due, earned, sequence + 1)
        if direction == "CREDIT" and due + amount >= 0:
            return (held, spent, due + amount, earned, sequence + 1)
    return None


def _unbalanced(entries: Any) -> str | None:
    """What is wrong with a posting's sums, or None."""
    if len(entries) == 2:
        one, two = entries
        if (
            one[3] == two[3] and one[4] == two[4] and one[5] == two[5]
            and one[2] != two[2] and (one[4] > 0 or one[3] == "PENDING")
        ):  # fmt: skip
            return None
    if not entries:
        return "has no entries"
    sums: dict[tuple[str, str], int] = {}
    for entry in entries:
        if entry.amount_minor <= 0 and entry.layer == "POSTED":
            return f"entry {entry.sequence} of {entry.account} posts {entry.amount_minor}; posted amounts are above 0"
        key = (str(entry.currency), str(entry.layer))
        sums[key] = sums.get(key, 0) + (entry.amount_minor if entry.direction == "DEBIT" else -entry.amount_minor)
    for (currency, layer), left in sums.items():
        if left:
            return f"{layer} debits less credits are {left} {currency}, expected 0: money was made or lost"
    return None


def _told(balances: Any) -> str:
    if balances is None:
        return "balances of at least 0 on a known side and layer"
    held, spent, due, earned, _ = balances
    return f"debits {spent} (pending {held}), credits {earned} (pending {due})"


def _where(partition: int, offset: int, posting: Posting) -> str:
    return (
        f"ledger.postings partition {partition} offset {offset}, posting {posting.posting_id} of payment "
        f"{posting.payment_id} (debtor {posting.debtor})"
    )
