"""The core and settlement on one in-memory log, each step by step as its own worker would."""

from collections.abc import Sequence
from random import Random
from typing import Any

from builders import AT, a_command, an_intent
from journalled import Journalled, Logs

from schemas.events import Micros, Minor
from streams.rules import Rules
from streams.settlement_rules import settlement_rules
from topologies import topics
from topologies.payments import CORE, SETTLEMENT

CUSTOMERS = [f"customer-{number}" for number in range(6)]
SHOPS = [f"shop-{number}" for number in range(5)]
SECOND = 1_000_000
EVERY_MINUTE = Rules(
    settlement=settlement_rules(
        {
            "every_s": 60,
            "grace_s": 5,
            "fees": "card",
            "schedules": {
                "card": {
                    "bp": 275,
                    "fixed_minor": {"EUR": 30},
                    "split": [["own", 70], ["partner", 20], ["scheme", 10]],
                },
                "free": {},
            },
            "merchants": {"shop-0": {"fees": "free"}},
        }
    )
)


class Both:
    """Two workers, one log; `now` is the clock of both."""

    def __init__(self, rules: Rules = EVERY_MINUTE, seed: int = 1) -> None:
        self.random = Random(seed)
        self.core = Journalled(CORE, rules, seed)
        self.settlement = Journalled(SETTLEMENT, rules, seed + 1)
        self.settlement._log = self.core._log
        self.count = 0
        self.core.publish(topics.COMMANDS, "bank", a_command("bank", flags=("DEBIT_NORMAL",)))
        for name in CUSTOMERS:
            self.core.publish(topics.COMMANDS, name, a_command(name))
        for name in SHOPS:
            self.core.publish(topics.COMMANDS, name, a_command(name, flags=("NO_OVERDRAFT", "MERCHANT")))
        self.core.run()
        for name in CUSTOMERS:
            self.pay("bank", name, 10_000_000)
        self.core.run()

    @property
    def now(self) -> int:
        return self.core.now

    def pay(self, debtor: str, creditor: str, amount_minor: int) -> None:
        """Publishes a TRANSFER."""
        self.count += 1
        intent = an_intent(
            f"pay-{self.count}", debtor=debtor, creditor=creditor, amount_minor=Minor(amount_minor),
            requested_at=self.core.now,
        )  # fmt: skip
        self.core.publish(topics.INTENTS, debtor, intent)

    def later(self, seconds: float) -> "Both":
        """Time passes."""
        self.core.now = self.settlement.now = Micros(self.core.now + int(seconds * SECOND))
        return self

    def run(self, batch: int = 1_000_000) -> "Both":
        """Both go on until nothing is left to do."""
        self.core.run(batch=batch)
        self.settlement.run(batch=batch)
        return self

    def live(self, count: int, leap_s: float = 20.0) -> "Both":
        """A random life: sales, payments between others, steps of either role cut anywhere."""
        dice = self.random
        for _ in range(count):
            self.later(dice.random() * leap_s)
            debtor = dice.choice([*CUSTOMERS, *CUSTOMERS, *SHOPS])
            creditor = dice.choice([name for name in [*SHOPS, *SHOPS, *CUSTOMERS, "nobody"] if name != debtor])
            self.pay(debtor, creditor, dice.choice((1, 29, 100, 1234, 99_999)))
            if dice.random() < 0.5:
                self.core._step(dice.randrange(4), dice.choice((1, 3, 1000)))
            if dice.random() < 0.3:
                self.settlement._step(dice.randrange(4), dice.choice((1, 2, 1000)))
        return self

    def rest(self) -> "Both":
        """All is done, and every window has closed."""
        return self.run().later(120).run()

    def logs(self) -> Logs:
        """What stands on the log, for the audit."""
        return Logs(self.core, (CORE, SETTLEMENT))

    def batches(self) -> list[Any]:
        """Every batch."""
        return self.core.records(topics.BATCHES)

    def settled(self) -> list[Any]:
        """Every SETTLED event."""
        return [event for event in self.core.records(topics.EVENTS) if event.status == "SETTLED"]

    def members(self) -> list[tuple[Any, Any, Sequence[Any]]]:
        """(posting, entry, fee entries) of every credit of a shop."""
        return [
            (posting, entry, [fee for fee in posting.entries if fee.code == "FEE" and fee.account == entry.account])
            for posting in self.core.records(topics.POSTINGS)
            for entry in posting.entries
            if entry.account in SHOPS and entry.code == "PRINCIPAL" and entry.direction == "CREDIT"
        ]


__all__ = ("AT", "CUSTOMERS", "EVERY_MINUTE", "SECOND", "SHOPS", "Both")
