"""A worker process: a real Faust app and worker, with its Kafka clients off and the engine in their place."""

import logging
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import faust
from faust.app.base import BootStrategy

from topologies.engine.config import EngineConfig
from topologies.engine.engine import Engine
from topologies.engine.errors import WorkerStopped
from topologies.engine.observer import Observer
from topologies.engine.web import add_pages
from topologies.plan import Plan

log = logging.getLogger(__name__)
EXIT_FAILED = 1


class NoKafka(BootStrategy):
    """Faust without its own consumer and producer."""

    enable_kafka = False


class PaymentApp(faust.App):
    """A Faust app whose Kafka is the engine's."""

    BootStrategy = NoKafka

    async def on_start(self) -> None:
        """Channels flow from the start: no consumer of Faust's will open them."""
        await super().on_start()
        self.flow_control.resume()


def free_port(host: str) -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def build_app(plan: Plan, config: EngineConfig, observer: Observer, render: Callable[[], bytes]) -> tuple[Any, Engine]:
    """The Faust app of a role, with its engine attached and not started yet."""
    app = PaymentApp(
        f"{config.cluster.prefix}headrace-{plan.role}",
        broker=f"kafka://{config.cluster.bootstrap.split(',')[0]}",  # never connected to: Faust wants a name
        store="memory://",
        web_bind=config.web_host,
        web_host=config.web_host,
        web_port=config.web_port or free_port(config.web_host),
        topic_disable_leader=True,
        autodiscover=False,
        datadir=str(config.home / "faust"),
    )
    engine = Engine(app, plan, config, observer)

    async def start_engine() -> None:
        await app.add_runtime_dependency(engine)

    app.task(start_engine)
    add_pages(app, engine, render)
    return app, engine


def run_worker(
    plan: Plan,
    config: EngineConfig,
    observer: Observer,
    render: Callable[[], bytes],
    say: Callable[[str], None] = print,
) -> int:
    """Runs a worker until it is told to stop; its exit code: 0 after a graceful stop, 1 after a fault.

    `render()` gives the text of /metrics. SIGTERM and SIGINT finish or abort the step under way.
    Raises ClusterUnreachable and WorkerStopped before anything was started.
    """
    app, engine = build_app(plan, config, observer, render)
    engine.prepare()
    say(
        f"headrace {plan.role}: worker {engine.turns.slot.instance}, pid {os.getpid()}, "
        f"http://{config.web_host}:{app.conf.web_port}/metrics"
    )
    worker = faust.Worker(
        app,
        loglevel=logging.getLogger().getEffectiveLevel(),
        redirect_stdouts=False,
        quiet=True,
        override_logging=False,
    )
    try:
        worker.execute_from_commandline()
    except SystemExit as stop:
        if engine.failure is None and stop.code not in (None, 0):
            return int(stop.code) if isinstance(stop.code, int) else EXIT_FAILED
    if engine.failure is not None:
        sys.stderr.write(f"headrace: the worker stopped: {engine.failure}\n")
        return EXIT_FAILED
    return 0


__all__ = ["WorkerStopped", "build_app", "run_worker"]
