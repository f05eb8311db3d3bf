"""Invariant 6 on the topics: account rows are what the postings add up to."""

from collections.abc import Callable

import orjson
import pytest
from journalled import Journalled, Logs, Moving, a_run, moments_of
from worlds import a_world

from replay.audit import judge
from replay.verdicts import Check
from topologies import topics

SIX = "6 account rows equal postings"
ACCOUNTS = topics.changelog("accounts").name


def judged(logs: Logs) -> Check:
    """The check of invariant 6."""
    return next(check for check in judge(logs).checks if check.name == SIX)


@pytest.fixture(scope="module")
def life() -> Journalled:
    """Some hundred steps; tests spoil a `Logs` of it."""
    return a_run(5, 120)


def test_rows_of_a_right_life_equal_its_postings(life: Journalled):
    """Every account, internal ones too, also where the log keeps nothing but each key's last row."""
    check = judged(Logs(life))
    assert check.ok, check.detail
    assert check.examined > 13
    logs = Logs(life)
    for (topic, _), log in logs.log.items():
        if topic == ACCOUNTS:
            last = {kept.key: offset for offset, kept in enumerate(log) if kept is not None}
            log[:] = [kept if last[kept.key] == offset else None for offset, kept in enumerate(log)]
    assert judged(logs).ok


def _spoilt(change: Callable[[list[int]], list[int]]) -> Callable[[Logs], None]:
    """Appends a changed row of an account that has entries."""

    def spoil(logs: Logs) -> None:
        log = next(log for (topic, _), log in logs.log.items() if topic == ACCOUNTS and log)
        kept = log[-1]
        flags, purses = orjson.loads(kept.value)
        currency, *balances = purses[0]
        log.append(kept._replace(value=orjson.dumps([flags, [[currency, *change(balances)]]])))

    return spoil


def a_row_is_missing(logs: Logs) -> None:
    log = next(log for (topic, _), log in logs.log.items() if topic == ACCOUNTS and log)
    key = log[-1].key
    log[:] = [kept for kept in log if kept.key != key]


def a_row_was_not_written(logs: Logs) -> None:
    log = next(log for (topic, _), log in logs.log.items() if topic == ACCOUNTS and log)
    versions = [offset for offset, kept in enumerate(log) if kept.key == log[-1].key]
    assert len(versions) > 1
    log[versions[-1]] = None


def a_row_is_nonsense(logs: Logs) -> None:
    log = next(log for (topic, _), log in logs.log.items() if topic == ACCOUNTS and log)
    log.append(log[-1]._replace(value=b"[1]"))


SPOILS: list[tuple[str, Callable[[Logs], None], str]] = [
    ("a balance is other", _spoilt(lambda b: [b[0], b[1] + 1, *b[2:]]), "of ledger.postings leaves Purse("),
    ("a hold is other", _spoilt(lambda b: [b[0] + 1, *b[1:]]), "of ledger.postings leaves Purse("),
    ("a row is ahead", _spoilt(lambda b: [*b[:4], b[4] + 1]), "the row is ahead of the books"),
    ("a new row has money", _spoilt(lambda _: [0, 0, 0, 5, 0]), "stands at entry 0"),
    ("a row is missing", a_row_is_missing, "has no EUR, entry 1"),
    ("a row was not written", a_row_was_not_written, "is not in it"),
    ("a row is nonsense", a_row_is_nonsense, "is no row of an account"),
]


@pytest.mark.parametrize(("spoil", "words"), [each[1:] for each in SPOILS], ids=[each[0] for each in SPOILS])
def test_each_single_wrong_is_found_and_named(life: Journalled, spoil: Callable[[Logs], None], words: str):
    """One row other, and the check says which account and what its entries say."""
    logs = Logs(life)
    spoil(logs)
    check = judged(logs)
    assert not check.ok
    assert words in check.detail
    assert "headrace.changelog.accounts partition" in check.detail
    assert ", account " in check.detail


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_a_running_system_are_judged_where_they_stand(seed: int):
    """Rows and postings that are written while the audit reads are no offence."""
    memory = a_run(seed, 60)
    check = judged(Moving(memory, moments_of(memory, seed)))
    assert check.ok, check.detail


def test_without_a_changelog_nothing_is_said():
    """Topics that were copied without their changelogs can still be audited."""
    assert SIX not in {check.name for check in judge(a_world()).checks}
