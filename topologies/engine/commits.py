"""What the group has committed, and whether Kafka still has the records that come next."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from topologies.engine.config import ClusterConfig
from topologies.engine.errors import NotYet, StoreAhead, TornPartition
from topologies.engine.limits import Limits
from topologies.engine.offsets import log_offsets
from topologies.engine.store import Stores
from topologies.engine.watchdog import Watchdog
from topologies.plan import Plan
from topologies.topics import changelog

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RecoveryPlace:
    """What a recovery needs to know of its worker."""

    plan: Plan
    cluster: ClusterConfig
    folder: Path
    limits: Limits
    cluster_id: str
    stores: Stores
    watchdog: Watchdog
    report: Callable[[int], None]
    """Told how many changelog records remain."""


Commits = dict[int, tuple[dict[str, int], int]]
"""By partition: next offset by topic (without prefix), and the step number."""


def committed(place: RecoveryPlace, consumer: Consumer, partitions: Sequence[int]) -> Commits:
    """Stable committed offsets and step number by partition. An open transaction is waited for.

    Raises NotYet where it stays open: the client tells that as a call that timed out, and brokers do answer.
    """
    prefix = place.cluster.prefix
    wanted = [TopicPartition(prefix + topic.name, p) for p in partitions for topic in place.plan.inputs]
    deadline = place.cluster.seams.clock.monotonic() + place.limits.restore_wait_s
    while True:
        try:
            with place.watchdog.guard("committed"):
                found = consumer.committed(wanted, timeout=place.limits.call_s)
        except KafkaException as error:
            if place.cluster.seams.clock.monotonic() > deadline:
                if error.args[0].code() != KafkaError._TIMED_OUT:  # noqa: SLF001  # a public constant
                    raise
                raise NotYet(
                    f"the committed offsets can't be read ({error.args[0].str()}): a transaction hangs on them, or the "
                    "group's coordinator is away"
                ) from error
            place.cluster.seams.clock.sleep(0.1)
            continue
        trouble = [tp.error for tp in found if tp.error is not None]
        if not trouble:
            break
        if place.cluster.seams.clock.monotonic() > deadline:
            raise NotYet(f"committed offsets stay unstable: {trouble[0].str()}")
        place.cluster.seams.clock.sleep(0.1)
    by_partition: dict[int, dict[str, TopicPartition]] = {p: {} for p in partitions}
    for tp in found:
        by_partition[tp.partition][tp.topic[len(prefix) :]] = tp
    return {p: _agree(p, tps) for p, tps in by_partition.items()}


def _agree(partition: int, tps: dict[str, TopicPartition]) -> tuple[dict[str, int], int]:
    steps = {name: int(tp.metadata) if tp.offset >= 0 and tp.metadata else 0 for name, tp in tps.items()}
    if len(set(steps.values())) != 1:
        raise TornPartition(
            f"partition {partition}: committed offsets stand at different steps: {steps}; a commit was torn or "
            "offsets were reset by hand. Keep the topics as evidence."
        )
    return {name: max(0, tp.offset) for name, tp in tps.items()}, next(iter(steps.values()))


def check_inputs(place: RecoveryPlace, admin: AdminClient, commits: Commits) -> None:
    """What is committed is still there to be read on from."""
    prefix = place.cluster.prefix
    wanted = {
        (prefix + topic, p): offset for p, (offsets, _step) in commits.items() for topic, offset in offsets.items()
    }
    starts = log_offsets(admin, list(wanted), OffsetSpec.earliest(), place.limits.call_s)
    ends = log_offsets(admin, list(wanted), OffsetSpec.latest(), place.limits.call_s)
    for where, offset in wanted.items():
        if offset < starts[where]:
            raise TornPartition(
                f"{where[0]} [{where[1]}] starts at {starts[where]}, but {offset} is the next to be processed: records "
                "were deleted before that. Find out by whom; `headrace audit` tells what is missing."
            )
        if offset > ends[where]:
            raise StoreAhead(
                f"{where[0]} [{where[1]}] ends at {ends[where]}, but {offset} is committed: the broker lost data"
            )


def delete_before(place: RecoveryPlace, bases: Mapping[int, int]) -> None:
    """Deletes the changelog's head up to each partition's base. Where that fails it is told; the next walk's end asks again."""
    topic = place.cluster.prefix + changelog(place.plan.role).name
    wanted = [TopicPartition(topic, partition, base) for partition, base in bases.items()]
    admin = place.cluster.seams.admin(place.cluster.client())
    try:
        with place.watchdog.guard("delete_records"):
            for future in admin.delete_records(wanted, request_timeout=place.limits.call_s).values():
                future.result(place.limits.call_s)
    except (KafkaException, TimeoutError) as error:
        log.warning("the head of %s %s stays: %s", topic, sorted(bases.items()), error)
