"""Named points at which a worker can be told to die or freeze, for fault tests.

`HEADRACE_CRASH_AT=<point>[:nth]` kills, `HEADRACE_STOP_AT=<point>[:nth]` freezes; unset, a point is a call of a no-op.
"""

import os
import signal
from collections.abc import Callable

POINTS = (
    "after_poll",
    "in_agent",
    "after_produce",
    "after_send_offsets",
    "after_commit",
    "after_store_write",
    "in_restore",
    "in_revoke",
    "in_dead_letter",
)


def _nothing(_point: str) -> None:
    """No crash is wanted."""


def _armed() -> Callable[[str], None]:
    wanted = [
        (text.partition(":"), number)
        for name, number in (("HEADRACE_CRASH_AT", signal.SIGKILL), ("HEADRACE_STOP_AT", signal.SIGSTOP))
        if (text := os.environ.get(name))
    ]
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
                    os.kill(os.getpid(), number)

    return reach


crash_point = _armed()
