"""One worker's turns: poll, decide, produce, commit, apply. Knows neither Faust nor threads.

How a driver waits is its `Carrier`: the engine has threads and Faust agents, the simulation neither.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, Protocol, TypeVar

from confluent_kafka import KafkaException

from topologies.engine.admin import identity_of, partition_counts
from topologies.engine.commits import RecoveryPlace, delete_before
from topologies.engine.config import EngineConfig
from topologies.engine.crash import crash_point
from topologies.engine.errors import Superseded, WorkerStopped
from topologies.engine.group import Group, raw_of
from topologies.engine.identity import code_hash
from topologies.engine.observer import Observer
from topologies.engine.partition import Partition, Planned, records_of
from topologies.engine.recovery import Recovered, recover
from topologies.engine.report import report
from topologies.engine.shared import shared_reader
from topologies.engine.slot import Slot
from topologies.engine.step import PartitionStep, Place, Work
from topologies.engine.store import rocksdb_stores
from topologies.engine.transactions import Contents, Outcome, Transactions
from topologies.engine.watchdog import Watchdog
from topologies.engine.writing import Writing
from topologies.plan import Plan

log = logging.getLogger(__name__)
Result = TypeVar("Result")
DISK_CHECK_S = 5.0
REPORT_S = 1.0
IDLE_AFTER_S = 0.2
SURROUNDINGS = (WorkerStopped, KafkaException, MemoryError, OSError)
"""Never a record's fault: such an error fails the worker, not the record."""


class Recovering(Protocol):
    """A recovery under way beside the polling."""

    def done(self) -> bool:
        """Whether it has ended."""

    def result(self) -> list[Recovered]:
        """What it found; raises what it raised."""


class Carrier(Protocol):
    """How a driver waits."""

    def in_kafka(self, call: Callable[[], Result]) -> Awaitable[Result]:
        """Runs a call on the one thread that talks to Kafka."""

    def beside(self, call: Callable[[], list[Recovered]]) -> Recovering:
        """Starts a recovery beside the polling."""

    def ended(self, recovering: Recovering) -> Awaitable[Any]:
        """Waits for its end; raises nothing of it."""

    def decide(self, work: Work) -> Coroutine[Any, Any, None]:
        """Sends work through the agents and waits for its end; raises what an agent raises."""


class Driver(NamedTuple):
    """What runs the turns, and who watches them."""

    carrier: Carrier
    observer: Observer
    watchdog: Watchdog


class Turns:
    """One worker's loop in one slot. Every method may raise WorkerStopped: then nothing more may be changed."""

    def __init__(self, plan: Plan, config: EngineConfig, slot: Slot, driver: Driver) -> None:
        """Looks at the cluster. Raises WorkerStopped or ClusterUnreachable."""
        self.plan = plan
        self.config = config
        self.slot = slot
        self.partitions: dict[int, Partition] = {}
        self.paused_for: str | None = None
        self.stopping = False
        self.group: Group | None = None
        self._carrier, self._observer, self._watchdog = driver
        self._clock = config.cluster.seams.clock
        self.turned_at = self._clock.monotonic()
        self._recovering: Recovering | None = None
        self._followed = 0
        self._lost_since: float | None = None
        self._checked_disk = 0.0
        self._reported = 0.0
        self._stepped_at = 0.0
        self._look_at_cluster()

    # -- start and stop --------------------------------------------------------------------------

    def _look_at_cluster(self) -> None:
        config, cluster = self.config, self.config.cluster
        counts = partition_counts(cluster)
        needed = {topic.name: counts.get(topic.name) for topic in self.plan.inputs}
        if None in needed.values() or len(set(needed.values())) != 1:
            raise WorkerStopped(
                f"the input topics must exist with one partition count, but have {needed}; run `headrace topics create`"
            )
        self._partition_count = counts[self.plan.inputs[0].name]
        self._code_hash = code_hash(config.rules)
        cluster_id = identity_of(cluster)
        self._place = RecoveryPlace(
            self.plan,
            cluster,
            self.slot.folder,
            config.limits,
            cluster_id,
            (config.stores or rocksdb_stores)(config.limits),
            self._watchdog,
            lambda remaining: self._observer.recovery(self.plan.role, remaining),
        )
        self._writing = Writing(config, self.plan, self._code_hash, cluster_id)

    def connect(self) -> None:
        """Ends what this slot's last life left open, then joins the group."""
        config, cluster = self.config, self.config.cluster
        identity = f"{cluster.prefix}headrace.{self.plan.role}.{self.slot.instance}"
        self._transactions = Transactions(cluster, identity, config.limits, self._watchdog)
        self._transactions.renew()
        self._shared = shared_reader(cluster, self.plan.shared, self._partition_count, self._watchdog)
        self.group = Group(self.plan, config, self.slot.instance, self._watchdog)

    async def leave(self) -> None:
        """Closes everything; a step that is not committed never happened."""
        self.stopping = True
        if self._recovering is not None:
            await self._carrier.ended(self._recovering)
            self._take_recovered(wanted=False)
        self._close_partitions()
        await self._carrier.in_kafka(self._disconnect)

    def _disconnect(self) -> None:
        for part in (self.group, getattr(self, "_transactions", None), getattr(self, "_shared", None)):
            if part is not None:
                part.close()

    def _close_partitions(self) -> None:
        for partition in self.partitions.values():
            partition.close()
        self.partitions.clear()

    # -- one turn --------------------------------------------------------------------------------

    async def turn(self) -> None:
        """One round of everything."""
        begun = time.perf_counter()
        await self._carrier.in_kafka(self._poll)
        await self._follow_group()
        self._observe("poll", begun)
        crash_point("after_poll")
        begun = time.perf_counter()
        steps = self._next_steps()
        if not steps:
            await self._idle()
        elif await self._decide(steps):
            planned = [partition.plan(step, self._shared.offsets) for partition, step in steps]
            self._observe("decide", begun)
            await self._commit(planned)
            self._stepped_at = self._clock.monotonic()
        self.turned_at = self._clock.monotonic()

    @property
    def idle(self) -> bool:
        """Whether there was nothing to decide for a while."""
        return self._clock.monotonic() - self._stepped_at > IDLE_AFTER_S

    def _observe(self, phase: str, begun: float) -> None:
        self._observer.step(self.plan.role, phase, time.perf_counter() - begun)

    @property
    def _member(self) -> Group:
        assert self.group is not None, "connect() comes first"
        return self.group

    def _poll(self) -> None:
        """Fetches into the inboxes. Runs on the polling thread while nothing else touches them."""
        group = self._member
        prefix = len(self.config.cluster.prefix)
        waiting = any(len(partition.inbox) for partition in self.partitions.values())
        messages = group.poll(self._too_early_s() if waiting else self.config.limits.poll_wait_s)
        if group.generation != self._followed:
            return  # partitions moved inside this poll: what it brought is fetched again
        for message in messages:
            partition = self.partitions.get(message.partition())
            if partition is not None:
                partition.inbox.add(message.topic()[prefix:], raw_of(message))
        for (topic, number), offset in group.positions(self.partitions).items():
            self.partitions[number].inbox.arrived_at(topic, offset)
        self._shared.poll()
        self._hold_back()

    def _hold_back(self) -> None:
        """Pauses the last input while too much of it waits here, and everything while the disk is nearly full."""
        group, now, last = self._member, self._clock.monotonic(), self.plan.last_input
        if now - self._checked_disk > DISK_CHECK_S:
            self._checked_disk = now
            free_mb = self.config.cluster.seams.free_mb(self.slot.folder)
            need = self.config.limits.free_disk_mb
            self.paused_for = f"{free_mb} MiB free on the disk of {self.slot.folder}" if free_mb < need else None
            for topic in self.plan.inputs:
                if topic is not last or self.paused_for:
                    group.hold(topic.name, self.partitions, paused=self.paused_for is not None)
        for number, partition in self.partitions.items():
            waiting = len(partition.inbox.waiting(last.name))
            share = self.config.limits.inbox_intents // len(self.partitions)
            if waiting > share or self.paused_for:
                group.hold(last.name, [number], paused=True)
            elif waiting < share // 2:
                group.hold(last.name, [number], paused=False)

    async def _follow_group(self) -> None:
        """Closes what was taken away, recovers what was assigned, starts what is recovered."""
        group = self._member
        if group.generation != self._followed:
            if self._recovering is not None:
                await self._carrier.ended(self._recovering)
                self._take_recovered(wanted=False)
            self._close_partitions()
            self._followed = group.generation
            self._observer.rebalance(self.plan.role)
            self._observer.forget_lag()
            self._recover(group.assigned)
        elif group.lost_place is not None and self._recovering is None:
            await self._find_place(group.lost_place)
        elif self._recovering is not None and self._recovering.done():
            found = self._take_recovered(wanted=True)
            if not found:  # superseded, and the group has not said by whom yet
                self._recover(group.assigned)
                return
            for recovered in found:
                place = Place(
                    self.plan,
                    recovered.partition,
                    self._partition_count,
                    self.config.rules,
                    self._code_hash,
                    self.config.limits.deadlines,
                )
                self.partitions[recovered.partition] = Partition(place, recovered, self.config.limits, self._clock)
            offsets = {number: partition.inbox.next for number, partition in self.partitions.items()}
            await self._carrier.in_kafka(lambda: group.start_at(offsets))
            log.info("ready: partitions %s", sorted(self.partitions))

    async def _find_place(self, reason: str) -> None:
        """A new leader may not know all of its log yet; a recovery tells whether records are gone for good."""
        now = self._clock.monotonic()
        if self._lost_since is None:
            self._lost_since = now
        if now - self._lost_since > self.config.limits.release_s:
            raise WorkerStopped(reason)
        log.warning("%s; recovering", reason)
        await self._start_over()

    def _recover(self, numbers: tuple[int, ...]) -> None:
        if not numbers:
            return
        generation = self._member.generation

        def superseded() -> bool:
            return self._member.generation != generation or self.stopping

        self._recovering = self._carrier.beside(lambda: recover(self._place, numbers, superseded))

    def _take_recovered(self, *, wanted: bool) -> list[Recovered]:
        recovering, self._recovering = self._recovering, None
        assert recovering is not None
        try:
            found = recovering.result()
        except Superseded:
            return []
        except WorkerStopped as error:
            if wanted:
                raise
            log.warning("a recovery of partitions that have moved failed: %s", error)
            return []
        if not wanted:
            for recovered in found:
                recovered.store.close()
            return []
        return found

    # -- decide ----------------------------------------------------------------------------------

    def _next_steps(self) -> list[tuple[Partition, PartitionStep]]:
        if not self.partitions or self.paused_for or self._too_early_s():
            return []
        if not self._shared_ready():
            return []
        room = max(1, self.config.limits.step_records // len(self.partitions))
        condemned = next((partition for partition in self.partitions.values() if partition.condemned), None)
        # A condemned record goes in a transaction of its own: its letter and its offset, nothing else.
        wanted = self.partitions.values() if condemned is None else (condemned,)
        steps = []
        for partition in wanted:
            step = partition.next_step(self._shared.rows, self._member.ends(partition.number), room)
            if step is not None:
                steps.append((partition, step))
        return steps

    def _too_early_s(self) -> float:
        """How long the next step must still wait."""
        return max(0.0, self.config.limits.floor_ms / 1000 - (self._clock.monotonic() - self._stepped_at))

    def _shared_ready(self) -> bool:
        """No step before the alias table was read to its end, and up to where the last owner had read it (R25)."""
        known = [p.state.alias_offsets for p in self.partitions.values() if p.state.alias_offsets]
        return self._shared.is_read([max(offsets) for offsets in zip(*known, strict=True)])

    async def _decide(self, steps: list[tuple[Partition, PartitionStep]]) -> bool:
        """Whether every agent finished; else nothing of the steps remains but a smaller next try."""
        for partition, step in steps:
            if partition.condemned:
                continue
            for work in step.works():
                try:
                    await self._carrier.decide(work)
                except SURROUNDINGS:
                    raise
                except Exception as error:  # noqa: BLE001  # an agent raised: find the record
                    count = records_of(step.taken)
                    log.warning("partition %s: a step of %s records failed: %r", partition.number, count, error)
                    for other, _step in steps:
                        other.tables.drop()
                    partition.failed(step, error, in_deadline=not work.batch)
                    return False
        return True

    # -- commit ----------------------------------------------------------------------------------

    async def _commit(self, planned: list[Planned]) -> None:
        begun = time.perf_counter()
        contents = self._writing.contents(planned)
        self._observe("produce", begun)
        begun = time.perf_counter()
        outcome = await self._transact(contents)
        self._observe("commit", begun)
        if outcome is Outcome.COMMITTED:
            begun = time.perf_counter()
            self._lost_since = None
            self._writing.apply(planned, contents, self._observer)
            self._observe("apply", begun)
            bases = {item.partition.number: item.again.base for item in planned if item.again.ends}
            if bases:
                await self._carrier.in_kafka(lambda: delete_before(self._place, bases))
            self._report()
            return
        for item in planned:
            item.partition.tables.drop()
        if outcome is Outcome.UNKNOWN:
            await self._start_over()

    async def _transact(self, contents: Contents) -> Outcome:
        outcome = await self._carrier.in_kafka(lambda: self._transactions.run(contents, self._member.metadata))
        self._observer.transaction(self.plan.role, outcome)
        return outcome

    async def _start_over(self) -> None:
        """Only Kafka knows how the transaction ended: end it for good, then take its word for everything."""
        await self._carrier.in_kafka(self._transactions.renew)
        self._close_partitions()
        group = self._member
        await self._carrier.in_kafka(lambda: group.start_at({}))
        self._recover(group.assigned)

    async def _idle(self) -> None:
        """Nothing to decide: commit positions that only transaction markers moved, so that lag is truly zero."""
        if not self.idle:
            return
        moved = [p for p in self.partitions.values() if p.inbox.idle_offsets()]
        if moved:
            taken = {partition: partition.inbox.take(1, {}) for partition in moved}
            contents = Contents()
            for partition in moved:
                positions = {t.topic.name: t.next for t in taken[partition]}
                contents.offsets += self._writing.offsets(partition.number, positions, partition.state.step)
            outcome = await self._transact(contents)
            if outcome is Outcome.COMMITTED:
                for partition in moved:
                    partition.inbox.settle(taken[partition])
            elif outcome is Outcome.UNKNOWN:
                await self._start_over()
        self._report()

    def _report(self) -> None:
        now = self._clock.monotonic()
        if now - self._reported >= REPORT_S:
            self._reported = now
            report(self.partitions, self._member, self._observer, self._clock.micros())
