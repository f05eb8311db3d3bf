"""The engine: a service of the Faust app, and the only one that talks to Kafka.

The event loop decides; one thread polls and commits; another recovers partitions beside it.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import faust
from mode import Service

from topologies.engine.agents import Agents
from topologies.engine.collector import Collector
from topologies.engine.config import EngineConfig
from topologies.engine.errors import WorkerStopped
from topologies.engine.observer import Observer
from topologies.engine.recovery import Recovered
from topologies.engine.slot import take_slot
from topologies.engine.step import Work
from topologies.engine.turns import Driver, Turns
from topologies.engine.watchdog import Watchdog
from topologies.plan import Plan

log = logging.getLogger(__name__)
Result = TypeVar("Result")


class Threads:
    """The engine's way of waiting: two threads, and the Faust agents."""

    def __init__(self, agents: Agents) -> None:
        self.decide: Callable[[Work], Any] = agents.decide
        self._kafka = ThreadPoolExecutor(1, "kafka")
        self._recovery = ThreadPoolExecutor(1, "recovery")

    def in_kafka(self, call: Callable[[], Result]) -> asyncio.Future[Result]:
        """Runs a call on the polling thread."""
        return asyncio.get_running_loop().run_in_executor(self._kafka, call)

    def beside(self, call: Callable[[], list[Recovered]]) -> asyncio.Future[list[Recovered]]:
        """Starts a recovery on its own thread."""
        return asyncio.get_running_loop().run_in_executor(self._recovery, call)

    @staticmethod
    async def ended(recovering: Any) -> None:
        """Waits for a recovery."""
        await asyncio.wait([recovering])

    def close(self) -> None:
        """Lets the threads go."""
        self._kafka.shutdown(wait=False)
        self._recovery.shutdown(wait=False)


class Engine(Service):
    """One worker's engine. `failure` says why it ended, None after a graceful stop."""

    def __init__(self, app: faust.App, plan: Plan, config: EngineConfig, observer: Observer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.failure: WorkerStopped | None = None
        self._plan = plan
        self._config = config
        self._observer = observer
        self._agents = Agents(app, plan, observer)
        self._finished = asyncio.Event()

    def prepare(self) -> None:
        """Takes the slot and looks at the cluster. Raises WorkerStopped or ClusterUnreachable."""
        config = self._config
        slot = take_slot(config.home, config.cluster.prefix, self._plan.role, config.instance)
        self._threads = Threads(self._agents)
        driver = Driver(self._threads, self._observer, Watchdog(config.limits.watchdog_s))
        self.turns = Turns(self._plan, config, slot, driver)

    @Service.task
    async def _run(self) -> None:
        turns = self.turns
        partitions: tuple[int, ...] = ()
        collector = Collector(time.monotonic)
        try:
            await self._threads.in_kafka(turns.connect)
            while not self.should_stop:
                await turns.turn()
                if partitions != tuple(turns.partitions):
                    partitions = tuple(turns.partitions)
                    collector.collect()
                collector.look(idle=turns.idle)
        except WorkerStopped as reason:
            self._fail(reason)
        except Exception as error:  # whatever it is, the worker must not go on
            log.exception("the engine failed")
            self._fail(WorkerStopped(f"{type(error).__name__}: {error}"))
        finally:
            collector.release()
            await turns.leave()
            self._threads.close()
            self._finished.set()

    def _fail(self, reason: WorkerStopped) -> None:
        log.critical("the worker stops: %s", reason)
        self.failure = reason
        os.kill(os.getpid(), signal.SIGTERM)  # the Faust worker's own way to stop

    async def on_stop(self) -> None:
        """Waits for the step under way."""
        self.turns.stopping = True
        try:
            await asyncio.wait_for(self._finished.wait(), self._config.limits.stop_s)
        except TimeoutError:
            log.error("the step under way did not end within %.0f s", self._config.limits.stop_s)
