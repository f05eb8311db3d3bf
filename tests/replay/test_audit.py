"""The audit finds every single thing that can be wrong, and nothing in a world where all is right."""

import json
from collections.abc import Callable

import pytest
from builders import PARTITIONS
from spoils import ALICE, COUNTS, FIVE, SHOP, SPOILS
from worlds import CREDITS, EVENTS, JOURNAL, POSTINGS, World, a_world

from replay.audit import AuditReport, judge
from replay.reader import TopicMissing
from schemas.events import Minor, Status


def failed(report: AuditReport) -> dict[str, str]:
    """Name and detail of each check that failed."""
    return {check.name: check.detail for check in report.checks if not check.ok}


def test_a_right_world_passes_and_is_counted():
    """Where all is right no check fails, and every count is what happened."""
    report = judge(a_world())
    assert failed(report) == {}
    assert report.ok
    assert report.intents == 10
    assert report.fates == {
        "COMPLETED": 3, "DECLINED": 2, "DEAD_LETTER": 1, "DECIDING": 1, "REPEATED": 1, "REVERSED": 1, "REVIEW": 1,
    }  # fmt: skip
    assert report.dead_letters == {"truncated": 1}
    assert report.repeats == 1
    assert report.in_transit == {}
    assert report.held == {"EUR": 1200}
    assert report.money == {
        "EUR": {"customers": 7600, "holds": 0, "in-transit": 0, "merchants": 2400, "sources": -10_000}
    }


@pytest.mark.parametrize(("spoil", "check", "words"), SPOILS, ids=[spoil.__name__ for spoil, _, _ in SPOILS])
def test_each_single_wrong_is_found_and_named(spoil: Callable[[World], None], check: str, words: str):
    """Whatever one thing is spoilt, the check it breaks says so, with the record and the meaning."""
    world = a_world()
    spoil(world)
    found = failed(judge(world))
    assert check in found, found
    assert words in found[check]


def test_every_check_has_a_wrong_that_breaks_it():
    """A new check comes with the corruption that it must find."""
    assert {check.name for check in judge(a_world()).checks} == {check for _, check, _ in SPOILS}


def test_intents_that_wait_fail_only_a_system_that_should_be_quiet():
    """A backlog is no offence; --quiet says how much waits."""
    world = a_world()
    world.ask("later")
    report = judge(world)
    assert (report.ok, report.waiting) == (True, 1)
    assert "1 intents" in failed(judge(world, quiet=True))["quiet"]


def test_money_in_transit_fails_only_a_system_that_should_be_quiet():
    """Undecided credits explain what is in transit; --quiet wants none."""
    world = a_world()
    intent, offset = world.ask("under-way")
    world.send(intent, offset)
    report = judge(world)
    assert report.ok, failed(report)
    assert report.in_transit == {"EUR": 1200}
    assert report.fates["IN_FLIGHT"] == 1
    assert "1 credits are undecided" in failed(judge(world, quiet=True))["quiet"]


def test_a_return_under_way_is_money_in_transit():
    """Between refusal and return the money is explained by the reversal."""
    world = a_world()
    intent, offset = world.ask("coming-back", creditor="nobody")
    world.refuse(intent, world.send(intent, offset))
    report = judge(world)
    assert report.ok, failed(report)
    assert report.in_transit == {"EUR": 1200}


def test_a_quiet_world_is_quiet():
    """With nothing waiting and nothing in transit, --quiet passes; an open review is no lag."""
    report = judge(a_world(), quiet=True)
    assert report.ok, failed(report)


def test_steps_after_the_cut_are_left_out():
    """Records that later steps write while the topics are read change no verdict and no count."""
    world = a_world()
    before = judge(world)
    world = a_world()
    world.later.append((JOURNAL, lambda: world.pay("after", amount_minor=Minor(100))))
    report = judge(world)
    assert report.ok, failed(report)
    assert (report.events_by_status, report.money) == (before.events_by_status, before.money)
    assert report.waiting == 1


def test_a_later_step_without_its_money_is_not_judged_but_its_records_are_counted():
    """A record past the cut must still belong to a step, though only the next audit judges what it says."""
    world = a_world()
    event = world.find(EVENTS, reason="AM04")[2]
    world.later.append((JOURNAL, lambda: world.append(EVENTS, ALICE, event)))
    assert set(failed(judge(world))) == {COUNTS}


def test_a_credit_read_before_its_own_step_was_seen_moves_the_cut_back():
    """The journal's partitions are not read at one moment: a step whose cause was missed is left out."""
    world = a_world()
    intent, offset = world.ask("torn-view")
    credit = world.send(intent, offset)
    world.apply(intent, credit)
    missed = world.log[JOURNAL, ALICE].pop()
    world.later.append((JOURNAL, lambda: world.log[JOURNAL, ALICE].append(missed)))
    report = judge(world)
    assert report.ok, failed(report)
    assert report.waiting == 1


def test_markers_between_records_are_no_gaps():
    """Offsets that hold no record, as transactions leave them, are no lost intents."""
    world = a_world()
    world.log[EVENTS, ALICE].append(None)
    world.log[POSTINGS, SHOP].insert(0, None)
    report = judge(world)
    assert report.ok, failed(report)


def test_after_a_day_a_key_may_begin_again():
    """A key of a declined payment is bound for 24 hours, no longer."""
    world = a_world()
    for wait, expected in ((0, [FIVE]), (25, [])):
        world = a_world()
        world.at += wait * 3_600_000_000
        again, offset = world.ask("pay-2", intent_id="i-next-day", amount_minor=Minor(999_999))
        world.answer(again, world.event(again, offset, Status.DECLINED, reason="AM04", event_id="fresh"))
        assert list(failed(judge(world))) == expected, wait


def test_an_alias_counts_as_it_was_sent():
    """Two bodies that differ in the alias alone are two bodies (R18)."""
    world = a_world()
    other, offset = world.ask("pay-1", intent_id="i-alias", creditor_alias="EMAIL:x@example.org")
    world.answer(other, world.event(other, offset, Status.DECLINED, reason="AM05"))
    assert judge(world).ok


def test_a_dead_lettered_credit_is_money_in_transit():
    """The credit is undecided until somebody redrives it, so the money is explained and --quiet fails."""
    world = a_world()
    intent, offset = world.ask("stuck")
    world.send(intent, offset)
    world.step(SHOP, CREDITS, [], lost="unknown-action")
    report = judge(world)
    assert report.ok, failed(report)
    assert report.in_transit == {"EUR": 1200}
    assert not judge(world, quiet=True).ok


def test_an_empty_cluster_passes():
    """With topics and no records there is nothing to fail."""
    report = judge(World(), quiet=True)
    assert report.ok, failed(report)


def test_a_missing_topic_is_named():
    """Without its topics nothing is judged."""
    world = a_world()
    for partition in range(PARTITIONS):
        del world.log[POSTINGS, partition]
    with pytest.raises(TopicMissing, match="postings"):
        judge(world)


def test_the_report_is_plain_json():
    """What `--json` prints is made of plain values and says for each check whether it holds."""
    plain = json.loads(json.dumps(judge(a_world()).to_json()))
    assert plain["ok"] is True
    assert set(plain["audit"].values()) == {True}
    assert plain["checks"][0]["examined"] > 0


def test_progress_is_told():
    """Whoever waits hears what was read."""
    lines: list[str] = []
    judge(a_world(), progress=lines.append)
    assert any(line.startswith("ledger.postings: ") for line in lines)
