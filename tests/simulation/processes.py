"""Worker processes as greenlets on one timeline: each client call may switch, kill or freeze."""

from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from random import Random
from typing import Any

from greenlet import getcurrent, greenlet
from stories import POISON

from topologies.engine.crash import crash_point
from topologies.engine.memory.host import Trouble
from topologies.engine.memory.timeline import Timeline

LAG_S = 1.5
"""The longest wait for a first fetch."""


class Killed(BaseException):
    """SIGKILL: nothing of this process happens any more."""


class Process:
    """One life of one worker: the host of its clients, and the carrier of its turns."""

    def __init__(self, timeline: Timeline, rng: Random, name: str, at_call: Callable[["Process", str], Trouble | None]):
        self.timeline = timeline
        self.rng = rng
        self.name = name
        self.call_s = 0.004
        """The longest latency of a client call."""
        self.frozen_until = 0.0
        self.cut_until = 0.0
        """Until then its heartbeats are lost."""
        self.killed = False
        self.stopping = False
        self._at_call = at_call
        self._hub = getcurrent()  # whoever starts a process runs the timeline
        self._tasks: set[Any] = set()
        self._trouble: dict[str, Trouble | None] = {}

    # -- host ------------------------------------------------------------------------------------

    def enter(self, call: str) -> None:
        """A client call: time passes, others run, something may go wrong."""
        if self.killed:
            raise Killed
        self._trouble[call] = self._at_call(self, call)
        self.wait(self.rng.random() * self.call_s)

    def lag(self) -> float:
        """Mostly short."""
        return self.rng.random() ** (1 if self.rng.random() < 0.1 else 8) * LAG_S

    def trouble(self, call: str) -> Trouble | None:
        """What goes wrong with a call: found when it was entered, or now for one that nobody enters."""
        if call in self._trouble:
            return self._trouble.pop(call)
        return self._at_call(self, call)

    def wait(self, seconds: float) -> None:
        """Lets others run for this long."""
        if self.killed:
            raise Killed
        me = getcurrent()
        self.timeline.later(seconds, lambda: self._resume(me))
        self._hub.switch()
        if self.killed:
            raise Killed

    def _resume(self, task: Any) -> None:
        if task.dead:
            return
        if self.frozen_until > self.timeline.now and not self.killed:
            self.timeline.later(self.frozen_until - self.timeline.now, lambda: self._resume(task))
            return
        task.switch()

    def alive(self) -> bool:
        """Whether its heartbeats reach the broker."""
        now = self.timeline.now
        return not self.killed and now >= self.frozen_until and now >= self.cut_until

    def dead(self) -> bool:
        """Whether it was killed."""
        return self.killed

    # -- tasks -----------------------------------------------------------------------------------

    def spawn(self, run: Callable[[], None]) -> None:
        """Starts a thread of this process."""

        def body() -> None:
            try:
                run()
            except Killed:
                pass
            finally:
                self._tasks.discard(task)

        task = greenlet(body, self._hub)
        task.process = self
        self._tasks.add(task)
        self.timeline.later(0.0, lambda: self._resume(task))

    def kill(self) -> None:
        """SIGKILL. From inside, the caller raises Killed at its next call."""
        self.killed = True

    def bury(self) -> None:
        """Unwinds what is left of a killed process."""
        self.killed = True
        for task in list(self._tasks):
            if task and not task.dead:
                task.throw(Killed)

    # -- carrier ---------------------------------------------------------------------------------

    async def in_kafka(self, call: Callable[[], Any]) -> Any:
        """At once: there is one thread."""
        return call()

    def beside(self, call: Callable[[], Any]) -> "Errand":
        """A recovery on a thread of its own."""
        errand = Errand()
        self.spawn(lambda: errand.run(call))
        return errand

    async def ended(self, errand: "Errand") -> None:
        """Waits for a recovery."""
        while not errand.done():
            self.wait(0.05)

    async def decide(self, work: Any) -> None:
        """The agents, one after another."""
        while work is not None:
            crash_point(f"in_{work.agent.name}")
            if work.agent.name in {"admission", "settlement"} and any(map(_poisonous, work.batch)):
                raise ArithmeticError("an agent raised")
            work = work.decide()


def _poisonous(received: Any) -> bool:
    return getattr(received.value, "payment_id", "").startswith(POISON)


class Errand:
    """A recovery's result to come."""

    def __init__(self) -> None:
        self._future: Any = None

    def run(self, call: Callable[[], Any]) -> None:
        try:
            value = call()
        except Exception as error:  # noqa: BLE001  # handed on to whoever asks
            self._future = (None, error)
        else:
            self._future = (value, None)

    def done(self) -> bool:
        return self._future is not None

    def result(self) -> Any:
        value, error = self._future
        if error is not None:
            raise error
        return value


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a turn waited for something that is not its carrier")


class Quiet:
    """An observer and a watchdog that say nothing."""

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return _nothing

    @contextmanager
    def guard(self, _what: str) -> Any:
        """Nothing hangs here."""
        yield


def _nothing(*_args: Any) -> None:
    """Nobody listens."""


def current() -> Process | None:
    """The process that runs now."""
    return getattr(getcurrent(), "process", None)
