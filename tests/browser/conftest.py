"""A console in this process, and a Chromium that looks at it."""

import asyncio
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from worlds import a_world

from headrace.console.app import make_app
from headrace.console.board import Board
from headrace.console.views import Views

sys.path.append(str(Path(__file__).parent))

from chromium import Pages, browser


class Console:
    """The real application on a thread of its own, over lists, with a board that the test tells."""

    def __init__(self, world):
        world.starts = lambda topics: dict.fromkeys(world.ends(topics), 0)
        self.world = world
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._port = 0
        self.start()

    def start(self):
        """Starts, on the same port as before; with a board that knows nothing."""
        self._run(self._start())

    async def _start(self):
        @contextmanager
        def source():
            yield self.world

        self._board = Board({"bootstrap": "127.0.0.1:9092", "prefix": "demo-7f3a.", "version": "1"})
        self._runner = web.AppRunner(make_app(self._board, Views(source), "127.0.0.1"), access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    def stop(self):
        """As SIGTERM does."""
        self._run(self._runner.cleanup())

    def close(self):
        """Ends the thread too."""
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def tell(self, part, data):
        """A part was measured."""
        self._loop.call_soon_threadsafe(self._board.tell, part, data)

    def fail(self, part, problem):
        """A part can't be measured."""
        self._loop.call_soon_threadsafe(self._board.fail, part, problem)

    def fine(self, part):
        """It can be measured again."""
        self._loop.call_soon_threadsafe(self._board.fine, part)

    def _run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium of the system."""
    with browser() as found:
        yield found


@pytest.fixture
def open_page(chromium, tmp_path):
    """Opens a page in a browser with an empty profile: `open_page(url, color_scheme=..., viewport=...)`.

    The test fails where the page raised an error, or the policy had to forbid something.
    """
    pages = Pages(chromium, tmp_path)
    yield pages
    pages.close()
    assert pages.wrong == []


@pytest.fixture
def console():
    """A console over a small world of payments."""
    made = Console(a_world())
    yield made
    made.close()
