"""Faults of the disk: full, nearly full, and writes that fall short."""

import os
import random
import resource
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from kinds import Kind, Shot
from system import System

SIZE_MB = 1_400
"""A disk for one worker; below 1,024 MB free it pauses."""
FAILS = r"the store /\S+ can't be|No space left|File too large|state folder"
PAUSES_WITHIN_S = 30.0


def full(system: System, chance: random.Random) -> Shot:
    """The worker's disk is full in one moment, while it works; then there is room again."""
    worker = system.add("on-a-small-disk", HEADRACE_HOME=str(_disk(system))).start()
    try:
        system.wait(worker.partitions, 60, "partitions of the worker on the small disk")
        system.steady()
        time.sleep(chance.uniform(0.0, 2.0))
        ballast = worker.home / "ballast"
        _fill(ballast)
        before = len(system.stopped)
        refused = _until(system, lambda: len(system.stopped) > before or "paused" in worker.readiness())
        ballast.unlink()
        return Shot(refused, f"{system.stopped[-1][:80] if system.stopped else 'paused'}")
    finally:
        system.drop(worker)
        _free(system)


def nearly_full(system: System, chance: random.Random) -> Shot:
    """Less than 1 GiB is free: the worker pauses and says so, and goes on when there is room."""
    worker = system.add("on-a-small-disk", HEADRACE_HOME=str(_disk(system))).start()
    try:
        system.wait(worker.partitions, 60, "partitions of the worker on the small disk")
        ballast = worker.home / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 600 << 20)
        paused = _until(system, lambda: "paused" in worker.readiness())
        ballast.unlink()
        assert paused, "the worker does not pause, with less than 1 GiB free"
        assert _until(system, lambda: "paused" not in worker.readiness()), "the worker stays paused"
        return Shot()
    finally:
        system.drop(worker)
        _free(system)


def short_write(system: System, chance: random.Random) -> Shot:
    """No file of the worker may grow any more: each write falls short, or fails."""
    worker = system.workers[chance.choice("ab")]
    size = max((file.stat().st_size for file in worker.store.glob("p[0-9]/*.log")), default=0)
    limit = max(size, worker.log.stat().st_size + 500_000) + chance.randint(1, 30_000)  # the log must go on
    before = len(system.stopped)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    pid = worker.process.pid
    fired = _until(system, lambda: len(system.stopped) > before)
    if worker.alive and worker.process.pid == pid:
        worker.kill()
        worker.start()
    return Shot(fired, f"{worker.name} from {limit} bytes on")


def _until(system: System, condition) -> bool:
    deadline = time.monotonic() + PAUSES_WITHIN_S
    while not condition():
        system.tend()
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _disk(system: System) -> Path:
    folder = system.folder / "small-disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(folder)], check=True)
    return folder


def _free(system: System) -> None:
    folder = system.folder / "small-disk"
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def _fill(ballast: Path) -> None:
    """Takes all room that there is, to the last page."""
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            free = shutil.disk_usage(ballast.parent).free
            os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), max(4_096, min(free, 64 << 20)))


@cache
def no_mount() -> str | None:
    """Why no tmpfs can be mounted here, or None."""
    with tempfile.TemporaryDirectory(prefix="headrace-probe-") as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, text=True, check=False)
        if done.returncode:
            return f"no tmpfs can be mounted: {done.stderr.strip()}"
        subprocess.run(["umount", folder], check=True)
    return None


KINDS = [
    Kind("disk full", full, 10, may_stop=FAILS, impossible=no_mount),
    Kind("disk nearly full", nearly_full, 5, impossible=no_mount),
    Kind("short write", short_write, 15, may_stop=FAILS),
]
