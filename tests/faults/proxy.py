"""A TCP proxy for one Kafka node that knows Kafka's frames and fails as networks do.

A frame is 4 bytes of length, then for a request int16 api key, int16 version, int32 correlation id, for a response
int32 correlation id (https://kafka.apache.org/protocol). Nothing is rewritten: the node must advertise the proxy's
port (`broker.up(home, advertised=[proxy.port])`), or clients walk around it. A connection never loses a frame and goes on:
TCP does not either.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Self

QUEUED_FRAMES = 64
PIECES_A_SECOND = 20
LATE_ANSWERS_S = 5.0
"""How long a connection whose client has gone waits for what the node still has to answer."""


class Api(IntEnum):
    """Requests by api key."""

    PRODUCE = 0
    FETCH = 1
    METADATA = 3
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


@dataclass
class Faults:
    """What is wrong with the link at the moment; all zero: nothing."""

    latency_s: float = 0.0
    """Each way."""
    jitter_s: float = 0.0
    """At most so much more, evenly spread; order is kept."""
    bytes_per_s: int = 0
    """Bandwidth of each connection and way."""
    slice_bytes: int = 0
    """The largest piece that is written at once."""
    deaf: bool = False
    """Half-open: what clients send is swallowed. A connection that has lost a frame stays so until it is cut."""
    mute: bool = False
    """Half-open: what the node answers is swallowed."""
    refuse: bool = False
    """New connections are reset."""


class Proxy:
    """Listens on a free port of the loopback interface, in a thread of its own.

    `counts` tells what has fired: "request <api>" by number, "connected", "held", "released", "dropped answer",
    "swallowed", "cut", "refused".
    """

    def __init__(self, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self.faults = Faults()
        self.chance = random.Random(seed)
        self.upstream = 0
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._hold: dict[int, int] = {}
        self._drop: dict[int, int] = {}
        self._loop = asyncio.new_event_loop()
        self.released = asyncio.Event()
        """Set by the next `release`; then there is a new one."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lead_to(self, port: int) -> None:
        """Where new connections go: the node's own port behind the proxy."""
        self.upstream = port

    def set(self, **values: float) -> None:
        """Sets fields of `faults`, for what is sent from now on."""
        unknown = set(values) - {field.name for field in fields(Faults)}
        assert not unknown, unknown
        for name, value in values.items():
            setattr(self.faults, name, value)

    def heal(self) -> None:
        """Nothing is wrong any more: held frames go, connections that have lost a frame are cut."""
        self.faults = Faults()
        self._drop.clear()
        self.release()
        self._call(self._cut(only_lossy=True))

    def cut(self, *, late: bool = False) -> None:
        """Resets all connections. `late`: what clients had sent, held frames too, still gets to the node."""
        self._call(self._cut(late=late))

    def hold(self, api: int, times: int = 1) -> None:
        """The next `times` requests of this kind wait for `release`, and all that follow on their connections."""
        self._hold[int(api)] = times

    def release(self) -> None:
        """Held requests go to the node, also if their client has gone; nothing more is held."""
        self._hold.clear()
        self._call(self._release())

    def drop_answers(self, api: int, times: int = 1) -> None:
        """The next `times` answers to such requests are lost, and all that follow on their connections."""
        self._drop[int(api)] = times

    def wait(self, what: str, count: int = 1, timeout_s: float = 30.0) -> None:
        """Waits until `counts[what]` is at least `count`."""
        with self._changed:
            seen = self._changed.wait_for(lambda: self.counts[what] >= count, timeout_s)
        assert seen, f"{what!r} did not happen {count} times within {timeout_s} s: {dict(self.counts)}"

    def close(self) -> None:
        """Cuts everything and stops listening."""
        if self._loop.is_running():
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def note(self, what: str) -> None:
        """Counts one event."""
        with self._changed:
            self.counts[what] += 1
            self._changed.notify_all()

    def takes(self, wanted: str, api: int | None) -> bool:
        """True when the next frame of this kind is to be held ("hold") or its answer dropped ("drop")."""
        left = self._hold if wanted == "hold" else self._drop
        if api is None or left.get(api, 0) <= 0:
            return False
        left[api] -= 1
        return True

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuse or not self.upstream:
            self.note("refused")
            _reset(writer)
            return
        try:
            node = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            self.note("refused")
            _reset(writer)
            return
        link = _Link(self, (reader, writer), node)
        self._links.add(link)
        self.note("connected")
        try:
            await link.run()
        finally:
            self._links.discard(link)

    async def _cut(self, *, late: bool = False, only_lossy: bool = False) -> None:
        for link in [link for link in self._links if link.lossy or not only_lossy]:
            link.cut(late=late)
            self.note("cut")

    async def _release(self) -> None:
        released, self.released = self.released, asyncio.Event()
        released.set()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


class _Link:
    """One client's connection and the one behind it."""

    def __init__(self, proxy: Proxy, client, node) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_node, self._to_node = node
        self._asked: dict[int, int] = {}
        self._all_answered = asyncio.Event()
        self._gone = False
        self._ways: list[asyncio.Task[None]] = []
        self.lossy = False

    async def run(self) -> None:
        up, down = asyncio.Queue(QUEUED_FRAMES), asyncio.Queue(QUEUED_FRAMES)
        self._ways = [
            asyncio.create_task(way)
            for way in (
                self._read(self._from_client, up, self._request),
                self._read(self._from_node, down, self._answer),
                self._send_up(up),
                self._send_down(down),
            )
        ]
        await asyncio.wait(self._ways[2:], return_when=asyncio.FIRST_COMPLETED)
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)
        _reset(self._to_node) if self.lossy else self._to_node.close()
        self._to_client.close()

    def cut(self, *, late: bool) -> None:
        self._gone = True
        _reset(self._to_client)
        if not late:
            _reset(self._to_node)
            for way in self._ways:
                way.cancel()

    def _request(self, frame: bytes) -> int:
        api, _version, correlation = struct.unpack_from(">hhi", frame, 4)
        self._proxy.note(f"request {api}")
        self._asked[correlation] = api
        self._all_answered.clear()
        return api

    def _answer(self, frame: bytes) -> int | None:
        api = self._asked.pop(struct.unpack_from(">i", frame, 4)[0], None)
        if not self._asked:
            self._all_answered.set()
        return api

    async def _read(self, reader: asyncio.StreamReader, queue: asyncio.Queue, kind) -> None:
        """Whole frames into the queue, with the time at which each may go on; None at the end."""
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readexactly(4)
                frame = head + await reader.readexactly(struct.unpack(">i", head)[0])
                faults = self._proxy.faults
                due = time.monotonic() + faults.latency_s + self._proxy.chance.uniform(0, faults.jitter_s)
                await queue.put((due, kind(frame), frame))
        await queue.put(None)

    async def _send_up(self, queue: asyncio.Queue) -> None:
        deaf = False
        while (item := await queue.get()) is not None:
            due, api, frame = item
            await asyncio.sleep(due - time.monotonic())
            if self._proxy.takes("hold", api):
                released = self._proxy.released
                self._proxy.note("held")
                await released.wait()
                self._proxy.note("released")
            deaf = deaf or self._proxy.faults.deaf
            if deaf:
                self._lose("swallowed")
            else:
                await self._write(self._to_node, frame)
        self._gone = True
        if self._asked and not self.lossy:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), LATE_ANSWERS_S)

    async def _send_down(self, queue: asyncio.Queue) -> None:
        mute = False
        while (item := await queue.get()) is not None:
            due, api, frame = item
            await asyncio.sleep(due - time.monotonic())
            drop = self._proxy.takes("drop", api)
            mute = mute or drop or self._proxy.faults.mute
            if mute:
                self._lose("dropped answer" if drop else "swallowed")
            elif not self._gone:
                with suppress(OSError):
                    await self._write(self._to_client, frame)

    def _lose(self, how: str) -> None:
        self.lossy = True
        self._proxy.note(how)

    async def _write(self, writer: asyncio.StreamWriter, frame: bytes) -> None:
        faults = self._proxy.faults
        paced = max(1, faults.bytes_per_s // PIECES_A_SECOND) if faults.bytes_per_s else len(frame)
        size = min(faults.slice_bytes or len(frame), paced)
        for start in range(0, len(frame), size):
            piece = frame[start : start + size]
            writer.write(piece)
            await writer.drain()
            if faults.bytes_per_s:
                await asyncio.sleep(len(piece) / faults.bytes_per_s)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with RST: what is under way is lost."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
