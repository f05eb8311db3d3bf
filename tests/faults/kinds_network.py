"""Faults of the network between workers and Kafka, made by the frame proxy. The harness itself looks past it."""

import random
import time

from kinds import Kind, Shot
from proxy import Api, Proxy
from system import System

HELD_S = 25.0
"""How long a request may be held: past every time limit of a transaction."""


def _for_a_while(system: System, seconds: float, **values: float) -> None:
    for proxy in system.kafka.proxies:
        proxy.set(**values)
    time.sleep(seconds)
    _heal(system)


def _heal(system: System) -> None:
    for proxy in system.kafka.proxies:
        proxy.heal()


def slow(system: System, chance: random.Random) -> Shot:
    """Latency, jitter, little bandwidth, small pieces."""
    values = chance.choice(
        [
            {"latency_s": chance.uniform(0.02, 0.4)},
            {"latency_s": 0.05, "jitter_s": chance.uniform(0.05, 0.5)},
            {"bytes_per_s": chance.randint(20_000, 200_000)},
            {"slice_bytes": chance.randint(1, 64), "latency_s": 0.001},
        ]
    )
    _for_a_while(system, chance.uniform(3.0, 12.0), **values)
    return Shot(note=str(values))


def cut(system: System, chance: random.Random) -> Shot:
    """Connections are reset, again and again; sometimes new ones are refused for a time."""
    times = chance.randint(1, 5)
    for _ in range(times):
        for proxy in system.kafka.proxies:
            proxy.cut(late=chance.random() < 0.5)
        time.sleep(chance.uniform(0.0, 1.5))
    if chance.random() < 0.4:
        _for_a_while(system, chance.uniform(1.0, 14.0), refuse=True)
    return Shot(_counted(system, "cut") > 0, f"{times} times")


def half_open(system: System, chance: random.Random) -> Shot:
    """Connections stand, but one side hears nothing any more."""
    way = chance.choice(["deaf", "mute"])
    seconds = chance.choice([chance.uniform(1.0, 5.0), chance.uniform(11.0, 20.0)])
    _for_a_while(system, seconds, **{way: True})
    return Shot(_counted(system, "swallowed") > 0, f"{way} for {seconds:.1f} s")


def held(api: Api):
    """A request that is under way arrives late: after the worker gave up on it, into whatever is then."""

    def inject(system: System, chance: random.Random) -> Shot:
        before = _counted(system, "held")
        for proxy in system.kafka.proxies:
            proxy.hold(api)
        deadline = time.monotonic() + 10
        while _counted(system, "held") == before and time.monotonic() < deadline:
            system.tend()
            time.sleep(0.01)
        fired = _counted(system, "held") > before
        seconds = chance.choice([chance.uniform(0.1, 2.0), chance.uniform(9.0, HELD_S)])
        if chance.random() < 0.5:
            time.sleep(chance.uniform(0.0, 0.2))
            for proxy in system.kafka.proxies:
                proxy.cut(late=True)
        time.sleep(seconds)
        _heal(system)
        return Shot(fired, f"{api.name} for {seconds:.1f} s")

    return inject


def unanswered(system: System, chance: random.Random) -> Shot:
    """The answer to EndTxn is lost: Kafka has committed, the worker does not know."""
    before = _counted(system, "dropped answer")
    for proxy in system.kafka.proxies:
        proxy.drop_answers(Api.END_TXN)
    deadline = time.monotonic() + 10
    while _counted(system, "dropped answer") == before and time.monotonic() < deadline:
        system.tend()
        time.sleep(0.01)
    fired = _counted(system, "dropped answer") > before
    seconds = chance.uniform(0.0, 15.0)
    time.sleep(seconds)
    _heal(system)
    return Shot(fired, f"for {seconds:.1f} s")


def _counted(system: System, what: str) -> int:
    proxies: list[Proxy] = system.kafka.proxies
    return sum(proxy.counts[what] for proxy in proxies)


KINDS = [
    Kind("network slow", slow, 20, proxied=True),
    Kind("network cut", cut, 30, proxied=True),
    Kind("network half-open", half_open, 30, proxied=True),
    Kind("EndTxn held", held(Api.END_TXN), 10, proxied=True),
    Kind("Produce held", held(Api.PRODUCE), 10, proxied=True),
    Kind("EndTxn unanswered", unanswered, 10, proxied=True),
]
