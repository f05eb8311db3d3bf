"""A small world for the ledger's tests: partitions with admission and ledger, fed by hand, without Kafka.

Verdicts come from the test (`verdict`), not from screening. After each step every row goes through
JSON, as it does in the engine.
"""

from collections import defaultdict
from typing import Any

import orjson
from builders import AT, PARTITIONS, TOPIC_OF, a_command, an_intent, key_of

from schemas.events import AccountAction, Intent, Kind, RiskDecision
from schemas.keys import partition_of
from streams import admission, ledger
from streams.rules import Rules
from streams.tables import MemoryTable
from streams.turn import AliasOwner, Received, Screened, Turn

ORDER = ("accounts.commands", "ledger.reversals", "ledger.credits", "payments.intents")
APPROVED = (10, RiskDecision.APPROVE, (), "1")


class World:
    """Logs by (topic, partition), tables by partition; `at` is the clock, in µs."""

    def __init__(self, rules: Rules | None = None, partitions: int = PARTITIONS) -> None:
        self.rules, self.partitions, self.at = rules or Rules(), partitions, AT
        self.log: dict[tuple[str, int], list[Received]] = defaultdict(list)
        self.read: dict[tuple[str, int], int] = defaultdict(int)
        self.letters: list[Any] = []
        self.alerts: list[Any] = []
        self.verdicts: dict[str, tuple[Any, ...]] = {}
        self.tables = [_tables(ledger.LedgerTables, ledger.TABLES) for _ in range(partitions)]
        self.admitted = [_tables(admission.AdmissionTables, admission.TABLES) for _ in range(partitions)]
        self.aliases: dict[str, AliasOwner] = {}
        self.order: list[Any] = []
        """Every posting, in the order of the steps."""

    def send(self, *values: Any) -> "World":
        """Publishes commands or intents."""
        for value in values:
            self._append(TOPIC_OF[type(value)], key_of(value), value)
        return self

    def open(self, *accounts: str, **fields: Any) -> "World":
        """Opens accounts in EUR, with NO_OVERDRAFT unless `fields` say otherwise."""
        return self.send(*(a_command(account, **fields) for account in accounts)).run()

    def verdict(self, intent_id: str, decision: RiskDecision, score: int = 700) -> "World":
        """What screening says of an intent."""
        self.verdicts[intent_id] = (score, decision, ("a-rule",), "1")
        return self

    def _append(self, topic: str, key: str, value: Any, partition: int | None = None) -> None:
        where = partition_of(key, self.partitions) if partition is None else partition
        log = self.log[topic, where]
        log.append(Received(topic, where, len(log), self.at, key.encode(), value))

    def run(self, most: int = 1_000_000, deadlines: int = 2_000) -> "World":
        """Steps every partition, at most `most` records of each topic at a time, until all is quiet."""
        while sum(self.step(partition, most, deadlines) for partition in range(self.partitions)):
            pass
        return self

    def step(self, partition: int, most: int = 1_000_000, deadlines: int = 2_000) -> int:
        """One step of one partition, in the order of R12; gives the number of records and deadlines."""
        turn = Turn(self.at, partition, self.partitions, self.tables[partition], self.aliases, self.rules)
        done = [ledger.expire(turn, deadlines)]
        count = done[0].deadlines
        for topic in ORDER:
            start = self.read[topic, partition]
            batch = self.log[topic, partition][start : start + most]
            self.read[topic, partition] += len(batch)
            count += len(batch)
            done.append(self._decide(topic, batch, turn))
        for decided in done:
            self.letters += decided.letters
            self.alerts += decided.alerts
            for out in decided.records:
                self._append(*out)
            self.order += [out.value for out in decided.records if out.topic == "ledger.postings"]
        for spec, table in zip(ledger.TABLES, self.tables[partition], strict=True):
            table.rows = {
                key: spec.row(*orjson.loads(orjson.dumps(row, default=tuple))) for key, row in table.rows.items()
            }
        return count

    def _decide(self, topic: str, batch: list[Received], turn: Turn[Any]) -> Any:
        if topic == "accounts.commands":
            return ledger.obey(batch, turn)
        if topic == "ledger.reversals":
            return ledger.give_back(batch, turn)
        if topic == "ledger.credits":
            return ledger.credit(batch, turn)
        decided = admission.admit(
            batch,
            Turn(self.at, turn.partition, self.partitions, self.admitted[turn.partition], self.aliases, self.rules),
        )
        self.letters += decided.letters
        self.alerts += decided.alerts
        return ledger.debit([self._screened(admitted) for admitted in decided.handed_on], turn)

    def _screened(self, admitted: Any) -> Screened:
        intent: Intent = admitted.intent
        scored = intent.kind == Kind.TRANSFER and not (admitted.repeats or admitted.conflicts or admitted.refusal)
        return Screened(admitted, *(self.verdicts.get(intent.intent_id, APPROVED) if scored else ()))

    def values(self, topic: str) -> list[Any]:
        """Every record of a topic, partition by partition."""
        return [r.value for p in range(self.partitions) for r in self.log[topic, p]]

    @property
    def events(self) -> list[Any]:
        """Every event on payments.events."""
        return self.values("payments.events")

    @property
    def answers(self) -> list[Any]:
        """Every answer on accounts.events."""
        return self.values("accounts.events")

    def story(self, payment_id: str) -> list[str]:
        """Statuses of a payment's events with their reasons, by sequence: `DECLINED AM04`."""
        events = sorted((e for e in self.events if e.payment_id == payment_id), key=lambda e: e.sequence)
        return [f"{e.status} {e.reason}" if e.reason else str(e.status) for e in events]

    def purses(self) -> dict[tuple[str, str], list[int]]:
        """(account, currency) -> debits pending, posted, credits pending, posted, last sequence."""
        rows = [item for tables in self.tables for item in tables.accounts.rows.items()]
        return {(account, purse[0]): list(purse[1:]) for account, row in rows for purse in row.purses}

    def balance(self, account: str, currency: str = "EUR") -> int:
        """Credits less debits, posted."""
        purse = self.purses()[account, currency]
        return purse[3] - purse[1]


def _tables(bind: Any, specs: Any) -> Any:
    return bind(*(MemoryTable[Any]() for _ in specs))


def a_world(rules: Rules | None = None) -> World:
    """The bank may overdraw; alice has 50.00 EUR; shop is open."""
    world = World(rules).open("alice", "shop").open("bank", flags=("DEBIT_NORMAL",))
    pay(world, "salary", debtor="bank", creditor="alice", amount_minor=5000)
    return world


def pay(world: World, payment_id: str, **fields: Any) -> World:
    """Sends a transfer and runs until all is quiet."""
    return world.send(an_intent(payment_id, **fields)).run()


def a_review(decision: RiskDecision = RiskDecision.REVIEW, **fields: Any) -> World:
    """A world in which pay-1 of alice waits."""
    return pay(a_world().verdict("i-pay-1", decision), "pay-1", **fields)


def decide(world: World, kind: Kind, decided_by: str | None = "ana", name: str = "d", **fields: Any) -> World:
    """Sends an APPROVE or REJECT of pay-1."""
    known = {"kind": kind, "decided_by": decided_by, "intent_id": f"i-{name}", "idempotency_key": f"k-{name}"}
    return pay(world, "pay-1", **(known | fields))


def order(account: str, command: AccountAction, **fields: Any) -> Any:
    """A command that opens nothing."""
    known = {"command": command, "command_id": f"{command}-{account}", "flags": ()}
    return a_command(account, **(known | fields))
