"""A real HTTP receiver of webhooks on this machine, which does what a test tells it: answer, refuse, hang, vanish."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from standardwebhooks.webhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjU"


class Call(NamedTuple):
    """One request as it came in."""

    id: str
    headers: dict
    body: bytes

    @property
    def content(self):
        return json.loads(self.body)

    @property
    def data(self):
        return self.content["data"]


class Receiver:
    """`behave(call) -> status or (status, headers)`; while `hangs` is set, nothing is answered."""

    def __init__(self, behave=lambda call: 200):
        self.behave = behave
        self.calls = []
        self.answered = []
        self._released = threading.Event()
        self._released.set()
        self._server = None
        self._port = 0
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}/hooks"

    def start(self):
        """Listens, on the port that it had before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                call = Call(self.headers["webhook-id"], dict(self.headers), body)
                receiver.calls.append(call)
                receiver._released.wait(60)
                found = receiver.behave(call)
                status, headers = found if isinstance(found, tuple) else (found, {})
                try:
                    self.send_response(status)
                    for name, value in {"content-length": "0", **headers}.items():
                        self.send_header(name, value)
                    self.end_headers()
                except OSError:
                    return
                receiver.answered.append((call, status))

            def log_message(self, *words):
                pass

        ThreadingHTTPServer.daemon_threads = True
        ThreadingHTTPServer.request_queue_size = 128
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def vanish(self):
        """Nobody listens any more."""
        self._server.shutdown()
        self._server.server_close()

    def hang(self):
        """Answers nothing until `release`."""
        self._released.clear()

    def release(self):
        """Answers what waits, and what comes."""
        self._released.set()

    def close(self):
        self.release()
        self.vanish()

    def told(self):
        """The ids that were answered with success, in that order."""
        return [call.id for call, status in list(self.answered) if 200 <= status < 300]


def verified(call, secret=SECRET):
    """The content of a call whose signature an oracle of ours has verified."""
    return Webhook(secret).verify(call.body, call.headers)
