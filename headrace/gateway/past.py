"""Events that were, for a listener that begins or resumes: read from Kafka on a thread, a few at a time."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from headrace.gateway.hub import Seen, Wanted
from replay.reader import Reader
from schemas import codec
from topologies.engine.config import ClusterConfig
from topologies.topics import EVENTS

CHUNK = 200
CHUNKS = 4
"""As many wait for a listener that reads slowly; then reading waits."""
THREADS = 4
"""Reads that may be under way; more wait."""
PATIENCE_S = 30.0
Span = Mapping[int, tuple[int, int]]
"""By partition: from where, and to below which offset."""


class Past:
    """Reads what a listener has missed."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._cluster = cluster
        self._pool = ThreadPoolExecutor(THREADS, "gateway-past")

    def close(self) -> None:
        """Begins no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def events(self, wanted: Wanted, span: Span) -> AsyncIterator[list[Seen]]:
        """What is wanted within the span, each partition in its order. Raises Unreachable, TopicMissing."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[list[Seen] | None] = asyncio.Queue(CHUNKS)
        ended = threading.Event()

        def hand_over(chunk: list[Seen] | None) -> None:
            if not ended.is_set():
                asyncio.run_coroutine_threadsafe(queue.put(chunk), loop).result(PATIENCE_S)

        def read() -> None:
            try:
                for chunk in self._chunks(wanted, span, ended):
                    hand_over(chunk)
            finally:
                hand_over(None)

        reading = loop.run_in_executor(self._pool, read)
        try:
            while (chunk := await queue.get()) is not None:
                yield chunk
            await reading
        finally:
            ended.set()
            while not queue.empty():
                queue.get_nowait()

    def _chunks(self, wanted: Wanted, span: Span, ended: threading.Event) -> Iterator[list[Seen]]:
        decode = codec.decoder(EVENTS.subject)
        words = wanted.words()
        starts = {(EVENTS.name, partition): start for partition, (start, _) in span.items()}
        ends = {(EVENTS.name, partition): end for partition, (_, end) in span.items()}
        found: list[Seen] = []
        with Reader(self._cluster) as reader:
            for place, first in reader.starts([EVENTS.name]).items():
                if place in starts:
                    starts[place] = max(starts[place], first)
            for raw in reader.read(EVENTS.name, ends, starts):
                if ended.is_set():
                    return
                if raw.value is None or words not in raw.value:
                    continue
                try:
                    event = decode(raw.value)
                except codec.Undecodable:
                    continue
                if wanted.means(event):
                    found.append(Seen(raw.partition, raw.offset, event))
                if len(found) >= CHUNK:
                    yield found
                    found = []
        if found:
            yield found
