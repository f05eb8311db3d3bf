"""A worker under test: one slot through all its lives."""

import re
import shutil
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

EXIT_S = 40.0
"""How long a worker that was told to stop may take: 25 s are promised, the machine is busy."""
READY = re.compile(r"ready: partitions \[([\d, ]*)\]")
MOVED = re.compile(r"assigned partitions|partitions were taken away|has hung for")
STOPPED = re.compile(r"headrace: the worker stopped: (.*)")
ADDRESS = re.compile(r"(http://\S+)/metrics")
ANEW = "the worker starts anew"


class Kill(NamedTuple):
    """A SIGKILL: when (Unix time), the partitions that stood still, and whether the store went too."""

    at: float
    partitions: tuple[int, ...]
    lost_store: bool


class Worker:
    """A slot of the cluster; `env` holds for all its lives, what `start` is given for one."""

    def __init__(self, cluster, name: str, **env: str) -> None:
        self.name = name
        self.process = None
        self.wanted = False
        """Whether it should run: it is started again when it stops."""
        self._cluster = cluster
        self._clock = cluster.home / f"{name}.clock"
        self._env = {"HEADRACE_INSTANCE": name, "HEADRACE_WRONG_CLOCK": str(self._clock), **env}
        self._mark = 0

    @property
    def log(self) -> Path:
        """The log of all lives."""
        return self._cluster.home / f"{self.name}.log"

    @property
    def home(self) -> Path:
        """Its HEADRACE_HOME."""
        return Path(self._env.get("HEADRACE_HOME", self._cluster.home / "state-of-workers"))

    @property
    def store(self) -> Path:
        """The folder of its slot."""
        return self.home / "state" / f"{self._cluster.prefix}core-{self._env['HEADRACE_INSTANCE']}"

    def start(self, **env: str) -> "Worker":
        """A new life; the last one must be over."""
        assert not self.alive, f"worker {self.name} runs already"
        if not self._clock.exists():
            self.set_clock(0)
        self._mark = self.log.stat().st_size if self.log.exists() else 0
        self.process = self._cluster.worker(self.name, **{**self._env, **env})
        self.wanted = True
        return self

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is frozen)."""
        return self.process is not None and self.process.poll() is None

    def said(self) -> str:
        """The log of this life."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._mark)
            return log.read().decode("utf-8", "replace")

    def partitions(self) -> tuple[int, ...]:
        """The partitions that it works on; none while it recovers."""
        return self.last_partitions() if self.alive else ()

    def last_partitions(self) -> tuple[int, ...]:
        """The partitions that it works on, or had when it died, as its log tells."""
        text = self.said()
        ready = list(READY.finditer(text))
        moved = list(MOVED.finditer(text))
        if not ready or (moved and moved[-1].start() > ready[-1].start()):
            return ()
        return tuple(int(number) for number in ready[-1][1].split(",") if number.strip())

    def reason(self) -> str | None:
        """Why it stopped, in its own words; None where it did not say."""
        found = STOPPED.findall(self.said())
        return found[-1] if found else None

    def readiness(self) -> str:
        """What /readyz tells; "" where nobody answers."""
        found = ADDRESS.findall(self.said())
        if not found:
            return ""
        try:
            with urllib.request.urlopen(f"{found[-1]}/readyz", timeout=2) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.read().decode()
        except OSError:
            return ""

    def lives(self) -> int:
        """How often the watchdog has started it anew in this life."""
        return self.said().count(ANEW)

    def kill(self, *, lose_store: bool = False) -> Kill:
        """SIGKILL; it stays down until `start`."""
        partitions = self.last_partitions()
        self.wanted = False
        killed_at = time.time()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        if lose_store:
            self.lose_store()
        return Kill(killed_at, partitions, lose_store)

    def set_clock(self, seconds_wrong: int) -> None:
        """Its wall clock is so much ahead (behind, where negative) from now on."""
        new = self._clock.with_suffix(".new")
        new.write_text(str(seconds_wrong))
        new.replace(self._clock)

    def lose_store(self) -> None:
        """Deletes all local state of the slot."""
        shutil.rmtree(self.store)

    def terminate(self) -> int:
        """SIGTERM; its exit code."""
        self.wanted = False
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(EXIT_S)

    def end(self) -> None:
        """SIGKILL, if it runs."""
        if self.alive:
            self.process.kill()
            self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    @property
    def frozen(self) -> bool:
        """Whether all of it stands still."""
        try:
            return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (FileNotFoundError, ProcessLookupError):
            return False
