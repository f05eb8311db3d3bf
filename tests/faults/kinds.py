"""What a kind of fault is, and the registry of all of them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from system import System


@dataclass
class Shot:
    """What became of an injection."""

    fired: bool = True
    """False: the fault did not happen; the round is void and repeated."""
    note: str = ""
    count: int = 1
    """Faults of this round."""
    points: tuple[str, ...] = ()
    """The crash points at which a worker was killed."""


Inject = Callable[["System", random.Random], Shot]


@dataclass(frozen=True)
class Kind:
    """A kind of fault. `inject` does all from the fault to its healing."""

    name: str
    inject: Inject
    nightly: int
    """Faults that a night's campaign aims at; a release aims at five times as many."""
    may_stop: str = "(?!)"
    """Reasons (a regular expression) with which workers may stop by themselves."""
    impossible: Callable[[], str | None] = field(default=lambda: None)
    """Why it can't be done on this machine, or None."""
    lives_alone: bool = False
    """Whether it gets topics of its own and leaves none behind."""
    lasts: bool = False
    """Whether workers may meet in later rounds what it did: a damaged file that nobody has read yet."""
    a_stop_ends: bool = False
    """Whether a worker that stops with an allowed reason is right never to go on with these topics."""
    of_a_round: int = 1
    """Faults that one round makes, about."""
    needs_system: bool = True
    """False: without Kafka, workers and load."""
    nodes: int = 1
    """Kafka's."""
    protocol: str = "classic"
    """The consumer group's; "consumer" is KIP-848."""
    proxied: bool = False
    """Whether the workers come to Kafka through the proxies."""

    @property
    def system(self) -> tuple[int, bool, str]:
        """What a system must be made of: kinds with the same may follow each other on one."""
        return self.nodes, self.proxied, self.protocol


FENCED = "is used by another worker|took this worker's place|in this worker's slot"
"""Reasons of a worker whose slot is used elsewhere."""
