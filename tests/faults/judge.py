"""What must hold after every round, judged from the topics alone, without the product's decisions."""

import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaException, Message
from readers import Place, Transcript, read
from stores import CHANGELOG, Rows, compare_with_changelogs
from system import Broken, System
from view import COMMITTED

from replay.audit import audit
from replay.reader import TopicMissing, Unreachable
from schemas import codec
from topologies import topics

LETTERS = "dlq.payments."
ROWS = "6 account rows equal postings"
HEAD_DELETED = "its head was deleted"
OPEN_S = 10.0
"""How long a step may take from its first record to its commit."""


class Fates:
    """Everything that stands in the topics afterwards, and which inputs have their fate."""

    def __init__(self, prefix: str) -> None:
        self.seen = Transcript()
        self.rows: dict[int, Rows] = {}
        """What the changelog says, by partition."""
        self.letters: set[tuple[str, int, int]] = set()
        self.decided: set[tuple[int, int]] = set()
        """Partition and offset of intents."""
        self.answered: set[str] = set()
        """Ids of account commands and alias claims."""
        self._cut = len(prefix)
        self._event = codec.decoder(topics.EVENTS.subject)
        self._answer = codec.decoder(topics.ACCOUNT_EVENTS.subject)

    def take(self, place: Place, message: Message) -> None:
        """The next record of a place."""
        self.seen.note(place, message)
        topic, partition = place
        if topic == topics.EVENTS.name:
            event = self._event(message.value())
            if event.repeat_intent_offset is not None:
                self.decided.add((partition, event.repeat_intent_offset))
            else:
                self.decided.add((partition, event.intent_offset))
                self.decided.add((partition, event.decided_by_intent_offset))
        elif topic == topics.ACCOUNT_EVENTS.name:
            self.answered.add(self._answer(message.value()).command_id)
        elif topic.startswith(LETTERS):
            headers = {name: (value or b"").decode() for name, value in message.headers() or ()}
            where = headers["__dlq.errors.topic"][self._cut :]
            self.letters.add((where, int(headers["__dlq.errors.partition"]), int(headers["__dlq.errors.offset"])))
        elif topic == CHANGELOG:
            self.rows.setdefault(partition, Rows()).take(message.value())


def check(system: System, ends: Mapping[Place, int]) -> dict[str, str]:
    """The promises that do not hold at `ends`, when all is quiet: name and evidence; {} where all hold.

    Every name that was judged is in `NAMES`.
    """
    found = Fates(system.config.prefix)
    begins = system.view.patiently(system.view.begins)
    try:
        read(system.config, ends, found.take, starts=begins)
    except TimeoutError as error:
        return {"two readers": str(error)}
    broken = {
        "two readers": "; ".join(system.live.seen.between(begins, ends).differences(found.seen)[:3]),
        "acknowledged stand": _missing(system, found),
        "acknowledged have a fate": _without_fate(system, found),
        "every command one answer": _answers(found),
        "no open transaction": _open(system),
        "audit": _audit(system, [n for n in system.truncated if begins[CHANGELOG, n] > found.rows[n].base]),
    }
    return {name: evidence for name, evidence in broken.items() if evidence}


NAMES = (
    "two readers",
    "acknowledged stand",
    "acknowledged have a fate",
    "every command one answer",
    "no open transaction",
    "audit",
)
AT_THE_END = ("store = changelog", "next record")


def _missing(system: System, found: Fates) -> str:
    """An acknowledged record that does not stand where Kafka said."""
    at = {
        place: dict(zip(offsets, found.seen.digests[place], strict=True))
        for place, offsets in found.seen.offsets.items()
    }
    for topic, partition, offset, digest in list(system.load.acknowledged):
        there = at.get((topic, partition), {})
        if (there.get(offset) != digest) if offset >= 0 else (digest not in there.values()):
            return f"{topic} [{partition}] offset {offset} was acknowledged, but holds {there.get(offset, 'nothing')}"
    return ""


def _without_fate(system: System, found: Fates) -> str:
    lost = [
        (partition, offset)
        for topic, partition, offset, _digest in list(system.load.acknowledged)
        if topic == topics.INTENTS.name
        and offset >= 0
        and (partition, offset) not in found.decided
        and (topic, partition, offset) not in found.letters
    ]
    return f"{len(lost)} acknowledged intents have no fate, the first is {lost[0]} (partition, offset)" if lost else ""


def _answers(found: Fates) -> str:
    """Commands and claims are as many as answers and dead letters together."""
    asked = (topics.COMMANDS.name, topics.ALIASES.name)
    count = sum(len(offsets) for (topic, _n), offsets in found.seen.offsets.items() if topic in asked)
    answers = sum(len(o) for (topic, _n), o in found.seen.offsets.items() if topic == topics.ACCOUNT_EVENTS.name)
    letters = sum(topic in asked for topic, _partition, _offset in found.letters)
    return (
        "" if count == answers + letters else f"{count} commands and claims, {answers} answers, {letters} dead letters"
    )


def _open(system: System) -> str:
    """Everything written by now is stable soon: a deadline may be carried out at any moment, none may stay open."""
    written = system.view.patiently(system.view.ends)
    deadline = time.monotonic() + OPEN_S
    while True:
        stable = system.view.patiently(lambda: system.view.ends(COMMITTED))
        hanging = {place: (stable[place], end) for place, end in written.items() if stable[place] < end}
        if not hanging or time.monotonic() > deadline:
            return f"stable end and end differ for {OPEN_S} s: {hanging}" if hanging else ""
        time.sleep(0.1)


def _audit(system: System, truncated: list[int]) -> str:
    """What the audit finds; of a changelog whose head the campaign deleted it must find just that."""
    try:
        report = audit(system.config, quiet=True)
    except (Unreachable, TopicMissing, KafkaException) as error:
        return f"audit: {error}"
    failed = {one.name: one.detail for one in report.checks if not one.ok}
    if truncated:
        told = failed.pop(ROWS, "nothing")
        if told.count(HEAD_DELETED) != 1 or told.endswith("more)"):
            return f"{CHANGELOG} {truncated} lost rows with its head, {ROWS} says: {told}"
    return "; ".join(f"{name}: {detail}" for name, detail in failed.items())


def final_check(system: System) -> dict[str, str]:
    """What can be judged once only, when the workers have ended: their stores, and one more record per partition."""
    ends, begins = system.view.patiently(system.view.ends), system.view.patiently(system.view.begins)
    found = Fates(system.config.prefix)
    logs = {place: end for place, end in ends.items() if place[0] == CHANGELOG}
    read(system.config, logs, found.take, starts=begins)
    broken = {
        "store = changelog": compare_with_changelogs(_stores(system), found.rows, begins),
        "next record": _next_records(system),
    }
    return {name: evidence for name, evidence in broken.items() if evidence}


def _stores(system: System) -> list[Path]:
    return [folder for worker in system.workers.values() for folder in sorted(worker.store.glob("p[0-9]"))]


def _next_records(system: System) -> str:
    """A plain record to each partition of each topic must be the next that a read_committed reader gets."""
    begin = system.view.patiently(lambda: system.view.ends(COMMITTED))
    mark = b"one more"
    for topic, number in begin:
        system.cluster.sender.send(topic, b"plain", mark, partition=number)
    system.cluster.sender.flush()
    first: dict[Place, bytes | None] = {}
    read(
        system.config,
        system.view.patiently(system.view.ends),
        lambda place, message: first.setdefault(place, message.value()) and None,
        starts=begin,
    )
    odd = [place for place in begin if first.get(place) != mark]
    return f"the next record of {odd[0]} is {first.get(odd[0])!r}" if odd else ""


__all__ = ("AT_THE_END", "NAMES", "Broken", "check", "final_check")
