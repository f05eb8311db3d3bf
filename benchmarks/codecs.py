"""The codecs alone: generated functions against fastavro, on what real payments leave on every topic."""

from collections.abc import Callable, Sequence
from io import BytesIO
from random import Random
from time import process_time
from typing import Any, NamedTuple

import fastavro
from fastavro.utils import generate_one

from benchmarks import load
from benchmarks.harness import Gate
from schemas import codec
from schemas.codec import HEAD
from schemas.events import Micros
from topologies import topics
from topologies.engine.memory.driver import Memory
from topologies.payments import CORE

AT = Micros(1_700_000_000_000_000)
ACCOUNTS = 200
REPEATS = 3
"""The quickest of so many passes is told: the machine only ever adds."""


class Coded(NamedTuple):
    """One schema, µs of CPU a record."""

    subject: str
    size: float
    """Bytes of a value, on average."""
    encode_us: float
    fastavro_encode_us: float
    decode_us: float
    fastavro_decode_us: float


def values(payments: int) -> dict[str, list[bytes]]:
    """Values of every subject: those of real payments, else made by chance from the schema."""
    memory, rng = Memory(CORE, now=AT), Random(1)
    for command in load.opened(ACCOUNTS, AT, ()):
        memory.publish(topics.COMMANDS, command.account, command)
    for intent in load.transfers(load.uniform(ACCOUNTS, rng), payments, rng, "micro", AT):
        memory.publish(topics.INTENTS, intent.debtor, intent)
    memory.run()
    found = {}
    for topic in topics.CONTRACT:
        stored = [one.value for one in memory.stored(topic) if one.value is not None]
        found[topic.subject] = stored or _by_chance(topic.subject, max(1, payments // 10))
    return found


def _by_chance(subject: str, count: int) -> list[bytes]:
    newest = codec.catalogue().versions(subject)[-1]
    schema, head = plain(subject), bytes([codec.MAGIC]) + newest.id.to_bytes(4, "big")
    return [head + _written(schema, generate_one(schema)) for _ in range(count)]


def plain(subject: str) -> Any:
    """A subject's current schema, with times as plain longs."""
    return fastavro.parse_schema(_without_times(codec.catalogue().versions(subject)[-1].schema))


def _without_times(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_times(branch) for branch in schema]
    if isinstance(schema, dict):
        return {name: _without_times(value) for name, value in schema.items() if name != "logicalType"}
    return schema


def _written(schema: Any, record: Any) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return out.getvalue()


def _quickest(work: Callable[[Any], Any], records: Sequence[Any]) -> float:
    """µs a record."""
    passes = []
    for _ in range(REPEATS):
        begun = process_time()
        for record in records:
            work(record)
        passes.append(process_time() - begun)
    return round(1e6 * min(passes) / len(records), 2)


def measured(payments: int) -> tuple[list[Coded], list[Gate]]:
    """All subjects; a gate each: both codecs give the same bytes."""
    found, judged = [], []
    for subject, data in values(payments).items():
        one, gate = _coded(subject, data)
        found.append(one)
        judged.append(gate)
    return found, judged


def _coded(subject: str, data: list[bytes]) -> tuple[Coded, Gate]:
    schema, decode = plain(subject), codec.decoder(subject)

    def read(value: bytes) -> Any:
        return fastavro.schemaless_reader(BytesIO(value[HEAD:]), schema, None)

    def write(record: Any) -> bytes:
        return _written(schema, record)

    records, dicts = [decode(value) for value in data], [read(value) for value in data]
    encode: Callable[[Any], bytes] = codec.encoder(records[0].__class__)
    same = all(
        encode(record) == value == value[:HEAD] + write(plain_record)
        for record, value, plain_record in zip(records, data, dicts, strict=True)
    )
    size = round(sum(map(len, data)) / len(data), 1)
    figures = _quickest(encode, records), _quickest(write, dicts), _quickest(decode, data), _quickest(read, data)
    return Coded(subject, size, *figures), Gate(f"{subject}: both codecs agree", same, f"{len(data):,} values")
