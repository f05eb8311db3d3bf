"""Workers as processes of their own: started, watched and stopped by whoever started them."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.supervisor import how, stop_all


class Crew:
    """Some processes, each with a log file in `folder`. Ends none but its own."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self._say = say
        self._processes: list[subprocess.Popen[bytes]] = []
        self._told: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self, command: Sequence[str], count: int = 1, more: Mapping[str, str] | None = None) -> list[int]:
        """Starts `count` processes of a command, with `more` in their environment; their pids.

        They take no Ctrl-C of the terminal, only `stop`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name != "HEADRACE_INSTANCE"}
        started = []
        for _ in range(count):
            with self.log(len(self._processes) + 1).open("wb") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**environment, **(more or {})},
                    process_group=0,
                )
            self._processes.append(process)
            started.append(process.pid)
            number = len(self._processes)
            self._say(f"worker {number}: pid {process.pid}, log {self.log(number)}")
        return started

    def log(self, number: int) -> Path:
        """The log file of the n-th process, from 1 on."""
        return self.folder / f"worker-{number}.log"

    @property
    def pids(self) -> list[int]:
        """Of all that were started, dead ones too."""
        return [process.pid for process in self._processes]

    def alive(self) -> int:
        """How many run. Those that died since the last look are said."""
        running = 0
        for number, process in enumerate(self._processes, 1):
            code = process.poll()
            if code is None:
                running += 1
            elif process.pid not in self._told:
                self._told.add(process.pid)
                self._say(
                    f"worker {number} with pid {process.pid} died: {how(code)}. {self._last_words(number)}".rstrip()
                )
        return running

    def _last_words(self, number: int) -> str:
        path = self.log(number)
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return f"Its last line: {lines[-1][:300]}" if lines else ""

    def stop(self) -> list[int | None]:
        """SIGTERM to all that run, and SIGKILL to those that do not end in time; exit codes."""
        running = [process for process in self._processes if process.poll() is None]
        stop_all(running, self._say)
        self._told.update(process.pid for process in running)
        return [process.returncode for process in self._processes]


def worker(*arguments: str, front: Sequence[str] = ()) -> list[str]:
    """The command of this installation's `headrace run` with these arguments; `front` stands before `run`."""
    return [sys.executable, "-m", "headrace", *front, "run", *arguments]
