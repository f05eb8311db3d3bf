"""Live updates for many pages at once: server-sent events with ids, and a bounded memory for pages that come back.

A page that comes back says the last id it had (`Last-Event-ID`). What it missed is sent again where the ring still
has it, else the whole state. A page that does not take its events is cut off; it will come back.
"""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

RETRY_MS = 2_000
"""When a browser that lost the stream tries again."""
HEARTBEAT = b": still here\n\n"


@dataclass(frozen=True)
class HubLimits:
    """Bounds of a hub."""

    listeners: int = 32
    """Pages that may listen at once."""
    waiting: int = 64
    """Events that may wait for one page."""
    ring: int = 256
    """Events that are remembered."""
    heartbeat_s: float = 10.0
    """A stream that is silent for so long sends a comment, so that a dead connection is found out."""


class TooManyListeners(Exception):
    """Nobody else may listen now."""


class _Sent(NamedTuple):
    number: int
    frame: bytes


class Listener:
    """One page that listens."""

    def __init__(self, limits: HubLimits, first: list[bytes], cut: Callable[[], object]) -> None:
        """`first` is sent at once; `cut` ends the connection of a page that takes nothing."""
        self._limits = limits
        self._first = first
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(limits.waiting)
        self._cut = cut

    def offer(self, frame: bytes | None) -> bool:
        """Hands on a frame, None for the end; False where the page was cut off because too many wait."""
        try:
            self._waiting.put_nowait(frame)
        except asyncio.QueueFull:
            self._cut()
            return False
        return True

    async def frames(self) -> AsyncIterator[bytes]:
        """What is to be written, until the hub closes."""
        for first in self._first:
            yield first
        while True:
            frame = await self._next()
            if frame is None:
                return
            yield frame

    async def _next(self) -> bytes | None:
        try:
            async with asyncio.timeout(self._limits.heartbeat_s):
                return await self._waiting.get()
        except TimeoutError:
            return HEARTBEAT


class Hub:
    """Sends events to all that listen. Lives on one event loop; none of its methods waits."""

    def __init__(self, state: Callable[[], Any], limits: HubLimits | None = None) -> None:
        """`state` gives all that a page must know which has seen nothing yet."""
        self._state = state
        self._limits = limits or HubLimits()
        self._epoch = secrets.token_hex(4)  # numbers of an earlier console are not ours
        self._number = 0
        self._ring: deque[_Sent] = deque(maxlen=self._limits.ring)
        self._listeners: set[Listener] = set()

    def publish(self, name: str, data: Any) -> None:
        """Sends an event to every page, and remembers it."""
        self._number += 1
        frame = self._frame(name, data)
        self._ring.append(_Sent(self._number, frame))
        self._listeners = {one for one in self._listeners if one.offer(frame)}

    def listen(self, last_id: str | None, cut: Callable[[], object]) -> Listener:
        """A page begins to listen. Raises TooManyListeners."""
        if len(self._listeners) >= self._limits.listeners:
            raise TooManyListeners(
                f"{len(self._listeners)} pages listen already, which is the most; close one and load this one again"
            )
        listener = Listener(self._limits, [b"retry: %d\n\n" % RETRY_MS, *self._missed(last_id)], cut)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """A page is gone."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """Ends every stream."""
        for one in self._listeners:
            one.offer(None)
        self._listeners = set()

    def _missed(self, last_id: str | None) -> list[bytes]:
        epoch, _, number = (last_id or "").partition("-")
        if epoch == self._epoch and number.isascii() and number.isdecimal() and len(number) < 19:
            seen = int(number)
            if self._number - len(self._ring) <= seen <= self._number:
                return [sent.frame for sent in self._ring if sent.number > seen]
        return [self._frame("state", self._state())]

    def _frame(self, name: str, data: Any) -> bytes:
        return b"id: %s-%d\nevent: %s\ndata: %s\n\n" % (
            self._epoch.encode(), self._number, name.encode(), orjson.dumps(data),
        )  # fmt: skip
