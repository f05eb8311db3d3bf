"""The local Kafka of a campaign: one node or three, each behind a proxy that workers may be sent through."""

import os
import signal
import sys
from pathlib import Path

from proxy import Proxy

from headrace import broker
from headrace.broker_process import BrokerState, alive


def say(line: str) -> None:
    """What the broker tells, on standard error."""
    print(line, file=sys.stderr, flush=True)


class Kafka:
    """Starts with the object, ends with `close`. `bootstrap` leads straight to it, `proxied` through the proxies."""

    def __init__(self, home: Path, nodes: int = 1) -> None:
        self.home = home
        self.nodes = tuple(range(1, nodes + 1))
        self.proxies = [Proxy() for _ in self.nodes]
        try:
            state = broker.up(home, port=0, say=say, nodes=nodes, advertised=[proxy.port for proxy in self.proxies])
        except BaseException:
            self._close_proxies()
            raise
        self.bootstrap = state.bootstrap
        self.proxied = ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)
        for proxy, one in zip(self.proxies, self.states(), strict=True):
            proxy.lead_to(one.proxied_port)

    def states(self) -> list[BrokerState]:
        """The nodes as they were started last."""
        return list(broker.nodes_of(self.home).values())

    def kill(self, *nodes: int) -> None:
        """SIGKILL; `start` brings them back."""
        broker.kill_node(self.home, *nodes)

    def stop(self, *nodes: int) -> None:
        """A controlled shutdown; `start` brings them back."""
        broker.stop_node(self.home, *nodes)

    def start(self, *nodes: int) -> None:
        """Starts nodes that were ended, on the same data and ports."""
        broker.start_node(self.home, *nodes)

    def freeze(self, *nodes: int) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP, nodes)

    def thaw(self, *nodes: int) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT, nodes)

    def heal(self) -> None:
        """Nothing is wrong any more: all nodes run, all links stand."""
        self.thaw(*self.nodes)
        for proxy in self.proxies:
            proxy.heal()
        dead = [state.node for state in self.states() if not alive(state)]
        if dead:
            self.start(*dead)

    def _signal(self, number: signal.Signals, nodes: tuple[int, ...]) -> None:
        for state in self.states():
            if state.node in nodes and alive(state):
                os.kill(state.pid, number)

    def close(self) -> None:
        """Ends everything."""
        self.thaw(*self.nodes)
        broker.down(self.home, say=say)
        self._close_proxies()

    def _close_proxies(self) -> None:
        for proxy in self.proxies:
            proxy.close()
