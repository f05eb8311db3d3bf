"""Keeps the changelog short: rows that do not change are written to it again, a slice with each step.

Kafka can't compact packed records, so the log would grow for ever and a lost store would read all of it. When the
log has become long, a walk goes through all rows in the order of their keys. From its end on, every row that lives
stands behind the offset at which the walk began, the log's base; what is before may be deleted.
"""

from typing import NamedTuple

from topologies.engine.changelog import Rows
from topologies.engine.limits import Limits
from topologies.engine.recovery import Recovered

FIRST_KEY = b"\x01"
"""Behind the store's own meta row."""
LONG = 2
"""A walk begins when the log holds so many times the rows that live: then it holds at most about five times as many."""


class Slice(NamedTuple):
    """What a step writes once more. It counts when the step is committed."""

    rows: Rows
    base: int
    """The log's base from this step on."""
    begun: int | None = None
    """Changelog offset at which the walk began; None: there is none."""
    following: bytes = FIRST_KEY
    """Where the walk goes on."""
    ends: bool = False
    """Whether it is the walk's last one: what stands before `base` may be deleted."""


class Checkpoint:
    """The walk over one partition's rows."""

    def __init__(self, state: Recovered, limits: Limits) -> None:
        self._state = state
        self._limits = limits
        self._begun: int | None = None
        self._following = FIRST_KEY
        self._logged_before = 0
        """Rows on the log before the walk under way."""

    def take(self, changed: int) -> Slice:
        """The slice that goes with a step of `changed` rows. To be written before them: they are newer."""
        state, begun = self._state, self._begun
        if begun is None:
            live = sum(table.size for table in state.tables.values())
            if state.logged <= max(LONG * live, self._limits.checkpoint_rows):
                return Slice([], state.base)
            begun = state.changelog
        most = max(self._limits.sweep_rows, changed // 2)
        rows = list(state.store.rows(self._following, b"", most))
        if len(rows) < most:
            return Slice(rows, begun, ends=True)
        return Slice(rows, state.base, begun, rows[-1][0] + b"\0")

    def settle(self, taken: Slice, changed: int) -> None:
        """The step with this slice and so many changed rows is committed."""
        state = self._state
        if self._begun is None and (taken.begun is not None or taken.ends):
            self._logged_before = state.logged
        state.logged += changed + len(taken.rows)
        if taken.ends:
            state.base = taken.base
            state.logged -= self._logged_before
        self._begun, self._following = taken.begun, taken.following
