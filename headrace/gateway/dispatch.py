"""Who is called when: a lane for each endpoint, so that a dead one keeps nobody waiting but itself."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from headrace.gateway.calls import Outcome
from headrace.gateway.endpoints import Endpoint
from headrace.gateway.metrics import GatewayMetrics
from schemas.internal import AttemptAction, Delivery, DeliveryState

log = logging.getLogger(__name__)
AT_ONCE = 16
"""Calls of one endpoint that may be under way."""
NOBODY = Outcome(AttemptAction.FAILED, None, "endpoint-unknown")


class Held(NamedTuple):
    """A delivery that was read and is not answered yet."""

    partition: int
    offset: int
    epoch: int
    """Counts assignments of partitions: what was read under an earlier one is somebody else's now."""
    delivery: Delivery


class Calls(Protocol):
    """What makes a call: `calls.Caller`."""

    async def call(self, endpoint: Endpoint, delivery: Delivery) -> Outcome:
        """Sends one delivery."""


@dataclass
class _Lane:
    """What waits for one endpoint, and how many calls of it are under way."""

    endpoint: Endpoint | None
    waiting: deque[Held] = field(default_factory=deque)
    running: set[asyncio.Task[None]] = field(default_factory=set)


class Dispatch:
    """Calls endpoints for the deliveries that it takes, each in its lane; `answer` is told what became of each.

    `answer(held, None)`: there is nothing to be said. `current(held)`: whether a delivery is still ours.
    """

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        calls: Calls,
        answer: Callable[[Held, Outcome | None], None],
        current: Callable[[Held], bool],
        metrics: GatewayMetrics,
    ) -> None:
        self._lanes = {name: _Lane(endpoint) for name, endpoint in endpoints.items()}
        self._calls, self._answer, self._current, self._metrics = calls, answer, current, metrics
        self._stopping = False

    def take(self, held: Held) -> None:
        """A delivery that was read; within the event loop."""
        delivery = held.delivery
        if delivery.state != DeliveryState.DUE:
            if delivery.state == DeliveryState.PARKED:
                self._metrics.parked(delivery.endpoint, delivery.parked_for or "")
            self._answer(held, None)
            return
        lane = self._lanes.get(delivery.endpoint)
        if lane is None or lane.endpoint is None:
            log.warning("the endpoint %s is not in the gateway's endpoints file", delivery.endpoint)
            self._answer(held, NOBODY)
            return
        lane.waiting.append(held)
        self._pending(lane)
        self._go_on(lane)

    def _go_on(self, lane: _Lane) -> None:
        while lane.waiting and len(lane.running) < AT_ONCE and not self._stopping:
            task = asyncio.create_task(self._work(lane, lane.waiting.popleft()))
            lane.running.add(task)
            task.add_done_callback(lambda done: self._done(lane, done))

    def _done(self, lane: _Lane, task: "asyncio.Task[None]") -> None:
        lane.running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a call failed in a way that nobody thought of", exc_info=error)
        self._pending(lane)
        self._go_on(lane)

    def _pending(self, lane: _Lane) -> None:
        assert lane.endpoint is not None
        self._metrics.pending(lane.endpoint.name, len(lane.waiting) + len(lane.running))

    async def _work(self, lane: _Lane, held: Held) -> None:
        assert lane.endpoint is not None
        if not self._current(held):
            return
        begun = time.monotonic()
        try:
            outcome = await self._calls.call(lane.endpoint, held.delivery)
        except Exception:
            self._answer(held, Outcome(AttemptAction.FAILED, None, "unexpected"))
            raise
        word = outcome.reason or "delivered"
        self._metrics.attempt(lane.endpoint.name, word, time.monotonic() - begun)
        self._answer(held, outcome)

    async def stop(self, patience_s: float) -> None:
        """Begins no more calls, and waits for those that are under way; what is not answered is sent again."""
        self._stopping = True
        tasks = [task for lane in self._lanes.values() for task in lane.running]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
