"""Faults of the wall clock: it jumps, forth and back, and workers do not agree on the time."""

import random
import time

from kinds import Kind, Shot
from system import System

HOUR_S = 3_600
SINCE_1970_S = 2_000_000_000
"""More than the seconds since 1970: such a clock stands still at its beginning."""
JUMPS_S = (HOUR_S, -HOUR_S, 60, -60, -SINCE_1970_S)


def jumps(system: System, chance: random.Random) -> Shot:
    """One worker's clock, or both by different times: a jump, or many in a row; then the right time again."""
    workers = chance.sample(list(system.workers.values()), chance.choice((1, 2)))
    strobe = chance.random() < 0.5
    told = []
    for _ in range(20 if strobe else 1):
        for worker in workers:
            jump = chance.choice(JUMPS_S)
            worker.set_clock(jump)
            told.append(f"{worker.name} {jump:+}")
        time.sleep(0.1 if strobe else chance.uniform(1.0, 3.0))
    if chance.random() < 0.5:
        system.kill(workers[0])
        workers[0].start()
    for worker in workers:
        worker.set_clock(0)
    return Shot(note=f"{len(told)} jumps, first {told[0]} s")


KINDS = [Kind("clock jumps", jumps, 40, lives_alone=True)]
