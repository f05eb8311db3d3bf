"""The local broker: a real Apache Kafka in KRaft mode on the loopback interface, with neither Docker nor Maven.

One node, or three. Under `<home>/broker`: `data/` (Kafka's log directory, kept over restarts), `server.properties`
(written at every start), `server.log` and `server.log.1`, `state.json` (what runs), `lock` (one `up` or `down` at a
time). The second and third node have the same in `node-2/` and `node-3/`.
"""

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from headrace.broker_config import PORT
from headrace.broker_data import cluster_id_of, further_nodes, node_folder, size, wipe_data
from headrace.broker_process import STATE, STOP_SECONDS, BrokerState, alive, end_now, read_state, stop
from headrace.broker_start import PROBE_SECONDS, Seen, Wanted, ask, await_ready, pids, start, start_again
from headrace.jars import BrokerError, disk_trouble

__all__ = [
    "FOREIGN_SECONDS",
    "PORT",
    "PROBE_SECONDS",
    "BrokerError",
    "BrokerState",
    "Seen",
    "Status",
    "alive",
    "ask",
    "down",
    "kill_node",
    "nodes_of",
    "running",
    "start_node",
    "status",
    "stop_node",
    "up",
]

FOREIGN_SECONDS = 10.0
"""How long a Kafka elsewhere may take to answer."""
Say = Callable[[str], None]


class Status(NamedTuple):
    """What `status` sees."""

    running: bool
    """A process of it is alive."""
    ready: bool
    """Kafka answers."""
    state: BrokerState | None
    """What runs, or what was left behind by a broker that died."""
    cluster_id: str | None
    topics: int | None
    """Topics but for Kafka's own; None when it does not answer."""
    data_bytes: int
    """What the data takes on disk (Kafka's index files are sparse)."""
    nodes: tuple[tuple[BrokerState, bool], ...] = ()
    """Each node, and whether its process is alive."""


def up(
    home: Path, port: int | None = None, say: Say = print, *, nodes: int | None = None, advertised: Sequence[int] = ()
) -> BrokerState:
    """Starts the broker of `home`, or finds it running; returns its first node once all answer.

    `port`: None is 9092 (or, after a broker that died, the port it had), 0 takes free ports; further nodes take the
    next ones. `nodes`: 1 or 3, fixed by the data; None: what the data is for, else 1. `advertised`: for each node the
    port of a proxy that stands before it; clients that come in through the proxy are told these ports only, and the
    proxy must lead to the node's `proxied_port`. `say` gets one line per thing worth knowing; the progress of a fetch
    goes to standard error. Raises BrokerError; then nothing is running that was not before.
    """
    folder = _folder(home)
    with disk_trouble(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(folder):
            left = _left(folder)
            count = _count(folder, nodes)
            if advertised and len(advertised) != count:
                raise BrokerError(f"{len(advertised)} advertised ports do not fit {count} node(s).")
            if len(left) == count and any(map(alive, left.values())):
                try:
                    return _join(folder, left, port, say)
                except BrokerError:
                    if any(map(alive, left.values())):
                        raise  # else it was about to end
            if left:
                told = pids(list(left.values()))
                say(f"The broker with {told} died without `headrace down`; starting again on the same data.")
                stop(*left.values())  # a single node, where `up` was killed before it had started the others
            kept = {node: state.port for node, state in left.items()}
            return start(folder, Wanted(count, port, kept, advertised), say)[0]


def running(home: Path) -> BrokerState | None:
    """The first node of `home`'s broker whose process is alive, else None; its `bootstrap` names all nodes."""
    return next((state for state in nodes_of(home).values() if alive(state)), None)


def nodes_of(home: Path) -> dict[int, BrokerState]:
    """The nodes that `up` started, by id; `alive(state)` tells whether one still runs."""
    return _left(_folder(home))


def kill_node(home: Path, *nodes: int) -> None:
    """SIGKILL to some nodes; returns when they have ended. `start_node` brings them back."""
    with _one_at_a_time(_folder(home)):
        end_now(*_some(home, nodes))


def stop_node(home: Path, *nodes: int) -> bool:
    """SIGTERM to some nodes, SIGKILL after 30 s; True when SIGTERM was enough."""
    with _one_at_a_time(_folder(home)):
        return stop(*_some(home, nodes))


def start_node(home: Path, *nodes: int) -> list[BrokerState]:
    """Starts nodes that were killed or stopped, on the same data and ports; returns once they answer.

    A node answers only while most nodes run: start two that are missing together. Raises BrokerError.
    """
    folder = _folder(home)
    with disk_trouble(folder), _one_at_a_time(folder):
        return start_again(folder, [state for state in _some(home, nodes) if not alive(state)])


def down(home: Path, *, wipe: bool = False, say: Say = print) -> bool:
    """Stops the broker that `up` started for `home`, and no other; True when there was one to stop.

    SIGTERM first, SIGKILL after 30 s. `wipe` also deletes all its data. Raises BrokerError when it cannot be stopped.
    """
    folder = _folder(home)
    if not folder.exists():
        say("No broker runs here.")
        return False
    with disk_trouble(folder), _one_at_a_time(folder):
        left = list(_left(folder).values())
        living = [state for state in left if alive(state)]
        if living:
            say(f"Stopping Kafka at {living[0].bootstrap} ({pids(living)}) ...")
            gently = stop(*living)
            say(
                "Stopped."
                if gently
                else f"Killed: it did not end within {STOP_SECONDS:.0f} s. Kafka repairs its log at the next start."
            )
        elif left:
            say(f"The broker with {pids(left)} had died already.")
        else:
            say("No broker runs here.")
        for state in left:
            (node_folder(folder, state.node) / STATE).unlink(missing_ok=True)
        if wipe:
            wipe_data(folder)
            say(f"All data of the broker under {folder} is deleted.")
        return bool(living)


def status(home: Path) -> Status:
    """How the broker of `home` is; starts nothing."""
    folder = _folder(home)
    left = _left(folder)
    nodes = tuple((state, alive(state)) for state in left.values())
    living = [state for state, runs in nodes if runs]
    seen = ask(living[0].bootstrap) if living else None
    data = [where / "data" for where in (folder, *further_nodes(folder))]
    return Status(
        running=bool(living),
        ready=seen is not None,
        state=next(iter(living or left.values()), None),
        cluster_id=seen.cluster_id if seen else cluster_id_of(folder / "data"),
        topics=seen.own_topics if seen else None,
        data_bytes=sum(path.stat().st_blocks * 512 for one in data for path in one.rglob("*") if path.is_file()),
        nodes=nodes,
    )


def _folder(home: Path) -> Path:
    return home.expanduser().resolve() / "broker"


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _left(folder: Path) -> dict[int, BrokerState]:
    """What the state files tell, by node."""
    found = (read_state(where) for where in (folder, *further_nodes(folder)))
    return {state.node: state for state in found if state is not None}


def _some(home: Path, nodes: Sequence[int]) -> list[BrokerState]:
    known = nodes_of(home)
    unknown = sorted(set(nodes) - set(known))
    if unknown:
        raise BrokerError(f"The broker under {_folder(home)} has the nodes {sorted(known)}, not {unknown}.")
    return [known[node] for node in nodes]


def _count(folder: Path, nodes: int | None) -> int:
    """How many nodes to start: those that the data is for. Raises BrokerError when others were asked for."""
    there = size(folder)
    if there and nodes not in (None, there):
        raise BrokerError(
            f"The data under {folder} is of a cluster with {there} node(s), not {nodes}. Keep it: "
            f"`headrace up --nodes {there}`. Or start from nothing: `headrace down --wipe`, then "
            f"`headrace up --nodes {nodes}`."
        )
    return nodes or there or 1


def _join(folder: Path, left: Mapping[int, BrokerState], port: int | None, say: Say) -> BrokerState:
    """Another `up` for a broker that runs; waits, for that one may just be starting. Nodes that died start again."""
    first = left[min(left)]
    if port not in (None, 0, first.port):
        raise BrokerError(
            f"The broker already runs at {first.bootstrap} ({pids(list(left.values()))}), not on port {port}. "
            f"Run `headrace down` first, then `headrace up --port {port}`."
        )
    dead = [state for state in left.values() if not alive(state)]
    for state in dead:
        say(f"Node {state.node} (pid {state.pid}) had died; starting it again on the same data.")
    again = {state.node: state for state in (start_again(folder, dead) if dead else [])}
    states = list({**left, **again}.values())
    await_ready(states, cluster_id_of(folder / "data"))
    say(f"Kafka {first.version} is already running at {first.bootstrap} ({pids(states)}).")
    return states[0]
