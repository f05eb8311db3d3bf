"""Calls of endpoints that answer, refuse, lie, hang and drip: each ends in an outcome, within a bound."""

import asyncio
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from notified import Notified, an_event
from receiver import SECRET
from standardwebhooks.webhooks import Webhook

from headrace.gateway.calls import BODY_BYTES, Caller, Outcome, outcome_of
from headrace.gateway.endpoints import Endpoint
from headrace.gateway.signature import key_of
from headrace.gateway.words import body_of
from schemas.events import PaymentState, Status
from schemas.internal import AttemptAction

DELIVERED, FAILED, SLOW_DOWN, GONE = (
    AttemptAction.DELIVERED, AttemptAction.FAILED, AttemptAction.SLOW_DOWN, AttemptAction.GONE,
)  # fmt: skip
NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)

MEANINGS = [
    (200, None, Outcome(DELIVERED, 200)),
    (204, None, Outcome(DELIVERED, 204)),
    (299, "60", Outcome(DELIVERED, 299)),
    (301, None, Outcome(FAILED, 301, "redirect")),
    (304, None, Outcome(FAILED, 304, "redirect")),
    (400, None, Outcome(FAILED, 400, "status")),
    (410, "5", Outcome(GONE, 410, "gone")),
    (429, None, Outcome(SLOW_DOWN, 429, "slow-down")),
    (429, "7", Outcome(SLOW_DOWN, 429, "slow-down", 7)),
    (500, None, Outcome(FAILED, 500, "status")),
    (502, None, Outcome(SLOW_DOWN, 502, "slow-down")),
    (503, None, Outcome(FAILED, 503, "status")),
    (503, "120", Outcome(SLOW_DOWN, 503, "slow-down", 120)),
    (504, "0", Outcome(SLOW_DOWN, 504, "slow-down", 0)),
    (429, "9" * 5_000, Outcome(SLOW_DOWN, 429, "slow-down", 10_000_000)),
    (429, "-5", Outcome(SLOW_DOWN, 429, "slow-down")),
    (503, "soon", Outcome(FAILED, 503, "status")),
    (503, "٣", Outcome(FAILED, 503, "status")),
    (429, format_datetime(NOW + timedelta(seconds=90), usegmt=True), Outcome(SLOW_DOWN, 429, "slow-down", 90)),
    (429, format_datetime(NOW - timedelta(days=90), usegmt=True), Outcome(SLOW_DOWN, 429, "slow-down", 0)),
    (429, "Fri, 99 Nov 9999 99:99:99 GMT", Outcome(SLOW_DOWN, 429, "slow-down")),
]


@pytest.mark.parametrize(("status", "retry_after", "meant"), MEANINGS)
def test_an_answer_means_what_the_rules_say(status, retry_after, meant):
    """R39: 2xx success, 3xx failure, 410 disables; 429, 502, 504 and Retry-After slow down."""
    assert outcome_of(status, retry_after, NOW) == meant


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate that nobody has signed but itself."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


class Server:
    """A server that says what bytes it is told, after it has read a request."""

    def __init__(self, speak, tls=None):
        self.speak, self.tls = speak, tls
        self.requests = []
        self.connections = 0
        self.ended = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error):
        self.ended.set()
        self.server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                lines = head.split("\r\n")[1:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append((head.partition("\r\n")[0], headers, body))
                await self.speak(self, writer)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()


def says(*pieces, end=False):
    async def speak(server, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end:
            writer.close()

    return speak


async def hangs(server, writer):
    await server.ended.wait()


async def closes(server, writer):
    writer.transport.abort()


async def drips(server, writer):
    """One byte of a header now and then, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not server.ended.is_set():
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def floods(server, writer):
    """A body without end."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    server.sent = 0
    while not server.ended.is_set():
        writer.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        await writer.drain()
        server.sent += 65_536


def delivery(**fields):
    return Notified().tell(an_event(**fields)).due[0]


def call(speak, *, calls=1, tls=None, **more):
    """The outcomes of some calls, one after another, and the server."""

    async def run():
        async with Server(speak, tls) as server, Caller(allow_loopback=True, **more) as caller:
            scheme = "https" if tls else "http"
            endpoint = Endpoint("shop", f"{scheme}://127.0.0.1:{server.port}/hooks?x=1", (key_of(SECRET),))
            return [await caller.call(endpoint, delivery()) for _ in range(calls)], server

    return asyncio.run(run())


OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def test_a_call_is_signed_and_its_body_says_what_happened():
    """An oracle verifies what came in; amounts are whole minor units, and no more is told than the contract says."""
    [outcome], server = call(says(OK))
    assert outcome == Outcome(DELIVERED, 200)
    ((line, headers, body),) = server.requests
    assert line == "POST /hooks?x=1 HTTP/1.1"
    assert (headers["content-type"], headers["user-agent"][:9]) == ("application/json", "headrace/")
    assert "accept-encoding" not in headers
    content = Webhook(SECRET).verify(body, headers)
    assert headers["webhook-id"] == delivery().event_id
    assert content["type"] == "payment.completed"
    assert content["data"]["amount_minor"] == 1_200
    assert set(content["data"]) == {
        "event_id", "payment_id", "intent_id", "sequence", "status", "payment_state", "reason", "debtor", "creditor",
        "amount_minor", "currency", "occurred_at", "deadline_at",
    }  # fmt: skip


def test_the_body_is_the_same_at_each_attempt():
    """R38: only the time and with it the signature change."""
    one = delivery()
    assert body_of(one) == body_of(one._replace(attempt=7, number=9, decided_at=5))
    review = delivery(status=Status.REVIEW, payment_state=PaymentState.REVIEW, deadline_at=1_763_719_200_000_000)
    found = orjson.loads(body_of(review))
    assert (found["type"], found["data"]["payment_state"]) == ("payment.review", "REVIEW")
    assert found["data"]["deadline_at"] == "2025-11-21T10:00:00.000000Z"


def test_a_connection_is_kept_for_the_next_call():
    """A busy endpoint does not pay for a handshake each time."""
    outcomes, server = call(says(OK), calls=5)
    assert (outcomes, server.connections) == ([Outcome(DELIVERED, 200)] * 5, 1)


LIES = [
    (says(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n"), Outcome(FAILED, 500, "status")),
    (says(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"), Outcome(FAILED, 302, "redirect")),
    (says(b"HTTP/1.1 307 Again\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"), Outcome(FAILED, 307, "redirect")),
    (says(b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n"), Outcome(GONE, 410, "gone")),
    (says(b"HTTP/1.1 429 Slow\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n"), Outcome(SLOW_DOWN, 429, "slow-down", 9)),
    (closes, Outcome(FAILED, None, "disconnected")),
    (says(b"HTTP/1.1 200", end=True), Outcome(FAILED, None, "disconnected")),
    (says(b"SSH-2.0-OpenSSH_9.7\r\n\r\n", end=True), Outcome(FAILED, None, "broken-answer")),
    (says(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n", end=True), Outcome(FAILED, None, "broken-answer")),
    (says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", end=True), Outcome(DELIVERED, 200)),
    (says(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc"), Outcome(DELIVERED, 200)),
]  # fmt: skip


@pytest.mark.parametrize(("speak", "meant"), LIES)
def test_whatever_an_endpoint_says_there_is_an_outcome(speak, meant):
    """No redirect is followed, no broken answer raises; a 2xx is success whatever its body does."""
    [outcome], server = call(speak)
    assert outcome == meant
    assert len(server.requests) == 1


@pytest.mark.parametrize("speak", [hangs, drips])
def test_a_call_that_takes_too_long_is_given_up(speak):
    """One bound for all of a call, however busy the other side looks; 15 s by default."""
    [outcome], _ = call(speak, call_s=0.3)
    assert outcome == Outcome(FAILED, None, "timeout")


def test_a_body_without_end_is_not_read_to_its_end():
    """A success it is all the same; some kilobytes are read, and the connection is closed."""
    outcomes, server = call(floods, calls=2)
    assert outcomes == [Outcome(DELIVERED, 200)] * 2
    assert server.connections == 2
    assert server.sent < 100 * BODY_BYTES + 64 * 1_048_576


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate):
    """Nothing is sent over such a connection."""
    [outcome], server = call(says(OK), tls=certificate)
    assert outcome == Outcome(FAILED, None, "tls")
    assert not server.requests


def test_nobody_listening_is_an_outcome():
    """The port is closed."""

    async def run():
        async with Server(hangs) as server:
            port = server.port
        async with Caller(allow_loopback=True) as caller:
            return await caller.call(Endpoint("shop", f"http://127.0.0.1:{port}/", (key_of(SECRET),)), delivery())

    assert asyncio.run(run()) == Outcome(FAILED, None, "no-connection")


def test_no_proxy_of_the_environment_is_asked(monkeypatch):
    """A proxy would connect to what nobody has checked."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    [outcome], _ = call(says(OK))
    assert outcome == Outcome(DELIVERED, 200)
