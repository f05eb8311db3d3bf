"""How the local broker is configured: one node or three, for two cores, on ports of the loopback interface."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from headrace.broker_process import HOST, Place, write_whole
from headrace.jars import BrokerError

PORT = 9092
"""Where the first node listens when not told otherwise; further nodes follow."""
FREE_PORTS = range(15_000, 32_000)

PROPERTIES = """\
# Written by headrace at every start: changes here are lost.
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={listeners},CONTROLLER://{host}:{controller_port}
advertised.listeners={advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}

# Two cores are shared with the workers.
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
log.cleaner.threads=1

# Every record is on {replicas} node(s); a write waits for {in_sync}.
default.replication.factor={replicas}
min.insync.replicas={in_sync}
unclean.leader.election.enable=false
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}

# Topics are made by `headrace topics create`, never by a typing mistake; groups form and dead transactions end at once.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.consumer.min.session.timeout.ms=6000
group.consumer.session.timeout.ms=10000
group.consumer.min.heartbeat.interval.ms=1000
group.consumer.heartbeat.interval.ms=2000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""

QUICKER_FAILOVER = """
# The others take over 6 s after a node was last heard of (Kafka's default: 9 s).
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
"""


def places(nodes: int, port: int | None, kept: Mapping[int, int], advertised: Sequence[int] = ()) -> list[Place]:
    """Ports for nodes 1 to `nodes`.

    `port`: the first node's, the others follow; 0 takes free ones; None takes those `kept` from before by node, else
    9092 and so on. `advertised`: see `headrace.broker.up`.
    """
    clients = [
        kept.get(node, PORT + node - 1) if port is None else port + node - 1 if port else 0
        for node in range(1, nodes + 1)
    ]
    taken = set(clients)
    clients = [client or _free_port(taken) for client in clients]
    return [
        Place(
            node,
            client,
            _free_port(taken),
            _free_port(taken) if advertised else 0,
            advertised[node - 1] if advertised else 0,
        )
        for node, client in enumerate(clients, 1)
    ]


def _free_port(taken: set[int]) -> int:
    """A free port below the range from which the system takes the near ends of connections; adds it to `taken`.

    Within that range a client that keeps trying while the broker is down can meet itself and hold the port.
    """
    for _ in range(100):
        port = FREE_PORTS.start + secrets.randbelow(len(FREE_PORTS))
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            if port not in taken:
                taken.add(port)
                return port
    raise BrokerError("No free port was found. Name one: `headrace up --port 9192`.")


def write_properties(path: Path, place: Place, cluster: Sequence[Place], data: str = "data") -> None:
    """What the node at `place` of `cluster` reads when it starts.

    Paths are relative (a node runs in its folder), so that no folder's name needs escaping.
    """
    listeners, advertised = [f"PLAINTEXT://{HOST}:{place.port}"], [f"PLAINTEXT://{HOST}:{place.port}"]
    if place.proxied_port:
        listeners.append(f"PROXIED://{HOST}:{place.proxied_port}")
        advertised.append(f"PROXIED://{HOST}:{place.advertised_port}")
    text = PROPERTIES.format(
        node=place.node,
        voters=",".join(f"{one.node}@{HOST}:{one.controller_port}" for one in cluster),
        host=HOST,
        controller_port=place.controller_port,
        listeners=",".join(listeners),
        advertised=",".join(advertised),
        data=data,
        replicas=min(3, len(cluster)),
        in_sync=max(1, min(3, len(cluster)) - 1),
    )
    write_whole(path, text + (QUICKER_FAILOVER if len(cluster) > 1 else ""))
