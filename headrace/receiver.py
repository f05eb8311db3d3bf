"""A shop's side of webhooks, as the demo has one: it checks each signature and keeps each id once."""

import hmac
import secrets
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import Self

from headrace.gateway.signature import key_of

BODY_MOST = 65_536
PARTS = ("id", "timestamp", "signature")


class Receiver:
    """Listens on loopback; `secret` is what its endpoint is given. Safe to read from any thread."""

    def __init__(self) -> None:
        self.secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
        self.ids: set[str] = set()
        """Of every webhook that was taken."""
        self.calls = 0
        self.unsigned = 0
        """Calls whose signature was not right; they were refused."""
        self._key = key_of(self.secret)
        self._lock = Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def take(self, webhook_id: str, timestamp: str, signatures: str, body: bytes) -> bool:
        """Whether a call is what its signature says; if so, its id is kept."""
        right = self._key.sign(f"{webhook_id}.{timestamp}.".encode() + body)
        signed = any(hmac.compare_digest(right, one) for one in signatures.split(" "))
        with self._lock:
            self.calls += 1
            if signed:
                self.ids.add(webhook_id)
            else:
                self.unsigned += 1
        return signed

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self.take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(min(int(self.headers.get("content-length") or 0), BODY_MOST))
                webhook_id, timestamp, signatures = (self.headers.get(f"webhook-{name}") or "" for name in PARTS)
                self.send_response(204 if take(webhook_id, timestamp, signatures, body) else 401)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's name
                """Says nothing: the demo counts."""

        return Handler
