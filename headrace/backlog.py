"""The backlog: what waits on every input partition, in records, seconds and money, and what becomes of it."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic, sleep
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from headrace.gap import Gaps, Money, Wanted
from headrace.lag import GIVE_UP_S, Lag, Meter, PartitionLag, members_of
from headrace.pace import (
    FIVE_MINUTES_S,
    ONE_MINUTE_S,
    STANDSTILL_S,
    LagStatus,
    Look,
    Rate,
    Verdict,
    joined,
    judge,
    rate,
)
from topologies.engine.config import ClusterConfig
from topologies.engine.limits import LIMITS
from topologies.engine.offsets import Where
from topologies.plan import Plan

Key = TypeVar("Key", bound=Hashable)
APART_S = 1.0
"""Between two looks of `see`."""


class Backlog(NamedTuple):
    """One input partition of one group. Names carry the prefix."""

    group: str
    topic: str
    partition: int
    committed: int | None
    """Offset from which the group goes on; None before its first commit."""
    end: int
    """Where a read_committed reader ends (last stable offset)."""
    records: int
    """Records that wait, at most: markers and aborted records behind the first one count too. 0 is exact."""
    seconds: float
    """Age of the first record that waits; 0.0 when none waits."""
    uncommitted_tail: int
    """Offsets of open transactions, behind `end`."""
    money: Money
    """Of the intents and credits that wait, where the topic has such; what can't be money is left out."""
    exact: bool
    """Whether `money` is all of it; else at least so much."""
    drain_seconds: float | None
    """Until nothing waits; 0.0 where nothing does, None: never at this rate, or not known (`status` tells which)."""
    status: LagStatus
    cause: str
    """Why, in a sentence without a full stop; "" where there is nothing to say."""
    tail_seconds: float = 0.0
    """Age of the oldest open transaction."""
    one_minute: Rate | None = None
    """Over the last minute, or as long as there were looks; None before the second one."""
    five_minutes: Rate | None = None


class Summary(NamedTuple):
    """Several partitions of one group as one."""

    group: str
    status: LagStatus
    """The worst."""
    cause: str
    """Of the worst."""
    records: int
    seconds: float
    """Of the oldest."""
    uncommitted_tail: int
    money: Money
    exact: bool
    drain_seconds: float | None
    """Of the slowest."""
    partitions: int
    ever: bool
    """Whether the group has committed anything, ever."""


@dataclass(frozen=True)
class Bounds:
    """How far a look goes."""

    money_records: int = 1_000_000
    """Waiting records per partition whose amounts are read and kept (24 bytes each)."""
    money_s: float = 2.0
    """How long one look reads amounts; the next one goes on."""
    patience_s: float = 5.0
    """How long a call is tried again while leaders and coordinators move."""
    transaction_s: float = LIMITS.transaction_ms / 1000
    """An open transaction that is older hangs, and blocks its partition."""


ONCE = Bounds(money_records=100_000, money_s=30.0, patience_s=GIVE_UP_S)
"""For a single look."""


class Watch:
    """Looks at the backlog of some plans, again and again; joins no group and commits nothing.

    `look` raises ClusterUnreachable and MissingTopics; the next look goes on from there. Not for several threads at
    a time.
    """

    def __init__(self, cluster: ClusterConfig, plans: Sequence[Plan], bounds: Bounds | None = None) -> None:
        self._cluster, self._bounds = cluster, bounds or Bounds()
        self._meter = Meter(cluster, plans, self._bounds.patience_s)
        self._gaps = Gaps(cluster, self._bounds.money_records)
        self._looks: dict[tuple[str, Where], tuple[Look, ...]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the clients."""
        self._meter.close()

    def look(self) -> tuple[Backlog, ...]:
        """Every input partition of every plan, now, in the order of the plans and their inputs."""
        lags = self._meter.read()
        at_s = monotonic()
        self._gaps.read(wanted_of(lags, self._gaps.valued), self._bounds.money_s)
        found: list[Backlog] = []
        for lag in lags:
            found += self._judged(lag, at_s)
        return tuple(found)

    def _judged(self, lag: Lag, at_s: float) -> list[Backlog]:
        looks = {}
        for one in lag.partitions:
            place = (one.topic, one.partition)
            look = Look(at_s, one.start, one.end, one.records, one.seconds, one.tail_seconds)
            looks[place] = self._looks[lag.group, place] = joined(self._looks.get((lag.group, place), ()), look)
        members = members_of(self._cluster, lag.group) if any(map(_stands, looks.values())) else None
        ever = any(one.committed is not None for one in lag.partitions)
        found = []
        for one in lag.partitions:
            place = (one.topic, one.partition)
            verdict = judge(looks[place], place, members, self._bounds.transaction_s)
            if verdict.status is LagStatus.STOPPED and not ever:
                verdict = verdict._replace(cause="no worker has ever run")
            money = self._gaps.money(place, Wanted(one.start, one.end)) if one.records else ({}, True)
            found.append(_backlog(lag.group, one, money, verdict, looks[place]))
        return found


def _backlog(
    group: str, one: PartitionLag, money: tuple[Money, bool], verdict: Verdict, looks: Sequence[Look]
) -> Backlog:
    return Backlog(
        group=group,
        topic=one.topic,
        partition=one.partition,
        committed=one.committed,
        end=one.end,
        records=one.records,
        seconds=one.seconds,
        uncommitted_tail=one.uncommitted_tail,
        money=money[0],
        exact=money[1],
        drain_seconds=verdict.drain_seconds,
        status=verdict.status,
        cause=verdict.cause,
        tail_seconds=one.tail_seconds,
        one_minute=rate(looks, ONE_MINUTE_S),
        five_minutes=rate(looks, FIVE_MINUTES_S),
    )


def wanted_of(lags: Iterable[Lag], valued: Callable[[str], bool]) -> dict[Where, Wanted]:
    """Where money waits: the valued topics' partitions, from the slowest group's offset to the end."""
    found: dict[Where, Wanted] = {}
    for lag in lags:
        for one in lag.partitions:
            if one.records and valued(one.topic):
                start = min(one.start, found.get((one.topic, one.partition), one).start)
                found[one.topic, one.partition] = Wanted(start, one.end)
    return found


def _stands(looks: Sequence[Look]) -> bool:
    """Whether somebody must be asked who is there: what was committed since the look before, somebody committed."""
    now = looks[-1]
    return bool(now.records) and (len(looks) == 1 or looks[-2].start == now.start)


def summed(found: Iterable[Backlog], key: Callable[[Backlog], Key]) -> dict[Key, Summary]:
    """One Summary of all partitions with the same key, in the order in which the keys come: see `by_group`."""
    sets: dict[Key, list[Backlog]] = {}
    for one in found:
        sets.setdefault(key(one), []).append(one)
    return {name: _summary(rows) for name, rows in sets.items()}


def by_group(one: Backlog) -> str:
    """Key of a summary per role."""
    return one.group


def by_topic(one: Backlog) -> tuple[str, str]:
    """Key of a summary per group and topic."""
    return one.group, one.topic


def _summary(rows: Sequence[Backlog]) -> Summary:
    order = list(LagStatus)
    worst = max(rows, key=lambda one: (order.index(one.status), one.seconds))
    drains = [one.drain_seconds for one in rows]
    return Summary(
        group=worst.group,
        status=worst.status,
        cause=worst.cause,
        records=sum(one.records for one in rows),
        seconds=max(one.seconds for one in rows),
        uncommitted_tail=sum(one.uncommitted_tail for one in rows),
        money=added(one.money for one in rows),
        exact=all(one.exact for one in rows),
        drain_seconds=None if None in drains else max(one for one in drains if one is not None),
        partitions=len(rows),
        ever=any(one.committed is not None for one in rows),
    )


def added(sums: Iterable[Money]) -> Money:
    """Money of several places, each currency for itself, in the order of their codes."""
    total: Counter[str] = Counter()
    for one in sums:
        total.update(one)
    return {currency: total[currency] for currency in sorted(total)}


def see(watch: Watch) -> tuple[Backlog, ...]:
    """One look where nothing waits, or nobody is there; else as many as it takes to tell how it goes, `APART_S` apart.

    Those end at the second one where something is committed, and after a standstill where nothing is.
    """
    deadline = monotonic() + STANDSTILL_S + 2 * APART_S
    found = watch.look()
    while any(map(_undecided, found)) and monotonic() < deadline:
        sleep(APART_S)
        found = watch.look()
    return found


def _undecided(one: Backlog) -> bool:
    """Something waits, and another look may tell more."""
    if one.status is LagStatus.OK:
        return one.records > 0 and one.one_minute is None
    return one.status is LagStatus.UNKNOWN
