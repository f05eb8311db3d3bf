"""The proxy fails as it is told, and only so: held against a server that answers each frame with its own bytes."""

import socket
import socketserver
import struct
import sys
import threading
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from proxy import Api, Proxy  # the fault scripts are no package


class Echo(socketserver.BaseRequestHandler):
    """Answers a request with its correlation id and body; keeps the bodies in order of arrival."""

    def handle(self):
        try:
            while (frame := read_frame(self.request)) is not None:
                body = frame[8:]
                self.server.arrived.append(body)
                self.request.sendall(struct.pack(">i", 4 + len(body)) + frame[4:8] + body)
        except OSError:
            """The connection was cut."""


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data


def read_frame(connection):
    head = read_exactly(connection, 4)
    return None if head is None else read_exactly(connection, struct.unpack(">i", head)[0])


class Client:
    """One connection through the proxy."""

    def __init__(self, port):
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.count = 0

    def send(self, api, body=b"x"):
        self.count += 1
        self.connection.sendall(struct.pack(">ihhi", 8 + len(body), api, 0, self.count) + body)

    def answer(self):
        """The body of the next answer; None at the end of the connection."""
        frame = read_frame(self.connection)
        return None if frame is None else frame[4:]

    def ask(self, api, body=b"x"):
        self.send(api, body)
        return self.answer()


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Echo)
        self.arrived = []


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def proxy(server):
    with Proxy(seed=1) as made:
        made.lead_to(server.server_address[1])
        yield made


@pytest.fixture
def client(proxy):
    made = []

    def connect():
        made.append(Client(proxy.port))
        return made[-1]

    yield connect
    for one in made:
        one.connection.close()


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_healthy_link_changes_no_byte(proxy, client):
    """Small and large frames, many at once, in their order; each request is counted by its api key."""
    one = client()
    bodies = [bytes([number]) * size for number, size in enumerate((1, 10, 100_000, 3, 1_000_000))]
    for body in bodies:
        one.send(Api.PRODUCE, body)
    assert [one.answer() for _ in bodies] == bodies
    assert one.ask(Api.END_TXN, b"end") == b"end"
    assert (proxy.counts["request 0"], proxy.counts["request 26"]) == (5, 1)


def test_a_held_kind_waits_and_others_go_on(server, proxy, client):
    """Only the connection of the held request stands still; released, everything arrives in its order."""
    proxy.hold(Api.END_TXN)
    one, other = client(), client()
    one.send(Api.END_TXN, b"held")
    one.send(Api.PRODUCE, b"behind")
    proxy.wait("held")
    assert other.ask(Api.PRODUCE, b"free") == b"free"
    assert other.ask(Api.END_TXN, b"second") == b"second"
    assert server.arrived == [b"free", b"second"]
    proxy.release()
    assert [one.answer(), one.answer()] == [b"held", b"behind"]
    assert server.arrived == [b"free", b"second", b"held", b"behind"]


def test_a_held_request_arrives_after_its_client_has_gone(server, proxy, client):
    """The client gives up and asks anew; the network delivers the old request all the same, later."""
    proxy.hold(Api.END_TXN)
    one = client()
    one.send(Api.END_TXN, b"old")
    proxy.wait("held")
    one.connection.close()
    assert client().ask(Api.END_TXN, b"new") == b"new"
    proxy.release()
    until(lambda: server.arrived == [b"new", b"old"])


def test_a_late_cut_resets_the_client_and_delivers_what_was_held(server, proxy, client):
    """The client learns at once, the node gets the request after the next one."""
    proxy.hold(Api.PRODUCE)
    one = client()
    one.send(Api.PRODUCE, b"old")
    proxy.wait("held")
    proxy.cut(late=True)
    with pytest.raises(ConnectionResetError):
        one.answer()
    assert client().ask(Api.PRODUCE, b"new") == b"new"
    proxy.release()
    until(lambda: server.arrived == [b"new", b"old"])


def test_a_cut_resets_every_connection_and_loses_what_is_held(server, proxy, client):
    """New connections work at once."""
    proxy.hold(Api.PRODUCE)
    one, other = client(), client()
    assert other.ask(Api.FETCH) == b"x"
    one.send(Api.PRODUCE, b"lost")
    proxy.wait("held")
    proxy.cut()
    for each in (one, other):
        with pytest.raises(ConnectionResetError):
            each.answer()
    proxy.release()
    assert proxy.counts["cut"] == 2
    assert client().ask(Api.PRODUCE, b"new") == b"new"
    assert server.arrived == [b"x", b"new"]


def test_a_dropped_answer_is_done_and_never_seen(server, proxy, client):
    """The node has decided; the client hears nothing more on this connection, another one works."""
    proxy.drop_answers(Api.END_TXN)
    one = client()
    assert one.ask(Api.PRODUCE, b"seen") == b"seen"
    one.send(Api.END_TXN, b"done")
    proxy.wait("dropped answer")
    assert server.arrived == [b"seen", b"done"]
    one.send(Api.PRODUCE, b"after")
    proxy.wait("swallowed")
    assert client().ask(Api.END_TXN, b"again") == b"again"
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        one.answer()


@pytest.mark.parametrize(("way", "arrives"), [("deaf", []), ("mute", [b"half"])])
def test_a_half_open_connection_swallows_one_way_for_good(server, proxy, client, way, arrives):
    """Also when the fault is over: a connection that has lost a frame never goes on."""
    one = client()
    proxy.set(**{way: True})
    one.send(Api.FETCH, b"half")
    proxy.wait("swallowed")
    proxy.set(**{way: False})
    one.send(Api.FETCH, b"half")
    proxy.wait("swallowed", 2)
    assert server.arrived == arrives * 2
    proxy.heal()
    with pytest.raises(ConnectionResetError):
        one.answer()
    assert client().ask(Api.FETCH, b"whole") == b"whole"


def test_latency_is_added_each_way_and_frames_fly_together(proxy, client):
    """Ten requests at once take one round trip, not ten."""
    one = client()
    proxy.set(latency_s=0.2, jitter_s=0.05)
    began = time.monotonic()
    for number in range(10):
        one.send(Api.PRODUCE, bytes([number]))
    assert [one.answer() for _ in range(10)] == [bytes([number]) for number in range(10)]
    assert time.monotonic() - began >= 0.4
    proxy.heal()
    assert one.ask(Api.PRODUCE) == b"x"


def test_bandwidth_and_slices_keep_every_byte(proxy, client):
    """40 kB at 200 kB/s take 0.2 s each way, in pieces of 100 bytes or fewer."""
    one = client()
    body = bytes(range(256)) * 160
    proxy.set(bytes_per_s=200_000, slice_bytes=1_000)
    began = time.monotonic()
    assert one.ask(Api.PRODUCE, body) == body
    assert time.monotonic() - began >= 0.4


def test_refused_connections_are_reset_until_healed(proxy, client):
    """A client that tries gets a reset, and gets through afterwards."""
    proxy.set(refuse=True)
    with pytest.raises(ConnectionResetError):
        client().ask(Api.METADATA)
    assert proxy.counts["refused"] == 1
    proxy.heal()
    assert client().ask(Api.METADATA) == b"x"


def test_a_node_that_is_gone_resets_its_clients(proxy, client):
    """No node behind: the proxy does as a closed port does."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        proxy.lead_to(nobody.getsockname()[1])
    with pytest.raises(ConnectionResetError):
        client().ask(Api.METADATA)


def test_what_never_fired_is_told(proxy):
    """A run whose fault did not happen proves nothing."""
    with pytest.raises(AssertionError, match=r"'held' did not happen 1 times within 0.05 s"):
        proxy.wait("held", timeout_s=0.05)


def test_unknown_faults_are_refused(proxy):
    """A misspelt fault would be one that never fires."""
    with pytest.raises(AssertionError, match="latency"):
        proxy.set(latency=1)
