"""Builders for tests: valid records with one word, each field open to be changed."""

from typing import Any

from schemas.events import AccountAction, AccountCommand, AliasAction, AliasClaim, Intent, Kind, Micros, Minor
from schemas.keys import partition_of
from streams.rules import Rules
from streams.tables import MemoryTable, TableSpec
from streams.turn import AliasOwner, Received, Turn

AT = Micros(1_763_719_200_000_000)
"""The time of tests: 2025-11-21 10:00:00 UTC, in µs."""
PARTITIONS = 4
TOPIC_OF = {Intent: "payments.intents", AccountCommand: "accounts.commands", AliasClaim: "accounts.aliases"}


def an_intent(payment_id: str = "pay-1", **fields: Any) -> Intent:
    """A valid TRANSFER of 12.00 EUR from alice to shop; `fields` replace any of its fields."""
    intent = Intent(
        intent_id=f"i-{payment_id}",
        idempotency_key=f"k-{payment_id}",
        kind=Kind.TRANSFER,
        payment_id=payment_id,
        debtor="alice",
        creditor="shop",
        amount_minor=Minor(1200),
        currency="EUR",
        requested_at=AT,
    )
    return intent._replace(**fields)


def a_command(account: str = "alice", **fields: Any) -> AccountCommand:
    """A valid OPEN of an account in EUR with NO_OVERDRAFT; `fields` replace any of its fields."""
    command = AccountCommand(
        command_id=f"c-{account}",
        account=account,
        command=AccountAction.OPEN,
        currency="EUR",
        requested_at=AT,
        flags=("NO_OVERDRAFT",),
    )
    return command._replace(**fields)


def a_claim(alias: str = "EMAIL:shop@example.org", account: str = "shop", **fields: Any) -> AliasClaim:
    """A valid CLAIM of an alias; `fields` replace any of its fields."""
    claim = AliasClaim(
        claim_id=f"claim-{alias}", alias=alias, account=account, command=AliasAction.CLAIM, requested_at=AT
    )
    return claim._replace(**fields)


def key_of(value: Any) -> str:
    """The record key that the contract asks for: debtor, account or alias (credits: creditor)."""
    for name, field in (("AliasClaim", "alias"), ("AccountCommand", "account"), ("Credit", "creditor")):
        if type(value).__name__ == name:
            return str(getattr(value, field))
    return str(value.debtor)


def received(value: Any, offset: int = 0, **fields: Any) -> Received:
    """`value` as read from its topic, with the right key and partition (of 4) unless `fields` say otherwise."""
    key = key_of(value)
    topic = {"Credit": "ledger.credits", "Reversal": "ledger.reversals"}.get(type(value).__name__)
    record = Received(
        topic=topic or TOPIC_OF[type(value)],
        partition=partition_of(key, PARTITIONS),
        offset=offset,
        timestamp=AT,
        key=key.encode(),
        value=value,
    )
    return record._replace(**fields)


def a_turn(tables: Any = (), **fields: Any) -> Turn[Any]:
    """A turn at `AT` on alice's partition (of 4). Fields: at, partition, partitions, aliases, rules."""
    aliases: dict[str, AliasOwner] = fields.pop("aliases", {})
    known: dict[str, Any] = {
        "at": AT,
        "partition": partition_of("alice", PARTITIONS),
        "partitions": PARTITIONS,
        "aliases": aliases,
        "rules": fields.pop("rules", None) or Rules(),
    }
    return Turn(tables=tables, **(known | fields))


def memory(bind: Any, specs: tuple[TableSpec, ...]) -> Any:
    """An agent's tables object over fresh in-memory tables: `memory(AdmissionTables, TABLES)`."""
    return bind(*(MemoryTable[Any]() for _ in specs))
