"""Small consistent worlds, record by record, for those who judge topics: no Kafka and no decisions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from builders import AT, PARTITIONS, a_command, an_intent

from replay.reader import Place, Raw, TopicMissing
from schemas import codec
from schemas.events import (
    AccountEvent,
    Credit,
    CreditAction,
    Direction,
    Entry,
    EntryCode,
    Intent,
    Kind,
    Layer,
    Micros,
    Minor,
    PaymentEvent,
    PaymentState,
    Posting,
    Reversal,
    ReversalAction,
    Status,
)
from schemas.internal import JournalInput, JournalLetter, JournalOutput, JournalRecord
from schemas.keys import derive_id, partition_of

INTENTS, EVENTS, POSTINGS = "payments.intents", "payments.events", "ledger.postings"
CREDITS, REVERSALS = "ledger.credits", "ledger.reversals"
COMMANDS, ANSWERS, JOURNAL = "accounts.commands", "accounts.events", "headrace.journal"
LETTERS = "dlq.payments.admission"
TOPICS = (INTENTS, EVENTS, POSTINGS, CREDITS, REVERSALS, COMMANDS, ANSWERS, JOURNAL, LETTERS)
SECOND = 1_000_000
DEBIT, CREDIT, POSTED, PENDING = Direction.DEBIT, Direction.CREDIT, Layer.POSTED, Layer.PENDING

Headers = list[tuple[str, bytes | None]]


class Kept(NamedTuple):
    """A record on a list: a record of the contract, or bytes as they are."""

    value: Any
    headers: Headers | None = None


class Lists:
    """A source of records for the audit: lists by (topic, partition), which a test may spoil."""

    def __init__(self, partitions: int = PARTITIONS, topics: Sequence[str] = TOPICS) -> None:
        self.partitions = partitions
        self.log: dict[Place, list[Kept | None]] = {(t, p): [] for t in topics for p in range(partitions)}
        """None: an offset without a record, as transaction markers leave."""
        self.later: list[tuple[str, Any]] = []
        """(topic whose ends are asked for, what to do then): lets a world move on while it is read."""

    def require(self, topics: Sequence[str]) -> dict[str, int]:
        """Partition counts; raises TopicMissing."""
        there = {topic: self.partitions for topic, _ in self.log}
        if missing := [topic for topic in topics if topic not in there]:
            raise TopicMissing(f"{missing[0]} is missing")
        return there

    def ends(self, topics: Sequence[str]) -> dict[Place, int]:
        """The ends as they are now; then whatever is due happens."""
        found = {(t, p): len(self.log[t, p]) for t in topics for p in range(self.partitions)}
        due = [act for topic, act in self.later if topic in topics]
        self.later = [(topic, act) for topic, act in self.later if topic not in topics]
        for act in due:
            act()
        return found

    def read(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        """Records from `starts` up to `ends`, partition by partition."""
        for partition in range(self.partitions):
            place = (topic, partition)
            first = (starts or {}).get(place, 0)
            for offset, kept in enumerate(self.log[place][first : ends.get(place, 0)], first):
                if kept is not None:
                    value = kept.value if isinstance(kept.value, bytes) else codec.encode(kept.value)
                    yield Raw(topic, partition, offset, int(AT), b"key", value, kept.headers)

    def append(self, topic: str, partition: int, value: Any, headers: Headers | None = None) -> int:
        """Adds a record; returns its offset."""
        log = self.log[topic, partition]
        log.append(Kept(value, headers))
        return len(log) - 1

    def change(self, topic: str, partition: int, offset: int, **fields: Any) -> None:
        """Replaces fields of one record."""
        kept = self.log[topic, partition][offset]
        assert kept is not None
        self.log[topic, partition][offset] = Kept(kept.value._replace(**fields), kept.headers)

    def find(self, topic: str, **fields: Any) -> tuple[int, int, Any]:
        """Partition, offset and value of the first record whose fields are these."""
        for (name, partition), log in self.log.items():
            for offset, kept in enumerate(log):
                if (
                    name == topic
                    and kept is not None
                    and all(getattr(kept.value, f, None) == v for f, v in fields.items())
                ):
                    return partition, offset, kept.value
        raise LookupError(f"{topic} has no record with {fields}")


class World(Lists):
    """Payments played by hand: each call is one step, with its journal record, as the contract lays down."""

    def __init__(self) -> None:
        super().__init__()
        self.at = int(AT)
        self._steps = [0] * self.partitions
        self._read: dict[Place, int] = {}
        self._rows: dict[tuple[str, str], list[int]] = {}

    def step(self, partition: int, read: str | None, outs: Sequence[tuple[str, int, Any]], lost: str = "") -> None:
        """One step: reads the next record of `read`, writes `outs`; with `lost` that input becomes a letter."""
        inputs, letters = [], []
        counts: dict[Place, int] = {}
        if read is not None:
            first = self._read.get((read, partition), 0)
            self._read[read, partition] = first + 1
            inputs.append(JournalInput(read, first, first + 1, 1, False))
            if lost:
                letters.append(JournalLetter(read, first, lost))
                kept = self.log[read, partition][first]
                assert kept is not None
                value = kept.value if isinstance(kept.value, bytes) else codec.encode(kept.value)
                self.append(LETTERS, partition, value, letter_headers(read, partition, first, lost))
                counts[LETTERS, partition] = 1
        for topic, to, value in outs:
            self.append(topic, to, value)
            counts[topic, to] = counts.get((topic, to), 0) + 1
        self._steps[partition] += 1
        outputs = tuple(JournalOutput(t, p, n) for (t, p), n in sorted(counts.items()))
        self.append(
            JOURNAL, partition,
            JournalRecord("core", self._steps[partition], Micros(self.at), tuple(inputs), (), "hash", tuple(letters), outputs),
        )  # fmt: skip
        self.at += SECOND

    def entry(self, account: str, direction: Direction, amount: int, layer: Layer = POSTED) -> Entry:
        """The next entry of an account in EUR."""
        row = self._rows.setdefault((account, "EUR"), [0, 0, 0, 0, 0])
        row[2 * (direction == CREDIT) + (layer == POSTED)] += amount
        row[4] += 1
        code = EntryCode.PRINCIPAL if layer == POSTED else EntryCode.HOLD
        return Entry(account, code, direction, layer, Minor(amount), "EUR", *row)

    def posting(self, intent: Intent, *moves: tuple[Any, ...]) -> Posting:
        """A posting of a payment; moves as for `entry`."""
        entries = tuple(self.entry(*move) for move in moves)
        name = derive_id(intent.payment_id, intent.debtor, *(entry.sequence for entry in entries))
        return Posting(name, intent.payment_id, Micros(self.at), 0, entries, intent.intent_id, intent.debtor)

    def open(self, account: str, *flags: str) -> None:
        """Opens an account in EUR."""
        home = partition_of(account, self.partitions)
        command = a_command(account, flags=flags)
        self.append(COMMANDS, home, command)
        answer = AccountEvent(command.command_id, account, True, Micros(self.at))
        self.step(home, COMMANDS, [(ANSWERS, home, answer)])

    def ask(self, payment_id: str, **fields: Any) -> tuple[Intent, int]:
        """Publishes an intent; gives it with its offset. No step reads it yet."""
        intent = an_intent(payment_id, **fields)
        return intent, self.append(INTENTS, partition_of(intent.debtor, self.partitions), intent)

    def event(self, intent: Intent, offset: int, status: Status, **fields: Any) -> PaymentEvent:
        """An event about an intent."""
        event = PaymentEvent(
            derive_id("event", intent.debtor, offset, status), intent.payment_id, intent.intent_id, 1, status,
            intent.debtor, intent.creditor, intent.amount_minor, intent.currency, Micros(self.at),
            payment_state=PaymentState.UNKNOWN, intent_offset=offset,
        )  # fmt: skip
        return event._replace(**fields)

    def answer(self, intent: Intent, event: PaymentEvent) -> PaymentEvent:
        """A step at home that reads the next intent and answers it with `event`."""
        home = partition_of(intent.debtor, self.partitions)
        self.step(home, INTENTS, [(EVENTS, home, event)])
        return event

    def credit(self, intent: Intent, offset: int, **fields: Any) -> Credit:
        """The credit of an intent."""
        credit = Credit(
            CreditAction.CREDIT, Kind.TRANSFER, intent.payment_id, intent.intent_id, offset, intent.debtor,
            intent.creditor, intent.amount_minor, intent.currency, 1, 2, partition_of(intent.debtor, self.partitions),
            Micros(self.at),
        )  # fmt: skip
        return credit._replace(**fields)

    def send(self, intent: Intent, offset: int, *before: tuple[Any, ...], **fields: Any) -> Credit:
        """First leg: debit and credit record, in the step that reads the next intent. `before`: moves of a hold."""
        home, there = (partition_of(name, self.partitions) for name in (intent.debtor, intent.creditor))
        amount = intent.amount_minor
        credit = self.credit(intent, offset, **fields)
        moves = (*before, (intent.debtor, DEBIT, amount), (transit(home), CREDIT, amount))
        self.step(home, INTENTS, [(POSTINGS, home, self.posting(intent, *moves)), (CREDITS, there, credit)])
        return credit

    def apply(self, intent: Intent, credit: Credit) -> PaymentEvent:
        """Second leg: the creditor's partition reads the next credit and applies it."""
        home, there = credit.home_partition, partition_of(intent.creditor, self.partitions)
        event = self.event(
            intent, credit.intent_offset, Status.COMPLETED, sequence=credit.sequence,
            decided_by_intent_id=credit.decided_by_intent_id, decided_by_intent_offset=credit.decided_by_intent_offset,
        )  # fmt: skip
        moves = ((transit(there), DEBIT, intent.amount_minor), (intent.creditor, CREDIT, intent.amount_minor))
        self.step(there, CREDITS, [(POSTINGS, there, self.posting(intent, *moves)), (EVENTS, home, event)])
        return event

    def pay(self, payment_id: str, **fields: Any) -> PaymentEvent:
        """A transfer from end to end."""
        intent, offset = self.ask(payment_id, **fields)
        return self.apply(intent, self.send(intent, offset))

    def ask_again(self, first: PaymentEvent, payment_id: str, intent_id: str, **fields: Any) -> tuple[Intent, Credit]:
        """Publishes a repeat of a COMPLETED intent; home reads it and asks the creditor's partition."""
        intent, offset = self.ask(payment_id, intent_id=intent_id, **fields)
        home, there = (partition_of(name, self.partitions) for name in (intent.debtor, intent.creditor))
        credit = self.credit(
            intent, first.intent_offset or 0, action=CreditAction.REPEAT, intent_id=first.intent_id,
            sequence=first.sequence, repeat_intent_id=intent_id, repeat_intent_offset=offset,
        )  # fmt: skip
        self.step(home, INTENTS, [(CREDITS, there, credit)])
        return intent, credit

    def say_again(self, first: PaymentEvent, credit: Credit) -> None:
        """The creditor's partition reads the next credit, a REPEAT, and gives the first event again."""
        event = first._replace(
            repeat_intent_id=credit.repeat_intent_id, repeat_intent_offset=credit.repeat_intent_offset
        )
        there = partition_of(credit.creditor, self.partitions)
        self.step(there, CREDITS, [(EVENTS, credit.home_partition, event)])

    def refuse(self, intent: Intent, credit: Credit) -> Reversal:
        """The creditor's partition reads the next credit and refuses it."""
        there = partition_of(intent.creditor, self.partitions)
        back = Reversal(
            ReversalAction.RETURN, intent.payment_id, intent.intent_id, intent.debtor, intent.creditor,
            intent.amount_minor, intent.currency, credit.sequence, Micros(self.at), "AC03",
        )  # fmt: skip
        self.step(there, CREDITS, [(REVERSALS, credit.home_partition, back)])
        return back

    def give_back(self, intent: Intent, credit: Credit) -> PaymentEvent:
        """Home reads the next reversal and gives the money back."""
        home = credit.home_partition
        event = self.event(intent, credit.intent_offset, Status.REVERSED, reason="AC03", sequence=credit.sequence)
        moves = ((transit(home), DEBIT, intent.amount_minor), (intent.debtor, CREDIT, intent.amount_minor))
        self.step(home, REVERSALS, [(POSTINGS, home, self.posting(intent, *moves)), (EVENTS, home, event)])
        return event

    def review(self, intent: Intent, offset: int) -> PaymentEvent:
        """Home reads the next intent and holds its money for review."""
        home = partition_of(intent.debtor, self.partitions)
        event = self.event(intent, offset, Status.REVIEW, deadline_at=Micros(self.at + 3_600 * SECOND))
        moves = (
            (intent.debtor, DEBIT, intent.amount_minor, PENDING),
            (holds(home), CREDIT, intent.amount_minor, PENDING),
        )
        self.step(home, INTENTS, [(POSTINGS, home, self.posting(intent, *moves)), (EVENTS, home, event)])
        return event


def internal(role: str, partition: int) -> str:
    """An internal account of a partition in EUR (R6)."""
    names = (f"~{role}/EUR/{partition}-{k}" for k in range(1000))
    return next(name for name in names if partition_of(name, PARTITIONS) == partition)


def transit(partition: int) -> str:
    """The in-transit account of a partition."""
    return internal("in-transit", partition)


def holds(partition: int) -> str:
    """The holds account of a partition."""
    return internal("holds", partition)


def letter_headers(topic: str, partition: int, offset: int, code: str) -> Headers:
    """Headers of a dead letter, as far as a judge reads them."""
    return [
        ("__dlq.errors.topic", topic.encode()),
        ("__dlq.errors.partition", str(partition).encode()),
        ("__dlq.errors.offset", str(offset).encode()),
        ("headrace.error.code", code.encode()),
    ]


def a_world() -> World:
    """Every fate once: completed, repeated, conflict, declined, reversed, dead letter, in review, approved."""
    world = World()
    world.open("bank", "DEBIT_NORMAL")
    world.open("alice", "NO_OVERDRAFT")
    world.open("shop", "NO_OVERDRAFT", "MERCHANT")
    world.pay("fund", debtor="bank", creditor="alice", amount_minor=Minor(10_000))
    completed = world.pay("pay-1")
    _, asked = world.ask_again(completed, "pay-1", "i-again")
    world.say_again(completed, asked)
    other, offset = world.ask("pay-1", intent_id="i-other", amount_minor=Minor(1300))
    world.answer(other, world.event(other, offset, Status.DECLINED, reason="AM05"))
    poor, offset = world.ask("pay-2", amount_minor=Minor(999_999))
    world.answer(poor, world.event(poor, offset, Status.DECLINED, reason="AM04"))
    lost, offset = world.ask("pay-3", creditor="nobody")
    credit = world.send(lost, offset)
    world.refuse(lost, credit)
    world.give_back(lost, credit)
    home = partition_of("alice", PARTITIONS)
    world.append(INTENTS, home, b"\0poison")
    world.step(home, INTENTS, [], lost="truncated")
    doubtful, held = world.ask("pay-4")
    world.review(doubtful, held)
    _, offset = world.ask("pay-4", intent_id="i-ok", idempotency_key="k-ok", kind=Kind.APPROVE, decided_by="ann")
    release = (("alice", DEBIT, -1200, PENDING), (holds(home), CREDIT, -1200, PENDING))
    credit = world.send(
        doubtful, held, *release, sequence=2, decided_by_intent_id="i-ok", decided_by_intent_offset=offset
    )
    world.apply(doubtful, credit)
    waiting, offset = world.ask("pay-5")
    world.review(waiting, offset)
    return world


def lists_of(memory: Any) -> Lists:
    """What stands on the log of the in-memory driver (topologies.engine.memory), dead letters included."""
    topics = {*TOPICS, "dlq.payments.ledger", *(topic for topic, _ in memory._log)}
    lists = Lists(memory.partitions, sorted(topics))
    for place, log in memory._log.items():
        lists.log[place] = [Kept(stored.value, list(stored.headers)) for stored in log]
    return lists
