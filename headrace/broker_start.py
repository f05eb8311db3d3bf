"""Starting the local broker: free ports, the nodes' processes, and the wait until Kafka answers."""

import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.broker_config import PORT, places, write_properties
from headrace.broker_data import cluster_id_of, format_nodes, hint, need_space, node_folder
from headrace.broker_process import (
    HOST,
    POLL_SECONDS,
    STATE,
    STOP_SECONDS,
    BrokerState,
    Place,
    alive,
    await_end,
    kill,
    log_tail,
    spawn,
)
from headrace.jars import KAFKA_VERSION, BrokerError, classpath
from headrace.jvm import HEAP, HEAP_OF_SEVERAL, command, find_java

READY_SECONDS = 60.0
PROBE_SECONDS = 3.0
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


class Wanted(NamedTuple):
    """What `start` is to start."""

    nodes: int
    port: int | None
    kept: Mapping[int, int]
    """The ports that nodes had before."""
    advertised: Sequence[int] = ()


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


def start(folder: Path, wanted: Wanted, say: Callable[[str], None]) -> list[BrokerState]:
    """All nodes, formatted first where there is no data; returns once each answers and sees the others.

    Raises BrokerError; then none of them runs.
    """
    java = find_java()
    if wanted.port != 0:
        for place in places(*wanted):
            need_free(place.port)
    need_space(folder, wanted.nodes)
    jars = classpath()
    cluster_id = format_nodes(folder, wanted.nodes, command(java, jars, "kafka.tools.StorageTool"), say)
    for tries_left in reversed(range(FREE_PORT_TRIES)):
        cluster = places(*wanted)
        say(f"Starting Kafka {KAFKA_VERSION} at {_bootstrap(cluster)} ...")
        began = time.monotonic()
        for place in cluster:
            write_properties(node_folder(folder, place.node) / "server.properties", place, cluster)
        try:
            states = _run(folder, cluster, _bootstrap(cluster), cluster_id)
        except BaseException as error:  # Ctrl-C too
            for place in cluster:
                (node_folder(folder, place.node) / STATE).unlink(missing_ok=True)
            if not isinstance(error, BrokerError) or not tries_left or "Address already in use" not in str(error):
                raise
            continue  # the free port was taken between choosing and using it
        took = time.monotonic() - began
        say(f"Kafka {KAFKA_VERSION} is ready at {states[0].bootstrap} ({pids(states)}, {took:.1f} s).")
        return states
    raise AssertionError("unreachable: the last try returns or raises")


def start_again(folder: Path, ended: Sequence[BrokerState]) -> list[BrokerState]:
    """Starts nodes of a cluster that ended, on the ports by which the others know them.

    Raises BrokerError; then none of them runs.
    """
    for state in ended:
        need_free(state.port)
    return _run(folder, [state.place for state in ended], ended[0].bootstrap, cluster_id_of(folder / "data"))


def _run(folder: Path, some: Sequence[Place], bootstrap: str, cluster_id: str | None) -> list[BrokerState]:
    """Starts some nodes of the cluster at `bootstrap`; what did not become ready does not stay."""
    heap = HEAP_OF_SEVERAL if "," in bootstrap else HEAP
    words = command(find_java(), classpath(), "kafka.Kafka", "server.properties", heap=heap)
    started: list[BrokerState] = []
    try:
        for place in some:
            started.append(spawn(node_folder(folder, place.node), words, place, bootstrap))  # noqa: PERF401  # one by one, so that each is known
        await_ready(started, cluster_id)
    except BaseException:
        for state in started:
            kill(state, signal.SIGKILL)
        for state in started:
            await_end(state, STOP_SECONDS)
        raise
    return started


def await_ready(states: Sequence[BrokerState], cluster_id: str | None) -> None:
    """Returns when each node answers as the cluster it is and sees the others; an open port is not enough.

    Raises BrokerError with the end of the log.
    """
    deadline = time.monotonic() + READY_SECONDS
    for state in states:
        while not _answers(state, states, cluster_id):
            ended = next((one for one in states if not alive(one)), None)
            if ended is not None:
                raise _not_ready(ended, "ended while it started")
            if time.monotonic() > deadline:
                raise _not_ready(state, f"did not answer within {READY_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)


def _answers(state: BrokerState, states: Sequence[BrokerState], cluster_id: str | None) -> bool:
    seen = ask(state.address, timeout=1.0) if alive(state) and _listens(state.port) else None
    return (
        seen is not None
        and cluster_id in (None, seen.cluster_id)
        and all(one.node in seen.nodes and alive(one) for one in states)
    )


def _not_ready(state: BrokerState, reason: str) -> BrokerError:
    tail = log_tail(state.log)
    return BrokerError(
        f"Kafka at {state.address} {reason}. The end of {state.log}:\n{tail}{hint(state.log.parent, tail)}"
    )


def need_free(port: int) -> None:
    """`port` can be listened on; never another one silently. Raises BrokerError with the ways out."""
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


def pids(states: Sequence[BrokerState]) -> str:
    """Like "pid 7", or "pids 7, 8, 9"."""
    return f"pid{'s' * (len(states) > 1)} {', '.join(str(state.pid) for state in states)}"


def _bootstrap(cluster: Sequence[Place]) -> str:
    return ",".join(f"{HOST}:{place.port}" for place in cluster)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
