"""Whether the input of a dead letter has its fate already, so that redriving it would ask for a second one.

Admission knows keys for 24 hours, the creditor's partition its decisions for 91 days, and both forget; the topics
do not. So they are asked.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from replay.letters import Letter, LetterId
from replay.reader import Raw
from replay.source import Source
from schemas import codec
from schemas.codec import Undecodable
from schemas.events import AccountCommand, AliasClaim, Credit, CreditAction, Intent, Reversal, ReversalAction, Status
from schemas.keys import partition_of
from topologies.topics import ACCOUNT_EVENTS, EVENTS, INTENTS, REVERSALS, Topic

NEEDLES = 16
"""With more of them every record is decoded instead."""


def answered(source: Source, asked: Sequence[Letter], lettered: Iterable[tuple[str, int, int]]) -> dict[LetterId, str]:
    """Of the letters `asked` those with a fate, and which: a sentence's end.

    `lettered`: topic (without prefix), partition and offset of every input that is a dead letter, and so has no
    other fate. Raises Unreachable, TopicMissing.
    """
    found: dict[LetterId, str] = {}
    known = {kind: [one for one in asked if isinstance(one.record, kind)] for kind in _LOOKS}
    dead = set(lettered)
    for kind, look in _LOOKS.items():
        if known[kind]:
            found |= look(source, known[kind], dead)
    return found


Dead = set[tuple[str, int, int]]


def _found(source: Source, topic: Topic, partitions: Iterable[int], needles: set[str]) -> Iterator[tuple[Raw, Any]]:
    """The readable records of some partitions that may hold one of `needles`."""
    ends = {place: end for place, end in source.ends([topic.name]).items() if place[1] in set(partitions)}
    words = [needle.encode() for needle in needles] if len(needles) <= NEEDLES else []
    decode = codec.decoder(topic.subject)
    for raw in source.read(topic.name, ends):
        if words and not any(word in (raw.value or b"") for word in words):
            continue
        try:
            yield raw, decode(raw.value)
        except Undecodable:
            continue


def _where(raw: Raw) -> str:
    return f"{raw.topic} partition {raw.partition} offset {raw.offset}"


def _homes(source: Source, debtors: Iterable[str]) -> set[int]:
    count = source.require([EVENTS.name])[EVENTS.name]
    return {partition_of(debtor, count) for debtor in debtors}


def _intents(source: Source, asked: Sequence[Letter], dead: Dead) -> dict[LetterId, str]:
    """An event names the intent, or another record of its key stands on the topic and is no dead letter."""
    found: dict[LetterId, str] = {}
    by_key: dict[tuple[str, str], list[Letter]] = {}
    by_id: dict[tuple[str, str], list[Letter]] = {}
    for one in asked:
        by_key.setdefault((one.record.debtor, one.record.idempotency_key), []).append(one)
        by_id.setdefault((one.record.debtor, one.record.intent_id), []).append(one)
    homes = _homes(source, (one.record.debtor for one in asked))
    for raw, intent in _found(source, INTENTS, homes, {key for _, key in by_key}):
        twins = by_key.get((intent.debtor, intent.idempotency_key), ())
        if twins and (raw.topic, raw.partition, raw.offset) not in dead:
            found |= {one.id: f"its idempotency key was used at {_where(raw)}" for one in twins}
    for raw, event in _found(source, EVENTS, homes, {intent for _, intent in by_id}):
        for intent_id in (event.intent_id, event.repeat_intent_id, event.decided_by_intent_id):
            for one in by_id.get((event.debtor, intent_id or ""), ()):
                found[one.id] = f"it became {event.status} at {_where(raw)}"
    return found


def _commands(source: Source, asked: Sequence[Letter], _dead: Dead) -> dict[LetterId, str]:
    return _account_answers(source, {one.id: (one.record.account, one.record.command_id) for one in asked})


def _claims(source: Source, asked: Sequence[Letter], _dead: Dead) -> dict[LetterId, str]:
    return _account_answers(source, {one.id: (one.record.account, one.record.claim_id) for one in asked})


def _account_answers(source: Source, wanted: dict[LetterId, tuple[str, str]]) -> dict[LetterId, str]:
    homes = _homes(source, (account for account, _ in wanted.values()))
    answers = {
        (answer.account, answer.command_id): raw
        for raw, answer in _found(source, ACCOUNT_EVENTS, homes, {name for _, name in wanted.values()})
    }
    return {letter: f"it was answered at {_where(answers[key])}" for letter, key in wanted.items() if key in answers}


def _credits(source: Source, asked: Sequence[Letter], dead: Dead) -> dict[LetterId, str]:
    """A credit is decided by its outcome's event or by a RETURN; a REPEAT by the event that was given again."""
    found = _outcomes(source, [one for one in asked if one.record.action == CreditAction.CREDIT])
    repeats = [one for one in asked if one.record.action == CreditAction.REPEAT]
    found |= _given_again(source, repeats)
    wanted = {_leg(one.record): one for one in asked if one.record.action == CreditAction.CREDIT}
    told = {
        (one.record.debtor, one.record.payment_id, one.record.repeat_intent_offset): one
        for one in repeats
        if one.id not in found
    }
    payments = {one.record.payment_id for one in asked}
    for raw, back in _found(source, REVERSALS, _homes(source, (one.record.debtor for one in asked)), payments):
        letter = None
        if back.action == ReversalAction.RETURN:
            letter = wanted.get(_leg(back))
        elif back.action == ReversalAction.REPEAT and (raw.topic, raw.partition, raw.offset) not in dead:
            letter = told.get((back.debtor, back.payment_id, back.repeat_intent_offset))
        if letter is not None:
            found.setdefault(letter.id, f"it was sent back at {_where(raw)}")
    return found


def _reversals(source: Source, asked: Sequence[Letter], _dead: Dead) -> dict[LetterId, str]:
    returns = [one for one in asked if one.record.action == ReversalAction.RETURN]
    repeats = [one for one in asked if one.record.action == ReversalAction.REPEAT]
    return _outcomes(source, returns) | _given_again(source, repeats)


def _leg(record: Any) -> tuple[str, str, str, int]:
    """What one second leg is known by."""
    return record.debtor, record.payment_id, record.intent_id, record.sequence


def _outcomes(source: Source, asked: Sequence[Letter]) -> dict[LetterId, str]:
    """Legs whose outcome is on payments.events."""
    ends = {Status.COMPLETED, Status.CAPTURED, Status.REVERSED}
    wanted = {_leg(one.record): one for one in asked}
    if not wanted:
        return {}
    homes = _homes(source, (debtor for debtor, *_ in wanted))
    return {
        wanted[_leg(event)].id: f"it became {event.status} at {_where(raw)}"
        for raw, event in _found(source, EVENTS, homes, {payment for _, payment, *_ in wanted})
        if event.status in ends and _leg(event) in wanted
    }


def _given_again(source: Source, asked: Sequence[Letter]) -> dict[LetterId, str]:
    """REPEATs that were answered."""
    wanted = {(one.record.debtor, one.record.payment_id, one.record.repeat_intent_offset): one for one in asked}
    if not wanted:
        return {}
    homes = _homes(source, (debtor for debtor, *_ in wanted))
    found = {}
    for raw, event in _found(source, EVENTS, homes, {payment for _, payment, _ in wanted}):
        key = (event.debtor, event.payment_id, event.repeat_intent_offset)
        if event.repeat_intent_offset is not None and key in wanted:
            found[wanted[key].id] = f"the answer was given again at {_where(raw)}"
    return found


_LOOKS: dict[type, Any] = {
    Intent: _intents,
    AccountCommand: _commands,
    AliasClaim: _claims,
    Credit: _credits,
    Reversal: _reversals,
}
