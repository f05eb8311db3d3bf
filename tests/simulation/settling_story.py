"""Settlement's workers on the simulated Kafka: postings come in, faults strike, and each credit must be settled once."""

from dataclasses import replace
from random import Random
from typing import Any

from final import stores, unstable
from simulation import Simulation
from stories import BUSY_S, POISON, START, Publish, Story, story_of

from replay.journal import Journal, Tally, compare
from replay.settled import Settled
from replay.verdicts import Verdicts
from schemas import codec
from schemas.events import Direction, Entry, EntryCode, Layer, Micros, Minor, Posting
from schemas.keys import partition_of
from streams.rules import Rules
from streams.settlement_rules import settlement_rules
from topologies.payments import SETTLEMENT
from topologies.topics import BATCHES, EVENTS, JOURNAL, POSTINGS, Topic, dead_letters

LETTERS = dead_letters("settlement")


def settling_story_of(seed: int) -> Story:
    """A story of a seed: its workers and faults are those of the core's story, its records are postings."""
    rng = Random(seed + 1)
    shops = [f"shop-{n}" for n in range(rng.randint(1, 5))]
    moments = sorted(rng.random() * BUSY_S for _ in range(rng.randint(5, 60)))
    numbers = dict.fromkeys(shops, 0)
    return replace(story_of(seed), published=tuple(_published(rng, n, at, numbers) for n, at in enumerate(moments)))


def _published(rng: Random, number: int, moment: float, numbers: dict[str, int]) -> Publish:
    shop, chance = rng.choice(list(numbers)), rng.random()
    if chance > 0.97:
        return Publish(moment, POSTINGS.name, shop, b"\x00nonsense")
    payment = f"{POISON if chance > 0.93 else 'p'}{number}"
    amount = rng.randint(1, 40)
    entries = [_entry("~in-transit/EUR/0-0", Direction.DEBIT, amount)]
    if chance < 0.2:  # the shop pays somebody
        entries = [_entry("~in-transit/EUR/0-0", Direction.CREDIT, amount)]
    numbers[shop] += 1
    mine = _entry(shop, Direction.DEBIT if chance < 0.2 else Direction.CREDIT, amount)
    entries.append(mine._replace(sequence=numbers[shop], settled_sequence=None if chance < 0.2 else 2))
    if chance > 0.6:
        numbers[shop] += 1
        fee = _entry(shop, Direction.DEBIT, rng.randint(1, amount))._replace(code=EntryCode.FEE)
        entries.append(fee._replace(sequence=numbers[shop]))
    at = Micros(START + int(moment * 1e6))
    debtor = f"a{rng.randint(0, 9)}"
    members = sum(entry.settled_sequence is not None for entry in entries)
    posting = Posting(f"post-{number}", payment, at, members, tuple(entries), f"i{number}", debtor)
    return Publish(moment, POSTINGS.name, shop, posting)


def _entry(account: str, direction: Direction, amount: int) -> Entry:
    return Entry(account, EntryCode.PRINCIPAL, direction, Layer.POSTED, Minor(amount), "EUR", 0, 0, 0, 0, 1)


class SettlementSimulation(Simulation):
    """Windows of a second; all is quiet when the last one has closed and every member was told."""

    plan = SETTLEMENT
    rules = Rules(settlement=settlement_rules({"every_s": 1, "grace_s": 1}))

    def unquiet(self) -> str | None:
        """What is still to do, or None."""
        if (why := super().unquiet()) is not None:
            return why
        settled, _ = self._settled()
        if settled.open or settled.owed or settled.unread:
            return f"{settled.open} members are in open windows, {settled.owed} not told, {settled.unread} not read"
        return None

    def judge(self) -> list[str]:
        """Invariant 7, the journal and its counts, and every running store."""
        _, verdicts = self._settled()
        checks = (verdicts.settled, verdicts.journal, verdicts.counts)
        found = [f"{verdict.name}: {verdict.first}" for verdict in checks if verdict.found]
        return unstable(self.broker) + found + stores(self)

    def _settled(self) -> tuple[Settled, Verdicts]:
        verdicts, count = Verdicts(), self.story.partitions
        journal = Journal(verdicts)
        for partition, offset, step in self._records(JOURNAL):
            journal.add(partition, offset, step)
        steps = journal.of(self.plan.role)
        tally = Tally(steps.cut())
        settled = Settled(verdicts.settled, count, tally.cut, steps.letters)
        for partition, offset, batch in self._records(BATCHES):
            assert tally.inside(partition, BATCHES.name, partition)
            settled.batch(partition, offset, batch)
        for partition, offset, event in self._records(EVENTS):
            assert tally.inside(partition_of(event.creditor, count), EVENTS.name, partition)
            settled.event(partition, offset, event)
        for partition, _, _ in self._records(LETTERS):
            tally.inside(partition, LETTERS.name, partition)
        for partition, offset, posting in self._records(POSTINGS):
            if posting is not None:
                settled.post(partition, offset, posting, frozenset())
        settled.close()
        compare(verdicts.counts, frozenset({BATCHES.name, EVENTS.name, LETTERS.name}), tally, steps)
        return settled, verdicts

    def _records(self, topic: Topic) -> Any:
        """(partition, offset, record) of what is committed; None for what can't be read."""
        for partition in range(self.story.partitions):
            for offset, kept in self.broker.logs[topic.name, partition].committed():
                try:
                    yield partition, offset, None if topic.record is None else codec.decoder(topic.subject)(kept.value)
                except codec.Undecodable:
                    yield partition, offset, None
