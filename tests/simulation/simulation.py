"""One run of a story: real workers on a simulated Kafka, faults, healing, and the last word of all checks."""

import hashlib
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from confluent_kafka import KafkaException
from final import judge_end
from hooks import Clock, hooked
from processes import Killed, Process, Quiet, drive
from stories import BUSY_S, RULES, START, Fault, Story, home_of
from watcher import Watcher

from topologies.engine.admin import needed_topics
from topologies.engine.config import ClusterConfig, EngineConfig
from topologies.engine.errors import StoreAhead, TornPartition, WorkerStopped
from topologies.engine.limits import Limits
from topologies.engine.memory.admin import MemoryClients
from topologies.engine.memory.broker import Broker
from topologies.engine.memory.host import Trouble
from topologies.engine.memory.log import Record
from topologies.engine.memory.store import Disk, MemoryStores
from topologies.engine.memory.timeline import Timeline
from topologies.engine.seams import Seams
from topologies.engine.slot import Slot
from topologies.engine.turns import Driver, Turns
from topologies.payments import CORE, PLANS

HOME = Path("/simulated")
HEAL_S = 40.0
"""After the faults, all must be quiet within so much virtual time."""
MOST_EVENTS = 60_000
OUR_TOPICS = tuple(topic.name for topic in needed_topics(PLANS.values()))
FORBIDDEN = (TornPartition, StoreAhead)
"""Stops of a worker that say that Kafka's or its own books are torn."""


@dataclass
class Result:
    """What came of a story."""

    story: Story
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    trace: str = ""
    """A hash of all that happened, in order."""
    lines: list[str] = field(default_factory=list)
    """All that happened, where it was asked for."""

    @property
    def void(self) -> bool:
        """Whether it proves nothing: no fault struck, or nothing was committed."""
        return not self.counts["faults"] or not self.counts["committed"]


class Machine:
    """A place for one worker: its slot's disk, and the life that runs there."""

    def __init__(self, name: str, instance: str) -> None:
        self.name = name
        self.instance = instance
        self.disk = Disk()
        self.backup: Disk | None = None
        self.process: Process | None = None
        self.lives = 0
        self.wanted = True


class Simulation:
    """Runs one story of the workers of one role."""

    plan = CORE
    rules = RULES

    def __init__(self, story: Story, *, tell: bool = False) -> None:
        self.story = story
        self.result = Result(story)
        self.rng = Random(story.seed * 7919 + 1)
        self.timeline = Timeline()
        self.broker = Broker(self.timeline, dict.fromkeys(OUR_TOPICS, story.partitions), self._marker_delay)
        self.group = f"headrace.{self.plan.role}"
        if story.protocol == "consumer":
            self.broker.reconciling(self.group)
        self.watcher = Watcher(self.broker, story.partitions, self.group)
        self.healed = False
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._faults = {(fault.call, fault.nth): fault for fault in story.faults}
        self._hash = hashlib.blake2b(digest_size=16)
        self.back_us = 0
        self.machines = [Machine(f"w{n}", f"w{n}") for n in range(story.workers)]

    # -- the world -------------------------------------------------------------------------------

    def run(self) -> Result:
        """The whole story; the result holds the violations."""
        with hooked(self):
            return self._run()

    def _run(self) -> Result:
        for machine in self.machines:
            self.timeline.later(self.rng.random() * 0.3, lambda machine=machine: self._start(machine))
        for publish in self.story.published:
            self.timeline.later(publish.moment, lambda publish=publish: self._publish(publish))
        try:
            self._live()
            if not self.result.violations:
                self.result.violations += self.judge()
        finally:
            for machine in self.machines:
                if machine.process is not None:
                    machine.process.bury()
        self._count()
        return self.result

    def judge(self) -> list[str]:
        """Violations that show when all is quiet."""
        return judge_end(self)

    def _live(self) -> None:
        events = 0
        quiet_since: float | None = None
        why: str | None = None
        limit = BUSY_S + 1.0 + HEAL_S
        look = BUSY_S + 1.0
        while self.timeline.step():
            events += 1
            if self.watcher.violations:
                self.result.violations += self.watcher.violations
            if self.result.violations:
                return
            if self.timeline.now >= look:
                self._heal()
                look = self.timeline.now + 0.25
                why = self.unquiet()
                if why is not None:
                    quiet_since = None
                elif quiet_since is None:
                    quiet_since = self.timeline.now
                elif all(m.turns.turned_at > quiet_since for m in self.machines if m.wanted):
                    return
                if self.timeline.now > limit or events > MOST_EVENTS:
                    self.result.violations.append(
                        f"not quiet {self.timeline.now - BUSY_S:.0f} s after the faults: {why}"
                    )
                    return

    def _heal(self) -> None:
        if self.healed:
            return
        self.healed = True
        self.note("heal")
        for machine in self.machines:
            process = machine.process
            if process is not None:
                process.frozen_until = process.cut_until = min(process.frozen_until, self.timeline.now)
            if machine.name.startswith("hijacker"):
                machine.wanted = False
                self._kill(machine)

    def unquiet(self) -> str | None:
        """What is still to do, or None."""
        group, coordinator = self.broker.group(self.group), self.broker.coordinator
        for txn in coordinator.transactionals.values():
            if txn.ongoing or txn.ending is not None:
                return f"a transaction of {txn.identity} is open"
        for topic in [topic.name for topic in self.plan.inputs]:
            for partition in range(self.story.partitions):
                end = self.broker.logs[topic, partition].end
                have = group.offsets.get((topic, partition), (0, None))[0]
                if have != end:
                    return f"{topic} [{partition}] is committed at {have} of {end}"
        if any(p.state == "review" for p in self.watcher.naive.payments.values()):
            return "a review is open"
        for machine in self.machines:
            if machine.wanted and (machine.process is None or machine.process.killed):
                return f"{machine.name} is down"
        running = [n for m in self.machines if m.wanted for n in m.turns.partitions]
        if sorted(running) != list(range(self.story.partitions)):
            return f"partitions {sorted(running)} run"
        return None

    def _publish(self, publish: Any) -> None:
        place = (publish.topic, home_of(publish, self.story.partitions))
        timestamp = (START + int(self.timeline.now * 1e6)) // 1000
        offset = self.broker.logs[place].append(Record(timestamp, publish.key.encode(), publish.data()))
        self.note(f"published {place[0]} [{place[1]}] @{offset}")

    def _marker_delay(self) -> float:
        mean = 0.001 if self.healed else self.story.marker_s
        return 0.0 if not mean else self.rng.expovariate(1 / mean)

    def note(self, line: str) -> None:
        """One line of the trace."""
        text = f"{self.timeline.now:9.4f} {line}"
        self._hash.update(text.encode())
        if self._tell:
            self.result.lines.append(text)

    # -- workers ---------------------------------------------------------------------------------

    def _start(self, machine: Machine) -> None:
        if not machine.wanted:
            return
        machine.lives += 1
        process = Process(self.timeline, self.rng, f"{machine.name}.{machine.lives}", self.at_call)
        process.machine, process.hurt = machine, False
        process.call_s = self.story.call_s
        machine.process = process
        self.note(f"{process.name} starts")
        process.spawn(lambda: self._work(machine, process))

    def _work(self, machine: Machine, process: Process) -> None:
        try:
            self._worker_life(machine, process)
        except WorkerStopped as reason:
            self.note(f"{process.name} stops: {type(reason).__name__}: {reason}")
            self.result.counts["stops"] += 1
            if isinstance(reason, FORBIDDEN):
                self.result.violations.append(f"{process.name} stopped: {type(reason).__name__}: {reason}")
        except Exception as error:  # noqa: BLE001  # a crash of the engine
            self.note(f"{process.name} crashed: {error!r}")
            self.result.counts["crashes"] += 1
            if not (isinstance(error, KafkaException) and process.hurt):
                self.result.violations.append(f"{process.name} crashed: {error!r}\n{traceback.format_exc()}")
        process.kill()
        self.timeline.later(0.1 + self.rng.random(), lambda: self._start(machine))

    def _worker_life(self, machine: Machine, process: Process) -> None:
        clients = MemoryClients(self.broker, process)
        seams = Seams(clients.consumer, clients.producer, clients.admin, Clock(self, process), lambda _folder: 1 << 20)
        cluster = ClusterConfig("memory:9092", seams=seams)
        limits = Limits(
            poll_records=self.story.poll_records, step_records=self.story.step_records, poll_wait_s=0.15, call_s=1.0,
            transaction_ms=1_500, session_ms=1_500, restore_wait_s=4.0, sweep_rows=4, memory_mb=0, deadlines=3,
            checkpoint_rows=10,
            inbox_intents=12,
            partial_s=10.0, release_s=10.0,
        )  # fmt: skip
        config = EngineConfig(
            cluster, HOME, machine.instance, rules=self.rules, limits=limits, group_protocol=self.story.protocol,
            stores=lambda _limits: MemoryStores(machine.disk, process),
        )  # fmt: skip
        slot = Slot(machine.instance, HOME / "state", 0)
        quiet = Quiet()
        worker = machine.turns = Turns(self.plan, config, slot, Driver(process, quiet, quiet))
        try:
            worker.connect()
            while not process.stopping:
                drive(worker.turn())
        finally:
            if not process.killed:
                drive(worker.leave())

    def _kill(self, machine: Machine) -> None:
        if machine.process is not None and not machine.process.killed:
            self.note(f"{machine.process.name} is killed")
            machine.process.bury()

    # -- faults ----------------------------------------------------------------------------------

    def at_call(self, process: Process, call: str) -> Trouble | None:
        """A worker comes to a client call or a crash point."""
        self._counts[call] += 1
        number = self._counts[call]
        self.note(f"{process.name} {call}")
        if self.healed:
            return None
        fault = self._faults.pop((call, number), None)
        return None if fault is None else self._strike(process, fault)

    def _strike(self, process: Process, fault: Fault) -> Trouble | None:
        self.note(f"FAULT {fault.kind} {fault.trouble or ''} at {fault.call} #{fault.nth} of {process.name}")
        self.result.counts["faults"] += 1
        self.result.counts[f"fault {fault.kind}"] += 1
        machine = process.machine
        match fault.kind:
            case "trouble":
                process.hurt = True
                return fault.trouble
            case "freeze":
                process.frozen_until = self.timeline.now + fault.seconds
            case "cut":
                process.cut_until = self.timeline.now + fault.seconds
            case "stop":
                process.stopping = machine.turns.stopping = True
            case "retire":
                if sum(m.wanted and not m.name.startswith("hijacker") for m in self.machines) > 1:
                    machine.wanted = False
                    process.stopping = machine.turns.stopping = True
            case "hang":
                self._hang(process, fault.seconds)
            case "join":
                self._add(Machine(f"joined{len(self.machines)}", f"j{len(self.machines)}"))
            case "hijack":
                self._add(Machine(f"hijacker{len(self.machines)}", machine.instance))
            case "back":
                self.back_us += int(fault.seconds * 1e6)
            case _:
                self._die(process, fault)
        return None

    def _hang(self, process: Process, seconds: float) -> None:
        """The call hangs while heartbeats go on; then the watchdog ends the process."""
        machine = process.machine
        process.wait(seconds)
        process.kill()
        self.timeline.later(0.05, lambda: self._start(machine))
        raise Killed

    def _add(self, machine: Machine) -> None:
        self.machines.append(machine)
        self.timeline.later(0.05, lambda: self._start(machine))

    def _die(self, process: Process, fault: Fault) -> None:
        machine = process.machine
        process.kill()
        if fault.kind == "power":
            for files in machine.disk.stores.values():
                files.lose_tail(self.rng.randint(0, 8))
        elif fault.kind == "lose-store":
            machine.disk = Disk()
        elif fault.kind == "old-store" and machine.backup is not None:
            machine.disk = machine.backup
        elif fault.kind == "swap-store":
            other = self.rng.choice(self.machines)
            machine.disk = copy_of(other.disk)
        machine.backup = copy_of(machine.disk)
        self.timeline.later(fault.seconds, lambda: self._start(machine))
        raise Killed

    def _count(self) -> None:
        counts, coordinator = self.result.counts, self.broker.coordinator
        counts["payments"] = sum(p.topic == "payments.intents" for p in self.story.published)
        counts["committed"] = coordinator.committed
        counts["aborted"] = coordinator.aborted
        counts["timed out"] = coordinator.timed_out
        counts["rebalances"] = self.broker.group(self.group).rebalances
        counts["calls"] = sum(self._counts.values())
        counts["aborted records"] = sum(log.aborted for log in self.broker.logs.values())
        self.result.trace = self._hash.hexdigest()


def copy_of(disk: Disk) -> Disk:
    """A backup of a machine's stores."""
    copy = Disk()
    copy.stores = {folder: files.copy() for folder, files in disk.stores.items()}
    return copy
