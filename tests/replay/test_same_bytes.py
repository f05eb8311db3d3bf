"""Invariant 8: a replay gives the same bytes, and whatever one byte is other is found and named."""

import sys
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from journalled import CHANGELOG, DOUBTFUL, Journalled, Logs, Moving, a_run, moments_of, opened, something

from replay.audit import judge
from replay.same_bytes import replay_of
from replay.state import Further
from replay.verdicts import Check
from schemas import codec
from schemas.events import Micros, Minor
from schemas.internal import JournalLetter
from schemas.keys import partition_of
from streams.rules import Rules
from topologies import topics
from topologies.engine.changelog import rows_of
from topologies.engine.step import Place as StepPlace

HOUR = 3_600_000_000
EIGHT = "8 replay gives the same bytes"


def judged(logs: Logs, say: Any = None) -> Check:
    """The check of invariant 8."""
    report = judge(logs, further=Further(replay_of([DOUBTFUL], lambda: logs)), progress=say)
    return next(check for check in report.checks if check.name == EIGHT)


@pytest.fixture(scope="module")
def life() -> Journalled:
    """Some hundred steps with everything in them; tests spoil a `Logs` of it, never the life itself."""
    memory = a_run(7, 200)
    memory.publish(topics.INTENTS, "customer-1", b"a record that no agent can process")
    memory.condemn(topics.INTENTS, partition_of("customer-1", memory.partitions))
    return memory.run()


@pytest.mark.parametrize("seed", range(3))
def test_a_replay_gives_the_same_bytes(seed: int):
    """Repeats, conflicts, reviews, deadlines, aliases that move, poison; rows on their way through a store."""
    check = judged(Logs(a_run(seed)))
    assert check.ok, check.detail
    assert check.examined > 1_000


def test_it_makes_no_difference_when_expired_rows_are_swept():
    """The worker sweeps all at once, the replay nothing: over months the bytes are the same."""
    for seed in range(3):
        memory = a_run(seed, leap=40 * HOUR)
        changelog = Logs(memory).places(topics.changelog(DOUBTFUL.role))
        assert any(row[2] is None for _, _, kept in changelog for row in rows_of(kept.value, "idempotency"))
        check = judged(Logs(memory))
        assert check.ok, (seed, check.detail)


def test_a_dead_letter_of_its_own_step_is_not_processed(life: Journalled):
    """A record that no agent could process is skipped, and the rest is the same."""
    assert judged(Logs(life)).ok


Spoil = Callable[[Logs], None]


def _last(logs: Logs, topic: Any) -> tuple[int, int]:
    """Partition and offset of the last record that can be read."""
    schema = codec.encode(codec.decoder(topic.subject)(logs.places(topic)[0][2].value))[:5]
    return [place[:2] for place in logs.places(topic) if place[2].value[:5] == schema][-1]


def _change(topic: Any, **fields: Any) -> Spoil:
    def spoil(logs: Logs) -> None:
        logs.change(topic, *_last(logs, topic), **fields)

    spoil.__name__ = f"{topic.name} {' '.join(fields)}"
    return spoil


def an_amount_of_a_posting_is_other(logs: Logs) -> None:
    partition, offset = _last(logs, topics.POSTINGS)
    kept = logs.log[topics.POSTINGS.name, partition][offset]
    entries = codec.decoder(topics.POSTINGS.subject)(kept.value).entries
    changed = (entries[0], entries[1]._replace(amount_minor=Minor(1)), *entries[2:])
    logs.change(topics.POSTINGS, partition, offset, entries=changed)


def a_key_is_other(logs: Logs) -> None:
    log = logs.log[topics.CREDITS.name, 1]
    log[3] = log[3]._replace(key=b"somebody")


def a_byte_of_a_letter_is_other(logs: Logs) -> None:
    name = topics.dead_letters("admission").name
    place = next(place for place, log in logs.log.items() if place[0] == name and log)
    logs.log[place][0] = logs.log[place][0]._replace(value=b"Poison")


def an_event_is_lost(logs: Logs) -> None:
    logs.log[topics.EVENTS.name, 1][5] = None


def the_last_event_is_lost(logs: Logs) -> None:
    logs.log[topics.EVENTS.name, 1][-1] = None


def an_event_stands_twice(logs: Logs) -> None:
    log = logs.log[topics.EVENTS.name, 1]
    log.insert(6, log[5])


def a_stranger_wrote_at_the_end(logs: Logs) -> None:
    log = logs.log[topics.EVENTS.name, 1]
    log.append(log[0])


def two_events_of_a_payment_changed_places(logs: Logs) -> None:
    log = logs.log[topics.POSTINGS.name, 1]
    log[5], log[6] = log[6], log[5]


def a_step_is_a_microsecond_later(logs: Logs) -> None:
    _step(logs, lambda step: step.outputs and not step.dead_letters, at=lambda step: Micros(step.at + 1))


def _step(logs: Logs, wanted: Callable[[Any], Any], **changes: Callable[[Any], Any]) -> None:
    """Changes the last step for which `wanted` is true."""
    decode = codec.decoder(topics.JOURNAL.subject)
    for partition, offset, kept in reversed(logs.places(topics.JOURNAL)):
        step = decode(kept.value)
        if wanted(step):
            logs.change(topics.JOURNAL, partition, offset, **{name: make(step) for name, make in changes.items()})
            return
    raise LookupError


def a_partition_saw_no_aliases(logs: Logs) -> None:
    for partition, offset, _ in logs.places(topics.JOURNAL):
        logs.change(topics.JOURNAL, partition, offset, alias_offsets=())


def a_step_had_read_fewer_aliases_than_the_one_before(logs: Logs) -> None:
    _step(logs, lambda step: any(step.alias_offsets), alias_offsets=lambda step: (0,) * len(step.alias_offsets))


def a_step_carried_out_another_number_of_deadlines(logs: Logs) -> None:
    _step(logs, lambda step: step.deadlines, deadlines=lambda step: step.deadlines + 1)


def a_letter_has_another_code(logs: Logs) -> None:
    _step(
        logs,
        lambda step: step.dead_letters and step.dead_letters[0].code != "unprocessable",
        dead_letters=lambda step: tuple(JournalLetter(x.topic, x.offset, "bad-form") for x in step.dead_letters),
    )


def a_processed_record_is_said_to_be_unprocessable(logs: Logs) -> None:
    _step(
        logs,
        lambda step: step.inputs[-1].records and step.outputs and not step.dead_letters,
        dead_letters=lambda step: (JournalLetter(topics.INTENTS.name, step.inputs[-1].first_offset, "unprocessable"),),
    )


def an_intent_is_other(logs: Logs) -> None:
    logs.change(topics.INTENTS, *_last(logs, topics.INTENTS), amount_minor=Minor(101))


def an_intent_is_lost(logs: Logs) -> None:
    partition, offset = _last(logs, topics.INTENTS)
    logs.log[topics.INTENTS.name, partition][offset] = None


def a_claim_is_other(logs: Logs) -> None:
    place = next(place for place, log in logs.log.items() if place[0] == topics.ALIASES.name and log)
    logs.change(topics.ALIASES, place[1], 0, account="customer-11")


def a_row_of_the_changelog_is_other(logs: Logs) -> None:
    partition, key, row = logs.last_row("accounts")
    logs.leave(partition, ("accounts", key, row.replace(b"EUR", b"USD")))


def a_row_is_missing_on_the_changelog(logs: Logs) -> None:
    partition, key, _ = logs.last_row("profiles")
    assert logs.forget(partition, "profiles", key)


def a_row_that_lives_was_deleted(logs: Logs) -> None:
    partition, key, _ = logs.last_row("payments")
    logs.leave(partition, ("payments", key, None))


def the_changelog_has_a_row_that_no_step_left(logs: Logs) -> None:
    partition, _, row = logs.last_row("credits")
    logs.leave(partition, ("credits", b"of nobody", row))


def the_changelog_has_a_table_that_nobody_knows(logs: Logs) -> None:
    logs.leave(0, ("loans", b"alice", b"[1]"))


def a_record_of_the_changelog_is_damaged(logs: Logs) -> None:
    log = logs.log[CHANGELOG, 1]
    log[5] = log[5]._replace(value=log[5].value[:-1])


SPOILS: list[tuple[Spoil, str]] = [
    (_change(topics.EVENTS, reason="AM05"), "reason: expected"),
    (_change(topics.EVENTS, occurred_at=Micros(5)), "occurred_at: expected"),
    (_change(topics.CREDITS, payment_id="another"), "ledger.credits partition"),
    (_change(topics.REVERSALS, reason="AC04"), "reason: expected AC03, found AC04"),
    (_change(topics.ACCOUNT_EVENTS, accepted=None or False, reason="AM11"), "accounts.events partition"),
    (an_amount_of_a_posting_is_other, "entries[1].amount_minor: expected"),
    (a_key_is_other, "ledger.credits partition 1 offset 3: step"),
    (a_byte_of_a_letter_is_other, "found b'Poison'"),
    (an_event_is_lost, "payments.events partition 1 offset 6: a record of step"),
    (the_last_event_is_lost, "writes a record that is not there"),
    (an_event_stands_twice, "payments.events partition 1 offset 6: step"),
    (a_stranger_wrote_at_the_end, "no step writes this record"),
    (two_events_of_a_payment_changed_places, "ledger.postings partition 1 offset 5: a record of step"),
    (a_step_is_a_microsecond_later, "_at: expected"),
    (a_partition_saw_no_aliases, "outputs[0].topic: expected payments.events, found ledger.postings"),
    (a_step_had_read_fewer_aliases_than_the_one_before, "less far than the step before"),
    (a_step_carried_out_another_number_of_deadlines, "deadlines: expected"),
    (a_letter_has_another_code, "dead_letters[0].code: expected"),
    (a_processed_record_is_said_to_be_unprocessable, "step"),
    (an_intent_is_other, "expected"),
    (an_intent_is_lost, "the same input can't be given again"),
    (a_claim_is_other, "step 1: outputs[1].partition: expected"),
    (a_row_of_the_changelog_is_other, "headrace.changelog.core partition 0, table accounts, key "),
    (a_row_is_missing_on_the_changelog, "the changelog has nothing"),
    (a_row_that_lives_was_deleted, "headrace.changelog.core partition 0, table payments, key "),
    (the_changelog_has_a_row_that_no_step_left, "the steps leave the row nothing"),
    (the_changelog_has_a_table_that_nobody_knows, "table loans, key 'alice'"),
    (a_record_of_the_changelog_is_damaged, "headrace.changelog.core partition 1 offset 5: a changelog record has"),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILS, ids=[spoil.__name__ for spoil, _ in SPOILS])
def test_each_single_difference_is_found_and_named(life: Journalled, spoil: Spoil, words: str):
    """One thing other, and the check fails and says where."""
    logs = Logs(life)
    spoil(logs)
    check = judged(logs)
    assert not check.ok
    assert words in check.detail


def test_steps_of_other_code_are_told_and_fail_nothing(life: Journalled):
    """Their bytes may differ, and what follows stands on their rows: nothing is an offence then."""
    logs = Logs(life)
    decode = codec.decoder(topics.JOURNAL.subject)
    for partition, offset, kept in logs.places(topics.JOURNAL):
        if decode(kept.value).step <= 3:
            logs.change(topics.JOURNAL, partition, offset, code_hash="of old")
    an_event_stands_twice(logs)
    check = judged(logs)
    assert check.ok, check.detail
    assert "12 steps are not comparable" in check.detail
    assert "headrace.settings does not have its settings" in check.detail


def test_what_came_before_other_code_must_still_be_the_same(life: Journalled):
    """Steps before the change are compared in full."""
    logs = Logs(life)
    decode = codec.decoder(topics.JOURNAL.subject)
    last = {p: decode(kept.value).step for p, _, kept in logs.places(topics.JOURNAL)}
    for partition, offset, kept in logs.places(topics.JOURNAL):
        if decode(kept.value).step == last[partition]:
            logs.change(topics.JOURNAL, partition, offset, code_hash="of new")
    assert judged(logs).ok
    an_event_is_lost(logs)
    assert "is not there" in judged(logs).detail


def test_a_change_of_settings_is_followed():
    """Each step is taken with the settings that its hash stands for, so nothing is lost for the comparison."""
    memory = opened()
    random, sent = Random(3), []
    for number in range(1, 200):
        if number == 100:
            memory.use(replace(Rules(), review_deadline=60_000_000))
        memory.now = Micros(memory.now + random.randrange(1, 20_000_000))
        topic, key, value = something(random, number, sent, memory.now)
        memory.publish(topic, key, value)
        memory.run()
    check = judged(Logs(memory))
    assert check.ok, check.detail
    assert "not comparable" not in check.detail


def test_a_worker_that_carries_out_few_deadlines_a_step_is_followed(monkeypatch: pytest.MonkeyPatch):
    """How many one step may carry out is a worker's own limit, and no hash covers it; the journal says how many it did."""
    module = sys.modules[Journalled.__mro__[1].__module__]
    monkeypatch.setattr(module, "Place", lambda *place: StepPlace(*place, deadlines=2))
    memory = a_run(7, 150)
    memory.run(at=memory.now + 5 * HOUR)
    decode = codec.decoder(topics.JOURNAL.subject)
    assert [
        step
        for step in (decode(kept.value) for _, _, kept in Logs(memory).places(topics.JOURNAL))
        if step.deadlines == 2
    ]
    check = judged(Logs(memory))
    assert check.ok, check.detail


def test_settings_that_were_tampered_with_are_not_believed(life: Journalled):
    """The journal's hash covers the settings: what does not give that hash is told."""
    logs = Logs(life)
    told = codec.decoder(topics.SETTINGS.subject)(logs.log[topics.SETTINGS.name, 0][0].value)
    settings = told.settings.replace('"pan_guard":true', '"pan_guard":false')
    logs.change(topics.SETTINGS, 0, 0, settings=settings)
    check = judged(logs)
    assert check.ok
    assert "its settings were changed" in check.detail


@pytest.mark.parametrize("seed", range(4))
def test_a_running_system_is_compared_exactly(seed: int):
    """What is written while the audit reads neither fails it nor hides a loss before the cut."""
    memory = a_run(seed, 60)
    moments = [*moments_of(memory, seed), *moments_of(memory, seed + 1)]
    check = judged(Moving(memory, list(moments)))
    assert check.ok, check.detail
    logs = Moving(memory, list(moments))
    place, end = next((place, end) for place, end in moments[0].items() if place[0] == topics.POSTINGS.name)
    logs.log[place][end - 1] = None
    assert not judged(logs).ok


def _walked(seed: int) -> tuple[Journalled, list[dict[Any, int]]]:
    """A life with a checkpoint, and moments before and after it."""
    memory = a_run(seed, 60)
    before = moments_of(memory, seed)
    memory.walks.update(range(memory.partitions))
    after = moments_of(memory, seed + 1)
    assert all(before[-1][CHANGELOG, p] <= base < after[-1][CHANGELOG, p] for p, base in enumerate(memory.logged_from))
    return memory, [*before, *after]


def test_from_its_base_on_the_changelog_has_every_row():
    """Without its head the rows are compared all the same; where more is gone, that is told, and told once."""
    memory, _ = _walked(3)
    logs = Logs(memory)
    for partition, base in enumerate(memory.logged_from):
        logs.delete_head((CHANGELOG, partition), base)
    check = judged(logs)
    assert check.ok, check.detail
    a_row_is_missing_on_the_changelog(logs)
    assert "the changelog has nothing" in judged(logs).detail
    logs = Logs(memory)
    logs.delete_head((CHANGELOG, 2), memory.logged_from[2] + 1)
    check = judged(logs)
    assert "its head was deleted, a lost store can't be rebuilt" in check.detail
    assert "more)" not in check.detail


@pytest.mark.parametrize("seed", range(4))
def test_a_checkpoint_that_ends_beside_the_audit_is_no_offence(seed: int):
    """The log's head goes after the ends were taken: rows that nobody can know any more are left out."""
    memory, moments = _walked(seed)

    class Shrinking(Moving):
        def starts(self, names: Any) -> dict[Any, int]:
            if names != [CHANGELOG] and len(self._moments) == 1:
                for partition, base in enumerate(memory.logged_from):
                    self.delete_head((CHANGELOG, partition), base)
            return super().starts(names)

    logs = Shrinking(memory, [*moments[:3], moments[-1]])
    check = judged(logs)
    assert check.ok, check.detail
    assert logs.first


def test_progress_is_told(life: Journalled):
    """Whoever waits hears which partition is under way."""
    lines: list[str] = []
    judged(Logs(life), lines.append)
    assert [line for line in lines if line.startswith("replay of core, partition 3: ")]
