"""Faults of processes: kills, stops, frozen workers that come back, workers that come and go, a slot used twice."""

import random
import signal
import time
from collections.abc import Callable

from kinds import FENCED, Kind, Shot
from system import PARTITIONS, System
from workers import Kill, Worker

from topologies.engine.crash import POINTS

ONE_TIME = {"in_restore", "in_revoke", "in_dead_letter"}
"""Points that a worker passes seldom: it dies at the first time."""
MOST_PASSES = 30
DIES_WITHIN_S = 45.0
RESTORE_PAYMENTS = 26_000
"""Payments whose changelog rows fill more than one piece of a restore on every partition."""
POLL_S = 20.0
"""Together with a session longer than a worker may be silent between two polls."""
TAKEN_OVER_S = 60.0
STOPPABLE = [point for point in POINTS if point not in ONE_TIME]


def sigkill(system: System, chance: random.Random) -> Shot:
    """SIGKILL of one worker, sometimes of both, at a random moment."""
    time.sleep(chance.uniform(0.0, 1.5))
    workers = list(system.workers.values())
    chosen = workers if chance.random() < 0.2 else [chance.choice(workers)]
    for worker in chosen:
        system.kill(worker)
    for worker in chosen:
        worker.start()
    return Shot(note=" and ".join(worker.name for worker in chosen))


def sigkill_lost_store(system: System, chance: random.Random) -> Shot:
    """SIGKILL, and the store's folder is gone."""
    worker = _any(system, chance)
    time.sleep(chance.uniform(0.0, 1.0))
    system.kill(worker, lose_store=True)
    worker.start()
    return Shot(note=worker.name)


def at_points(*points: str):
    """SIGKILL of workers by themselves at named points, each at one of its own."""

    def inject(system: System, chance: random.Random) -> Shot:
        names = chance.sample("ab", len(points))
        armed = [_arm(system, system.workers[name], point, chance) for name, point in zip(names, points, strict=True)]
        fired = tuple(point for point, lets_die in zip(points, armed, strict=True) if lets_die())
        return Shot(bool(fired), " and ".join(names), count=len(fired), points=fired)

    return inject


def _arm(system: System, worker: Worker, point: str, chance: random.Random) -> Callable[[], bool]:
    """Starts a worker anew that will die at a point; what is given waits for that and starts it again."""
    if point == "in_restore":
        system.load.burst(RESTORE_PAYMENTS)
        system.recovered()
    held = worker.last_partitions()
    worker.terminate()
    if point == "in_restore":
        worker.lose_store()
    nth = 1 if point in ONE_TIME else chance.randint(1, MOST_PASSES)
    worker.start(HEADRACE_CRASH_AT=f"{point}:{nth}").wanted = False

    def lets_die() -> bool:
        visitor = _visitor(system, worker) if point == "in_revoke" else None
        died = _dies(system, worker)
        if died:
            system.kills.append(Kill(time.time(), worker.last_partitions() or held, point == "in_restore"))
        else:
            worker.kill()
        worker.start()
        if visitor is not None:
            _leave(system, visitor)
        return died

    return lets_die


def _visitor(system: System, worker: Worker) -> Worker:
    """A worker whose coming takes partitions away from `worker`."""
    system.wait(worker.partitions, DIES_WITHIN_S, "partitions of the armed worker")
    return system.add("visitor").start()


def sigterm(system: System, chance: random.Random) -> Shot:
    """SIGTERM at a random moment: the worker must end well, within its time."""
    worker = _any(system, chance)
    time.sleep(chance.uniform(0.0, 1.0))
    code = worker.terminate()
    assert code == 0, f"worker {worker.name} ended with exit code {code} after SIGTERM: {worker.reason()}"
    worker.start()
    return Shot(note=worker.name)


def zombie(system: System, chance: random.Random) -> Shot:
    """SIGSTOP, at a point or anywhere, until session and transaction are over and others work; then SIGCONT."""
    worker = _any(system, chance)
    point = _freeze(system, worker, chance)
    if not worker.frozen:
        return Shot(fired=False, note=f"{worker.name} did not freeze at {point}")
    others = [one for one in system.workers.values() if one is not worker]
    system.wait(
        lambda: sorted(number for one in others for number in one.partitions()) == list(range(PARTITIONS)),
        TAKEN_OVER_S,
        f"taking over from the frozen worker {worker.name}",
    )
    time.sleep(chance.uniform(0.0, POLL_S))
    worker.thaw()
    worker.wanted = True
    _both_again(system)
    return Shot(note=f"{worker.name}, frozen at {point}")


def storm(system: System, chance: random.Random) -> Shot:
    """Two more workers come and go, by SIGTERM or SIGKILL, while the others may be killed too."""
    visitors = []
    for name in ("c", "d"):
        visitors.append(system.add(name).start())
        time.sleep(chance.uniform(0.2, 4.0))
    if chance.random() < 0.5:
        worker = system.workers[chance.choice("ab")]
        system.kill(worker)
        worker.start()
    chance.shuffle(visitors)
    moved = False
    for visitor in visitors:
        time.sleep(chance.uniform(0.0, 3.0))
        moved |= "assigned partitions" in visitor.said()
        if chance.random() < 0.5:
            visitor.kill()
            del system.workers[visitor.name]
        else:
            _leave(system, visitor)
    return Shot(moved)


def twin(system: System, chance: random.Random) -> Shot:
    """A second worker in the same slot, from another home, so that no lock stands in its way."""
    worker = _any(system, chance)
    frozen_at = _freeze(system, worker, chance) if chance.random() < 0.5 else None
    count = sum(name.startswith("twin") for name in system.workers)
    name = f"twin{count}-of-{worker.name}"
    home = system.folder / f"{name}-home"
    other = system.add(name, HEADRACE_INSTANCE=worker.name, HEADRACE_HOME=str(home)).start()
    worker.wanted = other.wanted = False
    if frozen_at is not None:
        time.sleep(chance.uniform(0.5, 12.0))
        worker.thaw()
    pair = (worker, other)
    system.wait(lambda: not all(one.alive for one in pair), 120, f"end of one of two workers in slot {worker.name}")
    time.sleep(chance.uniform(0.0, 2.0))
    reasons = [one.reason() or f"exit code {one.process.returncode}" for one in pair if not one.alive]
    system.stopped += reasons
    for one in pair:
        if one.alive:
            one.terminate()
    del system.workers[name]
    worker.start()
    return Shot(note=f"{worker.name}, frozen at {frozen_at}: {'; '.join(reasons)}"[:200])


def _any(system: System, chance: random.Random) -> Worker:
    return system.workers[chance.choice("ab")]


def _dies(system: System, worker: Worker) -> bool:
    deadline = time.monotonic() + DIES_WITHIN_S
    while worker.alive and time.monotonic() < deadline:
        system.tend()
        time.sleep(0.01)
    return worker.process.poll() == -signal.SIGKILL


def _freeze(system: System, worker: Worker, chance: random.Random) -> str:
    """Freezes a worker anywhere (half of the times), or at a point of a step; where."""
    worker.wanted = False
    if chance.random() < 0.5:
        time.sleep(chance.uniform(0.0, 1.0))
        worker.freeze()
        time.sleep(0.05)
        return "any moment"
    point = f"{chance.choice(STOPPABLE)}:{chance.randint(1, MOST_PASSES)}"
    worker.terminate()
    worker.start(HEADRACE_STOP_AT=point).wanted = False
    deadline = time.monotonic() + DIES_WITHIN_S
    while not worker.frozen and time.monotonic() < deadline:
        system.tend()
        time.sleep(0.01)
    return point


def _both_again(system: System) -> None:
    """Waits until every worker has its share again."""
    system.wait(lambda: all(worker.partitions() for worker in system.workers.values()), 90, "share of every worker")


def _leave(system: System, visitor: Worker) -> None:
    code = system.drop(visitor)
    assert code == 0, f"worker {visitor.name} ended with exit code {code} after SIGTERM: {visitor.reason()}"


ALONE = ("in_restore", "in_revoke")
TOGETHER = [point for point in POINTS if point not in ALONE]
PAIRS = [(point,) for point in ALONE] + [tuple(TOGETHER[n : n + 2]) for n in range(0, len(TOGETHER), 2)]
"""Every point once; two workers die in one round where nothing special must be prepared."""
KINDS = [
    *(Kind(f"sigkill at {' and '.join(points)}", at_points(*points), 10) for points in PAIRS),
    Kind("sigkill", sigkill, 200),
    Kind("sigkill, store lost", sigkill_lost_store, 20),
    Kind("sigterm", sigterm, 50),
    Kind("sigstop, zombie", zombie, 60, may_stop=FENCED),
    Kind("rebalance storm", storm, 100),
    Kind("slot used twice", twin, 30, may_stop=FENCED),
    Kind("sigkill, KIP-848", sigkill, 20, protocol="consumer"),
    Kind("sigstop, zombie, KIP-848", zombie, 20, may_stop=FENCED, protocol="consumer"),
    Kind("rebalance storm, KIP-848", storm, 50, protocol="consumer"),
    Kind("slot used twice, KIP-848", twin, 10, may_stop=FENCED, protocol="consumer"),
]
