"""The surroundings' ways of being wrong, as the engine names them. Each ends the worker or a step, never a payment."""


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


class Fenced(WorkerStopped):
    """Another worker uses this worker's slot."""


class NotAuthorised(WorkerStopped):
    """Kafka refuses a right that the worker needs."""


class Superseded(Exception):
    """Partitions moved while a recovery was under way: its result is void."""
