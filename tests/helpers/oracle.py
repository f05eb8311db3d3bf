"""A naive ledger, to compare the real one with: one book for all, each payment done at once.

It knows transfers, keys, taken payment ids and funds, and nothing of partitions, legs or batches.
"""

from collections import defaultdict

from schemas.events import Intent


class Oracle:
    """Balances by account; `overdraft` names the accounts that may go below zero."""

    def __init__(self, accounts: set[str], overdraft: set[str]) -> None:
        self.accounts, self.overdraft = accounts, overdraft
        self.balance: dict[str, int] = defaultdict(int)
        self.first: dict[tuple[str, str], tuple[object, str]] = {}
        self.taken: set[tuple[str, str]] = set()

    def pay(self, intent: Intent) -> str:
        """What becomes of a transfer: COMPLETED, REVERSED or DECLINED with its reason; a repeat gets the first answer."""
        key = (intent.debtor, intent.idempotency_key)
        body = (intent.payment_id, intent.creditor, intent.amount_minor, intent.currency)
        if key in self.first:
            said, answer = self.first[key]
            return answer if said == body else "DECLINED AM05"
        answer = self._decide(intent)
        self.first[key] = (body, answer)
        return answer

    def _decide(self, intent: Intent) -> str:
        payment, amount = (intent.debtor, intent.payment_id), intent.amount_minor
        if intent.debtor == intent.creditor:
            return "DECLINED same-account"
        if payment in self.taken:
            return "DECLINED DU03"
        if intent.debtor not in self.accounts:
            return "DECLINED AC02"
        if intent.debtor not in self.overdraft and self.balance[intent.debtor] < amount:
            return "DECLINED AM04"
        self.taken.add(payment)
        if intent.creditor not in self.accounts:
            return "REVERSED AC03"
        self.balance[intent.debtor] -= amount
        self.balance[intent.creditor] += amount
        return "COMPLETED"
