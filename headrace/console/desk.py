"""Runs what blocks beside the event loop, a few at a time."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

AT_ONCE = 4
"""Calls that run side by side."""
ASKED = 16
"""Calls that run or wait; the next one is refused."""
Answer = TypeVar("Answer")


class Busy(Exception):
    """Too much was asked already."""


class Desk:
    """Threads of its own, which a console that stops does not wait for."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._asked = 0

    async def run(self, call: Callable[[], Answer]) -> Answer:
        """What `call` returns or raises. Raises Busy."""
        if self._asked >= ASKED:
            raise Busy(f"{self._asked} questions are being answered already, which is the most; try again in a moment")
        self._asked += 1
        try:
            async with self._free:
                return await _beside(call)
        finally:
            self._asked -= 1


def _beside(call: Callable[[], Answer]) -> "asyncio.Future[Answer]":
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def settle(answer: Answer | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)  # type: ignore[arg-type]

    def work() -> None:
        answer, failed = None, None
        try:
            answer = call()
        except Exception as error:  # noqa: BLE001 - it is handed to the one who asked
            failed = error
        try:
            loop.call_soon_threadsafe(settle, answer, failed)
        except RuntimeError:
            return  # the console has stopped meanwhile

    threading.Thread(target=work, name="view", daemon=True).start()
    return future
