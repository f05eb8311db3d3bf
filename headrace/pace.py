"""What successive looks at a partition tell: rates, time to drain, and one word for how it is. Pure rules, no Kafka.

Rates count offsets, as `records` does, so that a transaction's marker weighs the same on both sides.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

ONE_MINUTE_S, FIVE_MINUTES_S = 60.0, 300.0
"""Windows of the rates."""
CURRENT_S = 2.0
"""What waits for less is on its way through a step: the partition is `ok`."""
STANDSTILL_S = 5.0
"""Something waited for so long and nothing was committed: that is no slow step any more."""
SPAN_S = 0.5
"""Looks that are closer together give no rate."""


class LagStatus(StrEnum):
    """How a group keeps up with a partition, the best first and the worst last."""

    OK = "ok"
    """Nothing waits, or nothing for longer than `CURRENT_S`."""
    CATCHING_UP = "catching-up"
    """More is consumed than comes."""
    UNKNOWN = "unknown"
    """Something waits, and it can't be told yet, or at all, what becomes of it."""
    FALLING_BEHIND = "falling-behind"
    """At least as much comes as is consumed."""
    STALLED = "stalled"
    """Something waits, there are workers, and nothing is committed."""
    STOPPED = "stopped"
    """Something waits, and there is no worker."""
    BLOCKED = "blocked"
    """An open transaction, older than a transaction may become, hides what stands behind it."""


class Rate(NamedTuple):
    """Offsets per second."""

    consumed: float
    produced: float

    @property
    def gained(self) -> float:
        """By how much the backlog shrinks per second; below zero it grows."""
        return self.consumed - self.produced


class Look(NamedTuple):
    """A partition at one moment."""

    at_s: float
    """By a clock that never goes back."""
    start: int
    """From where the group goes on: its committed offset, or the partition's first where that is later."""
    end: int
    records: int
    seconds: float
    """Age of the first record that waits."""
    tail_seconds: float = 0.0
    """Age of the oldest open transaction."""


class Members(NamedTuple):
    """Who is in a group."""

    state: str
    """Kafka's word in lower case: stable, empty, dead, preparing_rebalancing, ..."""
    size: int
    owners: dict[tuple[str, int], str]
    """Member's client id by topic (with the prefix) and partition."""

    @property
    def rebalancing(self) -> bool:
        """Whether partitions are on the move."""
        return self.state not in {"stable", "empty", "dead", "unknown"}


class Verdict(NamedTuple):
    """What is made of the looks at one partition."""

    status: LagStatus
    cause: str
    """Why, in a sentence without a full stop; "" where there is nothing to say."""
    drain_seconds: float | None
    """Until nothing waits; 0.0 where nothing does, None: never at this rate, or not known (`status` tells which)."""


def rate(looks: Sequence[Look], window_s: float) -> Rate | None:
    """Over the last `window_s` seconds, or as far as the looks (the oldest first) go back; None where that is no span."""
    now = looks[-1]
    then = next(look for look in looks if now.at_s - look.at_s <= window_s)
    span_s = now.at_s - then.at_s
    if span_s < SPAN_S:
        return None
    return Rate((now.start - then.start) / span_s, (now.end - then.end) / span_s)


def stood_s(looks: Sequence[Look]) -> float:
    """For how long something has waited while nothing was committed, as far as the looks go back."""
    now = since = looks[-1]
    for look in reversed(looks):
        if look.start != now.start or not look.records:
            break
        since = look
    return now.at_s - since.at_s


def joined(looks: Sequence[Look], now: Look) -> tuple[Look, ...]:
    """The looks with one more: what no longer bears on the rates is dropped.

    That is what is older than five minutes, what was before a standstill that has ended (an average over both tells
    of neither), and everything where an offset went back.
    """
    if not looks:
        return (now,)
    last = looks[-1]
    if now.start < last.start or now.end < last.end:
        return (now,)
    if now.start > last.start and stood_s(looks) >= STANDSTILL_S:
        return (last, now)
    return (*(look for look in looks if now.at_s - look.at_s <= FIVE_MINUTES_S), now)


def judge(looks: Sequence[Look], place: tuple[str, int], members: Members | None, transaction_s: float) -> Verdict:
    """Status, cause and time to drain after the last of `looks`, the oldest first.

    `members` None: nobody was asked, which is right where nothing waits or something was committed since the look
    before; or nobody answered. A transaction open for more than `transaction_s` seconds is one that hangs.
    """
    now = looks[-1]
    if now.tail_seconds > transaction_s:
        cause = f"a transaction has been open for {now.tail_seconds:,.0f} s at offset {now.end}, and hides what follows"
        return Verdict(LagStatus.BLOCKED, cause, None)
    if not now.records:
        return Verdict(LagStatus.OK, "", 0.0)
    if members is not None and not members.size:
        return Verdict(LagStatus.STOPPED, "no worker", None)
    stands_s = stood_s(looks)
    if stands_s >= STANDSTILL_S:
        return _standing(looks, place, members)
    pace = rate(looks, ONE_MINUTE_S)
    if now.seconds <= CURRENT_S:
        return Verdict(LagStatus.OK, "", now.records / pace.consumed if pace and pace.consumed else 0.0)
    if pace is None:
        return Verdict(LagStatus.UNKNOWN, "one look gives no rate", None)
    if stands_s >= CURRENT_S or not pace.consumed:
        return Verdict(LagStatus.UNKNOWN, f"nothing was committed in {stands_s:,.0f} s, which may be a long step", None)
    if pace.gained > 0:
        return Verdict(LagStatus.CATCHING_UP, "", now.records / pace.gained)
    cause = f"{pace.produced:,.0f} come a second and {pace.consumed:,.0f} are consumed"
    return Verdict(LagStatus.FALLING_BEHIND, cause, None)


def _standing(looks: Sequence[Look], place: tuple[str, int], members: Members | None) -> Verdict:
    """Nothing is committed, and there are workers, or nobody says whether."""
    stood = f"nothing was committed in {stood_s(looks):,.0f} s"
    if members is None:
        return Verdict(LagStatus.UNKNOWN, f"{stood}, and the group's members are not known", None)
    owner = members.owners.get(place)
    if members.rebalancing:
        cause = f"the group is rebalancing ({members.state})"
    elif owner is None:
        cause = f"none of the group's {members.size} workers has it"
    else:
        cause = f"{owner} has it, and is paused, recovering or in a long step: its /readyz tells"
    return Verdict(LagStatus.STALLED, f"{stood}; {cause}", None)
