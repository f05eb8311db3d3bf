"""Every limit of the engine, with its unit. Sources: docs/architecture.md, "One step"."""

from dataclasses import dataclass

WITHOUT_ROWS_MB = 200
"""The interpreter with its libraries (64, measured), the clients' queues, the inboxes, a step and its outputs."""
ROWS_PER_MB = 1_500
"""Rows of accounts and of profiles with their keys: 0.2 and 0.3 to 1.3 KiB, measured."""
LEAST_ROWS = 100


@dataclass(frozen=True)
class Limits:
    """Bounds that hold memory, transactions and waits."""

    poll_records: int = 4_000
    """Records taken from librdkafka in one poll."""
    step_records: int = 4_000
    """Records that one step decides."""
    inbox_intents: int = 12_000
    """Fetched but undecided records of a role's last input, core's intents, above which it is paused."""
    deadlines: int = 2_000
    """Deadlines that one step of one partition carries out (R12)."""
    floor_ms: int = 0
    """The least time from one step's end to the next one's beginning. For measurements: a step never waits to fill."""
    poll_wait_s: float = 0.05
    """How long a poll waits for its first record."""
    call_s: float = 10.0
    """How long a Kafka call may be retried before its outcome counts as unknown."""
    watchdog_s: float = 20.0
    """How long one client call may hang before the worker starts anew."""
    transaction_ms: int = 10_000
    session_ms: int = 10_000
    heartbeat_ms: int = 2_000
    max_poll_ms: int = 120_000
    partial_s: float = 30.0
    """How long a partition may be owned of some topics only, while they move one by one."""
    release_s: float = 60.0
    """How long a member of the same name may hold the slot, after its process died."""
    restore_wait_s: float = 20.0
    """How long a restore waits for the changelog's stable end: twice the transaction timeout."""
    sweep_rows: int = 64
    """Rows per step and partition that are looked at for expiry, and at least written again by a checkpoint."""
    checkpoint_rows: int = 200_000
    """Rows on a partition's changelog below which no checkpoint begins."""
    memory_mb: int = 768
    """What a worker takes at most, about; what RocksDB, the client and a step don't need is for rows."""
    store_cache_mb: int = 64
    """RocksDB's block cache per worker."""
    memtable_mb: int = 32
    """RocksDB's write buffer per partition."""
    memtables_mb: int = 128
    """RocksDB's write buffers of all partitions."""
    free_disk_mb: int = 1_024
    """Below this the worker pauses its input."""
    unknown_bad_in_a_row: int = 100
    """Records that fail for an unknown reason, one after another, before a partition's worker stops."""
    unknown_bad: int = 200
    """As many of `unknown_bad_of` records in any order stop it, too."""
    unknown_bad_of: int = 1_000
    stop_s: float = 20.0
    """A graceful stop: the step under way, then store, consumer, producer."""

    @property
    def cached_rows(self) -> int:
        """Rows that a worker keeps in memory, over all its tables."""
        own_mb = self.store_cache_mb + self.memtables_mb + WITHOUT_ROWS_MB
        return max(LEAST_ROWS, (self.memory_mb - own_mb) * ROWS_PER_MB)


LIMITS = Limits()
