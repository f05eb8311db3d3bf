"""Every intent against its fate, and every idempotency key against its answers: invariants 2 and 5."""

from collections import Counter
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, NamedTuple, TypeVar

from replay.journal import Cut
from replay.outcomes import AFTERWARDS, PROVISIONAL, Fate, Home, Repeat
from replay.verdicts import Verdicts
from schemas.events import Intent

One = TypeVar("One", Fate, Repeat)
INTENTS = "payments.intents"
KEY_WINDOW = 24 * 3_600_000_000
"""µs for which a key is bound for certain (R21)."""


class Binder(NamedTuple):
    """The intent that had an idempotency key first."""

    fingerprint: bytes
    offset: int


class Fates:
    """Judges intents in the order of their partitions; events, credits and letters were read before."""

    def __init__(self, verdicts: Verdicts, cut: Cut, homes: list[Home]) -> None:
        self.by_fate: Counter[str] = Counter()
        self.waiting = 0
        self._verdicts = verdicts
        self._cut = cut
        self._homes = homes
        self._deciding = [
            {sent.decided_by for sent in home.sent.values() if sent.decided_by is not None} for home in homes
        ]
        self._met = [0] * len(homes)
        self._keys: list[dict[bytes, Binder]] = [{} for _ in homes]
        self._older: list[dict[bytes, list[Binder]]] = [{} for _ in homes]
        """Binders whose keys were bound again after `KEY_WINDOW`."""
        self._ids: set[int] = set()
        self._suspects: dict[tuple[str, str], str] = {}

    @property
    def examined(self) -> int:
        """Intents that steps have read."""
        return self._verdicts.fates.examined

    def intent(self, partition: int, offset: int, intent: Intent | None) -> None:
        """The next intent of a partition; None where its bytes can't be read."""
        home = self._homes[partition]
        met = sum(offset in found for found in (home.events, home.decided, home.answers, home.letters))
        self._met[partition] += met
        if not self._cut.read(INTENTS, partition, offset):
            self.waiting += 1
            if met:
                self._offends(partition, offset, intent, "has a fate, but no step has read it yet")
            return
        self._verdicts.fates.examined += 1
        names = list(self._names(home, partition, offset, intent))
        if len(names) == 1:
            self.by_fate[names[0]] += 1
        elif names:
            self.by_fate[names[0]] += 1
            self._offends(partition, offset, intent, f"expected one fate, found {len(names)}: {' and '.join(names)}")
        else:
            self.by_fate["NONE"] += 1
            self._offends(
                partition, offset, intent, "was read by a step and has no fate: it was forgotten, nobody got an answer"
            )
        if intent is not None and offset not in home.letters:
            self._key(home, partition, offset, intent)

    def _names(self, home: Home, partition: int, offset: int, intent: Intent | None) -> Iterator[str]:
        """The fates of one intent, by name."""
        sent = offset in home.sent
        events = home.events.get(offset)
        if events is not None:
            yield from self._of_events(partition, offset, intent, (_all(events), sent))
        elif sent:
            yield "IN_FLIGHT"
        decided = home.decided.get(offset)
        if decided is not None:
            yield from ["DECIDING"] * sum(fate.status not in AFTERWARDS for fate in _all(decided))
        if offset in self._deciding[partition]:
            yield "DECIDING"
        answers = home.answers.get(offset)
        if answers is not None:
            yield from ["REPEATED"] * (len(answers) if isinstance(answers, list) else 1)
        if offset in home.asked:
            yield "IN_FLIGHT"
        if letters := home.letters.get(offset):
            yield from ["DEAD_LETTER"] * letters

    def _of_events(
        self, partition: int, offset: int, intent: Intent | None, found: tuple[list[Fate], bool]
    ) -> Iterator[str]:
        """The fate that an intent's own events make: the last one's, unless there are too many."""
        fates, sent = found
        ends = [fate.status for fate in fates if fate.status not in PROVISIONAL and fate.status not in AFTERWARDS]
        pending = [fate for fate in fates if fate.status in PROVISIONAL]
        if len(pending) > 1:
            self._offends(partition, offset, intent, f"became {pending[0].status} {len(pending)} times")
        yield from ends
        if sent:
            yield "IN_FLIGHT"
        elif not ends and pending:
            if not pending[0].bounded:
                self._offends(
                    partition, offset, intent, f"is {pending[0].status} without a deadline: it may wait for ever"
                )
            yield pending[0].status

    def _key(self, home: Home, partition: int, offset: int, intent: Intent) -> None:
        """Invariant 5 for one intent that was not dead-lettered."""
        key, fingerprint = _digests(intent)
        keys = self._keys[partition]
        bound = keys.get(key)
        if bound is None:
            self._verdicts.keys.examined += 1
            keys[key] = Binder(fingerprint, offset)
            self._ids.add(hash((intent.debtor, intent.intent_id)))
            return
        answer = home.answers.get(offset)
        mine = home.events.get(offset) or home.decided.get(offset)
        if answer is not None:
            known = [bound, *self._older[partition].get(key, ())]
            same = [binder for binder in known if binder.fingerprint == fingerprint]
            self._answered(home, partition, offset, (intent, same, bound, _all(answer)[0]))
        elif mine is not None or offset in home.sent or offset in self._deciding[partition]:
            # AM05 says itself that the key is still another intent's.
            if not _conflicting(mine) and _late(home, bound, offset):
                self._older[partition].setdefault(key, []).append(bound)
                keys[key] = Binder(fingerprint, offset)
                self._ids.add(hash((intent.debtor, intent.intent_id)))
            else:
                self._judged_anew(home, partition, offset, (intent, fingerprint, bound, mine))

    def _answered(
        self, home: Home, partition: int, offset: int, case: tuple[Intent, list[Binder], Binder, Repeat]
    ) -> None:
        """A repeat must get an event of the intent that it repeats, and the final one once there is one."""
        intent, same, bound, answer = case
        events = [fate for binder in same for fate in _events_of(home, binder.offset)]
        ends = [fate for fate in events if fate.status not in PROVISIONAL and fate.offset < answer.offset]
        allowed = {fate.event_id for fate in ends or events}
        if answer.event_id in allowed:
            return
        if not same and (answer.status, answer.reason) == ("DECLINED", "AM05"):
            return
        first = same[0].offset if same else bound.offset
        expected = f"event {' or '.join(sorted(allowed))}" if allowed else "an event of its own"
        self._verdicts.keys.offends(
            f"{_where(partition, offset, intent)} repeats idempotency key {intent.idempotency_key!r} of offset {first} "
            f"and got event {answer.event_id} ({answer.status}), expected {expected}: another answer to the same question"
        )

    def _judged_anew(
        self, home: Home, partition: int, offset: int, case: tuple[Intent, bytes, Binder, Fate | list[Fate] | None]
    ) -> None:
        """Within the window, only a conflict may have an event of its own: DECLINED AM05."""
        intent, fingerprint, bound, mine = case
        where = f"{_where(partition, offset, intent)} has idempotency key {intent.idempotency_key!r} of offset {bound.offset}"
        first = _all(mine)[0] if mine is not None else None
        got = "money was sent for it" if first is None else f"it became {first.status} {first.reason or ''}".rstrip()
        if fingerprint == bound.fingerprint:
            self._verdicts.keys.offends(
                f"{where} and the same body; expected the first answer again, but {got}: one payment judged twice"
            )
            return
        sent = offset in home.sent or offset in self._deciding[partition]
        if sent or first is None or (first.status, first.reason) != ("DECLINED", "AM05"):
            self._verdicts.keys.offends(
                f"{where} and another body; expected DECLINED AM05, but {got}: a second payment under one key"
            )
        self._suspects.setdefault((intent.debtor, intent.intent_id), f"{INTENTS} partition {partition} offset {offset}")

    def close(self) -> None:
        """After the last intent: nothing may be left that answers an intent that is not there."""
        for partition, home in enumerate(self._homes):
            answered: tuple[Mapping[int, Any], ...] = (home.events, home.decided, home.answers, home.letters)
            extra = sum(map(len, answered)) - self._met[partition]
            if extra:
                self._verdicts.fates.offends(
                    f"{INTENTS} partition {partition}: {extra:,} fates belong to offsets that hold no intent, "
                    f"the highest fate is for offset {max(max(found, default=-1) for found in answered)}: "
                    "answers to nobody"
                )

    def conflicts(self) -> dict[tuple[str, str], str]:
        """(debtor, intent id) of conflicting repeats, where no other intent bears the same id."""
        return {who: where for who, where in self._suspects.items() if hash(who) not in self._ids}

    def _offends(self, partition: int, offset: int, intent: Intent | None, what: str) -> None:
        self._verdicts.fates.offends(f"{_where(partition, offset, intent)}: {what}")


def _all(found: One | list[One]) -> list[One]:
    return found if isinstance(found, list) else [found]


def _events_of(home: Home, offset: int) -> list[Fate]:
    """The events that may be given again for an intent: its own and those that it caused."""
    found: list[Fate] = []
    for events in (home.events.get(offset), home.decided.get(offset)):
        if events is not None:
            found += _all(events)
    return found


def _conflicting(mine: Fate | list[Fate] | None) -> bool:
    return mine is not None and (_all(mine)[0].status, _all(mine)[0].reason) == ("DECLINED", "AM05")


def _late(home: Home, bound: Binder, offset: int) -> bool:
    """Whether the key may have been free again: both decisions are known and a window apart."""
    first, mine = _decided_at(home, bound.offset), _decided_at(home, offset)
    return first is not None and mine is not None and mine - first >= KEY_WINDOW


def _decided_at(home: Home, offset: int) -> int | None:
    """When home decided on an intent, as far as events and undecided credits tell."""
    known = [fate.decided_at for fate in _events_of(home, offset)]
    known += [sent.sent_at for sent in (home.sent.get(offset),) if sent is not None]
    return min(known, default=None)


def _digests(intent: Intent) -> tuple[bytes, bytes]:
    """Key (R17) and fingerprint (R18) of an intent, 16 bytes each; absent parts count as empty."""
    key = (intent.debtor, intent.idempotency_key)
    body = (
        intent.kind, intent.payment_id, intent.debtor, intent.creditor, intent.creditor_alias or "",
        str(intent.amount_minor), intent.currency,
    )  # fmt: skip
    return _digest(key), _digest(body)


def _digest(parts: tuple[str, ...]) -> bytes:
    return sha256("".join([f"{len(part)}:{part}" for part in parts]).encode()).digest()[:16]


def _where(partition: int, offset: int, intent: Intent | None) -> str:
    what = "undecodable bytes" if intent is None else f"intent {intent.intent_id} of payment {intent.payment_id}"
    return f"{INTENTS} partition {partition} offset {offset}, {what}"
