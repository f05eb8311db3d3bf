"""A checkpoint's walk: from the new base on every row that lives can be read, whatever changes meanwhile."""

from random import Random
from types import SimpleNamespace

import pytest

from topologies.engine.checkpoint import Checkpoint
from topologies.engine.limits import Limits
from topologies.engine.recovery import Recovered
from topologies.engine.store import rocksdb_stores, row_key

LIMITS = Limits(sweep_rows=3, checkpoint_rows=10, memtable_mb=1)


class Life:
    """A store and the changelog of its steps, one record per step at the offset of its number."""

    def __init__(self, folder):
        self.store = rocksdb_stores(LIMITS).open(folder)
        self.tables = {name: SimpleNamespace(size=0) for name in ("accounts", "credits")}
        self.state = Recovered(0, self.store, self.tables, {}, 0, 0, ())
        self.checkpoint = Checkpoint(self.state, LIMITS)
        self.rows, self.log, self.walks = {}, [], 0

    def step(self, changed, *, committed=True):
        """Changes rows by (table, key); None deletes."""
        taken = self.checkpoint.take(len(changed))
        if not committed:
            return
        rows = [(row_key(table, key), row) for (table, key), row in changed.items()]
        self.log.append((taken.base, [*taken.rows, *rows]))
        self.store.write(rows, None)
        self.rows.update(rows)
        self.tables["accounts"].size = sum(row is not None for row in self.rows.values())
        self.checkpoint.settle(taken, len(changed))
        self.state.changelog = len(self.log)
        self.walks += taken.ends

    def rebuilt(self):
        """The rows that a reader finds who begins at the last record's base."""
        found = {}
        for _, rows in self.log[self.log[-1][0] :]:
            found.update(rows)
        return {key: row for key, row in found.items() if row is not None}


@pytest.fixture
def life(tmp_path):
    found = Life(tmp_path / "p0")
    yield found
    found.store.close()


def test_every_row_that_lives_can_be_read_from_the_base_on(life):
    """After each step of a random life, with steps that are never committed in between."""
    chance = Random(5)
    for number in range(400):
        keys = [
            (chance.choice(("accounts", "credits")), f"{chance.randrange(40):02}") for _ in range(chance.randrange(6))
        ]
        changed = {key: None if chance.random() < 0.2 else b"%d" % number for key in keys}
        life.step(changed, committed=chance.random() < 0.9)
        assert life.rebuilt() == {key: row for key, row in life.rows.items() if row is not None}
    assert life.walks > 5


def test_the_log_from_the_base_on_stays_short(life):
    """However often few rows change: that is what a walk is for."""
    for number in range(60):
        life.step({("credits", f"{number:02}"): b"row"})
    longest = 0
    for number in range(2_000):
        life.step({("accounts", f"{number % 5}"): b"%d" % number})
        longest = max(longest, sum(len(rows) for _, rows in life.log[life.log[-1][0] :]))
    assert longest < 8 * 65


def test_a_log_that_only_grows_by_new_rows_is_not_written_twice(life):
    """Nothing could be deleted."""
    for number in range(200):
        life.step({("credits", f"{number:03}"): b"row"})
    assert sum(len(rows) for _, rows in life.log) == 200
