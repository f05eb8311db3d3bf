"""`headrace run gateway`: webhooks out, status streams open, until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from headrace.gateway.calls import Caller
from headrace.gateway.dispatch import Dispatch, Held
from headrace.gateway.endpoints import Endpoint, endpoints_of, read_file
from headrace.gateway.hub import Hub
from headrace.gateway.intake import Intake
from headrace.gateway.metrics import GatewayMetrics
from headrace.gateway.past import Past
from headrace.gateway.streams import Streams
from headrace.gateway.web import make_app
from headrace.missing import require_topics
from headrace.settings import Settings, SettingsError
from topologies.topics import ATTEMPTS, DELIVERIES, EVENTS

log = logging.getLogger(__name__)
PORT = 6065
STOP_S = 10.0
"""How long calls under way may take when the gateway stops."""
LOOK_S = 0.2


def run_gateway(settings: Settings) -> int:
    """Runs the gateway until SIGTERM or Ctrl-C; its exit code: 0 after a graceful stop, 1 after a fault.

    Raises SettingsError, NoCluster, MissingTopics and ClusterUnreachable before anything was started.
    """
    endpoints = endpoints_in_force(settings)
    cluster = settings.cluster()
    partitions = require_topics(cluster, [DELIVERIES.name, ATTEMPTS.name, EVENTS.name])[DELIVERIES.name]
    return asyncio.run(_Gateway(settings, endpoints, partitions).run())


def endpoints_in_force(settings: Settings) -> dict[str, Endpoint]:
    """The endpoints of the endpoints file, with their secrets. Raises SettingsError, which never shows a secret."""
    path = settings.endpoints
    if path is None:
        return {}
    try:
        return endpoints_of(read_file(path), allow_loopback=settings.gateway_allow_loopback)
    except OSError as error:
        raise SettingsError(
            f"the endpoints file {path} can't be read: {error.strerror}; set HEADRACE_ENDPOINTS to one that can"
        ) from error
    except ValueError as error:
        raise SettingsError(f"the endpoints file {path} is wrong: {error} Correct it there") from None


class _Gateway:
    """The parts, put together."""

    def __init__(self, settings: Settings, endpoints: dict[str, Endpoint], partitions: int) -> None:
        self._settings, self._endpoints = settings, endpoints
        self._cluster, self._partitions = settings.cluster(), partitions
        self._metrics = GatewayMetrics()

    async def run(self) -> int:
        """Until it is told to stop, or Kafka gives up on it."""
        loop = asyncio.get_running_loop()
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, told.set)
        intake = Intake(
            self._cluster, self._partitions, lambda held: loop.call_soon_threadsafe(self._take, held), self._metrics
        )
        hub, past = Hub(self._cluster, loop), Past(self._cluster)
        streams = Streams(hub, past, self._metrics, frozenset(self._settings.gateway_origins))
        hosts = frozenset(urlsplit(origin).netloc for origin in self._settings.gateway_origins)
        app = make_app(streams, intake, self._metrics, hosts | {self._settings.web_host})
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            port = await self._bind(runner)
            hub.start()
            async with Caller(allow_loopback=self._settings.gateway_allow_loopback) as caller:
                self._dispatch = Dispatch(self._endpoints, caller, intake.answer, intake.current, self._metrics)
                intake.start()
                self._say(port)
                while not told.is_set() and intake.failure is None:
                    await _within(told, LOOK_S)
                await self._dispatch.stop(STOP_S)
            await asyncio.to_thread(intake.stop)
        finally:
            hub.stop()
            past.close()
            await runner.cleanup()
        if intake.failure is not None:
            sys.stderr.write(f"headrace: the gateway stopped: {intake.failure}\n")
            return 1
        return 0

    def _take(self, held: Held) -> None:
        self._dispatch.take(held)

    async def _bind(self, runner: web.AppRunner) -> int:
        settings = self._settings
        port = settings.gateway_port
        if port is None:
            port = PORT if settings.port else 0
        site = web.TCPSite(runner, settings.web_host, port)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                f"the gateway can't listen on {settings.web_host} port {port}: {error.strerror}; "
                "set HEADRACE_GATEWAY_PORT to a free one"
            ) from error
        addresses: list[Any] = runner.addresses
        return int(addresses[0][1])

    def _say(self, port: int) -> None:
        count = len(self._endpoints)
        print(  # noqa: T201  # a program's output
            f"headrace gateway: {count} endpoint{'' if count == 1 else 's'}, pid {os.getpid()}, "
            f"http://{self._settings.web_host}:{port}/metrics",
            flush=True,
        )


async def _within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
