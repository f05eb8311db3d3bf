"""Virtual time: what happens when. Nothing moves it but whoever drives it."""

import heapq
from collections.abc import Callable

Act = Callable[[], None]


class Timeline:
    """A queue of acts by their time in seconds; acts of one moment run in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Act]] = []
        self._number = 0

    def later(self, delay: float, act: Act) -> None:
        """Plans an act `delay` seconds from now."""
        self._number += 1
        heapq.heappush(self._planned, (self.now + delay, self._number, act))

    def step(self) -> bool:
        """Runs the next act at its time; False where none is planned."""
        if not self._planned:
            return False
        moment, _, act = heapq.heappop(self._planned)
        self.now = max(self.now, moment)
        act()
        return True

    def advance(self, seconds: float) -> None:
        """Lets `seconds` pass and runs what is due."""
        until = self.now + seconds
        while self._planned and self._planned[0][0] <= until:
            self.step()
        self.now = until
