"""The gateway's web server: status streams, health, metrics. Errors are JSON."""

import ipaddress

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from headrace.gateway.intake import Intake
from headrace.gateway.metrics import GatewayMetrics
from headrace.gateway.streams import Streams

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
METRICS_TYPE = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


def make_app(streams: Streams, intake: Intake, metrics: GatewayMetrics, hosts: frozenset[str]) -> web.Application:
    """The application, for whoever reached it by an address, as localhost, or under one of the `hosts`."""
    app = web.Application(middlewares=[_explained, _guarded(hosts)])
    app.on_response_prepare.append(_secured)

    async def livez(_request: web.Request) -> web.Response:
        ok, detail = intake.alive()
        return web.json_response({"ok": ok, "detail": detail}, status=200 if ok else 503)

    async def readyz(_request: web.Request) -> web.Response:
        ok, detail = intake.alive()
        if ok and not intake.joined:
            ok, detail = False, "joining the group"
        return web.json_response({"ok": ok, "detail": detail}, status=200 if ok else 503)

    async def page(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers=METRICS_TYPE)

    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", page)
    for end in ("", "/ws"):
        app.router.add_get(f"/payments/{{payment_id}}/events{end}", streams.payment, allow_head=False)
        app.router.add_get(f"/accounts/{{account}}/events{end}", streams.account, allow_head=False)
    return app


@web.middleware
async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    """What is refused is told as JSON."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        text = (
            error.text
            if error.text and error.text != f"{error.status}: {error.reason}"
            else f"{error.reason}: {request.path}"
        )
        return web.json_response({"error": text, "status": error.status}, status=error.status)


def _guarded(hosts: frozenset[str]) -> Middleware:
    """Refuses names that nobody gave us: a page may have its name resolve to this machine."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not _is_ours(request.host, hosts):
            raise web.HTTPForbidden(
                text="this gateway has another name; HEADRACE_GATEWAY_ORIGINS lists those it may have"
            )
        return await handler(request)

    return guard


def _is_ours(host: str, hosts: frozenset[str]) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost" or host in hosts or name in hosts:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _secured(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
