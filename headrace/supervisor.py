"""Several workers as one: a process for each, started anew when it dies, stopped together.

A worker never outlives its supervisor: it holds the reading end of a pipe whose other end nobody else has.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

SUPERVISED = "HEADRACE_SUPERVISED"
"""Set for a process whose standard input ends with its supervisor."""
STOP_S = 25.0
"""A graceful stop takes at most so long."""
PAUSE_MOST_S = 30.0
"""The longest pause before a worker that dies again and again is started anew; the first is a second."""
STEADY_S = 60.0
"""A worker that ran so long is started anew at once when it dies."""
HOPELESS = 2
"""The exit code of wrong usage: starting anew would not help."""
LOOK_S = 0.2


@dataclass
class _Child:
    name: str
    command: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    due: float = 0.0
    pause_s: float = 0.5


@dataclass
class Supervisor:
    """Keeps commands running until SIGTERM or Ctrl-C. `say` is told what dies and what is started anew."""

    say: Callable[[str], None]
    clock: Callable[[], float] = monotonic
    _children: list[_Child] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)

    def add(self, name: str, command: Sequence[str]) -> None:
        """One more command to be kept running; `name` is for people."""
        self._children.append(_Child(name, command))

    def run(self) -> int:
        """Starts all and watches them; the exit code: 0 when all stopped gracefully, else that of the first that did not."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        reading, writing = os.pipe()
        try:
            while not self._stopping.is_set() and self._look(reading) is None:
                self._stopping.wait(LOOK_S)
            return self._stop()
        finally:
            os.close(reading)
            os.close(writing)

    def _look(self, pipe: int) -> int | None:
        """Starts what is due. The exit code where going on is hopeless."""
        for child in self._children:
            if child.process is None:
                if self.clock() >= child.due:
                    self._start(child, pipe)
            elif (code := child.process.poll()) == HOPELESS:
                return code
            elif code is not None:
                self._died(child, code)
        return None

    def _start(self, child: _Child, pipe: int) -> None:
        environment = {**os.environ, SUPERVISED: "1"}
        child.process = subprocess.Popen(child.command, stdin=pipe, env=environment)
        child.started = self.clock()

    def _died(self, child: _Child, code: int) -> None:
        now = self.clock()
        child.pause_s = 1.0 if now - child.started > STEADY_S else min(2 * child.pause_s, PAUSE_MOST_S)
        child.due, child.process = now + child.pause_s, None
        self.say(f"{child.name} died ({how(code)}); it is started anew in {child.pause_s:.0f} s")

    def _stop(self) -> int:
        running = [child.process for child in self._children if child.process is not None]
        stop_all(running, self.say)
        # One that was told to stop before it had a handler ends by the signal itself.
        codes = [process.returncode for process in running if process.returncode not in {0, -signal.SIGTERM}]
        return 0 if not codes else codes[0] if codes[0] > 0 else 1


def stop_all(processes: "Sequence[subprocess.Popen[bytes]]", say: Callable[[str], None]) -> None:
    """SIGTERM to all that run, and SIGKILL to those that run after `STOP_S` seconds."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = monotonic() + STOP_S
    for process in processes:
        try:
            process.wait(max(0.0, deadline - monotonic()))
        except subprocess.TimeoutExpired:
            say(f"worker with pid {process.pid} did not stop within {STOP_S:.0f} s and was killed")
            process.kill()
            process.wait()


def how(code: int) -> str:
    """How a process ended, from its return code."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def die_with_supervisor() -> None:
    """In a worker: ends the process at once when its supervisor is gone, as its own SIGKILL would."""
    if os.environ.pop(SUPERVISED, None):
        threading.Thread(target=_wait_for_end, name="supervisor", daemon=True).start()


def _wait_for_end() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
