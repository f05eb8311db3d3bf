"""Ends everything that a campaign started, also when the campaign itself dies: a C library may take it along."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SUBREAPER = 36
"""prctl(2): orphans of this process's children become its own children."""
PATIENCE_S = 120.0
"""How long an interrupted campaign may take to end by itself."""


def guarded(words: Sequence[str]) -> int:
    """Runs Python with these words in a process of its own; its exit code, when all that it left behind has ended."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen([sys.executable, *words])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: child.send_signal(signal.SIGTERM))
    try:
        code = _wait(child)
    finally:
        for pid in _end_children():
            print(f"ended process {pid}, which was left behind", file=sys.stderr)
    return code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen) -> int:
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the terminal has told the child as well
            with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
                return child.wait(PATIENCE_S)
            child.kill()


def _end_children() -> list[int]:
    """SIGKILL to every child of this process, and to those that become its children thereby; their pids."""
    ended = []
    while pids := _children():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)
            ended.append(pid)
        time.sleep(0.05)
    return ended


def _children() -> list[int]:
    me, found = os.getpid(), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == me:
                found.append(int(stat.parent.name))
    return found
