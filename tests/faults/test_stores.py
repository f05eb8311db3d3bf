"""Stores against changelogs."""

import sys
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

sys.path.append(str(Path(__file__).parent))

from stores import compare_with_changelogs  # the fault scripts are no package

from topologies.engine.store import META

ACCOUNTS = ("headrace.changelog.accounts", 0)


@pytest.fixture
def store(tmp_path):
    """Makes a store of partition 0 with these accounts."""

    def make(rows, step=7, name="a"):
        folder = tmp_path / name / "p0"
        db = Rdict(str(folder), options=Options(raw_mode=True))
        db[META] = b'{"step":%d}' % step
        for key, value in rows.items():
            db[b"accounts\x00" + key] = value
        db.close()
        return folder

    return make


def test_a_store_with_the_rows_of_its_changelog_is_right(store):
    """The newest of several stores of a partition counts."""
    folders = [store({b"alice": b"1"}, 6, "old"), store({b"alice": b"2"}, 7, "new")]
    assert compare_with_changelogs(folders, {ACCOUNTS: {b"alice": b"2"}}, {ACCOUNTS: 0}) == ""


@pytest.mark.parametrize("logged", [{}, {b"alice": b"2"}, {b"alice": b"1", b"bob": b"1"}])
def test_a_missing_a_changed_and_a_further_row_are_found(store, logged):
    """By table and key."""
    told = compare_with_changelogs([store({b"alice": b"1"})], {ACCOUNTS: logged}, {ACCOUNTS: 0})
    assert "rows of accounts differ" in told


def test_a_truncated_changelog_holds_less_than_the_store(store):
    """But never anything else."""
    folder = store({b"alice": b"1", b"bob": b"1"})
    assert compare_with_changelogs([folder], {ACCOUNTS: {b"bob": b"1"}}, {ACCOUNTS: 5}) == ""
    assert compare_with_changelogs([folder], {ACCOUNTS: {b"bob": b"2"}}, {ACCOUNTS: 5})


def test_a_partition_without_a_store_is_found():
    """When workers have ended well, every partition has one."""
    assert compare_with_changelogs([], {}, {ACCOUNTS: 0}) == "no store of partitions [0] can be read"


def test_a_damaged_store_is_as_good_as_none(store):
    """Nobody has opened it since; what counts is the store of the worker that has the partition."""
    damaged, sound = store({b"alice": b"1"}, 6, "damaged"), store({b"alice": b"2"}, 7, "sound")
    next(damaged.glob("MANIFEST-*")).unlink()
    assert compare_with_changelogs([damaged, sound], {ACCOUNTS: {b"alice": b"2"}}, {ACCOUNTS: 0}) == ""
    assert "[0]" in compare_with_changelogs([damaged], {ACCOUNTS: {b"alice": b"1"}}, {ACCOUNTS: 0})
