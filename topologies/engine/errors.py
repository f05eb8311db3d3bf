"""The surroundings' ways of being wrong, as the engine names them. Each ends the worker or a step, never a payment."""

from confluent_kafka import KafkaError

AUTHORISATION = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
"""Codes of Kafka's refusals: no waiting helps."""


class WorkerStopped(Exception):
    """A fault that the worker can't survive: it stops with this reason, and changes nothing more."""


class StoreFailed(WorkerStopped):
    """RocksDB refused to read or write."""


class StoreCorrupt(StoreFailed):
    """RocksDB found damaged files: the store is moved aside at the next start, and rebuilt from its changelog."""


class StoreAhead(WorkerStopped):
    """The local store knows more than Kafka: the broker lost data."""


class TornPartition(WorkerStopped):
    """Committed offsets, journal and changelog of a partition do not agree."""


class NotYet(WorkerStopped):
    """Kafka did not show in time what it must have."""


class Fenced(WorkerStopped):
    """Another worker uses this worker's slot."""


class NotAuthorised(WorkerStopped):
    """Kafka refuses a right that the worker needs."""


class Superseded(Exception):
    """Partitions moved while a recovery was under way: its result is void."""
