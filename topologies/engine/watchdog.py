"""Ends the process when a client call hangs: a thread that waits in C can't be stopped otherwise."""

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


class Watchdog:
    """Watches guarded calls; after `limit_s` seconds in one it writes all stacks to stderr and exits with 70."""

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
                    log.critical("%s has hung for %.0f s; the worker ends itself", what, now - since)
                    faulthandler.dump_traceback(file=sys.stderr)
                    os._exit(EXIT_HUNG)
