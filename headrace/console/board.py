"""What all pages show now: the latest of each part, and ten minutes of its course."""

import time
from collections import deque
from typing import Any, NamedTuple

from headrace.console.sse import Hub, HubLimits
from headrace.moments import shown

POINTS = 600
"""Points of a course that are kept: ten minutes of seconds."""
RATES, LAG, LETTERS, PULSE = "rates", "lag", "dead_letters", "kafka"
"""The parts, each measured by itself; the last one is whether Kafka answers."""


class Problem(NamedTuple):
    """Why a part is not measured, in the words of the command line, and its exit code there."""

    error: str
    exit_code: int


class NotYet(Exception):
    """The first measurement is under way."""


class Stale(Exception):
    """What is known is old, because of a problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.error)
        self.problem = problem


class Board:
    """The state, and the hub that tells every change. Lives on one event loop."""

    def __init__(self, about: dict[str, Any], limits: HubLimits | None = None) -> None:
        """`about`: which cluster and topics this is."""
        self._about = about
        self._parts: dict[str, dict[str, Any]] = {}
        self._rates: deque[dict[str, Any]] = deque(maxlen=POINTS)
        self._waiting: deque[dict[str, Any]] = deque(maxlen=POINTS)
        self._problems: dict[str, Problem] = {}
        self.hub = Hub(self.state, limits)

    def tell(self, part: str, data: dict[str, Any]) -> None:
        """A part was measured: `data` takes the place of what was known, and tells the pages.

        Rates of a Kafka that does not answer are no measure, and are left out. Rates are {"at": s since 1970, "rates": payments/s by status}; lag has "at" and "groups", each with "group"
        and "records".
        """
        if part == RATES and PULSE in self._problems:
            return
        self._parts[part] = data
        if part == RATES:
            self._rates.append(data)
        if part == LAG:
            self._waiting.append(
                {"at": data["at"], "records": {one["group"]: one["records"] for one in data["groups"]}}
            )
        self.fine(part)
        self.hub.publish(part, data)

    def fine(self, part: str) -> None:
        """A part is as it was, and can be measured."""
        if self._problems.pop(part, None) is not None:
            self._tell_problems()

    def fail(self, part: str, problem: Problem) -> None:
        """A part could not be measured. Told once, until it changes."""
        if self._problems.get(part) != problem:
            self._problems[part] = problem
            self._tell_problems()

    def latest(self, part: str) -> dict[str, Any]:
        """What was measured last. Raises Stale where it can't be measured now, NotYet before the first time."""
        self.must_answer()
        if part in self._problems:
            raise Stale(self._problems[part])
        if part not in self._parts:
            raise NotYet("the first measurement is under way; try again in a second")
        return self._parts[part]

    def must_answer(self) -> None:
        """Raises Stale where Kafka is known not to answer, so that nobody waits for it."""
        if PULSE in self._problems:
            raise Stale(self._problems[PULSE])

    def rates(self) -> dict[str, Any]:
        """The latest rates and their course. Raises as `latest`."""
        return self.latest(RATES) | {"points": list(self._rates)}

    def state(self) -> dict[str, Any]:
        """All that a page must know which has seen nothing yet."""
        return {
            "about": self._about,
            "now": shown(time.time_ns() // 1_000),
            "problems": self._named(),
            "rates": list(self._rates),
            "waiting": list(self._waiting),
            "lag": self._parts.get(LAG),
            "dead_letters": self._parts.get(LETTERS),
        }

    def _tell_problems(self) -> None:
        self.hub.publish("problems", self._named())

    def _named(self) -> dict[str, Any]:
        return {part: problem._asdict() for part, problem in self._problems.items()}
