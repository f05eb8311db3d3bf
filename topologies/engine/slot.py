"""Slots: a worker's stable identity on its host, held by a lock on its state folder."""

import fcntl
import os
import re
import socket
from pathlib import Path
from typing import NamedTuple

from topologies.engine.errors import WorkerStopped

MOST_SLOTS = 256


class Slot(NamedTuple):
    """A locked state folder; its name is part of the transactional id. Closing `lock` gives it back."""

    instance: str
    folder: Path
    lock: int


def take_slot(home: Path, prefix: str, role: str, instance: str | None) -> Slot:
    """Locks `<home>/state/<prefix><role>-<instance>/`: the one that is named, else this host's first free one.

    Raises WorkerStopped where the named instance runs already or the folder can't be written.
    """
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname()) or "host"
    names = [instance] if instance else [f"{host}-{number}" for number in range(MOST_SLOTS)]
    for name in names:
        folder = home / "state" / f"{prefix}{role}-{name}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise WorkerStopped(
                f"the state folder {folder} can't be used: {error.strerror}; set HEADRACE_HOME to a folder that can"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        return Slot(name, folder, lock)
    if instance:
        raise WorkerStopped(
            f"instance {instance} runs already (its folder in {home / 'state'} is locked); stop it, or choose another "
            "HEADRACE_INSTANCE"
        )
    raise WorkerStopped(f"all {MOST_SLOTS} slots of {home / 'state'} are in use; set HEADRACE_INSTANCE")
