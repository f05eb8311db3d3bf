"""The engine: poll, decide, produce, commit, apply. A service of the Faust app, and the only one that talks to Kafka.

The event loop decides; one thread polls and commits; another recovers partitions beside it.
"""

import asyncio
import gc
import logging
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import faust
from confluent_kafka import KafkaException, Message, TopicPartition
from mode import Service
from rocksdict import Cache

from schemas import codec
from schemas.events import Micros, PaymentEvent, SettingsRecord
from topologies.engine.admin import admin_client, partition_counts
from topologies.engine.agents import Agents
from topologies.engine.config import EngineConfig
from topologies.engine.crash import crash_point
from topologies.engine.errors import Superseded, WorkerStopped
from topologies.engine.group import Group
from topologies.engine.identity import code_hash, settings_json
from topologies.engine.letters import letter_headers
from topologies.engine.observer import Observer
from topologies.engine.partition import Partition, Planned, records_of
from topologies.engine.recovery import Recovered, RecoveryPlace, recover, store_meta
from topologies.engine.report import report
from topologies.engine.shared import SharedReader
from topologies.engine.slot import take_slot
from topologies.engine.step import PartitionStep, Place, Raw
from topologies.engine.store import encode_row, row_key
from topologies.engine.transactions import Contents, Outcome, Transactions
from topologies.engine.watchdog import Watchdog
from topologies.plan import Plan
from topologies.topics import EVENTS, INTENTS, JOURNAL, SETTINGS, changelog, dead_letters

log = logging.getLogger(__name__)
Result = TypeVar("Result")
DISK_CHECK_S = 5.0
REPORT_S = 1.0
IDLE_AFTER_S = 0.2
SURROUNDINGS = (WorkerStopped, KafkaException, MemoryError, OSError)
"""Never a record's fault: such an error fails the worker, not the record."""


class Engine(Service):
    """One worker's engine. `failure` says why it ended, None after a graceful stop."""

    def __init__(self, app: faust.App, plan: Plan, config: EngineConfig, observer: Observer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.config = config
        self.failure: WorkerStopped | None = None
        self.partitions: dict[int, Partition] = {}
        self.paused_for: str | None = None
        self.turned_at = time.monotonic()
        self._app = app
        self._observer = observer
        self._agents = Agents(app, plan, observer)
        self._kafka = ThreadPoolExecutor(1, "kafka")
        self._helper = ThreadPoolExecutor(1, "recovery")
        self._finished = asyncio.Event()
        self._recovering: asyncio.Future[list[Recovered]] | None = None
        self._followed = 0
        self._settings_told = False
        self._checked_disk = 0.0
        self._reported = 0.0
        self._stepped_at = 0.0

    # -- start and stop --------------------------------------------------------------------------

    def prepare(self) -> None:
        """Takes the slot and looks at the cluster. Raises WorkerStopped or ClusterUnreachable."""
        config, cluster = self.config, self.config.cluster
        counts = partition_counts(cluster)
        needed = {topic.name: counts.get(topic.name) for topic in self.plan.inputs}
        if None in needed.values() or len(set(needed.values())) != 1:
            raise WorkerStopped(
                f"the input topics must exist with one partition count, but have {needed}; run `headrace topics create`"
            )
        self._partition_count = counts[self.plan.inputs[0].name]
        self.slot = take_slot(config.home, cluster.prefix, self.plan.role, config.instance)
        self._code_hash = code_hash(config.rules)
        cluster_id = admin_client(cluster).list_topics(timeout=config.limits.call_s).cluster_id
        self._place = RecoveryPlace(
            self.plan,
            cluster,
            self.slot.folder,
            config.limits,
            str(cluster_id),
            Cache(config.limits.store_cache_mb << 20),
            lambda remaining: self._observer.recovery(self.plan.role, remaining),
        )
        self.watchdog = Watchdog(config.limits.watchdog_s)

    def _connect(self) -> None:
        """Ends what this slot's last life left open, then joins the group."""
        config = self.config
        identity = f"{config.cluster.prefix}headrace.{self.plan.role}.{self.slot.instance}"
        self.transactions = Transactions(config.cluster, identity, config.limits, self.watchdog)
        self.transactions.renew()
        self._shared = SharedReader(config.cluster, self.plan.shared, self._partition_count)
        self.group = Group(self.plan, config.cluster, self.slot.instance, config.limits, self.watchdog)

    @Service.task
    async def _run(self) -> None:
        try:
            await self._in_kafka(self._connect)
            while not self.should_stop:
                await self._turn()
        except WorkerStopped as reason:
            self._fail(reason)
        except Exception as error:  # whatever it is, the worker must not go on
            log.exception("the engine failed")
            self._fail(WorkerStopped(f"{type(error).__name__}: {error}"))
        finally:
            await self._leave()
            self._finished.set()

    def _fail(self, reason: WorkerStopped) -> None:
        log.critical("the worker stops: %s", reason)
        self.failure = reason
        os.kill(os.getpid(), signal.SIGTERM)  # the Faust worker's own way to stop

    async def on_stop(self) -> None:
        """Waits for the step under way."""
        try:
            await asyncio.wait_for(self._finished.wait(), self.config.limits.stop_s)
        except TimeoutError:
            log.error("the step under way did not end within %.0f s", self.config.limits.stop_s)

    async def _leave(self) -> None:
        self._followed = -1
        if self._recovering is not None:
            await asyncio.wait([self._recovering])
            if not self._recovering.cancelled() and self._recovering.exception() is None:
                for recovered in self._recovering.result():
                    recovered.store.close()
        for partition in self.partitions.values():
            partition.close()
        self.partitions.clear()
        await self._in_kafka(self._disconnect)
        self._kafka.shutdown(wait=False)
        self._helper.shutdown(wait=False)

    def _disconnect(self) -> None:
        for name in ("group", "transactions", "_shared"):
            part = getattr(self, name, None)
            if part is not None:
                part.close()

    async def _in_kafka(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._kafka, call)

    # -- one turn --------------------------------------------------------------------------------

    async def _turn(self) -> None:
        begun = time.perf_counter()
        await self._in_kafka(self._poll)
        await self._follow_group()
        self._observe("poll", begun)
        crash_point("after_poll")
        begun = time.perf_counter()
        steps = self._next_steps()
        if not steps:
            await self._idle()
        elif await self._decide(steps):
            planned = [self._plan_step(partition, step) for partition, step in steps]
            self._observe("decide", begun)
            await self._commit(planned)
            self._stepped_at = time.monotonic()
        self.turned_at = time.monotonic()

    def _observe(self, phase: str, begun: float) -> None:
        self._observer.step(self.plan.role, phase, time.perf_counter() - begun)

    def _poll(self) -> None:
        """Fetches into the inboxes. Runs on the polling thread while nothing else touches them."""
        busy = any(len(partition.inbox) for partition in self.partitions.values())
        prefix = len(self.config.cluster.prefix)
        messages = self.group.poll(0.0 if busy else self.config.limits.poll_wait_s)
        if self.group.generation != self._followed:
            return  # partitions moved inside this poll: what it brought is fetched again
        for message in messages:
            partition = self.partitions.get(message.partition())
            if partition is not None:
                partition.inbox.add(message.topic()[prefix:], _raw(message))
        for (topic, number), offset in self.group.positions(self.partitions).items():
            self.partitions[number].inbox.arrived_at(topic, offset)
        self._shared.poll()
        self._hold_back()

    def _hold_back(self) -> None:
        """Pauses intents while too many wait here, and everything while the disk is nearly full."""
        now = time.monotonic()
        if now - self._checked_disk > DISK_CHECK_S:
            self._checked_disk = now
            free_mb = shutil.disk_usage(self.slot.folder).free >> 20
            need = self.config.limits.free_disk_mb
            self.paused_for = f"{free_mb} MiB free on the disk of {self.slot.folder}" if free_mb < need else None
            for topic in self.plan.inputs:
                if topic is not INTENTS or self.paused_for:
                    self.group.hold(topic.name, self.partitions, paused=self.paused_for is not None)
        for number, partition in self.partitions.items():
            waiting = len(partition.inbox.waiting(INTENTS.name))
            share = self.config.limits.inbox_intents // len(self.partitions)
            if waiting > share or self.paused_for:
                self.group.hold(INTENTS.name, [number], paused=True)
            elif waiting < share // 2:
                self.group.hold(INTENTS.name, [number], paused=False)

    async def _follow_group(self) -> None:
        """Closes what was taken away, recovers what was assigned, starts what is recovered."""
        if self.group.generation != self._followed:
            if self._recovering is not None:
                await asyncio.wait([self._recovering])
                self._take_recovered(wanted=False)
            for partition in self.partitions.values():
                partition.close()
            self.partitions.clear()
            self._followed = self.group.generation
            self._observer.rebalance(self.plan.role)
            self._observer.forget_lag()
            self._recover(self.group.assigned)
        elif self._recovering is not None and self._recovering.done():
            for recovered in self._take_recovered(wanted=True):
                place = Place(
                    self.plan,
                    recovered.partition,
                    self._partition_count,
                    self.config.rules,
                    self._code_hash,
                    self.config.limits.deadlines,
                )
                self.partitions[recovered.partition] = Partition(place, recovered, self.config.limits)
            offsets = {number: partition.inbox.next for number, partition in self.partitions.items()}
            await self._in_kafka(lambda: self.group.start_at(offsets))
            calm_collector()
            log.info("ready: partitions %s", sorted(self.partitions))

    def _recover(self, numbers: tuple[int, ...]) -> None:
        if not numbers:
            return
        generation = self.group.generation

        def superseded() -> bool:
            return self.group.generation != generation or self.should_stop

        self._recovering = asyncio.get_running_loop().run_in_executor(
            self._helper, recover, self._place, numbers, superseded
        )

    def _take_recovered(self, *, wanted: bool) -> list[Recovered]:
        recovering, self._recovering = self._recovering, None
        assert recovering is not None
        try:
            found = recovering.result()
        except Superseded:
            return []
        if not wanted:
            for recovered in found:
                recovered.store.close()
            return []
        return found

    # -- decide ----------------------------------------------------------------------------------

    def _next_steps(self) -> list[tuple[Partition, PartitionStep]]:
        if not self.partitions or self.paused_for:
            return []
        if not self._shared_ready():
            return []
        room = max(1, self.config.limits.step_records // len(self.partitions))
        for number, partition in self.partitions.items():
            if partition.condemned:  # a letter and its offset in a transaction of their own
                step = partition.next_step(self._shared.rows, self.group.ends(number), room)
                return [(partition, step)] if step is not None else []
        steps = []
        for number, partition in self.partitions.items():
            step = partition.next_step(self._shared.rows, self.group.ends(number), room)
            if step is not None:
                steps.append((partition, step))
        return steps

    def _shared_ready(self) -> bool:
        """No step before the alias table was read to its end, and up to where the last owner had read it (R25)."""
        return self._shared.is_read(
            [
                max(offsets)
                for offsets in zip(
                    *(p.state.alias_offsets for p in self.partitions.values() if p.state.alias_offsets), strict=False
                )
            ]
        )

    async def _decide(self, steps: list[tuple[Partition, PartitionStep]]) -> bool:
        """Whether every agent finished; else nothing of the steps remains but a smaller next try."""
        for partition, step in steps:
            if partition.condemned:
                continue
            try:
                for work in step.works():
                    await self._agents.decide(work)
            except SURROUNDINGS:
                raise
            except Exception as error:  # noqa: BLE001  # an agent raised: find the record
                log.warning(
                    "partition %s: a step of %s records failed: %r", partition.number, records_of(step.taken), error
                )
                for other, _step in steps:
                    other.tables.drop()
                partition.failed(step, error)
                return False
        return True

    def _plan_step(self, partition: Partition, step: PartitionStep) -> Planned:
        partition.sweep(step.at)
        outputs = step.outputs()
        journal = step.journal(partition.state.step + 1, self._shared.offsets, outputs)
        rows = {
            table: [(key.encode(), None if row is None else encode_row(row)) for key, row in changed.items()]
            for table, changed in partition.tables.changes().items()
        }
        return Planned(partition, step, outputs, journal, rows)

    # -- commit ----------------------------------------------------------------------------------

    async def _commit(self, planned: list[Planned]) -> None:
        begun = time.perf_counter()
        contents = self._contents(planned)
        self._observe("produce", begun)
        begun = time.perf_counter()
        outcome = await self._in_kafka(lambda: self._transact(contents))
        self._observe("commit", begun)
        self._observer.transaction(self.plan.role, outcome)
        if outcome is Outcome.COMMITTED:
            begun = time.perf_counter()
            self._apply(planned, contents)
            self._observe("apply", begun)
            return
        for item in planned:
            item.partition.tables.drop()
        if outcome is Outcome.UNKNOWN:
            await self._start_over()

    def _transact(self, contents: Contents) -> Outcome:
        if contents.letters:
            crash_point("in_dead_letter")
        return self.transactions.run(contents, self.group.consumer)

    def _contents(self, planned: list[Planned]) -> Contents:
        prefix = self.config.cluster.prefix
        contents = Contents()
        for item in planned:
            number = item.partition.number
            for (topic, where), pairs in item.outputs.items():
                contents.records.setdefault((prefix + topic, where), []).extend(pairs)
            contents.records[prefix + JOURNAL.name, number] = [(None, item.journal)]
            for table, rows in item.rows.items():
                contents.changelogs[prefix + changelog(table).name, number] = rows
            for parcel in item.step.parcels:
                name = prefix + dead_letters(parcel.agent).name
                headers = letter_headers(parcel, prefix, self.group.name)
                contents.letters.append((name, number, parcel.raw.key, parcel.raw.value, headers))
            contents.offsets += self._offsets(number, item.offsets(), item.partition.state.step + 1)
        if not self._settings_told:
            self._tell_settings(contents)
        return contents

    def _offsets(self, number: int, offsets: dict[str, int], step: int) -> list[TopicPartition]:
        prefix = self.config.cluster.prefix
        return [TopicPartition(prefix + topic, number, offset, str(step)) for topic, offset in offsets.items()]

    def _tell_settings(self, contents: Contents) -> None:
        record = SettingsRecord(
            self._code_hash,
            self.config.version,
            settings_json(self.config.rules).decode(),
            Micros(time.time_ns() // 1000),
        )
        where = (self.config.cluster.prefix + SETTINGS.name, 0)
        contents.records[where] = [(self._code_hash.encode(), codec.encode(record))]

    def _apply(self, planned: list[Planned], contents: Contents) -> None:
        self._settings_told = True
        events: Counter[tuple[str, str]] = Counter()
        for item in planned:
            partition = item.partition
            partition.settle(item.step)
            offsets = partition.state.changelog_offsets
            rows = []
            for table, changed in item.rows.items():
                where = (self.config.cluster.prefix + changelog(table).name, partition.number)
                if where in contents.last_offsets:
                    offsets[table] = contents.last_offsets[where] + 1
                prefix = row_key(table, "")
                rows += [(prefix + key, value) for key, value in changed]
            partition.state.store.write(rows, store_meta(self._place.cluster_id, partition.state))
            crash_point("after_store_write")
            self._observer.records(self.plan.role, records_of(item.step.taken))
            for parcel in item.step.parcels:
                self._observer.dead_letter(parcel.agent, parcel.code)
            for out in item.step.records:
                if out.topic == EVENTS.name:
                    value: PaymentEvent = out.value
                    events[value.status, value.reason or ""] += 1
        for (status, reason), count in events.items():
            self._observer.payment(status, reason, count)
        self._report()

    async def _start_over(self) -> None:
        """Only Kafka knows how the transaction ended: end it for good, then take its word for everything."""
        await self._in_kafka(self.transactions.renew)
        for partition in self.partitions.values():
            partition.close()
        self.partitions.clear()
        await self._in_kafka(lambda: self.group.start_at({}))
        self._recover(self.group.assigned)

    async def _idle(self) -> None:
        """Nothing to decide: commit positions that only transaction markers moved, so that lag is truly zero."""
        offsets: list[TopicPartition] = []
        if time.monotonic() - self._stepped_at < IDLE_AFTER_S:
            return
        moved = [p for p in self.partitions.values() if p.inbox.idle_offsets()]
        taken = {partition.number: partition.inbox.take(1, {}) for partition in moved}
        for partition in moved:
            positions = {t.topic.name: t.next for t in taken[partition.number]}
            offsets += self._offsets(partition.number, positions, partition.state.step)
        if offsets:
            outcome = await self._in_kafka(lambda: self._transact(Contents(offsets=offsets)))
            self._observer.transaction(self.plan.role, outcome)
            if outcome is Outcome.COMMITTED:
                for partition in moved:
                    partition.inbox.settle(taken[partition.number])
            elif outcome is Outcome.UNKNOWN:
                await self._start_over()
        self._report()

    def _report(self) -> None:
        if time.monotonic() - self._reported >= REPORT_S:
            self._reported = time.monotonic()
            report(self.partitions, self.group, self._observer)


def calm_collector() -> None:
    """Python's cycle collector looks at young objects only.

    Cached rows make no cycles, and walking them all cost a quarter of the time at 100,000 accounts.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 1_000_000)


def _raw(message: Message) -> Raw:
    return Raw(
        message.offset(),
        message.timestamp()[1] * 1000,
        message.key(),
        message.value(),
        message.headers,
    )
