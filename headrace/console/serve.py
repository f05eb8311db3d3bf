"""The console's process: its loop, its threads, and how it ends."""

import asyncio
import signal
from collections.abc import Callable, Sequence

from aiohttp import web

from headrace import __version__
from headrace.console.app import make_app
from headrace.console.board import Board
from headrace.console.feed import Feed, Telling
from headrace.console.views import Views
from replay.reader import Reader
from topologies.engine.config import ClusterConfig
from topologies.plan import Plan

CLOSE_S = 3.0
"""How long answers that are under way may take at the end."""


class PortTaken(Exception):
    """The console can't listen there. Exit 2."""


def serve(cluster: ClusterConfig, plans: Sequence[Plan], where: tuple[str, int], say: Callable[[str], object]) -> int:
    """Serves the page at host and port (0: a free one) until SIGTERM or Ctrl-C; says its address. Gives the signal.

    Raises PortTaken.
    """
    return asyncio.run(_serve(cluster, plans, where, say))


async def _serve(
    cluster: ClusterConfig, plans: Sequence[Plan], where: tuple[str, int], say: Callable[[str], object]
) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if not ended.done():
            ended.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    host, port = where
    about = {"bootstrap": cluster.bootstrap, "prefix": cluster.prefix, "version": __version__}
    board, views = Board(about), Views(lambda: Reader(cluster), cluster.prefix)
    runner = web.AppRunner(make_app(board, views, host), access_log=None, shutdown_timeout=CLOSE_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        raise PortTaken(
            f"can't listen at {host} port {port}: {error.strerror}; choose another with --port, or --port 0 for a free one"
        ) from error
    feed = Feed(cluster, plans, Telling(loop.call_soon_threadsafe, board))
    feed.start()
    try:
        say(f"the console is at {_address(runner)}; Ctrl-C ends it")
        return await ended
    finally:
        views.stop.set()
        await runner.cleanup()
        await asyncio.to_thread(feed.stop)


def _address(runner: web.AppRunner) -> str:
    host, port = runner.addresses[0][:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
