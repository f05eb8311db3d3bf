"""Headrace's engine with the rules of the common job in place of its own: what the ratios to the peers are taken from.

The rules are job.py's, over the engine's tables; all else is the engine as `headrace run` starts it: Faust agents,
one transaction per step, a packed changelog, a journal, RocksDB behind the commit.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.peers import job
from headrace.metrics import Metrics
from schemas.events import Intent, Minor, PaymentEvent, PaymentState, Status
from streams.tables import Table, TableSpec, new
from streams.turn import Decided, Out, Received, Turn
from topologies import topics
from topologies.engine.admin import create_topics
from topologies.engine.config import ClusterConfig, EngineConfig
from topologies.engine.worker import run_worker
from topologies.plan import Agent, Plan
from topologies.topics import Topic

ROLE = "job"
ACCOUNTS = "accounts"


class Purse(NamedTuple):
    """An account: its balance in minor units, then (five minutes, count, sum) for each slice that had an intent."""

    balance: int
    slices: Sequence[int] = ()


class Key(NamedTuple):
    """Who had an idempotency key first."""

    intent_id: str


class Tables(NamedTuple):
    """The job's tables."""

    accounts: Table[Purse]
    keys: Table[Key]


@dataclass(frozen=True)
class IntentsAgain(Topic):
    """A topic whose values are intents, under another name."""

    @property
    def subject(self) -> str:
        """The subject of the intents."""
        return topics.INTENTS.subject


CREDITS = IntentsAgain(topics.CREDITS.name, Intent, "creditor")


def debit(opening: int, batch: Sequence[Received], turn: Turn[Tables]) -> Decided:
    """The first leg: idempotency, velocity, balance, the debit; the intent goes on under the creditor's key."""
    decided, (accounts, keys) = Decided(), turn.tables
    names = [f"{one.value.debtor}\0{one.value.idempotency_key}" for one in batch]
    keys.prefetch(names)
    accounts.prefetch([one.value.debtor for one in batch])
    for received, name in zip(batch, names, strict=True):
        intent: Intent = received.value
        if keys.get(name) is not None:
            decided.records.append(_ended(intent, job.REPEATED, turn))
            continue
        keys.put(name, new(Key, (intent.intent_id,)))
        after, reason = _debited(accounts.get(intent.debtor) or Purse(opening), intent)
        if after is None:
            decided.records.append(_ended(intent, reason, turn))
        else:
            accounts.put(intent.debtor, after)
            decided.records.append(new(Out, (CREDITS.name, intent.creditor, intent, None)))
    return decided


def _debited(purse: Purse, intent: Intent) -> tuple[Purse | None, str | None]:
    balance, slices = purse
    amount, now = intent.amount_minor, intent.requested_at // job.SLICE
    kept: list[int] = []
    for place in range(0, len(slices), 3):
        if slices[place] > now - job.SLICES:
            kept += slices[place : place + 3]
    if sum(kept[1::3]) >= job.COUNT_MOST or sum(kept[2::3]) + amount > job.SUM_MOST:
        return None, job.TOO_FAST
    if balance < amount:
        return None, job.TOO_POOR
    if kept and kept[-3] == now:
        kept[-2:] = kept[-2] + 1, kept[-1] + amount
    else:
        kept += now, 1, amount
    return new(Purse, (balance - amount, kept)), None


def credit(opening: int, batch: Sequence[Received], turn: Turn[Tables]) -> Decided:
    """The second leg: the credit, and the outcome."""
    decided, accounts = Decided(), turn.tables.accounts
    accounts.prefetch([one.value.creditor for one in batch])
    for received in batch:
        intent: Intent = received.value
        balance, slices = accounts.get(intent.creditor) or Purse(opening)
        accounts.put(intent.creditor, new(Purse, (balance + intent.amount_minor, slices)))
        decided.records.append(_ended(intent, None, turn))
    return decided


def _ended(intent: Intent, reason: str | None, turn: Turn[Tables]) -> Out:
    status, state = (
        (Status.COMPLETED, PaymentState.COMPLETED) if reason is None else (Status.DECLINED, PaymentState.DECLINED)
    )
    event = PaymentEvent(
        intent.intent_id, intent.payment_id, intent.intent_id, 0, status, intent.debtor, intent.creditor,
        Minor(intent.amount_minor), intent.currency, turn.at, reason, payment_state=state,
    )  # fmt: skip
    return new(Out, (topics.EVENTS.name, intent.debtor, event, None))


def plan(opening: int) -> Plan:
    """The job as a plan; `opening` in minor units is what an account starts with."""
    inlets: dict[Any, Any] = {CREDITS: partial(credit, opening), topics.INTENTS: partial(debit, opening)}
    tables = (TableSpec(ACCOUNTS, Purse), TableSpec("keys", Key))
    agent = Agent("transfers", inlets, (CREDITS, topics.EVENTS), tables, Tables)
    return Plan(ROLE, (agent,), (CREDITS, topics.INTENTS))


def changelog_of(told: job.Told) -> str:
    """The name of the changelog, with its prefix."""
    return told.intents.removesuffix(topics.INTENTS.name) + topics.changelog(ROLE).name


def main() -> int:
    """Runs until SIGTERM."""
    told = job.told()
    prefix = told.intents.removesuffix(topics.INTENTS.name)
    cluster, wanted = ClusterConfig(told.bootstrap, prefix), plan(told.opening)
    create_topics(cluster, [wanted], told.partitions, 1)
    config = EngineConfig(cluster, Path(told.folder), f"worker-{told.worker}", web_port=0)
    metrics = Metrics(group=f"{prefix}headrace.{ROLE}")
    return run_worker(wanted, config, metrics, metrics.render)


if __name__ == "__main__":
    sys.exit(main())
