"""The local broker: a real Apache Kafka in KRaft mode, one node on the loopback interface, with neither Docker nor Maven.

Under `<home>/broker`: `data/` (Kafka's log directory, kept over restarts), `server.properties` (written at every
start), `server.log` and `server.log.1`, `state.json` (what runs), `lock` (one `up` or `down` at a time).
"""

import fcntl
import secrets
import shutil
import signal
import socket
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.broker_config import NODE, ports, write_properties
from headrace.broker_process import (
    HOST,
    POLL_SECONDS,
    STATE,
    STOP_SECONDS,
    BrokerState,
    alive,
    await_end,
    kill,
    last_lines,
    log_tail,
    read_state,
    spawn,
    stop,
)
from headrace.jars import KAFKA_VERSION, BrokerError, classpath, disk_trouble, free_mb
from headrace.jvm import command, find_java

__all__ = ["BrokerError", "BrokerState", "Seen", "Status", "ask", "down", "running", "status", "up"]

PORT = 9092
"""Where `up` listens when not told otherwise."""

READY_SECONDS = 60.0
PROBE_SECONDS = 3.0
FOREIGN_SECONDS = 10.0
"""How long a Kafka elsewhere may take to answer."""
FORMAT_SECONDS = 60.0
SPACE_MB = 100
FREE_PORT_TRIES = 3


class Seen(NamedTuple):
    """A Kafka that answered."""

    cluster_id: str | None
    nodes: dict[int, str]
    """Node id to "host:port"."""
    topics: list[str]

    @property
    def own_topics(self) -> int:
        """How many topics there are but for Kafka's own."""
        return sum(not name.startswith("__") for name in self.topics)


class Status(NamedTuple):
    """What `status` sees."""

    running: bool
    """The process is alive."""
    ready: bool
    """Kafka answers."""
    state: BrokerState | None
    """What runs, or what was left behind by a broker that died."""
    cluster_id: str | None
    topics: int | None
    """Topics but for Kafka's own; None when it does not answer."""
    data_bytes: int
    """What the data takes on disk (Kafka's index files are sparse)."""


def up(home: Path, port: int | None = None, say: Callable[[str], None] = print) -> BrokerState:
    """Starts the broker of `home`, or finds it running; returns once it answers.

    `port`: None is 9092 (or, after a broker that died, the port it had), 0 takes free ports. `say` gets one line per
    thing worth knowing; the progress of a fetch goes to standard error. Raises BrokerError; then nothing is running
    that was not before.
    """
    folder = _folder(home)
    with disk_trouble(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder):
            left = read_state(folder)
            if left is not None and alive(left):
                try:
                    return _join(left, port, say)
                except BrokerError:
                    if alive(left):
                        raise  # else it was about to end
            if left is not None:
                say(f"The broker with pid {left.pid} died without `headrace down`; starting again on the same data.")
                port = left.port if port is None else port
            return _start(folder, PORT if port is None else port, say)


def running(home: Path) -> BrokerState | None:
    """The broker of `home` if its process is alive, else None."""
    state = read_state(_folder(home))
    return state if state is not None and alive(state) else None


def down(home: Path, *, wipe: bool = False, say: Callable[[str], None] = print) -> bool:
    """Stops the broker that `up` started for `home`, and no other; True when there was one to stop.

    SIGTERM first, SIGKILL after 30 s. `wipe` also deletes all its data. Raises BrokerError when it cannot be stopped.
    """
    folder = _folder(home)
    if not folder.exists():
        say("No broker runs here.")
        return False
    with disk_trouble(folder), _one_at_a_time(folder):
        state = read_state(folder)
        ran = state is not None and alive(state)
        if state is not None and ran:
            say(f"Stopping Kafka at {state.bootstrap} (pid {state.pid}) ...")
            gently = stop(state)
            say(
                "Stopped."
                if gently
                else f"Killed: it did not end within {STOP_SECONDS:.0f} s. Kafka repairs its log at the next start."
            )
        elif state is not None:
            say(f"The broker with pid {state.pid} had died already.")
        else:
            say("No broker runs here.")
        (folder / STATE).unlink(missing_ok=True)
        if wipe:
            for name in ("data", "data.new"):
                if (folder / name).exists():
                    shutil.rmtree(folder / name)
            say(f"All data of the broker under {folder} is deleted.")
        return ran


def status(home: Path) -> Status:
    """How the broker of `home` is; starts nothing."""
    folder = _folder(home)
    state = read_state(folder)
    runs = state is not None and alive(state)
    seen = ask(state.bootstrap) if state is not None and runs else None
    return Status(
        running=runs,
        ready=seen is not None,
        state=state,
        cluster_id=seen.cluster_id if seen else _cluster_id(folder / "data"),
        topics=seen.own_topics if seen else None,
        data_bytes=sum(path.stat().st_blocks * 512 for path in (folder / "data").rglob("*") if path.is_file()),
    )


def ask(bootstrap: str, options: dict[str, str] | None = None, timeout: float = PROBE_SECONDS) -> Seen | None:
    """What a Kafka at `bootstrap` tells of itself, or None if none answers within `timeout` seconds.

    `options`: further librdkafka options (security). Raises BrokerError when librdkafka refuses an option.
    """
    quick = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 250, "log_level": 0}
    try:
        client = AdminClient({**(options or {}), **quick, "bootstrap.servers": bootstrap})
    except (KafkaException, ValueError, TypeError) as error:
        raise BrokerError(f"The Kafka options are refused: {error}. Correct the KAFKA_* setting it names.") from None
    try:
        seen = client.list_topics(timeout=timeout)
    except KafkaException:
        return None
    nodes = {node: f"{broker.host}:{broker.port}" for node, broker in sorted(seen.brokers.items())}
    return Seen(seen.cluster_id, nodes, sorted(seen.topics))


def _folder(home: Path) -> Path:
    return home.expanduser().resolve() / "broker"


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _join(state: BrokerState, port: int | None, say: Callable[[str], None]) -> BrokerState:
    """Another `up` for a broker that runs; waits, for that one may just be starting."""
    if port not in (None, 0, state.port):
        raise BrokerError(
            f"The broker already runs at {state.bootstrap} (pid {state.pid}), not on port {port}. "
            f"Run `headrace down` first, then `headrace up --port {port}`."
        )
    _await_ready(state, _cluster_id(state.log.parent / "data"))
    say(f"Kafka {state.version} is already running at {state.bootstrap} (pid {state.pid}).")
    return state


def _start(folder: Path, port: int, say: Callable[[str], None]) -> BrokerState:
    java = find_java()
    if port:
        _need_free(port)
    _need_space(folder)
    jars = classpath()
    cluster_id = _format(folder, command(java, jars, "kafka.tools.StorageTool"), say)
    for tries_left in reversed(range(FREE_PORT_TRIES)):
        client_port, controller_port = ports(port)
        say(f"Starting Kafka {KAFKA_VERSION} at {HOST}:{client_port} ...")
        write_properties(folder / "server.properties", client_port, controller_port, "data")
        state = spawn(folder, command(java, jars, "kafka.Kafka", "server.properties"), client_port, controller_port)
        began = time.monotonic()
        try:
            _await_ready(state, cluster_id)
        except BaseException as error:  # Ctrl-C too: what did not become ready does not stay
            kill(state, signal.SIGKILL)
            await_end(state, STOP_SECONDS)
            (folder / STATE).unlink(missing_ok=True)
            if not isinstance(error, BrokerError) or not tries_left or "Address already in use" not in str(error):
                raise
            continue  # the free port was taken between choosing and using it
        say(f"Kafka {KAFKA_VERSION} is ready at {state.bootstrap} (pid {state.pid}, {time.monotonic() - began:.1f} s).")
        return state
    raise AssertionError("unreachable: the last try returns or raises")


def _need_free(port: int) -> None:
    """`port` can be listened on; never another one silently."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except PermissionError:
        raise BrokerError(
            f"Port {port} needs more rights. Choose one above 1023: `headrace up --port {PORT}`."
        ) from None
    except OverflowError:
        raise BrokerError(f"Port {port} does not exist. Ports go from 1 to 65535; 0 takes a free one.") from None
    except OSError as error:
        other = f"`headrace up --port {port + 100 if port < 65000 else PORT}` (0 takes a free one)"
        seen = ask(f"{HOST}:{port}")
        if seen is None:
            raise BrokerError(
                f"Port {port} is taken ({error.strerror}), and no Kafka answers there. Choose another: {other}."
            ) from None
        raise BrokerError(
            f"Port {port} is taken by a Kafka (cluster {seen.cluster_id}, {len(seen.nodes)} node(s)). To use that one: "
            f"`export KAFKA_BOOTSTRAP_SERVERS={HOST}:{port}`. For a broker of your own: {other}."
        ) from None


def _need_space(folder: Path) -> None:
    """Kafka maps files into memory, so a disk that fills up kills it without a word."""
    free = free_mb(folder)
    if free < SPACE_MB:
        raise BrokerError(
            f"The disk that holds {folder} is full ({free} MB free; the broker needs {SPACE_MB} MB to start). "
            "Free some space, or set HEADRACE_HOME to a folder elsewhere."
        )


def _cluster_id(data: Path) -> str | None:
    """The cluster id of a formatted data folder, else None."""
    try:
        lines = (data / "meta.properties").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("cluster.id=")), None)


def _format(folder: Path, storage_tool: list[str], say: Callable[[str], None]) -> str:
    """The cluster id of the data, formatted first if there is none: beside, then moved into place whole."""
    kept = _cluster_id(folder / "data")
    if kept is not None:
        return kept
    if (folder / "data").exists():
        raise BrokerError(
            f"{folder / 'data'} has no readable meta.properties, so it is not a whole Kafka data folder. "
            "Move it away to look into it, or delete it with `headrace down --wipe`."
        )
    say("Preparing the data folder ...")
    fresh = folder / "data.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    cluster_id = urlsafe_b64encode(b"\x1d" + secrets.token_bytes(15)).decode().rstrip("=")  # never begins with "-"
    write_properties(folder / "format.properties", PORT, PORT + 1, "data.new")
    words = [*storage_tool, "format", "-t", cluster_id, "-c", "format.properties", "--ignore-formatted"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BrokerError(f"Kafka did not format {fresh} within {FORMAT_SECONDS:.0f} s. Repeat the command.") from None
    (folder / "format.properties").unlink(missing_ok=True)
    if done.returncode != 0 or _cluster_id(fresh) != cluster_id:
        shutil.rmtree(fresh, ignore_errors=True)
        raise BrokerError(
            f"Kafka could not format {folder / 'data'}:\n{last_lines(done.stdout + done.stderr)}{_hint(folder, done.stderr)}"
        )
    fresh.replace(folder / "data")
    return cluster_id


def _await_ready(state: BrokerState, cluster_id: str | None) -> None:
    """Returns when Kafka answers as the cluster it is; an open port is not enough. Raises BrokerError with the log."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        if not alive(state):
            reason = "ended while it started"
            break
        seen = ask(state.bootstrap, timeout=1.0) if _listens(state.port) else None
        if seen is not None and NODE in seen.nodes and cluster_id in (None, seen.cluster_id):
            return
        if time.monotonic() > deadline:
            reason = f"did not answer within {READY_SECONDS:.0f} s"
            break
        time.sleep(POLL_SECONDS)
    tail = log_tail(state.log)
    raise BrokerError(
        f"Kafka at {state.bootstrap} {reason}. The end of {state.log}:\n{tail}{_hint(state.log.parent, tail)}"
    )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _hint(folder: Path, log: str) -> str:
    """The way out of what the log tells, if it is one of the usual troubles."""
    if "No space left on device" in log or free_mb(folder) < SPACE_MB:
        return f"\nThe disk that holds {folder} is full. Free some space and run `headrace up`: the data is kept."
    if "OutOfMemoryError" in log:
        return "\nThe heap is too small: set HEADRACE_BROKER_HEAP=1g and run `headrace up`."
    if "Address already in use" in log:
        return "\nA port was taken meanwhile: run `headrace up` again, or with --port 0."
    return "\nRun `headrace up` again; if it ends the same way, `headrace down --wipe` starts from nothing."
