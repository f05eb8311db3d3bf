"""The system under test: workers, steady load and a live reader on one topic prefix of a real Kafka."""

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from cluster import Cluster
from confluent_kafka import KafkaException
from kinds import Kind
from load import Load
from readers import LiveReader, Place
from view import View
from workers import Kill, Worker

PARTITIONS = 4
QUICK = {
    "HEADRACE_RULE__REVIEW_DEADLINE_S": "3",
    "HEADRACE_RULE__STEP_UP_DEADLINE_S": "2",
    "HEADRACE_LIMIT__SESSION_MS": "6000",
    "HEADRACE_LIMIT__TRANSACTION_MS": "6000",
    "HEADRACE_LIMIT__RESTORE_WAIT_S": "12",
    "HEADRACE_LIMIT__MAX_POLL_MS": "24000",
    "HEADRACE_LIMIT__RELEASE_S": "15",
    "HEADRACE_LIMIT__CHECKPOINT_ROWS": "2000",
}
"""Short deadlines, so that steps without any input happen all the time; short patience, so that zombies are soon made;
and checkpoints soon, so that heads of changelogs are deleted."""
NAMED_STORE = re.compile(r"(/\S+/p\d+)\b.*move it away")
MOST_STOPS = 10
"""How often one worker may stop with a reason within one round."""


class Broken(Exception):
    """A promise does not hold; the message is the evidence in short."""


class Stopped(Exception):
    """A worker stopped with a reason that ends the round as it should: it must never go on with these topics."""


class System:
    """Runs from `begin` to `close`, made for a kind of fault and what `fits` it. Worker processes that stop are started again unless they should not run.

    A worker may stop by itself only with a reason that `may_stop` allows; else that is `Broken`.
    """

    def __init__(self, kafka, kind: Kind, folder: Path, seed: object, say: Callable[[str], None]) -> None:
        folder.mkdir(parents=True)
        self.kind = kind
        self.kafka = kafka
        self.folder = folder
        self.say = say
        self.kills: list[Kill] = []
        self.stopped: list[str] = []
        """Reasons with which workers stopped by themselves, in the round under way."""
        self.truncated: list[int] = []
        """The partition, one at most, whose changelog has lost rows because a fault deleted its head."""
        self.may_stop: re.Pattern[str] | None = None
        self.scars: list[str] = []
        """Reasons with which workers may stop because of what earlier rounds did."""
        self.a_stop_ends = False
        self.cluster = Cluster(kafka, folder, PARTITIONS, len(kafka.nodes))
        self._env = QUICK | {"HEADRACE_GROUP_PROTOCOL": kind.protocol}
        if kind.proxied:
            self._env["KAFKA_BOOTSTRAP_SERVERS"] = kafka.proxied
        self.config = self.cluster.config
        self.view = View(self.config)
        self.live = LiveReader(self.config, self.view.places)
        self.load = Load(self.cluster, seed)
        self.workers = {name: Worker(self.cluster, name, **self._env) for name in "ab"}

    def fits(self, kind: Kind) -> bool:
        """Whether rounds of a kind may be made here."""
        return self.kind.system == kind.system

    def begin(self) -> None:
        """Starts workers and load; returns when all partitions are worked on."""
        for worker in self.workers.values():
            worker.start()
        self.load.start()
        self.wait(lambda: all(worker.partitions() for worker in self.workers.values()), 90, "share of every worker")
        self.steady()

    def add(self, name: str, **env: str) -> Worker:
        """A further worker, not started yet."""
        self.workers[name] = Worker(self.cluster, name, **self._env, **env)
        return self.workers[name]

    def drop(self, worker: Worker) -> int:
        """Ends a further worker for good; its exit code."""
        del self.workers[worker.name]
        return worker.terminate()

    def kill(self, worker: Worker, *, lose_store: bool = False) -> None:
        """SIGKILLs a worker, which stays down; how long until its partitions go on will be measured."""
        self.kills.append(worker.kill(lose_store=lose_store))

    def steady(self, timeout_s: float = 90.0) -> None:
        """Waits until every partition is worked on and every partition has taken a step since."""
        self.wait(self._all_worked_on, timeout_s, "worker for every partition")
        since = time.time_ns() // 1000
        self.wait(lambda: self._all_step_after(since), timeout_s, "step on every partition")

    def _all_step_after(self, since: int) -> bool:
        return all(self.live.steps_after(number, since) for number in range(PARTITIONS))

    def _all_worked_on(self) -> bool:
        held = [number for worker in self.workers.values() for number in worker.partitions()]
        return sorted(held) == list(range(PARTITIONS))

    def wait(self, condition: Callable[[], object], timeout_s: float, what: str):
        """Waits for a condition and gives its value, while workers are tended. Raises Broken after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            self.tend()
            if time.monotonic() > deadline:
                raise Broken(f"no {what} within {timeout_s:.0f} s: {self.state()}")
            time.sleep(0.05)
        return value

    def state(self) -> str:
        """What stands where, for evidence."""
        workers = ", ".join(
            f"{worker.name} {'runs' if worker.alive else 'is down'} with {list(worker.partitions())}"
            for worker in self.workers.values()
        )
        return f"workers: {workers}; Kafka: {self.view.unfinished() or 'all done'}"

    def tend(self) -> None:
        """Starts again what stopped. Raises Broken where a worker stopped for no reason that is allowed."""
        if self.load.failure is not None:
            raise self.load.failure
        for worker in self.workers.values():
            if not worker.wanted or worker.alive:
                continue
            code, reason = worker.process.returncode, worker.reason()
            if reason is None or self.may_stop is None or not self.may_stop.search(reason):
                raise Broken(
                    f"worker {worker.name} ended by itself with exit code {code}: {reason or 'no reason given'}"
                )
            self.stopped.append(reason)
            self.say(f"worker {worker.name} stopped with a reason: {reason[:160]}")
            if self.a_stop_ends:
                raise Stopped(reason)
            if sum(reason == other for other in self.stopped) > MOST_STOPS:
                raise Broken(f"worker {worker.name} stops again and again: {reason}")
            self._as_the_reason_says(reason)
            worker.start()

    def _as_the_reason_says(self, reason: str) -> None:
        """A store that the reason names is moved away, for the worker to rebuild."""
        named = NAMED_STORE.search(reason)
        if named is not None and Path(named[1]).exists():
            away = Path(f"{named[1]}.away-{time.monotonic_ns()}")
            Path(named[1]).rename(away)
            self.say(f"moved {named[1]} away to {away.name}")

    def recovered(self, timeout_s: float = 120.0) -> float:
        """Waits until all that was published by now is decided, and every partition goes on; how many seconds that took."""
        began, since = time.monotonic(), time.time_ns() // 1000
        targets = self.view.patiently(lambda: self.view.ends(topics=self.view.inputs))

        def reached() -> bool:
            if not self._all_step_after(since):
                return False
            try:
                committed = self.view.committed()
            except KafkaException:
                return False
            return all(committed[place] >= end for place, end in targets.items())

        self.wait(reached, timeout_s, "decision of what was published before the fault was healed")
        return time.monotonic() - began

    def settle(self, timeout_s: float = 120.0) -> dict[Place, int]:
        """Pauses the load and waits for zero lag and no open transaction, twice with the same ends; the ends."""
        self.load.pause()
        seen: list[dict[Place, int]] = []

        def done() -> bool:
            if self.view.unfinished() is not None:
                seen.clear()
                return False
            seen.append(self.view.patiently(self.view.ends))
            return len(seen) > 1 and seen[-1] == seen[-2] and self.live.has_reached(seen[-1])

        self.wait(done, timeout_s, "zero lag")
        return seen[-1]

    def latencies(self) -> list[tuple[Kill, float]]:
        """For each SIGKILL, how long until one of its partitions took a step again, where one did; forgets them."""
        kills, self.kills = self.kills, []
        found = []
        for kill in kills:
            seen = [
                after[0] for number in kill.partitions if (after := self.live.steps_after(number, int(kill.at * 1e6)))
            ]
            if seen:
                found.append((kill, min(seen) - kill.at))
        return found

    def stop_workers(self) -> None:
        """SIGTERM to all, who must end well."""
        running = [worker for worker in self.workers.values() if worker.alive]
        for worker in running:
            worker.wanted = False
        codes = {worker.name: worker.terminate() for worker in running}
        if any(codes.values()):
            raise Broken(f"exit codes after SIGTERM: {codes}")

    def close(self) -> None:
        """Ends everything, workers first; frozen processes too."""
        with ExitStack() as last_first:
            for close in (self.view.close, self.cluster.close, self.live.close, self.load.close):
                last_first.callback(close)
            for worker in self.workers.values():
                worker.wanted = False
                last_first.callback(worker.end)
