"""Where a key lives and how ids are made: murmur2 partitions and SHA-256 ids.

Sources: Kafka's default partitioner (org.apache.kafka.common.utils.Utils.murmur2 and
BuiltInPartitioner.partitionForKey); rule R7 in docs/rules.md.
"""

from functools import lru_cache
from hashlib import sha256

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995
_REMEMBERED = 255
"""Characters of the longest key whose partition is remembered: strangers can't fill the memory with longer ones."""


def murmur2(data: bytes) -> int:
    """The unsigned 32-bit murmur2 of `data`, as Kafka's Java client computes it."""
    length = len(data)
    h = 0x9747B28C ^ length
    whole = length & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * _M) & _MASK
        k ^= k >> 24
        h = ((h * _M) & _MASK) ^ ((k * _M) & _MASK)
    if tail := data[whole:]:
        h = ((h ^ int.from_bytes(tail, "little")) * _M) & _MASK
    h ^= h >> 13
    h = (h * _M) & _MASK
    return h ^ (h >> 15)


def partition_of(key: str, partitions: int) -> int:
    """The partition of a topic with `partitions` partitions on which records with `key` stand."""
    return remembered(key, partitions) if len(key) <= _REMEMBERED else _partition(key, partitions)


def _partition(key: str, partitions: int) -> int:
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


remembered = lru_cache(maxsize=262_144)(_partition)
"""`partition_of` for keys of a bounded length."""


def derive_id(*parts: str | int) -> str:
    """An id of 32 hex digits: the head of SHA-256 over the length-prefixed parts (R7).

    The parts name what the id is for and the record that decided it, so the same record always
    gives the same id and no two records give the same one.
    """
    return digest(*parts)[:32]


def digest(*parts: str | int) -> str:
    """SHA-256 over the length-prefixed parts, 64 hex digits."""
    return sha256("".join([f"{len(part)}:{part}" for part in map(str, parts)]).encode()).hexdigest()
