"""The process in which a simulated client lives: who runs next, what fails, how time passes."""

from random import Random
from typing import NamedTuple, Protocol

from topologies.engine.memory.timeline import Timeline


class Trouble(NamedTuple):
    """What goes wrong with one call."""

    kind: str
    """`retriable`, `abortable`, `fatal`, `plain`, `fenced`, of `producer.TWICE`, or what one call alone knows."""
    effect: str = "none"
    """What the broker saw of it: `none`, `done`, `late`: after `delay` seconds, or `held`: after the producer's next
    `delay` requests."""
    delay: float = 0.0


class Host(Protocol):
    """What a client asks of its process."""

    rng: Random

    def enter(self, call: str) -> None:
        """Before each client call: others may run, and the process may die here by an exception."""

    def wait(self, seconds: float) -> None:
        """Lets virtual time pass."""

    def lag(self) -> float:
        """Seconds until the first records of a new assignment arrive."""

    def trouble(self, call: str) -> Trouble | None:
        """What goes wrong with this call, if anything."""

    def alive(self) -> bool:
        """Whether its heartbeats reach the broker."""

    def dead(self) -> bool:
        """Whether it was killed: whatever it still does has no effect."""


class PlainHost:
    """A process that nothing happens to: each call takes a millisecond."""

    def __init__(self, timeline: Timeline, seed: int = 0) -> None:
        self.rng = Random(seed)  # noqa: S311  # chance on purpose
        self.troubles: dict[str, list[Trouble | None]] = {}
        """Scripted: what goes wrong with the next calls of each name."""
        self.beating = True
        self._timeline = timeline

    def enter(self, call: str) -> None:  # noqa: ARG002  # the protocol's
        """A millisecond passes."""
        self._timeline.advance(0.001)

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self._timeline.advance(seconds)

    def lag(self) -> float:
        """None."""
        return 0.0

    def trouble(self, call: str) -> Trouble | None:
        """The next trouble of the script."""
        script = self.troubles.get(call)
        return script.pop(0) if script else None

    def alive(self) -> bool:
        """As set."""
        return self.beating

    def dead(self) -> bool:
        """Never."""
        return False
