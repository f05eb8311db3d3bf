"""Watches a system drain its backlog, and says how fast it was.

A payment has two legs, and a system may take all first legs before the second ones, so outcomes alone would tell
the speed of the second leg. Work is the mean of both: the share of the credits that are committed, by the topic's
last stable offset, and the share of the outcomes, counted by a read_committed observer.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from time import monotonic, process_time
from typing import NamedTuple

from confluent_kafka import TopicPartition

from benchmarks import harness
from replay.reader import CALL_S, Place, consumer
from replay.tail import Tail
from topologies import topics
from topologies.engine.config import ClusterConfig

SAMPLE_S = 0.2
Cpu = dict[str, float]


class Sample(NamedTuple):
    """One look at a drain."""

    at: float
    """Seconds, monotonic."""
    credits: int
    """Offsets of the credits' topic below its last stable ones, markers too."""
    outcomes: int
    cpu: Cpu
    """CPU seconds so far, by who used them."""


class Figures(NamedTuple):
    """How fast a drain was."""

    payments_per_s: float | None
    """After the warm-up; None where too little was seen."""
    overall_per_s: float | None
    """From the last look before any work to the last outcome."""
    warm_up_s: float
    measured_s: float
    cpu_us: Cpu
    """CPU µs a payment after the warm-up."""


def _progress(payments: int, last: Sample) -> Callable[[Sample], float]:
    """How much of the work a sample has seen, 0 to 1; without the first legs where no credits are written."""
    finished = last.outcomes >= payments
    first_legs = last.credits if finished else max(last.credits, payments)
    if last.credits == 0:
        return lambda sample: sample.outcomes / payments
    return lambda sample: (sample.credits / first_legs + sample.outcomes / payments) / 2


def figures(samples: Sequence[Sample], payments: int, warm_up: float) -> Figures:
    """The speed of a drain from its samples, the first of which may be idle; `warm_up` is a share of the work done.

    What stood still at the end counts to the last thing that moved only: how far it came is told elsewhere.
    """
    moving = [one for one, after in pairwise(samples) if _moved(one, after)]
    if not moving:
        return Figures(None, None, 0.0, 0.0, {})
    first, last = moving[0], samples[samples.index(moving[-1]) + 1]
    progress = _progress(payments, last)
    whole = progress(last)
    warm = next(one for one in samples if one.at >= first.at and progress(one) >= warm_up * whole)
    done = payments * (whole - progress(warm))
    measured = last.at - warm.at
    enough = done > 0 and measured >= SAMPLE_S
    return Figures(
        round(done / measured, 1) if enough else None,
        round(payments * whole / (last.at - first.at), 1),
        round(warm.at - first.at, 3),
        round(measured, 3),
        {name: round(1e6 * (last.cpu[name] - warm.cpu[name]) / done, 1) for name in last.cpu} if enough else {},
    )


def _moved(one: Sample, after: Sample) -> bool:
    return after.outcomes > one.outcomes or after.credits > one.credits


class Watched(NamedTuple):
    """What a watch saw."""

    samples: list[Sample]
    trouble: str | None
    """Why it gave up, or None."""


class Patience(NamedTuple):
    """How long a drain may take."""

    limit_s: float
    """As a whole."""
    stall_s: float
    """Without an outcome or a credit."""


class Watch:
    """Counts the outcomes on payments.events from `starts` on, and looks at the topic of the credits beside it.

    Make one when the backlog stands and nothing runs: what the topic holds by then are no credits.
    """

    def __init__(
        self, cluster: ClusterConfig, starts: Mapping[Place, int], partitions: int, credits_: str = topics.CREDITS.name
    ) -> None:
        self._cluster = cluster
        self._starts = starts
        self._places = [TopicPartition(cluster.prefix + credits_, p) for p in range(partitions)]
        self._asker = consumer(cluster, "asker")
        self._before = 0
        self._before = self._credits()

    def _credits(self) -> int:
        # The client is read_committed, so the high end is the last stable offset.
        ends: list[int] = [self._asker.get_watermark_offsets(place, timeout=CALL_S)[1] for place in self._places]
        return sum(ends) - self._before

    def drain(self, payments: int, patience: Patience, alive: Callable[[], bool], cpu: Callable[[], Cpu]) -> Watched:
        """Returns when there are so many outcomes, or when patience is at its end."""
        begun = looked = moved = monotonic()
        samples = [Sample(begun, 0, 0, {**cpu(), "observer": process_time()})]
        outcomes, trouble = 0, None
        with Tail(self._cluster, [topics.EVENTS.name], self._starts) as tail:
            while outcomes < payments and trouble is None:
                outcomes += tail.count(0.05)
                now = monotonic()
                if now - looked < SAMPLE_S and outcomes < payments:
                    continue
                looked = now
                samples.append(Sample(now, self._credits(), outcomes, {**cpu(), "observer": process_time()}))
                moved = now if _moved(samples[-2], samples[-1]) else moved
                trouble = None if alive() else "no worker is left"
                trouble = trouble or _impatient(now - begun, now - moved, patience)
        self._asker.close()
        return Watched(samples, trouble if outcomes < payments else None)


def _impatient(spent_s: float, still_s: float, patience: Patience) -> str | None:
    if still_s > patience.stall_s:
        return f"nothing moved for {patience.stall_s:.0f} s"
    return f"not done in {patience.limit_s:.0f} s" if spent_s > patience.limit_s else None


def cpu_of(pids: Sequence[int], broker: int | None) -> Cpu:
    """CPU seconds of the workers, and of the broker where it is ours."""
    used = {"workers": sum(harness.cpu_seconds(pid) for pid in pids)}
    return used if broker is None else used | {"broker": harness.cpu_seconds(broker)}
