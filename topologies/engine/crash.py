"""Named points at which a worker can be told to die or freeze, for fault tests.

`HEADRACE_CRASH_AT=<point>[:nth]` kills, `HEADRACE_STOP_AT=<point>[:nth]` freezes; unset, a point is a call of a no-op.
"""

import os
import signal
import threading
from collections.abc import Callable

POINTS = (
    "after_poll",
    "in_admission",
    "in_screening",
    "in_ledger",
    "before_produce",
    "in_dead_letter",
    "after_produce",
    "after_send_offsets",
    "during_commit",
    "after_commit",
    "before_store_write",
    "after_store_write",
    "in_restore",
    "in_revoke",
)
"""In the order of a step; `after_produce` is before the offsets are sent, `after_send_offsets` before the commit."""
VARIABLES: dict[int, str] = {signal.SIGKILL: "HEADRACE_CRASH_AT", signal.SIGSTOP: "HEADRACE_STOP_AT"}
INTO_COMMIT_S = 0.003
"""`during_commit` strikes this long after the commit was called: its request is under way, its answer unseen."""


def _nothing(_point: str) -> None:
    """No crash is wanted."""


def _armed() -> Callable[[str], None]:
    wanted = [(text.partition(":"), number) for number, name in VARIABLES.items() if (text := os.environ.get(name))]
    for (point, _, _nth), _signal in wanted:
        if point not in POINTS:
            raise SystemExit(f"no crash point {point!r}; there are: {', '.join(POINTS)}")
    if not wanted:
        return _nothing
    left = {(point, number): int(nth or 1) for (point, _, nth), number in wanted}

    def reach(here: str) -> None:
        for (point, number), count in left.items():
            if point == here:
                left[point, number] = count - 1
                if count == 1:
                    os.environ.pop(VARIABLES[number], None)  # a worker that starts anew in place is not struck again
                    strike(here, number)

    return reach


def strike(point: str, number: int) -> None:
    """Sends this process the signal, at once or in the middle of the call that follows."""
    if point == "during_commit":
        threading.Timer(INTO_COMMIT_S, os.kill, (os.getpid(), number)).start()
    else:
        os.kill(os.getpid(), number)


_reach = _armed()


def crash_point(point: str) -> None:
    """The process is at a named point."""
    _reach(point)


def hook(reach: Callable[[str], None]) -> None:
    """Lets a driver in this process, which can't kill itself, watch the points."""
    global _reach
    _reach = reach
