"""The web application: one page, its files, and every view as JSON. It answers GET alone, and nobody's name but its own."""

import ipaddress
import logging
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from headrace.cli import common, explain
from headrace.console.board import LAG, LETTERS, Board, NotYet, Stale
from headrace.console.desk import Busy, Desk
from headrace.console.sse import TooManyListeners

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""On every answer. Ids of payments and accounts stand in addresses, so nothing is handed on or kept."""
FILES = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "parts.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "vendor/uPlot.iife.min.js": "text/javascript",
    "vendor/uPlot.min.css": "text/css",
    "vendor/uPlot.LICENSE": "text/plain",
}
"""What the page is made of, and its types."""
ENTRIES_MOST = 1_000
LOG = logging.getLogger("headrace.console")
_NOT_THERE = frozenset({"UnknownPayment", "UnknownAccount", "NoSuchLetter"})


class Asked(Protocol):
    """What answers questions by name: `views.Views`, or a test's own."""

    def payment(self, payment_id: str, debtor: str | None = None) -> dict[str, Any]:
        """A payment's story."""

    def account(self, account: str, as_of: str | None = None, entries: int = ...) -> dict[str, Any]:
        """An account."""

    def letter(self, letter: str) -> dict[str, Any]:
        """A dead letter."""


def make_app(board: Board, views: Asked, host: str) -> web.Application:
    """The application, for whoever reached it under `host` or a loopback name."""
    app = web.Application(middlewares=[_explained, _guarded(host)])
    app.on_response_prepare.append(_secured)
    app.on_shutdown.append(_closing(board))
    pages = _Pages(board, views)
    for path, handler in pages.routes().items():
        app.router.add_get(path, handler, allow_head=False)
    return app


class _Pages:
    """The handlers."""

    def __init__(self, board: Board, views: Asked) -> None:
        self._board, self._views, self._desk = board, views, Desk()
        static = resources.files("headrace.console") / "static"
        self._page = (static / "page.html").read_bytes()
        self._files = {name: (static / name).read_bytes() for name in FILES}

    def routes(self) -> dict[str, Handler]:
        """Path and handler."""
        return {
            "/": self.page,
            "/static/{name:.+}": self.file,
            "/api/live": self.live,
            "/api/rates": self.rates,
            "/api/lag": self.lag,
            "/api/dead-letters": self.dead_letters,
            "/api/dead-letters/{id:.+}": self.letter,
            "/api/payments/{id:.+}": self.payment,
            "/api/accounts/{id:.+}": self.account,
        }

    async def page(self, _request: web.Request) -> web.Response:
        """The one page."""
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def file(self, request: web.Request) -> web.Response:
        """A file of the page."""
        name = request.match_info["name"]
        if name not in self._files:
            raise web.HTTPNotFound
        return web.Response(body=self._files[name], content_type=FILES[name], charset="utf-8")

    async def rates(self, _request: web.Request) -> web.Response:
        """Payments a second by status, now and in the last ten minutes."""
        return _json(self._board.rates())

    async def lag(self, _request: web.Request) -> web.Response:
        """What waits, by group and by partition."""
        return _json(self._board.latest(LAG))

    async def dead_letters(self, _request: web.Request) -> web.Response:
        """Dead letters by topic and code, and the newest."""
        return _json(self._board.latest(LETTERS))

    async def letter(self, request: web.Request) -> web.Response:
        """One dead letter, decoded as far as possible."""
        name = request.match_info["id"]
        return await self._answer(lambda: self._views.letter(name))

    async def payment(self, request: web.Request) -> web.Response:
        """A payment's story."""
        name, debtor = request.match_info["id"], request.query.get("debtor") or None
        return await self._answer(lambda: self._views.payment(name, debtor))

    async def account(self, request: web.Request) -> web.Response:
        """An account, now or as of a moment."""
        name, as_of = request.match_info["id"], request.query.get("as_of") or None
        entries = request.query.get("entries", "20")
        if not (entries.isascii() and entries.isdecimal() and len(entries) < 5 and int(entries) <= ENTRIES_MOST):
            return _error(f"entries is {entries!r}; it must be 0 to {ENTRIES_MOST}", common.USAGE, 400)
        return await self._answer(lambda: self._views.account(name, as_of, int(entries)))

    async def _answer(self, call: Callable[[], dict[str, Any]]) -> web.Response:
        self._board.must_answer()
        return _json(await self._desk.run(call))

    async def live(self, request: web.Request) -> web.StreamResponse:
        """The stream of changes; it begins with the whole state, or with what was missed."""
        transport = request.transport
        assert transport is not None, "a request that is being answered has a connection"
        listener = self._board.hub.listen(request.headers.get("Last-Event-ID"), transport.abort)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        try:
            await response.prepare(request)
            async for frame in listener.frames():
                await response.write(frame)
        except ConnectionError:
            pass  # the page was closed, or cut off
        finally:
            self._board.hub.leave(listener)
        return response


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON, in the words of the command line."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = _error(_WORDS.get(error.status, error.reason), common.USAGE, error.status)
        response.headers.extend({name: value for name, value in error.headers.items() if name == "Allow"})
        return response
    except NotYet as error:
        return _error(str(error), common.UNREACHABLE, 503)
    except (Busy, TooManyListeners) as error:
        return _error(str(error), common.FAILED, 503)
    except Stale as error:
        return _error(*error.problem, _status(error.problem.exit_code))
    except Exception as error:
        explained = explain(error)
        if explained is None:
            LOG.exception("%s failed", request.path)
            return _error("the console itself failed here; its log says how", common.FAILED, 500)
        return _error(*explained, 404 if type(error).__name__ in _NOT_THERE else _status(explained[1]))


_WORDS = {
    404: "there is no such page; the console is at /, its data under /api/",
    405: "the console only reads: GET is all that it answers",
}


def _status(exit_code: int) -> int:
    """The HTTP status for an exit code: wrong usage 400, unreachable 503, a failed check 500."""
    return {common.USAGE: 400, common.UNREACHABLE: 503}.get(exit_code, 500)


def _guarded(host: str) -> Middleware:
    """Refuses who was led here: by a name that somebody else owns (DNS rebinding), or by a foreign page."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not is_ours(request.host, host):
            return _error(
                f"{request.host!r} is no name of this console; open it as http://{host}, or name that host by --host",
                common.USAGE, 403,
            )  # fmt: skip
        if request.path.startswith("/api/") and request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
            return _error("another site may not read this", common.USAGE, 403)
        return await handler(request)

    return guard


def is_ours(asked: str, host: str) -> bool:
    """Whether a Host header names this console, bound to `host`.

    Any address will do where it is bound to all of them: a name can be led elsewhere, an address can't.
    """
    bare = asked.removeprefix("[").split("]")[0] if asked.startswith("[") else asked.rsplit(":", 1)[0]
    if bare.lower() in {"localhost", "127.0.0.1", "::1", host.lower()}:
        return True
    try:
        ipaddress.ip_address(bare)
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


async def _secured(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    response.headers.pop("Server", None)


def _closing(board: Board) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_app: web.Application) -> None:
        board.hub.close()

    return close


def _json(found: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(found, default=_plain), status=status, content_type="application/json", charset="utf-8"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _error(message: str, exit_code: int, status: int) -> web.Response:
    plain = message.encode(errors="backslashreplace").decode()
    return _json({"error": plain, "exit_code": exit_code}, status)
