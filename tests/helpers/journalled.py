"""The in-memory driver with all that a real worker leaves: alias offsets, hashes, settings, a changelog, sweeps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import orjson
from builders import AT, a_claim, a_command, an_intent

from replay.reader import Place, Raw, TopicMissing
from schemas import codec
from schemas.events import Intent, Kind, Micros, Minor, RiskDecision
from schemas.internal import SettingsRecord
from streams import screening
from streams.rules import Rules
from streams.turn import Decided, Turn
from topologies import topics
from topologies.engine.changelog import head_of, pack, rows_of, unpack
from topologies.engine.identity import code_hash, settings_json
from topologies.engine.memory import Memory, Stored
from topologies.engine.step import Parcel, PartitionStep
from topologies.engine.step import Place as StepPlace
from topologies.engine.store import encode_row, encode_rows, row_key
from topologies.payments import CORE
from topologies.plan import Plan

NAMES = tuple(f"customer-{n}" for n in range(12))
ALIAS = "EMAIL:one@example.org"
CHANGELOG = topics.changelog(CORE.role).name


class Journalled(Memory):
    """`random` decides when rows take the way through JSON, as they do when a worker reads its store."""

    def __init__(self, plan: Any = CORE, rules: Rules | None = None, seed: int = 1) -> None:
        super().__init__(plan, rules=rules, now=int(AT))
        self.random = Random(seed)
        self.sweeping = True
        self.changelog = topics.changelog(plan.role).name
        self.walks: set[int] = set()
        """Partitions whose next step writes all rows once more, as a checkpoint's walk does."""
        self.logged_from = [0] * self.partitions
        """The changelog's base, by partition."""
        self.hash = ""
        self.use(self._rules)

    def use(self, rules: Rules, version: str = "1") -> None:
        """A worker with these rules starts."""
        self._rules, self.hash = rules, code_hash(rules)
        told = SettingsRecord(self.hash, version, settings_json(rules).decode(), self.now)
        self._append(topics.SETTINGS.name, 0, self.hash.encode(), codec.encode(told))

    def _commit(self, partition: int, step: PartitionStep) -> None:
        step.place = replace(step.place, code_hash=self.hash)
        shared = range(self.partitions) if self.plan.shared else ()
        claims = [len(self._log.get((topics.ALIASES.name, p), [])) for p in shared]
        journal = step.journal
        step.journal = lambda number, _, outputs: journal(number, claims, outputs)  # type: ignore[method-assign]
        if self.sweeping:
            self._sweep(partition, step)
        rows: list[tuple[bytes, bytes | None]] = []
        if partition in self.walks:
            self.walks.remove(partition)
            self.logged_from[partition] = len(self._log.get((self.changelog, partition), []))
            for spec in self.plan.tables():
                rows += encode_rows(spec.name, self._bases[spec.name, partition].rows)
        for table, changed in step.tables.changes().items():
            rows += encode_rows(table, changed)
        for packed in pack(self._steps[partition] + 1, self.logged_from[partition], rows):
            self._append(self.changelog, partition, None, packed)
        super()._commit(partition, step)
        for spec in self.plan.tables():
            rows = self._bases[spec.name, partition].rows
            for key in [key for key in rows if self.random.random() < 0.1]:
                rows[key] = spec.row(*orjson.loads(encode_row(rows[key])))

    def _sweep(self, partition: int, step: PartitionStep) -> None:
        for spec in self.plan.tables():
            overlay = step.tables.overlays[spec.name]
            for key, row in self._bases[spec.name, partition].rows.items():
                end = spec.expires(row) if spec.expires else None
                if end is not None and end <= step.at and key not in overlay.changed:
                    overlay.delete(key)

    def condemn(self, topic: Any, partition: int) -> None:
        """The next record of a topic becomes a dead letter in a step of its own, as if no agent could process it."""
        taken = [self._take(each, partition, 1 if each == topic else 0) for each in self.plan.inputs]
        place = StepPlace(self.plan, partition, self.partitions, self._rules, self.hash)
        step = PartitionStep(place, self._tables[partition], self._aliases, self.now, taken)
        [raw] = next(each.raws for each in taken if each.topic == topic)
        step.parcels.append(Parcel(self.plan.reader_of(topic).name, topic, partition, raw, "unprocessable", "why"))
        self._commit(partition, step)


class Logs:
    """What stands on the log of a `Memory`, as a source for the audit; a test may spoil it."""

    def __init__(self, memory: Memory, plans: Sequence[Plan] = (CORE,)) -> None:
        needed = {(t.name, p) for plan in plans for t in plan.topics() for p in range(memory.partitions)}
        self.partitions = memory.partitions
        self.log: dict[Place, list[Stored | None]] = {place: [] for place in sorted(needed)}
        self.log.update({place: list(log) for place, log in memory._log.items()})
        for place in [place for place in self.log if (place[0], 0) not in self.log]:
            self.log[place[0], 0] = []
        """None: an offset without a record."""
        self.first: dict[Place, int] = {}
        """The first offset that is there, where it is not 0."""

    def require(self, names: Sequence[str]) -> dict[str, int]:
        there = {topic: self.partitions for topic, _ in self.log}
        if missing := [name for name in names if name not in there]:
            raise TopicMissing(missing[0])
        return there

    def ends(self, names: Sequence[str]) -> dict[Place, int]:
        return {place: len(log) for place, log in self.log.items() if place[0] in names}

    def starts(self, names: Sequence[str]) -> dict[Place, int]:
        return {place: self.first.get(place, 0) for place in self.log if place[0] in names}

    def read(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        for (name, partition), log in self.log.items():
            if name != topic:
                continue
            for offset, kept in enumerate(log[: ends.get((name, partition), 0)]):
                if kept is not None and offset >= (starts or {}).get((name, partition), 0):
                    headers = list(kept.headers)
                    yield Raw(topic, partition, offset, kept.timestamp, kept.key, kept.value, headers)

    def places(self, topic: Any) -> list[tuple[int, int, Stored]]:
        """(partition, offset, record) of all records of a topic."""
        return [
            (p, offset, kept)
            for (name, p), log in self.log.items()
            for offset, kept in enumerate(log)
            if name == topic.name and kept is not None
        ]

    @staticmethod
    def decoded(topic: Any, kept: Stored) -> Any:
        """What a record says."""
        return codec.decoder(topic.subject)(kept.value)

    def delete_head(self, place: Place, first: int) -> None:
        """Nothing is there any more before the offset `first`."""
        self.log[place][:first] = [None] * first
        self.first[place] = first

    def leave(self, partition: int, *rows: tuple[str, bytes, bytes | None]) -> None:
        """One more record of the last step on the changelog: (table, key, row) of each."""
        log = self.log[CHANGELOG, partition]
        kept = next(kept for kept in reversed(log) if kept is not None)
        head = head_of(kept.value)
        [packed] = pack(head.step, head.base, [(row_key(table, "") + key, row) for table, key, row in rows])
        log.append(kept._replace(value=packed))

    def last_row(self, table: str) -> tuple[int, bytes, bytes]:
        """Partition, key and row of the last row that a partition's changelog has of a table."""
        for (topic, partition), log in self.log.items():
            found = [row for kept in log if kept and topic == CHANGELOG for row in rows_of(kept.value, table)]
            if found and (row := found[-1][2]) is not None:
                return partition, found[-1][1], row
        raise LookupError(table)

    def forget(self, partition: int, table: str, key: bytes, last: int | None = None) -> int:
        """Takes a row out of the changelog, all its versions or the last ones; how many there were."""
        log = self.log[CHANGELOG, partition]
        records = [(offset, head_of(kept.value), unpack(kept.value)[1]) for offset, kept in enumerate(log) if kept]
        stored = row_key(table, "") + key
        there = [(offset, row) for offset, _, rows in records for row in rows if row[0] == stored]
        gone = there[-last:] if last else there
        for offset, head, rows in records:
            [packed] = pack(head.step, head.base, [row for row in rows if (offset, row) not in gone])
            log[offset] = log[offset]._replace(value=packed)
        return len(there)

    def change(self, topic: Any, partition: int, offset: int, **fields: Any) -> None:
        """Replaces fields of a record of the contract."""
        kept = self.log[topic.name, partition][offset]
        assert kept is not None
        value = codec.encode(codec.decoder(topic.subject)(kept.value)._replace(**fields))
        self.log[topic.name, partition][offset] = kept._replace(value=value)


def doubt(batch: Sequence[Any], turn: Turn[Any]) -> Decided:
    """Screening that sends every transfer of 50.00 to review, so that reviews are sure to happen."""
    decided = screening.screen(batch, turn)
    decided.handed_on = [
        one._replace(risk_decision=RiskDecision.REVIEW) if one.admitted.intent.amount_minor == 5000 else one
        for one in decided.handed_on
    ]
    return decided


DOUBTFUL = replace(
    CORE,
    agents=tuple(replace(a, inlets={"admission": doubt}) if a.name == "screening" else a for a in CORE.agents),
)


def opened(rules: Rules | None = None, seed: int = 1) -> Journalled:
    """Funded accounts and one alias."""
    memory = Journalled(DOUBTFUL, rules, seed)
    memory.publish(topics.COMMANDS, "bank", a_command("bank", flags=("DEBIT_NORMAL",)))
    for name in NAMES:
        memory.publish(topics.COMMANDS, name, a_command(name))
    memory.publish(topics.ALIASES, ALIAS, a_claim(ALIAS, NAMES[1]))
    memory.run()
    for name in NAMES:
        fund = an_intent(
            f"fund-{name}", debtor="bank", creditor=name, amount_minor=Minor(500_000), requested_at=memory.now
        )
        memory.publish(topics.INTENTS, "bank", fund)
    return memory.run()


def something(random: Random, number: int, sent: list[Intent], now: Micros) -> tuple[Any, str, Any]:
    """Topic, key and value of the next record: a transfer, a repeat, a conflict, a verdict, a claim, or poison."""
    dice = random.random()
    if sent and dice < 0.35:
        intent = random.choice(sent)
        if dice < 0.1:
            return topics.INTENTS, intent.debtor, intent
        if dice < 0.15:
            other = intent._replace(amount_minor=Minor(intent.amount_minor + 1), intent_id=f"c-{number}")
            return topics.INTENTS, intent.debtor, other
        kind = Kind.APPROVE if dice < 0.3 else Kind.REJECT
        key = f"verdict-{random.randrange(number)}"
        decided = intent._replace(kind=kind, intent_id=f"v-{number}", idempotency_key=key, decided_by="ann")
        return topics.INTENTS, intent.debtor, decided
    if dice < 0.39:
        return random.choice((topics.INTENTS, topics.COMMANDS, topics.ALIASES)), random.choice(NAMES), b"poison"
    if dice < 0.45:
        alias = f"EMAIL:{random.randrange(9)}@example.org"
        command = random.choice(("CLAIM", "CLAIM", "RELEASE"))
        return topics.ALIASES, alias, a_claim(alias, random.choice(NAMES), claim_id=f"cl-{number}", command=command)
    alias = random.choice((None, None, None, ALIAS, f"EMAIL:{random.randrange(9)}@example.org"))
    intent = an_intent(
        f"pay-{random.randrange(2 * number + 2)}",
        intent_id=f"i-{number}",
        idempotency_key=f"k-{number}",
        debtor=random.choice(NAMES),
        creditor="" if alias else random.choice((*NAMES, "nobody")),
        creditor_alias=alias,
        amount_minor=Minor(random.choice((100, 5000, 5000, 90_000, 10_000_000))),
        requested_at=now,
        expires_at=random.choice((None, None, Micros(now + 600_000_000))),
    )
    sent.append(intent)
    return topics.INTENTS, intent.debtor, intent


def a_run(seed: int, count: int = 300, leap: int = 20_000_000, rules: Rules | None = None) -> Journalled:
    """A random life of `count` records; time leaps by up to `leap` µs between two of them."""
    memory, sent = opened(rules, seed), []
    random = memory.random
    for number in range(1, count + 1):
        memory.now = Micros(memory.now + random.randrange(1, leap))
        topic, key, value = something(random, number, sent, memory.now)
        memory.publish(topic, key, value)
        if random.random() < 0.3:
            memory.run(batch=random.choice((1, 3, 1000)))
    return memory.run()


class Moving(Logs):
    """Topics that grow while they are read: each call of `ends` sees the next moment."""

    def __init__(self, memory: Journalled, moments: list[dict[Any, int]]) -> None:
        super().__init__(memory)
        self._moments = moments

    def ends(self, names: Any) -> dict[Any, int]:
        moment = self._moments.pop(0) if len(self._moments) > 1 else self._moments[0]
        return {place: moment.get(place, 0) for place in self.log if place[0] in names}


def moments_of(memory: Journalled, seed: int) -> list[dict[Any, int]]:
    """Four moments in a life that goes on."""
    random, sent, moments = Random(seed), [], []
    for number in range(1_000, 1_080):
        memory.now = Micros(memory.now + random.randrange(1, 2_000_000))
        memory.publish(*something(random, number, sent, memory.now))
        memory._step(random.randrange(4), random.choice((1, 5)))
        if number % 20 == 19:
            moments.append({place: len(log) for place, log in memory._log.items()})
    return moments
