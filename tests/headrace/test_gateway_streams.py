"""Status streams: who hears what, resume, and what becomes of those who are too slow or too many."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from notified import PARTITIONS, an_event

import headrace.gateway.hub
import headrace.gateway.streams
from headrace.gateway.hub import WAITING_MOST, Hub, Seen, Wanted
from headrace.gateway.main import _Gateway
from headrace.gateway.metrics import GatewayMetrics
from headrace.gateway.streams import Streams
from headrace.gateway.web import make_app
from headrace.settings import Settings, SettingsError
from replay.reader import Unreachable
from schemas.keys import partition_of
from topologies.engine.config import ClusterConfig


class Log:
    """payments.events as lists: what is appended is told to the hub, and can be read again as the past."""

    def __init__(self, hub):
        self.hub = hub
        self.logs = [[] for _ in range(PARTITIONS)]
        self.broken = False
        self.meanwhile = []

    def append(self, *events):
        batch = []
        for event in events:
            n = partition_of(event.debtor, PARTITIONS)
            batch.append(Seen(n, len(self.logs[n]), event))
            self.logs[n].append(event)
        self.hub._publish(batch, self.hub._rests)

    async def events(self, wanted, span):
        if self.broken:
            raise Unreachable("nobody answers")
        for n, (start, end) in span.items():
            found = [Seen(n, at, self.logs[n][at]) for at in range(start, end) if wanted.means(self.logs[n][at])]
            if self.meanwhile:
                self.append(*self.meanwhile.pop(0))
            if found:
                yield found


class Turning:
    joined = True

    def alive(self):
        return True, "turns"


class Gate:
    """A gateway's web server over lists, and a client of it."""

    def __init__(self, log, metrics, url, session):
        self.log, self.metrics, self.url, self.session = log, metrics, url, session

    def count(self, name):
        lines = self.metrics.render().decode().splitlines()
        return float(next((line.rpartition(" ")[2] for line in lines if line.startswith(name)), 0))

    async def until(self, condition):
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what it waits for sets no event
                await asyncio.sleep(0.01)


@asynccontextmanager
async def gate(origins=frozenset()):
    hub = Hub(ClusterConfig("nowhere"), asyncio.get_running_loop())
    log, metrics = Log(hub), GatewayMetrics()
    hub._begin(dict.fromkeys(range(PARTITIONS), 0), 0)
    app = make_app(Streams(hub, log, metrics, origins), Turning(), metrics, frozenset({"pay.example"}))
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session, asyncio.timeout(60):
            yield Gate(log, metrics, f"http://127.0.0.1:{runner.addresses[0][1]}", session)
    finally:
        for listener in hub.listeners():
            listener.close("gateway-stops")
        await runner.cleanup()


async def sse(response):
    found = {}
    while True:
        line = (await response.content.readline()).decode()
        assert line, "the stream ended"
        name, _, value = line.rstrip("\n").partition(": ")
        if not name and found:
            return {**found, "data": json.loads(found["data"])}
        if name:
            found[name] = value


def test_a_listener_hears_what_was_and_what_comes_and_nothing_of_others():
    """A payment is known by debtor and id; an account as either side; repeats are no news."""

    async def run():
        async with gate() as made:
            made.log.append(an_event("p", 1), an_event("q", 1), an_event("p", 1, debtor="bob"))
            async with made.session.get(f"{made.url}/payments/p/events?debtor=alice") as payment:
                assert (await sse(payment))["data"]["data"]["sequence"] == 1
                assert (await sse(payment))["event"] == "live"
                async with made.session.get(f"{made.url}/accounts/bob/events") as account:
                    assert (await sse(account))["data"] == {"events": 0}
                    assert made.count("headrace_streams_open") == 2
                    made.log.append(
                        an_event("q", 2), an_event("p", 2, repeat_intent_id="again"), an_event("p", 3),
                        an_event("x", 4, debtor="carol", creditor="bob"), an_event("y", 5, debtor="bob"),
                    )  # fmt: skip
                    assert (await sse(payment))["data"]["data"]["sequence"] == 3
                    assert [(await sse(account))["data"]["data"]["sequence"] for _ in range(2)] == [4, 5]
            await made.until(lambda: made.count("headrace_streams_open") == 0)

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["sse", "websocket"])
def test_a_token_goes_on_behind_the_last_event_that_was_told(kind):
    """Over both ways, whatever happened meanwhile on any partition."""

    async def read(made, path, count):
        if kind == "sse":
            async with made.session.get(made.url + path) as response:
                return [(one["id"], one["data"]) for one in [await sse(response) for _ in range(count)]]
        async with made.session.ws_connect(made.url + path) as socket:
            return [(one["id"], one) for one in [await socket.receive_json() for _ in range(count)]]

    async def run():
        async with gate() as made:
            [(token, _)] = await read(made, "/accounts/shop/events", 1)
            debtors = ("alice", "bob", "carol", "dan", "eve")
            made.log.append(*(an_event("p", n, debtor=debtor) for n, debtor in enumerate(debtors)))
            seen = []
            for _ in debtors:
                [(token, found)] = await read(made, f"/accounts/shop/events?after={token}", 1)
                seen.append(found["data"]["sequence"])
            assert sorted(seen) == [0, 1, 2, 3, 4]
            [(last, found)] = await read(made, f"/accounts/shop/events?after={token}", 1)
            assert (last, found["events"]) == (token, 0)

    asyncio.run(run())


def test_what_happens_while_the_past_is_read_is_told_once():
    """Before the listener is there, and while it is and the rest of the past is read."""

    async def run():
        async with gate() as made:
            made.log.append(an_event("p", 1))
            made.log.meanwhile = [[an_event("p", 2)], [an_event("p", 3)]]
            async with made.session.get(f"{made.url}/payments/p/events?debtor=alice") as response:
                told = [await sse(response) for _ in range(4)]
                found = [one["data"]["data"]["sequence"] if one["event"] != "live" else "live" for one in told]
                assert found == [1, 2, "live", 3]
                made.log.append(an_event("p", 4))
                assert (await sse(response))["data"]["data"]["sequence"] == 4

    asyncio.run(run())


def test_a_slow_reader_is_closed_with_a_reason():
    """It holds at most so many events of ours, and can go on from its token."""

    async def run():
        async with gate() as made, made.session.get(f"{made.url}/accounts/shop/events") as response:
            await sse(response)
            made.log.append(*(an_event(f"p-{n}") for n in range(WAITING_MOST + 1)))
            closed = await sse(response)
            assert (closed["event"], closed["data"]) == ("closed", {"reason": "slow-reader"})
            await made.until(lambda: made.count('headrace_streams_closed_total{reason="slow-reader"}') == 1)

    asyncio.run(run())


def test_a_reader_that_takes_nothing_at_all_is_cut_off(monkeypatch):
    """Nobody waits for it for longer than a write may take."""
    monkeypatch.setattr(headrace.gateway.streams, "WRITE_S", 0.2)

    async def run():
        async with gate() as made:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(made.url.rpartition(":")[2]), limit=1)
            writer.write(b"GET /accounts/shop/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await made.until(lambda: made.count("headrace_streams_open") == 1 and made.log.hub.listeners())
            reader._transport.pause_reading()

            def more():
                made.log.append(*(an_event(f"p-{n}", creditor="shop", intent_id="i" * 200_000) for n in range(20)))
                return made.count('headrace_streams_closed_total{reason="slow-reader"}')

            await made.until(more)
            assert not made.log.hub.listeners()
            writer.close()

    asyncio.run(run())


def test_a_websocket_that_is_too_slow_gets_a_close_code():
    """1013: try again."""

    async def run():
        async with gate() as made, made.session.ws_connect(f"{made.url}/accounts/shop/events/ws") as socket:
            assert (await socket.receive_json())["type"] == "live"
            made.log.append(*(an_event(f"p-{n}") for n in range(WAITING_MOST + 1)))
            assert await socket.receive_json() == {"type": "closed", "reason": "slow-reader"}
            ended = await socket.receive()
            assert (ended.type, socket.close_code, ended.extra) == (aiohttp.WSMsgType.CLOSE, 1013, "slow-reader")

    asyncio.run(run())


def test_streams_are_bounded(monkeypatch):
    """One too many is told so; when one leaves there is room again."""
    monkeypatch.setattr(headrace.gateway.streams, "STREAMS_MOST", 1)

    async def run():
        async with gate() as made:
            async with made.session.get(f"{made.url}/accounts/shop/events") as first:
                await sse(first)
                async with made.session.get(f"{made.url}/accounts/bob/events") as second:
                    assert (second.status, (await second.json())["error"]) == (
                        503,
                        "1 streams are open; try again later",
                    )
            await made.until(lambda: made.count("headrace_streams_open") == 0)
            async with made.session.get(f"{made.url}/accounts/bob/events") as third:
                assert (await sse(third))["event"] == "live"

    asyncio.run(run())


def test_a_quiet_stream_shows_signs_of_life(monkeypatch):
    """So that nobody between closes it."""
    monkeypatch.setattr(headrace.gateway.streams, "BEAT_S", 0.02)

    async def run():
        async with gate() as made, made.session.get(f"{made.url}/accounts/shop/events") as response:
            await sse(response)
            assert await response.content.readline() == b": beat\n"

    asyncio.run(run())


def test_when_the_past_can_not_be_read_the_stream_ends_with_a_reason():
    """Better than a stream with a hole."""

    async def run():
        async with gate() as made:
            made.log.append(an_event("p"))
            made.log.broken = True
            async with made.session.get(f"{made.url}/payments/p/events?debtor=alice") as response:
                closed = await sse(response)
                assert (closed["event"], closed["data"]["reason"]) == ("closed", "kafka-unreachable")

    asyncio.run(run())


REFUSED = [
    ("/payments/p/events", {}, 400, "add ?debtor="),
    ("/payments/p/events?debtor=", {}, 400, "add ?debtor="),
    ("/payments/p/events?debtor=alice", {"Last-Event-ID": "0.0"}, 400, "none of this stream's"),
    ("/payments/p/events?debtor=alice&after=9", {}, 400, "ahead of what is there"),
    ("/accounts/shop/events?after=-1.0.0.0", {}, 400, "none of this stream's"),
    ("/accounts/shop/events?after=" + "9" * 30, {}, 400, "none of this stream's"),
    ("/accounts/shop/events/ws", {}, 426, "for WebSocket"),
    ("/accounts/shop/events/ws", {"Origin": "https://evil.example"}, 403, "of this origin"),
    ("/accounts/shop/events", {"Host": "evil.example"}, 403, "another name"),
    ("/accounts", {}, 404, "Not Found: /accounts"),
]


@pytest.mark.parametrize(("path", "headers", "status", "says"), REFUSED)
def test_what_is_refused_is_told_as_json(path, headers, status, says):
    """With the way out; nothing is left open."""

    async def run():
        async with gate() as made, made.session.get(made.url + path, headers=headers) as response:
            told = await response.json()
            assert (response.status, told["status"]) == (status, status)
            assert says in told["error"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert made.log.hub._users == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("headers", "open_"),
    [
        ({}, True),
        ({"Origin": "https://pay.example"}, True),
        ({"Origin": "https://pay.example.evil"}, False),
        ({"Origin": "null"}, False),
        ({"Host": "pay.example", "Origin": "https://pay.example"}, True),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, True),
        ({"Host": "localhost:1", "Origin": "http://localhost:2"}, False),
    ],
)
def test_only_pages_of_known_origins_open_a_websocket(headers, open_):
    """A page of another site must not read payments through its visitor's browser."""

    async def run():
        async with gate(frozenset({"https://pay.example"})) as made:
            connecting = made.session.ws_connect(f"{made.url}/accounts/shop/events", headers=headers)
            if not open_:
                with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                    await connecting
                return
            async with connecting as socket:
                assert (await socket.receive_json())["type"] == "live"

    asyncio.run(run())


def test_health_and_metrics_are_served():
    """Also to whoever asks by another known name."""

    async def run():
        async with gate() as made:
            for path in ("/livez", "/readyz"):
                async with made.session.get(made.url + path, headers={"Host": "pay.example"}) as response:
                    assert (await response.json())["ok"] is True
            async with made.session.get(f"{made.url}/metrics") as response:
                assert "headrace_streams_open" in await response.text()

    asyncio.run(run())


def test_reading_ends_when_nobody_listens_any_more(monkeypatch):
    """And begins anew with positions of its own; a batch of the time before is dropped."""
    monkeypatch.setattr(headrace.gateway.hub, "LINGER_S", 0.0)

    async def run():
        hub = Hub(ClusterConfig("nowhere"), asyncio.get_running_loop())
        entering = asyncio.create_task(hub.enter(10))
        await asyncio.sleep(0)
        assert hub._wanted.is_set()
        hub._begin({0: 5}, 0)
        assert await entering == {0: 5}
        hub.leave()
        while hub._wanted.is_set():  # noqa: ASYNC110 - likewise
            await asyncio.sleep(0)
        hub._begin({0: 9}, 0)
        hub._publish([Seen(0, 7, an_event())], 0)
        assert hub._positions == {}
        with pytest.raises(TimeoutError):
            await hub.enter(0.01)
        hub.leave()

    asyncio.run(run())


def test_wanted_words_stand_in_what_is_wanted():
    """What is passed over unread by these words could not have been meant."""
    from schemas import codec

    event = an_event("pay-ä", creditor="läden")
    for wanted in (Wanted("alice", "pay-ä"), Wanted("alice"), Wanted("läden")):
        assert wanted.means(event)
        assert wanted.words() in codec.encode(event)


def test_a_port_that_is_taken_is_named_with_the_way_out():
    """Exit 2, before anything was read or called."""

    async def run():
        async with gate() as made:
            settings = Settings(gateway_port=int(made.url.rpartition(":")[2]))
            runner = web.AppRunner(web.Application())
            await runner.setup()
            with pytest.raises(SettingsError, match="HEADRACE_GATEWAY_PORT"):
                await _Gateway(settings.model_copy(update={"kafka": {"bootstrap.servers": "nowhere"}}), {}, 4)._bind(
                    runner
                )
            await runner.cleanup()

    asyncio.run(run())
