"""What a decision is given and what it gives back.

A decision is a deterministic function `decide(batch, turn) -> Decided` over the records of one
partition. It reads no clock, no chance, no disk, no network; it never logs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from schemas.events import Intent, Micros, RiskDecision
from streams.rules import Rules

Tables = TypeVar("Tables")


class Received(NamedTuple):
    """A record as it was read: where it stood, and what it says."""

    topic: str
    """Name without the topic prefix."""
    partition: int
    offset: int
    timestamp: Micros
    """The record's Kafka timestamp, in µs."""
    key: bytes | None
    value: Any
    """`Intent`, `AccountCommand`, `AliasClaim`, `Credit` or `Reversal`, by topic."""


class Admitted(NamedTuple):
    """An intent with admission's mark. At most one of `repeats`, `conflicts` and `refusal` is set."""

    received: Received
    intent: Intent
    """With the creditor resolved where an alias was given."""
    key_digest: str
    """`keys.digest(debtor, idempotency_key)[:32]`."""
    fingerprint: str
    """R18, 32 hex digits."""
    repeats: bool = False
    conflicts: bool = False
    refusal: str | None = None
    """A `Reason`."""
    alias_version: int | None = None


class Screened(NamedTuple):
    """An admitted intent with screening's verdict; score and decision are None where it was not scored."""

    admitted: Admitted
    risk_score: int | None = None
    risk_decision: RiskDecision | None = None
    risk_reasons: tuple[str, ...] = ()
    risk_version: str | None = None


class Out(NamedTuple):
    """A record to be written. `partition` None: the one that `key` hashes to."""

    topic: str
    """Name without the topic prefix."""
    key: str
    value: Any
    partition: int | None = None


class Letter(NamedTuple):
    """An input that contradicts the contract: it goes to the agent's dead-letter topic."""

    received: Received
    code: str
    """Kebab-case."""
    message: str
    """What is wrong and the way out, in a sentence; never the payload itself."""


class Alert(NamedTuple):
    """What a person should look at. Nothing is refused for it."""

    code: str
    """Kebab-case: few values, a metric counts them."""
    message: str
    """Where and what, in a sentence; never the payload itself."""


@dataclass(slots=True)
class Decided:
    """What a decision wants: a batch for the next agent, records for topics, dead letters, alerts."""

    handed_on: list[Any] = field(default_factory=list)
    records: list[Out] = field(default_factory=list)
    letters: list[Letter] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    deadlines: int = 0
    """How many deadlines were carried out."""


class AliasOwner(NamedTuple):
    """Who owns an alias: one entry of the table that every worker reads whole (R25)."""

    account: str | None
    """None while a released alias rests."""
    version: int
    """Offset of the claim in accounts.aliases."""
    released_at: Micros | None = None


@dataclass(slots=True)
class Turn(Generic[Tables]):
    """One step of one partition, as one agent sees it."""

    at: Micros
    """The step's time: the wall clock at its start, never going back within a partition."""
    partition: int
    partitions: int
    """Partitions of every account-keyed topic."""
    tables: Tables
    """The agent's tables, by name."""
    aliases: Mapping[str, AliasOwner]
    rules: Rules
    read_to_end: bool = False
    """Whether all inputs were read to their ends before: the step takes nothing of them (R29)."""
