"""A naive ledger: one book for all, fed with the inputs in the order in which the journal says they were decided.

It knows accounts, transfers, keys, reviews and the second leg, and nothing of tables, batches, offsets or transactions.
It shares no code with `streams/`.
"""

from dataclasses import dataclass, field
from typing import Any

from stories import FLOOR, RULES

from schemas.events import AccountAction, Intent, Kind

OPEN, FROZEN, CLOSED = "open", "frozen", "closed"


@dataclass
class Payment:
    """A payment's state; `story` has its answers, `held` and `sent` its money."""

    state: str = "new"
    creditor: str = ""
    alias: str | None = None
    amount: int = 0
    deadline: int = 0
    answers: list[str] = field(default_factory=list)
    """The latest answer is the last."""


@dataclass
class Account:
    """A purse."""

    overdraft: bool
    state: str = OPEN
    balance: int = 0
    held: int = 0


class Naive:
    """`answers` by intent id: what each intent must come to; a list is looked at when all is over."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.payments: dict[tuple[str, str], Payment] = {}
        self.answers: dict[str, list[str]] = {}
        self.commands: dict[tuple[str, str], bool] = {}
        self._keys: dict[tuple[str, str], tuple[Any, str]] = {}
        self._sent: dict[tuple[str, str], str] = {}

    def command(self, order: Any) -> None:
        """An account command."""
        account = self.accounts.get(order.account)
        if order.command is AccountAction.OPEN:
            if account is None:
                self.accounts[order.account] = Account("DEBIT_NORMAL" in order.flags)
        elif account is None or account.state is CLOSED:
            return
        elif order.command is AccountAction.CLOSE:
            if not account.balance and not account.held:
                account.state = CLOSED
        else:
            account.state = FROZEN

    def expire(self, at: int, is_home: Any) -> None:
        """Reviews whose deadline has passed, of the accounts that live on the step's partition."""
        for (debtor, _), payment in self.payments.items():
            if is_home(debtor):
                self._maybe_expire(debtor, payment, at)

    def _maybe_expire(self, debtor: str, payment: Payment, at: int) -> None:
        if payment.state == "review" and payment.deadline <= at:
            self.accounts[debtor].held -= payment.amount
            payment.state = "declined"
            payment.answers.append("DECLINED NOAS")

    def intent(self, intent: Intent, at: int, owner: str | None) -> None:
        """An intent at home; `owner` is whose its alias is."""
        key = (intent.debtor, intent.idempotency_key)
        body = (
            intent.kind,
            intent.payment_id,
            intent.creditor,
            intent.creditor_alias,
            intent.amount_minor,
            intent.currency,
        )
        paid = self.payments.setdefault((intent.debtor, intent.payment_id), Payment())
        if key in self._keys:
            said, first = self._keys[key]
            if said != body:
                self.answers[intent.intent_id] = ["DECLINED AM05"]
            else:
                self._maybe_expire(intent.debtor, paid, at)
                self._repeat(intent, first)
            return
        self._keys[key] = (body, intent.intent_id)
        self._maybe_expire(intent.debtor, paid, at)
        refused = self._refusal(intent, paid, owner)
        if refused is not None:
            self.answers[intent.intent_id] = [f"DECLINED {refused}"]
        elif intent.kind is Kind.TRANSFER:
            self._send_or_hold(intent._replace(creditor=owner or intent.creditor), paid, at)
        else:
            self._judge(intent, paid)

    def _repeat(self, intent: Intent, first: str) -> None:
        """The first intent's latest answer; while its money is under way, its end."""
        known = self.answers[first]
        paid = self.payments[intent.debtor, intent.payment_id]
        self.answers[intent.intent_id] = known if paid.answers is known and paid.state == "sent" else known[-1:]

    def _refusal(self, intent: Intent, paid: Payment, owner: str | None) -> str | None:
        if intent.debtor == intent.creditor:
            return "same-account"
        if intent.kind is not Kind.TRANSFER:
            if paid.state == "new":
                return "AG09"
            same = paid.alias == intent.creditor_alias if intent.creditor_alias else paid.creditor == intent.creditor
            if not same:
                return "AC03"
            return None if paid.state == "review" else "wrong-state"
        if paid.state not in {"new", "declined"}:
            return "DU03"
        if intent.creditor_alias is not None and owner in {None, intent.debtor}:
            return "same-account" if owner else "BE23"
        account = self.accounts.get(intent.debtor)
        if account is None:
            return "AC02"
        if account.state is CLOSED:
            return "AC04"
        if account.state is FROZEN:
            return "AC06"
        if not account.overdraft and account.balance - account.held < intent.amount_minor:
            return "AM04"
        return None

    def _send_or_hold(self, intent: Intent, paid: Payment, at: int) -> None:
        debtor = self.accounts[intent.debtor]
        paid.creditor, paid.amount, paid.answers = intent.creditor, intent.amount_minor, []
        paid.alias = intent.creditor_alias
        self.answers[intent.intent_id] = paid.answers
        if intent.amount_minor > FLOOR:
            paid.state, paid.deadline = "review", at + RULES.review_deadline
            debtor.held += paid.amount
            paid.answers.append("REVIEW")
        else:
            paid.state = "sent"
            debtor.balance -= paid.amount

    def _judge(self, intent: Intent, paid: Payment) -> None:
        """An APPROVE or REJECT of a review: it shares the payment's story."""
        debtor = self.accounts[intent.debtor]
        self.answers[intent.intent_id] = paid.answers
        debtor.held -= paid.amount
        if intent.kind is Kind.REJECT:
            paid.state = "declined"
            paid.answers.append("DECLINED FRAD")
        else:
            paid.state = "sent"
            debtor.balance -= paid.amount

    def credit(self, debtor: str, payment_id: str) -> None:
        """The second leg, where the creditor lives."""
        paid = self.payments[debtor, payment_id]
        account = self.accounts.get(paid.creditor)
        reasons = {CLOSED: "AC04", FROZEN: "AC06"}
        reason = "AC03" if account is None else reasons.get(account.state)
        if account is None or reason is not None:
            self._sent[debtor, payment_id] = f"REVERSED {reason}"
            return
        account.balance += paid.amount
        paid.answers.append("COMPLETED")

    def give_back(self, debtor: str, payment_id: str) -> None:
        """A refused credit is back home."""
        paid = self.payments[debtor, payment_id]
        self.accounts[debtor].balance += paid.amount
        paid.state = "reversed"
        paid.answers.append(self._sent[debtor, payment_id])
