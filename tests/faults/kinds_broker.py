"""Faults of Kafka: nodes that are killed, restarted or frozen, alone and among three."""

import random
import time

from kinds import Kind, Shot
from system import System

LOST = (
    "the broker lost|can't be read to|committed offsets (can't be read|stay unstable)|stand at different steps"
    "|the journal ends at step"
)
"""What a single node may do to a commit that is under way (docs/reliability.md): workers must refuse to go on."""


def _some(system: System, chance: random.Random) -> tuple[int, ...]:
    """A node; of three sometimes all but one."""
    nodes = list(system.kafka.nodes)
    count = 2 if len(nodes) > 2 and chance.random() < 0.2 else 1
    return tuple(chance.sample(nodes, count))


def killed(system: System, chance: random.Random) -> Shot:
    """SIGKILL of a node, some seconds without it, the same node again."""
    nodes = _some(system, chance)
    time.sleep(chance.uniform(0.0, 1.0))
    system.kafka.kill(*nodes)
    time.sleep(chance.uniform(0.0, 6.0))
    system.kafka.start(*nodes)
    return Shot(note=f"nodes {nodes}")


def restarted(system: System, chance: random.Random) -> Shot:
    """A controlled shutdown under load, and the same node again."""
    nodes = _some(system, chance)
    time.sleep(chance.uniform(0.0, 1.0))
    system.kafka.stop(*nodes)
    time.sleep(chance.uniform(0.0, 4.0))
    system.kafka.start(*nodes)
    return Shot(note=f"nodes {nodes}")


def frozen(system: System, chance: random.Random) -> Shot:
    """SIGSTOP of a node for up to twice a session, then SIGCONT."""
    nodes = _some(system, chance)
    seconds = chance.choice([chance.uniform(1.0, 5.0), chance.uniform(11.0, 20.0)])
    system.kafka.freeze(*nodes)
    try:
        time.sleep(seconds)
    finally:
        system.kafka.thaw(*nodes)
    return Shot(note=f"nodes {nodes} for {seconds:.1f} s")


KINDS = [
    Kind("broker sigkill, 1 node", killed, 20, may_stop=LOST, a_stop_ends=True, lives_alone=True),
    Kind("broker restart, 1 node", restarted, 10, may_stop=LOST, a_stop_ends=True, lives_alone=True),
    Kind("broker sigstop, 1 node", frozen, 10),
    Kind("broker sigkill, 3 nodes", killed, 20, nodes=3),
    Kind("broker restart, 3 nodes", restarted, 20, nodes=3),
    Kind("broker sigstop, 3 nodes", frozen, 20, nodes=3),
]
