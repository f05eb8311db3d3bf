"""Faults that only Kafka's answers make: every error code at every transaction call, on librdkafka's mock cluster."""

import random
import time

from kinds import Kind, Shot
from mock_cluster_cases import mock_cases
from system import System

CASES = 60
"""Of one round; a round with waits in many cases ends earlier."""
SECONDS = 45.0


def client_errors(_system: System | None, chance: random.Random) -> Shot:
    """Some of all cases, chosen by chance. Needs no system."""
    began = time.monotonic()
    done = 0
    for _name, run in mock_cases(chance.randrange(1_000_000), CASES):
        run()
        done += 1
        if time.monotonic() - began > SECONDS:
            break
    return Shot(note=f"{done} cases", count=done)


KINDS = [Kind("client errors", client_errors, 600, of_a_round=CASES, needs_system=False)]
