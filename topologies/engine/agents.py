"""The plan's agents as Faust agents on in-memory channels: a batch comes in, is decided, is handed on."""

import asyncio
import time
from typing import Any, NamedTuple

import faust

from topologies.engine.crash import crash_point
from topologies.engine.observer import Observer
from topologies.engine.step import Work
from topologies.plan import Agent, Plan


class Errand(NamedTuple):
    """Work on its way through the agents, and who waits for its end."""

    work: Work
    done: asyncio.Future[None]


class Agents:
    """One Faust agent and one channel per agent of the plan."""

    def __init__(self, app: faust.App, plan: Plan, observer: Observer) -> None:
        self._observer = observer
        self._channels = {agent.name: app.channel(maxsize=0) for agent in plan.agents}
        for agent in plan.agents:
            self._carry(app, agent)

    def _carry(self, app: faust.App, agent: Agent) -> None:
        @app.agent(self._channels[agent.name], name=agent.name)
        async def carry_batches(errands: Any) -> None:
            async for errand in errands:
                try:
                    await self._run(errand)
                except Exception as error:  # noqa: BLE001  # a step fails whole, an agent never dies of it
                    if not errand.done.done():
                        errand.done.set_exception(error)

    async def _run(self, errand: Errand) -> None:
        begun = time.perf_counter()
        crash_point(f"in_{errand.work.agent.name}")
        following = errand.work.decide()
        self._observer.agent_time(errand.work.agent.name, time.perf_counter() - begun)
        if following is not None:
            await self._channels[following.agent.name].put(Errand(following, errand.done))
        elif not errand.done.done():
            errand.done.set_result(None)

    async def decide(self, work: Work) -> None:
        """Sends work through the agents and waits for its end; what an agent raises is raised here."""
        done = asyncio.get_running_loop().create_future()
        await self._channels[work.agent.name].put(Errand(work, done))
        await done
