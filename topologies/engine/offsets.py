"""What a cluster tells of its logs: where each partition begins and ends."""

from collections.abc import Iterable

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

Where = tuple[str, int]
"""(topic with its prefix, partition)."""


def log_offsets(
    admin: AdminClient,
    wheres: Iterable[Where],
    spec: OffsetSpec,
    wait_s: float,
    isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
) -> dict[Where, int]:
    """Beginnings or ends by place; READ_COMMITTED gives the last stable offset for an end.

    Raises KafkaException where the cluster does not tell within `wait_s` (s), and where an answer holds no offset:
    librdkafka gives OFFSET_INVALID and no error for the partitions of a node whose connection broke in the middle of
    the call (`rd_kafka_ListOffsets_response_merge`, v2.16), and such a log would pass for an empty one.
    """
    wanted = {TopicPartition(*where): spec for where in wheres}
    if not wanted:
        return {}
    futures = admin.list_offsets(wanted, isolation_level=isolation, request_timeout=wait_s)
    try:
        found = {(tp.topic, tp.partition): future.result(2 * wait_s).offset for tp, future in futures.items()}
    except TimeoutError as error:
        raise _untold(KafkaError._TIMED_OUT, min(futures)) from error  # noqa: SLF001  that is its public name
    if lost := [where for where, offset in found.items() if offset < 0]:
        raise _untold(KafkaError._TRANSPORT, TopicPartition(*min(lost)))  # noqa: SLF001  that is its public name
    return found


def _untold(code: int, tp: TopicPartition) -> KafkaException:
    return KafkaException(KafkaError(code, f"the offsets of {tp.topic} [{tp.partition}] and others did not come"))
