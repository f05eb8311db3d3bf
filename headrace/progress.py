"""Live progress on standard error: a bar on a terminal, a line now and then elsewhere."""

import sys
from collections.abc import Callable
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars

LINE_S = 2.0
BAR_S = 0.1


class Progress:
    """Stages, one after another."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars: Bars | None = None
        if self._console.is_terminal:
            self._bars = Bars(
                TextColumn("{task.description:<20}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[told]}"),
                console=self._console,
            )
        self._task: TaskID | None = None
        self._name, self._total, self._next = "", 0, 0.0

    def say(self, line: str) -> None:
        """One line."""
        if self._bars is not None:
            self._console.print(line, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def stage(self, name: str, total: int) -> None:
        """A new stage begins."""
        self._name, self._total, self._next = name, total, 0.0
        if self._bars is not None:
            self._bars.start()
            self._task = self._bars.add_task(name, total=total, told="")

    def update(self, done: int, told: Callable[[], str]) -> None:
        """`done` of the stage's total; `told()` is asked only when something is shown."""
        now = monotonic()
        if now < self._next and done < self._total:
            return
        finished = done >= self._total and self._next == float("inf")
        if finished:
            return
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, told=told())
        elif self._bars is None:
            self.say(f"{self._name}: {done:,} of {self._total:,}, {told()}")
        self._next = float("inf") if done >= self._total else now + (LINE_S if self._bars is None else BAR_S)

    def done(self) -> None:
        """Leaves the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
