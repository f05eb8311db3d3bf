"""When Python looks for cycles of garbage: while nothing waits, and seldom otherwise.

Steps make no cycles, and walking what they leave cost a tenth of a payment's time.
"""

import gc
from collections.abc import Callable

EVERY_S = 60.0
"""While nothing waits."""
AT_LAST_S = 600.0
"""While the worker is never idle."""


class Collector:
    """The one who runs the cycle collector, from its making on until `release`."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._collected = 0.0
        gc.disable()

    def look(self, *, idle: bool) -> None:
        """Collects where it is time to."""
        if self._monotonic() - self._collected > (EVERY_S if idle else AT_LAST_S):
            self.collect()

    def collect(self) -> None:
        """Collects now. What is left is never walked again: rows that stay, mostly."""
        gc.collect()
        gc.freeze()
        self._collected = self._monotonic()

    @staticmethod
    def release() -> None:
        """Python decides again."""
        gc.unfreeze()
        gc.enable()
