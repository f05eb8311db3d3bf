"""One reader of payments.events for all who listen; it reads only while somebody does, joins no group, commits nothing."""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from replay.reader import Place, Reader, TopicMissing, Unreachable
from replay.tail import Tail
from schemas import codec
from schemas.events import PaymentEvent
from topologies.engine.config import ClusterConfig
from topologies.topics import EVENTS

log = logging.getLogger(__name__)
WAITING_MOST = 256
"""Events that wait for one listener; with one more it is too slow."""
LINGER_S = 10.0
"""How long reading goes on after the last listener left."""
AGAIN_S = 1.0
SLOW, ENDING = "slow-reader", "gateway-stops"


class Wanted(NamedTuple):
    """What a listener wants: one payment's events, or all of an account, as debtor or creditor."""

    account: str
    """The payment's debtor, where a payment is wanted."""
    payment_id: str | None = None

    def means(self, event: PaymentEvent) -> bool:
        """Whether the event is wanted; what is given again is no news (R19)."""
        if event.repeat_intent_id is not None:
            return False
        if self.payment_id is not None:
            return event.payment_id == self.payment_id and event.debtor == self.account
        return self.account in (event.debtor, event.creditor)

    def words(self) -> bytes:
        """Bytes that stand in every value that is wanted."""
        return (self.account if self.payment_id is None else self.payment_id).encode()


class Seen(NamedTuple):
    """An event where it stood."""

    partition: int
    offset: int
    event: PaymentEvent


class Listener:
    """What waits for one listener. For the event loop's thread."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.closed_for: str | None = None
        self._queue: asyncio.Queue[Seen | None] = asyncio.Queue()

    def put(self, seen: Seen) -> None:
        """One more event; one too many closes it."""
        if self.closed_for is None and self._queue.qsize() >= WAITING_MOST:
            self.close(SLOW)
        if self.closed_for is None:
            self._queue.put_nowait(seen)

    def close(self, reason: str) -> None:
        """Ends it: what waits is dropped, a reader can go on from the last token that it was told."""
        if self.closed_for is None:
            self.closed_for = reason
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(None)

    async def get(self) -> Seen | None:
        """The next event, or None when it is closed."""
        return await self._queue.get()


class Hub:
    """Hands committed events to listeners. All but the thread's own part is for the event loop's thread."""

    def __init__(self, cluster: ClusterConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster, self._loop = cluster, loop
        self._listeners: dict[Wanted, set[Listener]] = {}
        self._users = 0
        self._positions: dict[int, int] = {}
        self._ready = asyncio.Event()
        self._rests = 0
        """How often reading has ended because nobody listened."""
        self._idle: asyncio.TimerHandle | None = None
        self._wanted, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="gateway-events", daemon=True)

    def start(self) -> None:
        """Starts the thread, which waits for the first listener."""
        self._thread.start()

    def stop(self) -> None:
        """Ends all listeners and the thread."""
        for listener in self.listeners():
            listener.close(ENDING)
        self._ending.set()
        self._wanted.set()
        self._thread.join(10.0)

    def listeners(self) -> list[Listener]:
        """All of them."""
        return [one for some in self._listeners.values() for one in some]

    async def enter(self, patience_s: float) -> dict[int, int]:
        """Somebody is about to listen: reading begins, if it has not. Positions by partition: all below was seen.

        `leave` must follow, also where this raises TimeoutError.
        """
        self._users += 1
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        self._wanted.set()
        async with asyncio.timeout(patience_s):
            await self._ready.wait()
        return dict(self._positions)

    def leave(self) -> None:
        """The other end of `enter`."""
        self._users -= 1
        if self._users == 0:
            self._idle = self._loop.call_later(LINGER_S, self._rest)

    def _rest(self) -> None:
        self._rests += 1
        self._wanted.clear()
        self._ready.clear()
        self._positions = {}

    def listen(self, wanted: Wanted) -> tuple[Listener, dict[int, int]]:
        """A listener that gets what comes at or behind the positions."""
        listener = Listener(wanted)
        self._listeners.setdefault(wanted, set()).add(listener)
        return listener, dict(self._positions)

    def unlisten(self, listener: Listener) -> None:
        """It gets nothing more."""
        some = self._listeners.get(listener.wanted, set())
        some.discard(listener)
        if not some:
            self._listeners.pop(listener.wanted, None)

    def _begin(self, positions: Mapping[int, int], number: int) -> None:
        if number != self._rests:
            return
        self._positions = dict(positions)
        self._ready.set()

    def _publish(self, batch: list[Seen], number: int) -> None:
        if number != self._rests:
            return
        for seen in batch:
            self._positions[seen.partition] = seen.offset + 1
            event = seen.event
            if event.repeat_intent_id is not None:
                continue
            names = {Wanted(event.debtor, event.payment_id): 0, Wanted(event.debtor): 0, Wanted(event.creditor): 0}
            for wanted in names:
                for listener in self._listeners.get(wanted, ()):
                    listener.put(seen)

    # -- the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._ending.is_set():
            if self._wanted.wait(1.0):
                self._round()

    def _round(self) -> None:
        """Follows the topic for as long as somebody listens; what breaks goes on where it stood."""
        number, starts = self._rests, dict[Place, int]()
        while self._rests == number and not self._ending.is_set():
            try:
                if not starts:
                    with Reader(self._cluster) as reader:
                        starts = reader.ends([EVENTS.name])
                    self._call(self._begin, {place[1]: offset for place, offset in starts.items()}, number)
                self._follow(starts, number)
            except (Unreachable, TopicMissing) as error:
                log.warning("payments.events can't be followed and is tried again: %s", error)
                self._ending.wait(AGAIN_S)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Runs a function on the event loop's thread, unless that has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _follow(self, starts: dict[Place, int], number: int) -> None:
        decode = codec.decoder(EVENTS.subject)
        with Tail(self._cluster, [EVENTS.name], starts) as tail:
            while self._rests == number and not self._ending.is_set():
                batch = []
                for raw in tail.poll(0.05):
                    starts[EVENTS.name, raw.partition] = raw.offset + 1
                    try:
                        batch.append(Seen(raw.partition, raw.offset, decode(raw.value)))
                    except codec.Undecodable:
                        log.error("payments.events partition %s offset %s can't be read", raw.partition, raw.offset)
                if batch:
                    self._call(self._publish, batch, number)
