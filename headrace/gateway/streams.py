"""Status streams: a payment's or an account's events, over server-sent events or WebSocket, with a resume token.

A token says where a listener stands: the next offset of each partition that matters, joined by dots. What is told is
what webhooks say (`words.told`); `live` marks the end of what was, `closed` says why a stream ends.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import orjson
from aiohttp import WSMsgType, web

from headrace.gateway.hub import ENDING, Hub, Seen, Wanted
from headrace.gateway.metrics import GatewayMetrics
from headrace.gateway.past import Past
from headrace.gateway.words import told
from replay.reader import TopicMissing, Unreachable
from schemas.keys import partition_of

log = logging.getLogger(__name__)
STREAMS_MOST = 500
BEAT_S = 15.0
WRITE_S = 10.0
"""A listener that takes nothing for so long is too slow."""
READY_S = 20.0
TRY_AGAIN = 1013
"""WebSocket's close code for a server that ends a connection which may be opened again."""


class Writer(Protocol):
    """One way to tell a listener."""

    async def send(self, kind: str, token: str, content: Mapping[str, Any]) -> None:
        """One message. Raises ConnectionError, TimeoutError."""

    async def beat(self) -> None:
        """A sign of life."""

    async def close(self, reason: str) -> None:
        """The last message."""


class SseWriter:
    """Server-sent events."""

    def __init__(self, response: web.StreamResponse) -> None:
        self._response = response

    async def _write(self, text: bytes) -> None:
        async with asyncio.timeout(WRITE_S):
            await self._response.write(text)

    async def send(self, kind: str, token: str, content: Mapping[str, Any]) -> None:
        """One event."""
        await self._write(f"id: {token}\nevent: {kind}\ndata: ".encode() + orjson.dumps(content) + b"\n\n")

    async def beat(self) -> None:
        """A comment."""
        await self._write(b": beat\n\n")

    async def close(self, reason: str) -> None:
        """An event `closed`; it has no id, so a resume goes on where the listener is."""
        await self._write(b"event: closed\ndata: " + orjson.dumps({"reason": reason}) + b"\n\n")


class SocketWriter:
    """WebSocket; its own pings are the signs of life."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def _write(self, content: Mapping[str, Any]) -> None:
        async with asyncio.timeout(WRITE_S):
            await self._socket.send_str(orjson.dumps(content).decode())

    async def send(self, kind: str, token: str, content: Mapping[str, Any]) -> None:
        """One message."""
        await self._write({"id": token, "type": kind, **content})

    async def beat(self) -> None:
        """Nothing: the protocol pings."""

    async def close(self, reason: str) -> None:
        """A message, and the closing handshake."""
        await self._write({"type": "closed", "reason": reason})
        await self._socket.close(code=TRY_AGAIN, message=reason.encode())


class Streams:
    """The streams that are open."""

    def __init__(self, hub: Hub, past: Past, metrics: GatewayMetrics, origins: frozenset[str] = frozenset()) -> None:
        self._hub, self._past, self._metrics, self._origins = hub, past, metrics, origins
        self._open = 0

    async def payment(self, request: web.Request) -> web.StreamResponse:
        """GET /payments/{payment_id}/events?debtor=: what was and what comes."""
        debtor = request.query.get("debtor", "")
        if not debtor:
            raise web.HTTPBadRequest(text="a payment is known by its debtor and its id; add ?debtor=ACCOUNT")
        return await self._stream(request, Wanted(debtor, request.match_info["payment_id"]))

    async def account(self, request: web.Request) -> web.StreamResponse:
        """GET /accounts/{account}/events: what comes, or what came since a token."""
        return await self._stream(request, Wanted(request.match_info["account"]))

    async def _stream(self, request: web.Request, wanted: Wanted) -> web.StreamResponse:
        socket = request.headers.get("Upgrade", "").lower() == "websocket"
        if socket or request.path.endswith("/ws"):
            self._check_origin(request)
        if self._open >= STREAMS_MOST:
            raise web.HTTPServiceUnavailable(text=f"{STREAMS_MOST} streams are open; try again later")
        self._open += 1
        try:
            positions = await self._positions()
            state = _State(wanted, positions, _token_of(request))
            if socket or request.path.endswith("/ws"):
                return await self._socket(request, state)
            return await self._sse(request, state)
        finally:
            self._open -= 1
            self._hub.leave()

    async def _positions(self) -> dict[int, int]:
        try:
            return await self._hub.enter(READY_S)
        except TimeoutError:
            raise web.HTTPServiceUnavailable(text="Kafka does not answer; try again later") from None

    def _check_origin(self, request: web.Request) -> None:
        """A page of another site may not read a stream through its visitor's browser."""
        origin = request.headers.get("Origin")
        if origin is not None and origin not in self._origins and origin.partition("://")[2] != request.host:
            raise web.HTTPForbidden(
                text="pages of this origin may not read streams; HEADRACE_GATEWAY_ORIGINS lists those that may"
            )

    async def _sse(self, request: web.Request, state: "_State") -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await self._tell(request, SseWriter(response), state, "sse")
        return response

    async def _socket(self, request: web.Request, state: "_State") -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=BEAT_S, max_msg_size=1_024)
        if not socket.can_prepare(request):
            raise web.HTTPUpgradeRequired(
                text="this path is for WebSocket; without /ws it gives server-sent events"
            ) from None
        await socket.prepare(request)
        telling = asyncio.create_task(self._tell(request, SocketWriter(socket), state, "websocket"))
        hearing = asyncio.create_task(_hear(socket))
        try:
            await asyncio.wait({telling, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, hearing):
                task.cancel()
            await asyncio.gather(telling, hearing, return_exceptions=True)
        return socket

    async def _tell(self, request: web.Request, writer: Writer, state: "_State", kind: str) -> None:
        """Tells what was, then what comes, until somebody ends it."""
        self._metrics.opened(kind)
        reason = "left"
        try:
            reason = await self._run(writer, state)
        except TimeoutError:
            reason = "slow-reader"
            if request.transport is not None:
                request.transport.abort()
        except (Unreachable, TopicMissing) as error:
            log.warning("a stream ended: %s", error)
            reason = "kafka-unreachable"
            with suppress(ConnectionError, TimeoutError):
                await writer.close(reason)
        except ConnectionError:
            reason = "left"
        finally:
            self._metrics.closed(kind, reason)

    async def _run(self, writer: Writer, state: "_State") -> str:
        await self._catch_up(writer, state, state.positions)
        listener, positions = self._hub.listen(state.wanted)
        try:
            await self._catch_up(writer, state, positions)
            await writer.send("live", state.token(), {"events": state.count})
            while True:
                try:
                    async with asyncio.timeout(BEAT_S):
                        seen = await listener.get()
                except TimeoutError:
                    await writer.beat()
                    continue
                if seen is None:
                    break
                await state.send(writer, seen)
        finally:
            self._hub.unlisten(listener)
        reason = listener.closed_for or ENDING
        await writer.close(reason)
        return reason

    async def _catch_up(self, writer: Writer, state: "_State", positions: Mapping[int, int]) -> None:
        """Tells what stands between where the listener is and the positions."""
        span = {n: (at, positions[n]) for n, at in state.stands.items() if at < positions[n]}
        if span:
            async for chunk in self._past.events(state.wanted, span):
                for seen in chunk:
                    await state.send(writer, seen)
            state.stands.update({n: end for n, (_, end) in span.items()})


class _State:
    """Where a listener stands: the next offset by partition that matters."""

    def __init__(self, wanted: Wanted, positions: Mapping[int, int], token: str | None) -> None:
        self.wanted, self.positions = wanted, positions
        self.count = 0
        home = None if wanted.payment_id is None else partition_of(wanted.account, len(positions))
        partitions = sorted(positions) if home is None else [home]
        if token is not None:
            self.stands = _parsed(token, partitions, positions)
        elif home is not None:
            self.stands = {home: 0}
        else:
            self.stands = {n: positions[n] for n in partitions}

    def token(self) -> str:
        """The resume token."""
        return ".".join(str(self.stands[n]) for n in sorted(self.stands))

    async def send(self, writer: Writer, seen: Seen) -> None:
        """Tells an event, which stands behind all that was told of its partition."""
        self.stands[seen.partition] = seen.offset + 1
        self.count += 1
        content = told(seen.event)
        await writer.send(content["type"], self.token(), content)


def _token_of(request: web.Request) -> str | None:
    return request.headers.get("Last-Event-ID") or request.query.get("after") or None


def _parsed(token: str, partitions: list[int], positions: Mapping[int, int]) -> dict[int, int]:
    """A token's offsets by partition. Raises HTTPBadRequest."""
    parts = token.split(".")
    if len(parts) != len(partitions) or not all(p.isascii() and p.isdigit() and len(p) < 20 for p in parts):
        raise web.HTTPBadRequest(text="the resume token is none of this stream's; leave it out to begin anew")
    stands = dict(zip(partitions, map(int, parts), strict=True))
    if any(at > positions[n] for n, at in stands.items()):
        raise web.HTTPBadRequest(text="the resume token is ahead of what is there; leave it out to begin anew")
    return stands


async def _hear(socket: web.WebSocketResponse) -> None:
    """Until the other side leaves; what it says is not listened to."""
    while (await socket.receive()).type not in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}:
        pass
