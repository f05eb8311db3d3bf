"""The worker's pages on Faust's own web server: /metrics, /livez, /readyz."""

import time
from collections.abc import Callable
from typing import Any

from topologies.engine.engine import Engine

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TURNS_WITHIN_S = 60.0


def readiness(engine: Engine) -> tuple[bool, str]:
    """Whether the worker takes its share of the work, and if not, why."""
    if engine.failure is not None:
        return False, f"stopped: {engine.failure}"
    turns = engine.turns
    if turns.paused_for:
        return False, f"paused: {turns.paused_for}"
    if turns.group is None:
        return False, "joining the group"
    if set(turns.group.assigned) != set(turns.partitions):
        return False, "recovering its partitions"
    return True, f"partitions {sorted(turns.partitions)}"


def liveness(engine: Engine) -> tuple[bool, str]:
    """Whether the engine still turns."""
    if engine.failure is not None:
        return False, f"stopped: {engine.failure}"
    idle_s = time.monotonic() - engine.turns.turned_at
    return idle_s < TURNS_WITHIN_S, f"last turn {idle_s:.1f} s ago"


def add_pages(app: Any, engine: Engine, render: Callable[[], bytes]) -> None:
    """Adds the pages to the Faust app."""

    @app.page("/metrics")
    async def metrics(view: Any, _request: Any) -> Any:
        return view.bytes(render(), content_type="text/plain", headers={"X-Content-Type-Options": "nosniff"})

    @app.page("/livez")
    async def livez(view: Any, _request: Any) -> Any:
        ok, detail = liveness(engine)
        return view.json({"ok": ok, "detail": detail}, status=200 if ok else 503)

    @app.page("/readyz")
    async def readyz(view: Any, _request: Any) -> Any:
        ok, detail = readiness(engine)
        return view.json({"ok": ok, "detail": detail}, status=200 if ok else 503)
