"""Every topic of the contract, as data: what a record is, its key, how it is kept.

Names stand here without the topic prefix (`HEADRACE_TOPIC_PREFIX`), which the engine and the
readers put before them.
"""

from dataclasses import dataclass, field
from typing import Any

from schemas import events, internal

KEPT = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
LETTER_BYTES = 2_097_152
"""The largest dead letter: twice the largest record that a broker takes by default, so any fits with our headers."""
CHANGELOG_BYTES = 524_288
"""Where a step's rows are more, they go into several records."""
APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


@dataclass(frozen=True)
class Topic:
    """A topic: `record` is the type of its values (None: any bytes), `key` what its key names."""

    name: str
    record: Any
    key: str
    config: dict[str, str] = field(default_factory=lambda: dict(KEPT), compare=False)

    @property
    def subject(self) -> str:
        """The schema subject of its values."""
        return f"{self.name}-value"


INTENTS = Topic("payments.intents", events.Intent, "debtor", KEPT | APPEND_TIME)
EVENTS = Topic("payments.events", events.PaymentEvent, "debtor")
POSTINGS = Topic("ledger.postings", events.Posting, "account")
CREDITS = Topic("ledger.credits", events.Credit, "creditor")
REVERSALS = Topic("ledger.reversals", events.Reversal, "debtor")
COMMANDS = Topic("accounts.commands", events.AccountCommand, "account", KEPT | APPEND_TIME)
ALIASES = Topic("accounts.aliases", events.AliasClaim, "alias", KEPT | APPEND_TIME)
ACCOUNT_EVENTS = Topic("accounts.events", events.AccountEvent, "account")
BATCHES = Topic("settlement.batches", events.SettlementBatch, "account")
DELIVERIES = Topic("notification.deliveries", internal.Delivery, "debtor")
ATTEMPTS = Topic("notification.attempts", internal.Attempt, "debtor")
JOURNAL = Topic("headrace.journal", internal.JournalRecord, "none")
SETTINGS = Topic("headrace.settings", internal.SettingsRecord, "hash")
REDRIVES = Topic("headrace.redrives", internal.Redrive, "letter")

CONTRACT = (
    INTENTS, EVENTS, POSTINGS, CREDITS, REVERSALS, COMMANDS, ALIASES, ACCOUNT_EVENTS, BATCHES, JOURNAL, SETTINGS,
    REDRIVES, DELIVERIES, ATTEMPTS,
)  # fmt: skip
BY_NAME = {topic.name: topic for topic in CONTRACT}


def dead_letters(agent: str) -> Topic:
    """The dead-letter topic of an agent."""
    return Topic(f"dlq.payments.{agent}", None, "as read", KEPT | {"max.message.bytes": str(LETTER_BYTES)})


def changelog(role: str) -> Topic:
    """The changelog of a role's tables: what `topologies/engine/changelog.py` packs, one or more records per step."""
    return Topic(f"headrace.changelog.{role}", None, "none", KEPT | {"max.message.bytes": str(LETTER_BYTES)})
