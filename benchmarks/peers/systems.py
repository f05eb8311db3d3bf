"""The peers as values: what each is, how it is started, in which settings, and where its balances stand."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rocksdict import AccessType, Options, Rdict

from benchmarks.harness import ROOT
from benchmarks.peers import environments, headrace_job, job
from benchmarks.peers.naive import ACCOUNT
from headrace import __version__
from headrace.jars import KAFKA_VERSION
from replay.logged import read_changelog
from replay.reader import Raw, Reader
from schemas.catalogue import catalogue
from topologies import topics
from topologies.engine.config import ClusterConfig

Launch = tuple[list[str], dict[str, str]]
"""A worker's command, and what is added to its environment."""
Balances = dict[str, int]
QUIX_KEY = b"|"
HEADRACE_JOB = "headrace_job"
"""Headrace's engine with the common job's rules."""


class Variant(NamedTuple):
    """One setting of a peer that the sweep tries."""

    name: str
    options: dict[str, Any]
    share: float = 1.0
    """Of the peer's backlog, in the sweep: less where it is slow."""
    workers: int | None = None
    """How many processes; None: --workers."""
    loops: bool = False
    """Whether the credits go to the topic of the intents."""


class Peer(NamedTuple):
    """A system that does the common job."""

    name: str
    versions: dict[str, str]
    job: str
    """What it does, where that is not the common job."""
    variants: tuple[Variant, ...]
    """The first is taken where no sweep is made."""
    share: float
    """Of --payments: a slow peer gets the first part of the same backlog, so that a run takes about as long."""
    warm_up: float
    """Share of a run that is not measured."""
    launch: Callable[[job.Told, Path], list[Launch]]
    """The workers' commands; raises Unavailable."""
    balances: Callable[[job.Told], Balances] | None
    """The balances as its state has them; None where it keeps none."""
    outcome: Any = topics.EVENTS
    """The topic whose schema its outcomes have."""


def _ours(told: job.Told, _cache: Path) -> list[Launch]:
    """Worker processes of this installation's engine."""
    command = [sys.executable, "-m", "benchmarks.peers.headrace_job"]
    mine = [json.dumps(told._replace(worker=number)._asdict()) for number in range(told.workers)]
    return [(command, {job.VARIABLE: one, "PYTHONPATH": str(ROOT)}) for one in mine]


def _python(environment: str, *words: str) -> Callable[[job.Told, Path], list[Launch]]:
    """Worker processes of a Python peer."""

    def launch(told: job.Told, cache: Path) -> list[Launch]:
        python = environments.python_of(environment, cache)
        found = []
        for number in range(told.workers):
            mine = json.dumps(told._replace(worker=number)._asdict())
            found.append(([str(python), "-m", *words], {job.VARIABLE: mine, "PYTHONPATH": str(ROOT)}))
        return found

    return launch


def _streams(told: job.Told, cache: Path) -> list[Launch]:
    """One process of Kafka Streams; its threads are its workers."""
    java, path = environments.java_of(cache)
    words = {
        "bootstrap": told.bootstrap, "group": told.group, "folder": told.folder, "opening": told.opening,
        "intents": told.intents, "credits": told.credits, "events": told.events, **told.options,
    }  # fmt: skip
    for name, topic in (("intents", topics.INTENTS), ("events", topics.EVENTS)):
        newest = catalogue().versions(topic.subject)[-1]
        words |= {f"{name}_schema": job.AVRO / f"{topic.name}.avsc", f"{name}_id": newest.id}
    options = ["-Xmx2g", "--enable-native-access=ALL-UNNAMED", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
    return [([str(java), *options, "-cp", path, "Transfers", *(f"{name}={word}" for name, word in words.items())], {})]


def _last(told: job.Told, wanted: Callable[[str], bool]) -> Iterator[Raw]:
    """The committed records of each topic whose name is wanted."""
    with Reader(ClusterConfig(told.bootstrap)) as reader:
        for name in filter(wanted, reader.partitions()):
            yield from reader.read(name, reader.ends([name]))


def _balance(row: bytes) -> int:
    return job.unpacked(row)[0]


def _of_changelog(told: job.Told) -> Balances:
    """Faust and Kafka Streams name it alike; its key is the account."""
    found = _last(told, lambda name: name == f"{told.group}-accounts-changelog")
    return {raw.key.decode(): _balance(raw.value) for raw in found if raw.key and raw.value}


def _of_quix(told: job.Told) -> Balances:
    """The key is the record's key, a bar, and the row's key as JSON."""
    tail = QUIX_KEY + json.dumps("account").encode()
    found = _last(told, lambda name: name.startswith(f"changelog__{told.group}--"))
    return {
        raw.key.removesuffix(tail).decode(): _balance(raw.value)
        for raw in found
        if raw.key and raw.value and raw.key.endswith(tail)
    }


def _of_packed(told: job.Told) -> Balances:
    """Headrace's own changelog: rows by key, as its audit reads them."""
    topic = headrace_job.changelog_of(told)
    with Reader(ClusterConfig(told.bootstrap)) as reader:
        histories = read_changelog(reader, topic, dict.fromkeys(range(told.partitions)), headrace_job.ACCOUNTS)
    rows = (history.at[headrace_job.ACCOUNTS] for history in histories.values())
    return {key.decode(): json.loads(row)[0] for found in rows for key, row in found.items() if row}


def _of_stores(told: job.Told) -> Balances:
    """The naive loop has no changelog: its stores, read when it has stopped."""
    found = {}
    for number in range(told.workers):
        path = Path(told.folder) / f"rows-{number}"
        if path.exists():
            store = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
            for key, row in store.items(from_key=ACCOUNT):
                if key.startswith(ACCOUNT):
                    found[key.removeprefix(ACCOUNT).decode()] = _balance(row)
            store.close()
    return found


def _seconds() -> tuple[Variant, ...]:
    """Two joined topics want shorter polls and smaller buffers than Quix's defaults: it waits for both."""
    polls = {"consumer_poll_timeout": 0.1, "max_partition_buffer_size": 1_000}
    one = (Variant(f"one topic, commit interval {s} s", {"commit_interval": s}, loops=True) for s in (1, 0.1, 0.2, 5))
    two = Variant("two topics, commit interval 1 s", {"commit_interval": 1, **polls})
    four = Variant("one topic, commit interval 0.1 s, 4 workers", {"commit_interval": 0.1}, workers=4, loops=True)
    return (*one, two, four)


def _threads() -> tuple[Variant, ...]:
    return tuple(
        Variant(
            f"{threads} thread{'s' * (threads > 1)}, commit interval {ms} ms",
            {"threads": threads, "commit_interval_ms": ms},
        )
        for threads, intervals in ((2, (100, 25, 500)), (1, (100, 25, 500)), (4, (100,)))
        for ms in intervals
    )


def _batches() -> tuple[Variant, ...]:
    """Its producers are one for each partition that a worker owns, so two workers can't send to each other's."""
    large = {"producer_linger": 0.05, "producer_max_batch_size": 131_072}
    return (
        Variant("1 worker, large batches", large, workers=1),
        Variant("1 worker", {}, workers=1),
        Variant("2 workers", large, 0.2, 2),
    )


def _plain(*packages: str) -> dict[str, str]:
    return {package: environments.pinned("plain", package) for package in packages}


PEERS = (
    Peer(
        HEADRACE_JOB, {"headrace": __version__}, "transfer",
        tuple(Variant(f"{workers} workers", {}, workers=workers) for workers in (2, 4)), 1.0, 0.2, _ours, _of_packed,
    ),
    Peer(
        "kafka_streams", {"kafka-streams": KAFKA_VERSION}, "transfer", _threads(), 2.0, 0.5, _streams, _of_changelog,
    ),
    Peer(
        "quix", {name: environments.pinned("quix", name) for name in ("quixstreams", "confluent-kafka")}, "transfer",
        _seconds(), 0.5, 0.2, _python("quix", "benchmarks.peers.quix"), _of_quix,
    ),
    Peer(
        "faust", {name: environments.pinned("faust", name) for name in ("faust-streaming", "aiokafka")}, "transfer",
        _batches(), 0.1, 0.2,
        _python("faust", "faust", "-A", "benchmarks.peers.faust_stock", "--loop", "uvloop", "worker", "--without-web",
                "--loglevel", "warn"),
        _of_changelog,
    ),
    Peer(
        "naive", _plain("confluent-kafka", "rocksdict"), "transfer, its rows outside the transaction",
        (Variant("1,000 records a transaction", {"records": 1_000}),
         Variant("1,000 records a transaction, 4 workers", {"records": 1_000}, workers=4),
         Variant("1 record a transaction", {"records": 1}, 0.05)), 0.5, 0.2,
        _python("plain", "benchmarks.peers.naive"), _of_stores,
    ),
    Peer(
        "echo", _plain("confluent-kafka"), "consume, produce, commit: no work, no state",
        (Variant("5,000 records a transaction", {}),), 1.0, 0.2,
        _python("plain", "benchmarks.peers.echo"), None, topics.INTENTS,
    ),
)  # fmt: skip
BY_NAME = {peer.name: peer for peer in PEERS}


def home() -> Path:
    """Where environments are kept unless --cache says otherwise."""
    return Path(os.environ.get("HEADRACE_HOME") or ".headrace").resolve() / "peers"
