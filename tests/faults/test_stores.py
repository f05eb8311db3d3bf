"""Stores against changelogs."""

import sys
from pathlib import Path

import pytest
from rocksdict import Options, Rdict

sys.path.append(str(Path(__file__).parent))

from stores import CHANGELOG, Rows, compare_with_changelogs  # the fault scripts are no package

from topologies.engine.changelog import pack
from topologies.engine.store import META, row_key

PLACE = (CHANGELOG, 0)


def logged(*rows, step=7, base=0):
    """What partition 0's changelog says after a step with these accounts, each on a record of its own."""
    found = Rows()
    for key, row in rows:
        [packed] = pack(step, base, [(row_key("accounts", key), row)])
        found.take(packed)
    return {0: found}


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
    """The newest of several stores of a partition counts, and the last row of each key."""
    folders = [store({b"alice": b"1"}, 6, "old"), store({b"alice": b"2"}, 7, "new")]
    rows = logged(("alice", b"1"), ("bob", b"1"), ("alice", b"2"), ("bob", None))
    assert compare_with_changelogs(folders, rows, {PLACE: 0}) == ""


@pytest.mark.parametrize("rows", [[("bob", None)], [("alice", b"2")], [("alice", b"1"), ("bob", b"1")]])
def test_a_missing_a_changed_and_a_further_row_are_found(store, rows):
    """By table and key."""
    told = compare_with_changelogs([store({b"alice": b"1"})], logged(*rows), {PLACE: 0})
    assert "1 rows differ, ('accounts', b'" in told


def test_a_store_at_another_step_than_its_changelog_is_found(store):
    """Even where no row differs."""
    rows = logged(("alice", b"1"), step=8)
    assert "at step 7, its changelog at step 8" in compare_with_changelogs([store({b"alice": b"1"})], rows, {PLACE: 0})


def test_a_changelog_without_its_head_holds_less_than_the_store(store):
    """But never anything else; from its base on it must hold all."""
    folder = store({b"alice": b"1", b"bob": b"1"})
    assert compare_with_changelogs([folder], logged(("bob", b"1")), {PLACE: 5}) == ""
    assert compare_with_changelogs([folder], logged(("bob", b"2")), {PLACE: 5})
    assert compare_with_changelogs([folder], logged(("bob", b"1"), base=5), {PLACE: 5})
    assert compare_with_changelogs([folder], logged(("bob", b"1"), ("alice", b"1"), base=5), {PLACE: 5}) == ""


def test_a_damaged_record_is_found(store):
    """It ends no round as a mistake of the harness."""
    rows = logged(("alice", b"1"))
    rows[0].take(b"one more")
    told = compare_with_changelogs([store({b"alice": b"1"})], rows, {PLACE: 0})
    assert "no record of a changelog: b'one more'" in told


def test_a_partition_without_a_store_is_found():
    """When workers have ended well, every partition has one."""
    assert compare_with_changelogs([], {}, {PLACE: 0}) == "no store of partitions [0] can be read"


def test_a_damaged_store_is_as_good_as_none(store):
    """Nobody has opened it since; what counts is the store of the worker that has the partition."""
    damaged, sound = store({b"alice": b"1"}, 6, "damaged"), store({b"alice": b"2"}, 7, "sound")
    next(damaged.glob("MANIFEST-*")).unlink()
    assert compare_with_changelogs([damaged, sound], logged(("alice", b"2")), {PLACE: 0}) == ""
    assert "[0]" in compare_with_changelogs([damaged], logged(("alice", b"1")), {PLACE: 0})
