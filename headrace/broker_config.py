"""How the local broker is configured: one node for two cores, on ports of the loopback interface."""

import secrets
import socket
from contextlib import suppress
from pathlib import Path

from headrace.broker_process import HOST, write_whole
from headrace.jars import BrokerError

NODE = 1
FREE_PORTS = range(15_000, 32_000)

PROPERTIES = """\
# Written by headrace at every start: changes here are lost.
process.roles=broker,controller
node.id={node}
controller.quorum.voters={node}@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={data}

# Two cores are shared with the workers.
num.network.threads=2
num.io.threads=4
num.recovery.threads.per.data.dir=2
background.threads=2
log.cleaner.threads=1

# One node.
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1

# Topics are made by `headrace topics create`, never by a typing mistake; groups form and dead transactions end at once.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
"""


def ports(port: int) -> tuple[int, int]:
    """(clients, controller): the port asked for, or a free one; and a free one."""
    client_port = port or _free_port()
    return client_port, _free_port(client_port)


def _free_port(other_than: int = 0) -> int:
    """A free port below the range from which the system takes the near ends of connections.

    Within that range a client that keeps trying while the broker is down can meet itself and hold the port.
    """
    for _ in range(100):
        port = FREE_PORTS.start + secrets.randbelow(len(FREE_PORTS))
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            if port != other_than:
                return port
    raise BrokerError("No free port was found. Name one: `headrace up --port 9192`.")


def write_properties(path: Path, port: int, controller_port: int, data: str) -> None:
    """Paths are relative (the broker runs in its folder), so that no folder's name needs escaping."""
    text = PROPERTIES.format(node=NODE, host=HOST, port=port, controller_port=controller_port, data=data)
    write_whole(path, text)
