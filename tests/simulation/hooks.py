"""Where the simulation takes the engine's clock, crash points and threads into its own hands."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from processes import Process, current
from stories import START

from topologies.engine import crash, transactions, turns


class Clock:
    """Virtual time; the wall clock may be set back."""

    def __init__(self, simulation: Any, process: Process) -> None:
        self._simulation = simulation
        self._process = process
        self.sleep = process.wait

    def monotonic(self) -> float:
        """Seconds of virtual time."""
        return self._simulation.timeline.now

    def micros(self) -> int:
        """The wall clock, µs."""
        return START + int(self._simulation.timeline.now * 1e6) - self._simulation.back_us


class _Thread:
    """`threading.Thread` as the engine uses it: a call that somebody else makes."""

    def __init__(self, target: Any, **_more: Any) -> None:
        self._target = target

    def start(self) -> None:
        process = current()
        assert process is not None
        process.spawn(self._target)


@contextmanager
def hooked(simulation: Any) -> Iterator[None]:
    """The engine's crash points and threads are the simulation's; its code needs no hash, its log no reader."""

    def reach(point: str) -> None:
        process = current()
        if process is not None:
            simulation.at_call(process, point)
            if process.frozen_until > simulation.timeline.now:
                process.wait(0.0)

    logger = logging.getLogger("topologies")
    kept = (transactions.threading, turns.code_hash, logger.level)
    crash.hook(reach)
    transactions.threading = SimpleNamespace(Thread=_Thread)
    turns.code_hash = lambda _rules: "simulated"
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        crash.hook(lambda _point: None)
        transactions.threading, turns.code_hash, level = kept
        logger.setLevel(level)
