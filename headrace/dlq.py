"""Dead letters, counted and put back: which may go, which may not and why, and each at most once.

What a stranger published goes to its first topic by its key, and is decided on today's state. A letter of
`ledger.credits` or `ledger.reversals` is money in transit: it goes back to the very partition that it came
from, behind what it stood behind, and only while it is undecided.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from replay.answered import answered
from replay.letters import FAMILIES, REPLAYS, Letter, LetterId, NoSuchLetter, letter_topics, letters, receipts
from replay.source import Source
from replay.window import Window
from schemas.events import Micros
from schemas.internal import Redrive
from schemas.keys import murmur2
from topologies.engine.config import ClusterConfig
from topologies.engine.redrive import AT_ONCE, BYTES, Move, Redriver, Refused, Undone
from topologies.payments import CORE, PLANS
from topologies.topics import CREDITS, REDRIVES, REVERSALS

MOST_REPLAYS = 5
"""A letter that came back so often will come back again."""
INPUTS = frozenset(topic.name for topic in CORE.inputs)
INNER = frozenset({CREDITS.name, REVERSALS.name})
"""Topics that only workers write: what stands there is money in transit."""
COUNTED = frozenset(topic.name for plan in PLANS.values() for topic in plan.inputs) - INPUTS
"""Topics of other roles, whose records are counted where they stand."""
_FIRST = frozenset(name for family in FAMILIES for name in family)
_OURS = ("__dlq.errors.", "__streams.errors.", "headrace.error.")
_AGAIN = frozenset({"key-mismatch", "bad-debtor", "bad-idempotency-key", "bad-account"})
"""Codes that say something of the bytes alone: they come back whoever reads them."""


class Wish(NamedTuple):
    """Which letters are meant; None and empty: any."""

    ids: tuple[LetterId, ...] = ()
    topic: str | None = None
    code: str | None = None
    payment: str | None = None
    account: str | None = None
    window: Window = Window()
    """By the letters' own timestamps and offsets."""

    def means(self, letter: Letter) -> bool:
        """Whether this letter is meant."""
        if self.ids and letter.id not in self.ids:
            return False
        if self.topic is not None and letter.id.topic != self.topic:
            return False
        if self.code is not None and letter.code != self.code:
            return False
        return letter.names(self.payment, self.account) and self.window.holds(letter.id.offset, letter.at)


class Choice(NamedTuple):
    """What becomes of a letter."""

    letter: Letter
    done: bool = False
    """It was redriven before."""
    why_not: str = ""
    """Why it may not go."""
    topic: str = ""
    """Where it goes, without the prefix."""
    partition: int = -1

    @property
    def goes(self) -> bool:
        """Whether it is to be redriven."""
        return not self.done and not self.why_not

    @property
    def comes_back(self) -> bool:
        """Whether it is certain to become a letter again."""
        letter = self.letter
        return self.goes and (letter.record is None or letter.code in _AGAIN)


class Row(NamedTuple):
    """Letters of one topic with one code."""

    topic: str
    code: str
    letters: int
    parked: int
    """Those that were not redriven."""
    oldest: int | None
    """Timestamp of the oldest one that is parked, µs."""
    first: LetterId
    """The oldest parked one, or the first."""
    money: dict[str, int]
    """Minor units by currency of those that are parked and can be read."""


def rows(found: Sequence[Letter], done: set[LetterId]) -> list[Row]:
    """Letters by topic and code, most parked first."""
    groups: dict[tuple[str, str], list[Letter]] = {}
    for letter in found:
        groups.setdefault((letter.id.topic, letter.code), []).append(letter)
    counted = []
    for (topic, code), members in groups.items():
        parked = sorted((one for one in members if one.id not in done), key=lambda one: one.at)
        money: Counter[str] = Counter()
        for one in parked:
            if one.money is not None:
                money[one.money[0]] += one.money[1]
        oldest = parked[0].at if parked else None
        first = (parked or members)[0].id
        counted.append(Row(topic, code, len(members), len(parked), oldest, first, dict(sorted(money.items()))))
    return sorted(counted, key=lambda row: (-row.parked, row.topic, row.code))


def look(source: Source, wish: Wish, prefix: str) -> tuple[list[Letter], set[LetterId]]:
    """The letters that are meant, and which letters were redriven. Reads only; raises as `letters` and `receipts` do."""
    topics = letter_topics(source) if wish.topic is None else [wish.topic]
    source.require(topics)
    found = [letter for letter in letters(source, topics, prefix) if wish.means(letter)]
    return found, receipts(source) if REDRIVES.name in source.require([]) else set()


def choose(source: Source, wish: Wish, prefix: str) -> list[Choice]:
    """What would become of each letter that is meant, topic by topic in their order. Reads only.

    Raises NoSuchLetter, ReceiptUnreadable, Unreachable, TopicMissing.
    """
    named = {one.topic for one in wish.ids} | ({wish.topic} if wish.topic is not None else set())
    there = source.require([REDRIVES.name, *sorted(named)])
    everyone = list(letters(source, sorted({*letter_topics(source), *named}), prefix))
    if missing := set(wish.ids) - {letter.id for letter in everyone}:
        raise NoSuchLetter(f"no letter stands at {min(missing)}; `headrace dlq list --each` tells what there is")
    done = receipts(source)
    choices = []
    parked: dict[tuple[str, str, str], LetterId] = {}
    for letter in everyone:
        meant = wish.means(letter)
        choice = _choice(letter, done, there, prefix)
        leg = _leg(letter, prefix)
        if leg is not None and leg in parked and choice.goes:
            choice = Choice(letter, why_not=f"it stands behind {parked[leg]}, which must go first")
        if meant:
            choices.append(choice)
        if leg is not None and not choice.done and not (meant and choice.goes):
            parked.setdefault(leg, letter.id)
    dead = [_place(letter, prefix) for letter in everyone]
    fates = answered(
        source, [one.letter for one in choices if one.goes], [place for place in dead if place is not None]
    )
    return [
        Choice(one.letter, why_not=f"it has its fate: {fates[one.letter.id]}") if one.letter.id in fates else one
        for one in choices
    ]


def _name(letter: Letter, prefix: str) -> str:
    """The letter's first topic without the prefix."""
    assert letter.origin is not None
    return letter.origin.topic.removeprefix(prefix)


def _place(letter: Letter, prefix: str) -> tuple[str, int, int] | None:
    """The input that failed."""
    found = letter.latest
    if found is None or found.partition is None or found.offset is None:
        return None
    return found.topic.removeprefix(prefix), found.partition, found.offset


def _leg(letter: Letter, prefix: str) -> tuple[str, str, str] | None:
    """Of letters with the same one the order must stay: what happens to one payment's money on an inner topic."""
    if letter.origin is None or letter.record is None or _name(letter, prefix) not in INNER:
        return None
    return _name(letter, prefix), letter.record.debtor, letter.record.payment_id


def _choice(letter: Letter, done: set[LetterId], there: dict[str, int], prefix: str) -> Choice:
    """The guards that need no other topic; the lowest one that fails gives the reason."""

    def refused(why: str) -> Choice:
        return Choice(letter, why_not=why)

    if letter.id in done:
        return Choice(letter, done=True)
    if letter.origin is None:
        return refused("no header tells where it came from")
    name = _name(letter, prefix)
    if name in COUNTED:
        return refused(
            f"it came from {letter.origin.topic}, where a copy of it would count twice; its message says what to do"
        )
    if not letter.origin.topic.startswith(prefix) or name not in INPUTS or name not in there:
        return refused(f"it came from {letter.origin.topic}, which is no input of the workers here")
    if letter.left_out:
        place = f"{letter.origin.topic} partition {letter.origin.partition} offset {letter.origin.offset}"
        return refused(f"its bytes were too many for a letter and stand at {place} only")
    if letter.replays >= MOST_REPLAYS:
        return refused(f"it was redriven {letter.replays} times and came back each time")
    if name in INNER:
        return _inner(letter, name, there[name])
    return Choice(letter, topic=name, partition=_partition(letter, there[name]))


def _partition(letter: Letter, partitions: int) -> int:
    if letter.key is None:
        known = letter.origin.partition if letter.origin is not None else None
        return known if known is not None and known < partitions else 0
    return (murmur2(letter.key) & 0x7FFFFFFF) % partitions


def _inner(letter: Letter, name: str, partitions: int) -> Choice:
    """Money in transit goes back to where it was read, or not at all."""
    if letter.record is None:
        return Choice(letter, why_not=f"it is money in transit and can't be read here ({letter.undecodable})")
    partition = _partition(letter, partitions)
    if letter.key is None or letter.latest is None or letter.latest.partition != partition:
        return Choice(letter, why_not="it is money in transit, and did not come from the partition of its key")
    return Choice(letter, topic=name, partition=partition)


def headers_for(letter: Letter) -> list[tuple[str, bytes | None]]:
    """Headers of the redriven record: the strangers' own, the first origin, and how often it was redriven."""
    kept: list[tuple[str, bytes | None]] = []
    seen: set[str] = set()
    for name, value in letter.headers:
        if name in _FIRST:
            if name not in seen:
                kept.append((name, value))
            seen.add(name)
        elif name != REPLAYS and not name.startswith(_OURS):
            kept.append((name, value))
    return [*kept, (REPLAYS, str(letter.replays + 1).encode())]


def move_of(choice: Choice, at: int, by: str | None) -> Move:
    """The record to be written, and its receipt."""
    letter = choice.letter
    receipt = Redrive(*letter.id, Micros(at), by)
    return Move(choice.topic, choice.partition, letter.key, letter.value, headers_for(letter), receipt)


@dataclass
class Press:
    """One press of the button: what is to go, and what became of it."""

    cluster: ClusterConfig
    by: str | None = None
    most: int | None = None
    """Letters that may go now."""
    rate: int | None = None
    """Letters a second."""
    redriven: list[LetterId] = field(default_factory=list)
    choices: list[Choice] = field(default_factory=list)
    refused: dict[LetterId, str] = field(default_factory=dict)
    left: int = 0
    """Letters that might go and are beyond `most`."""

    def run(self, source: Source, wish: Wish, progress: Callable[[int, int], None]) -> None:
        """Redrives what is meant and may go; `progress` is told how many went, of how many.

        Receipts are read after the transactional id was taken, so nobody else's press is under way then. Raises
        Taken, Undone, and what `choose` raises.
        """
        with Redriver(self.cluster, source.require([REDRIVES.name])[REDRIVES.name]) as redriver:
            redriver.begin()
            self.choices = choose(source, wish, self.cluster.prefix)
            self.refused = {one.letter.id: one.why_not for one in self.choices if one.why_not}
            go = [one for one in self.choices if one.goes]
            self.left = max(len(go) - len(go[: self.most]), 0)
            waiting = go[: self.most]
            total, clock = len(waiting), self.cluster.seams.clock
            while waiting:
                begun = clock.monotonic()
                count = _fitting(waiting, min(AT_ONCE, self.rate or AT_ONCE))
                waiting = self._write(redriver, source, waiting[:count]) + waiting[count:]
                progress(len(self.redriven), total)
                if self.rate and waiting:
                    clock.sleep(max(count / self.rate - (clock.monotonic() - begun), 0))

    def _write(self, redriver: Redriver, source: Source, batch: list[Choice]) -> list[Choice]:
        """Writes a batch; gives what of it must be tried again."""
        at = self.cluster.seams.clock.micros()
        try:
            redriver.write([move_of(one, at, self.by) for one in batch])
        except Refused as refused:
            odd = batch[refused.move]
            self.refused[odd.letter.id] = f"Kafka does not take it: {refused}"
            return [one for one in batch if self._held(one, odd)]
        except Undone:
            redriver.begin()
            known = receipts(source)
            went = [one.letter.id for one in batch if one.letter.id in known]
            self.redriven += went
            if len(went) != len(batch):
                raise
        else:
            self.redriven += [one.letter.id for one in batch]
        return []

    def _held(self, one: Choice, odd: Choice) -> bool:
        """Whether a letter may still go when `odd` could not: those behind it on an inner topic may not."""
        prefix = self.cluster.prefix
        if one is odd:
            return False
        leg = _leg(odd.letter, prefix)
        if leg is not None and _leg(one.letter, prefix) == leg and one.letter.id > odd.letter.id:
            self.refused[one.letter.id] = f"it stands behind {odd.letter.id}, which must go first"
            return False
        return True


def _fitting(waiting: Sequence[Choice], most: int) -> int:
    """How many of the first letters one transaction takes."""
    size = 0
    for number, choice in enumerate(waiting[:most]):
        size += len(choice.letter.key or b"") + len(choice.letter.value or b"")
        if number and size > BYTES:
            return number
    return min(len(waiting), most)
