"""Invariant 6 on the topics: account rows are what the postings add up to."""

from collections.abc import Callable

import orjson
import pytest
from journalled import CHANGELOG, Journalled, Logs, Moving, a_run, moments_of
from worlds import a_world

from replay.audit import judge
from replay.reader import HeadDeleted
from replay.verdicts import Check
from topologies.engine.changelog import head_of, pack

SIX = "6 account rows equal postings"
ACCOUNTS = "accounts"


def judged(logs: Logs) -> Check:
    """The check of invariant 6."""
    return next(check for check in judge(logs).checks if check.name == SIX)


@pytest.fixture(scope="module")
def life() -> Journalled:
    """Some hundred steps; tests spoil a `Logs` of it."""
    return a_run(5, 120)


def test_rows_of_a_right_life_equal_its_postings(life: Journalled):
    """Every account, internal ones too."""
    check = judged(Logs(life))
    assert check.ok, check.detail
    assert check.examined > 13


@pytest.fixture
def walked() -> Journalled:
    """A life with a checkpoint in the middle."""
    memory = a_run(5, 60)
    memory.walks.update(range(memory.partitions))
    moments_of(memory, 5)
    assert not memory.walks
    return memory


def test_from_its_base_on_the_log_has_every_row(walked: Journalled):
    """Its head may be deleted; one record more, and rows are lost that nothing has written again."""
    logs = Logs(walked)
    whole = judged(logs)
    for partition, base in enumerate(walked.logged_from):
        logs.delete_head((CHANGELOG, partition), base)
    check = judged(logs)
    assert check.ok, check.detail
    assert check.examined == whole.examined
    logs.delete_head((CHANGELOG, 2), walked.logged_from[2] + 1)
    assert f"only from {walked.logged_from[2]} on it has all rows: its head was deleted" in judged(logs).detail


def test_rows_that_went_with_the_logs_head_are_one_offence(life: Journalled):
    """Not one for each account that can't be judged any more."""
    logs = Logs(life)
    logs.delete_head((CHANGELOG, 1), len(logs.log[CHANGELOG, 1]) - 2)
    check = judged(logs)
    assert "only from 0 on it has all rows: its head was deleted, a lost store can't be rebuilt" in check.detail
    assert "more)" not in check.detail


def test_a_head_that_is_deleted_while_it_is_read_is_no_offence(walked: Journalled):
    """The worker has ended a checkpoint meanwhile: the reading begins anew."""

    class Shrinking(Logs):
        def read(self, topic, ends, starts=None):  # type: ignore[no-untyped-def]
            for count, raw in enumerate(super().read(topic, ends, starts)):
                if topic == CHANGELOG and count == 3 and not self.first:
                    for partition, base in enumerate(walked.logged_from):
                        self.delete_head((CHANGELOG, partition), base)
                    raise HeadDeleted("offset out of range")
                yield raw

    logs = Shrinking(walked)
    check = judged(logs)
    assert check.ok, check.detail
    assert logs.first


def test_a_head_that_can_not_be_read_without_being_deleted_is_told(life: Journalled):
    """The audit does not try for ever."""

    class Broken(Logs):
        def read(self, topic, ends, starts=None):  # type: ignore[no-untyped-def]
            if topic == CHANGELOG:
                raise HeadDeleted("offset out of range")
            return super().read(topic, ends, starts)

    with pytest.raises(HeadDeleted):
        judged(Broken(life))


def _spoilt(change: Callable[[list[int]], list[int]]) -> Callable[[Logs], None]:
    """Appends a changed row of an account that has entries."""

    def spoil(logs: Logs) -> None:
        partition, key, row = logs.last_row(ACCOUNTS)
        flags, purses = orjson.loads(row)
        currency, *balances = purses[0]
        logs.leave(partition, (ACCOUNTS, key, orjson.dumps([flags, [[currency, *change(balances)]]])))

    return spoil


def a_row_is_missing(logs: Logs) -> None:
    partition, key, _ = logs.last_row(ACCOUNTS)
    assert logs.forget(partition, ACCOUNTS, key)


def a_row_was_not_written(logs: Logs) -> None:
    partition, key, _ = logs.last_row(ACCOUNTS)
    assert logs.forget(partition, ACCOUNTS, key, last=1) > 1


def a_row_is_nonsense(logs: Logs) -> None:
    partition, key, _ = logs.last_row(ACCOUNTS)
    logs.leave(partition, (ACCOUNTS, key, b"[1]"))


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
    assert "headrace.changelog.core partition" in check.detail
    assert ", table accounts, account " in check.detail


def a_record_is_damaged(logs: Logs) -> None:
    log = logs.log[CHANGELOG, 1]
    log[5] = log[5]._replace(value=log[5].value[:-1])


def a_record_is_no_record(logs: Logs) -> None:
    log = logs.log[CHANGELOG, 1]
    log[5] = log[5]._replace(value=b'{"step":6,"base":0,"keys":["x"],"rows":[1]}\n')


def a_record_has_no_value(logs: Logs) -> None:
    log = logs.log[CHANGELOG, 1]
    log.append(log[-1]._replace(value=None))


def a_record_is_missing(logs: Logs) -> None:
    logs.log[CHANGELOG, 1][5] = None


def the_first_record_is_missing(logs: Logs) -> None:
    logs.log[CHANGELOG, 1][0] = None


def a_record_stands_twice(logs: Logs) -> None:
    logs.log[CHANGELOG, 1].append(logs.log[CHANGELOG, 1][-3])


def the_last_record_is_missing(logs: Logs) -> None:
    logs.log[CHANGELOG, 1].pop()


def a_step_that_the_journal_does_not_have(logs: Logs) -> None:
    log = logs.log[CHANGELOG, 1]
    [packed] = pack(head_of(log[-1].value).step + 1, 0, [])
    log.append(log[-1]._replace(value=packed))


def a_base_ahead_of_its_record(logs: Logs) -> None:
    log = logs.log[CHANGELOG, 1]
    [packed] = pack(head_of(log[-1].value).step, len(log) + 1, [])
    log.append(log[-1]._replace(value=packed))


LOG_SPOILS: list[tuple[Callable[[Logs], None], str]] = [
    (a_record_is_damaged, "offset 5: a changelog record has "),
    (a_record_is_no_record, "offset 5: "),
    (a_record_has_no_value, ": no record of a changelog: b''"),
    (a_record_is_missing, "offset 6: step 7 follows step 5: rows of a step were lost"),
    (the_first_record_is_missing, "offset 1: step 2 follows step 0: rows of a step were lost"),
    (a_record_stands_twice, ": rows were written twice"),
    (the_last_record_is_missing, ", the journal has step "),
    (a_step_that_the_journal_does_not_have, "a transaction was torn, or somebody else wrote"),
    (a_base_ahead_of_its_record, ", the one before it 0"),
]


@pytest.mark.parametrize(("spoil", "words"), LOG_SPOILS, ids=[spoil.__name__ for spoil, _ in LOG_SPOILS])
def test_a_changelog_whose_records_do_not_join_is_found(life: Journalled, spoil: Callable[[Logs], None], words: str):
    """Damaged, lost, twice: an offence with its place, never a crash."""
    logs = Logs(life)
    spoil(logs)
    check = judged(logs)
    assert not check.ok
    assert words in check.detail
    assert "headrace.changelog.core partition 1" in check.detail


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_a_running_system_are_judged_where_they_stand(seed: int):
    """Rows and postings that are written while the audit reads are no offence."""
    memory = a_run(seed, 60)
    check = judged(Moving(memory, moments_of(memory, seed)))
    assert check.ok, check.detail


def test_without_a_changelog_nothing_is_said():
    """Topics that were copied without the changelog can still be audited."""
    assert SIX not in {check.name for check in judge(a_world()).checks}
