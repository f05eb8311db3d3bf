"""Starts the worker anew when a client call hangs: a thread that waits in C can't be stopped otherwise.

librdkafka can wait for ever where it was given a timeout (confluentinc/librdkafka issues 5456 and 5511:
`send_offsets_to_transaction` after a coordinator's restart). A new life of the process is safe: it takes
its slot back, ends the transaction that hangs, and recovers.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)
EXIT_HUNG = 70
LIVES = "HEADRACE_LIVES"
"""Environment: how often this process has started anew, and since when (Unix time), as `<times>:<since>`."""
MOST_LIVES = 5
WITHIN_S = 600.0


class Watchdog:
    """Watches guarded calls; after `limit_s` seconds in one it writes all stacks to stderr and starts anew.

    A process that has done so five times within ten minutes exits with 70 instead.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._calls: dict[int, tuple[str, float]] = {}
        self._stop = threading.Event()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Guards one call of this thread."""
        me = threading.get_ident()
        self._calls[me] = (what, time.monotonic())
        try:
            yield
        finally:
            self._calls.pop(me, None)

    def close(self) -> None:
        """Stops watching."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(1.0):
            now = time.monotonic()
            for what, since in list(self._calls.values()):
                if now - since > self._limit_s:
                    self._start_anew(what, now - since)

    @staticmethod
    def _start_anew(what: str, hung_s: float) -> None:
        lives = next_life(os.environ.get(LIVES), time.time())
        word = "starts anew" if lives else "ends itself: it has started anew too often"
        log.critical("%s has hung for %.0f s; the worker %s", what, hung_s, word)
        faulthandler.dump_traceback(file=sys.stderr)
        sys.stderr.flush()
        if lives is None:
            os._exit(EXIT_HUNG)
        os.environ[LIVES] = lives
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # ourselves, with our own words


def next_life(before: str | None, now: float) -> str | None:
    """The next value of `LIVES`, or None where there were too many lives within `WITHIN_S` seconds of `now`."""
    times, _, since = (before or "").partition(":")
    if not times.isdigit() or not since or now - float(since) > WITHIN_S:
        return f"1:{now:.0f}"
    return None if int(times) >= MOST_LIVES else f"{int(times) + 1}:{since}"
