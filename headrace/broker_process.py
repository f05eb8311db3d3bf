"""The process of the local broker: started in a session of its own, found again by pid and start time, stopped."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from headrace.jars import KAFKA_VERSION, BrokerError

HOST = "127.0.0.1"
STOP_SECONDS = 30.0
TAIL_LINES = 15
TAIL_BYTES = 16_384
POLL_SECONDS = 0.05

STATE = "state.json"
LOG = "server.log"


class Place(NamedTuple):
    """The ports of one node."""

    node: int
    """Its id, from 1."""
    port: int
    """For clients and for the other nodes."""
    controller_port: int
    proxied_port: int = 0
    """A second port, for clients that are told to come to `advertised_port`; 0: there is none."""
    advertised_port: int = 0


class BrokerState(NamedTuple):
    """A node that `up` started."""

    pid: int
    started: str
    """When the process started, as the kernel tells it: a pid alone is reused."""
    bootstrap: str
    """Address for clients, "127.0.0.1:9092"; with three nodes all their addresses, with commas between."""
    port: int
    controller_port: int
    version: str
    """Kafka's."""
    log: Path
    """Kafka's own log, WARN and worse."""
    node: int = 1
    """Its id, from 1."""
    proxied_port: int = 0
    advertised_port: int = 0

    @property
    def address(self) -> str:
        """Its own, "127.0.0.1:9092"."""
        return f"{HOST}:{self.port}"

    @property
    def place(self) -> Place:
        """Its ports."""
        return Place(self.node, self.port, self.controller_port, self.proxied_port, self.advertised_port)


_children: dict[int, subprocess.Popen[bytes]] = {}
"""Brokers of this very process, so that they are reaped when they end."""


def spawn(folder: Path, words: Sequence[str], place: Place, bootstrap: str) -> BrokerState:
    """Runs `words` in `folder`, in a session of its own (Ctrl-C does not reach it), and writes the state file."""
    log = folder / LOG
    if log.exists():
        log.replace(folder / f"{LOG}.1")
    with log.open("wb") as out:
        try:
            child = subprocess.Popen(
                words, cwd=folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        except OSError as error:
            raise BrokerError(
                f"{words[0]} cannot be started: {error.strerror}. Install headrace[broker] again."
            ) from None
    _children[child.pid] = child
    started = start_time(child.pid) or ""
    ports = {name: value for name, value in place._asdict().items() if name != "node"}
    state = BrokerState(child.pid, started, bootstrap, version=KAFKA_VERSION, log=log, node=place.node, **ports)
    try:
        write_whole(folder / STATE, json.dumps({**state._asdict(), "log": str(log)}, indent=1) + "\n")
    except OSError:
        kill(state, signal.SIGKILL)
        await_end(state, STOP_SECONDS)
        raise
    return state


def read_state(folder: Path) -> BrokerState | None:
    """What the state file says, or None without one. Raises BrokerError when it is damaged."""
    path = folder / STATE
    try:
        return BrokerState(**{**(row := json.loads(path.read_text("utf-8"))), "log": Path(row["log"])})
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BrokerError(
            f"{path} is damaged ({error}), so it does not tell which process is the broker. "
            f"Stop the broker by hand if one runs (`pgrep -f kafka.Kafka`), delete {path}, and run `headrace up`."
        ) from None


def start_time(pid: int) -> str | None:
    """When the process started: boot id and ticks since boot; None when there is no such live process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return _start_time_by_ps(pid) if not Path("/proc/self/stat").exists() else None
    except ProcessLookupError:
        return None
    if fields[0] in "ZX" and int(fields[17]) <= 1:  # ended, only not reaped yet; a last thread still holds the ports
        return None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = "boot"
    return f"{boot}/{fields[19]}"


def _start_time_by_ps(pid: int) -> str | None:
    """For systems without /proc."""
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    stat, _, started = told.stdout.strip().partition(" ")
    return started.strip() if started and not stat.startswith("Z") else None


def alive(state: BrokerState) -> bool:
    """The very process that was started still runs."""
    child = _children.get(state.pid)
    if child is not None and child.poll() is not None:
        del _children[state.pid]
    return start_time(state.pid) == state.started


def kill(state: BrokerState, number: signal.Signals) -> None:
    """Sends a signal to the broker, if it is still that process."""
    if alive(state):
        with suppress(ProcessLookupError):
            os.kill(state.pid, number)


def await_end(state: BrokerState, seconds: float) -> bool:
    """True when the process has ended within `seconds`."""
    deadline = time.monotonic() + seconds
    while alive(state):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def stop(*states: BrokerState) -> bool:
    """SIGTERM, 30 s, SIGKILL; True when SIGTERM was enough. Raises BrokerError when nothing helps."""
    for state in states:
        kill(state, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    stubborn = [state for state in states if not await_end(state, max(0.0, deadline - time.monotonic()))]
    end_now(*stubborn)
    return not stubborn


def end_now(*states: BrokerState) -> None:
    """SIGKILL; returns when the processes have ended. Raises BrokerError when one does not."""
    for state in states:
        kill(state, signal.SIGKILL)
    for state in states:
        if not await_end(state, STOP_SECONDS):
            raise BrokerError(
                f"The broker (pid {state.pid}) does not end, not even by SIGKILL: the system holds it, mostly a disk "
                f"that does not answer. See `ps -o stat,wchan -p {state.pid}`."
            )


def log_tail(log: Path) -> str:
    """The last lines of the broker's log."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return "(no log)"
    return last_lines(text)


def last_lines(text: str) -> str:
    """The last lines of a longer text."""
    return "\n".join(f"  {line}" for line in text.strip().splitlines()[-TAIL_LINES:]) or "  (nothing)"


def write_whole(path: Path, text: str) -> None:
    """The old file or the new one, never half of it."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
