"""One run of one peer: a backlog, the workers, the drain, the gates; and the same for headrace itself."""

import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple, Self

from confluent_kafka.admin import NewTopic

from benchmarks import gates, harness, load
from benchmarks.harness import Bench, Gate, say
from benchmarks.peers import judge
from benchmarks.peers.drain import Figures, Patience, Watch, Watched, cpu_of, figures
from benchmarks.peers.job import Told
from benchmarks.peers.systems import Peer, Variant
from headrace.workers import Crew, worker
from replay.reader import Reader, Unreachable
from replay.tail import Tail
from schemas import codec
from schemas.events import Micros
from topologies import topics
from topologies.engine.admin import CALL_S, admin_client, create_topics
from topologies.engine.config import ClusterConfig
from topologies.engine.sender import Sender
from topologies.payments import PLANS
from topologies.topics import Topic

HEADRACE = "headrace"
WARM_UP = 0.2
PREPARE_S = 600.0
ERROR = re.compile(r"\b\w*(Error|Exception)\b")


class Wanted(NamedTuple):
    """What all runs have in common."""

    accounts: int
    zipf: float
    seed: int
    partitions: int
    workers: int
    patience: Patience
    cache: Path


class Backlog(NamedTuple):
    """Which intents a run gets: the first `payments` of those of `whole`, the same for every system."""

    number: int
    """Of the repeat; 0 is the sweep."""
    payments: int
    whole: int
    at: Micros
    """The moment before which all of them were asked for."""

    def intents(self, wanted: Wanted) -> Any:
        """The intents, in their order."""
        seed = wanted.seed + self.number
        found = load.backlog(self.whole, wanted.accounts, wanted.zipf, seed, self.at)
        return (intent for _, intent in zip(range(self.payments), found, strict=False))


class Run(NamedTuple):
    """One drain, judged."""

    system: str
    variant: str
    number: int
    payments: int
    outcomes: int
    """Intents that ended."""
    figures: Figures
    rss_mb: list[float]
    """Peak of each worker."""
    trouble: str | None
    gates: list[Gate]

    @property
    def valid(self) -> bool:
        """Whether every gate held."""
        return self.trouble is None and all(gate.ok for gate in self.gates)


class Program(Crew):
    """A crew of one, whose log may name an error."""

    def complaint(self) -> str | None:
        """The last line of its log that names an error, or None."""
        log = self.log(1)
        lines = log.read_text(errors="replace").splitlines() if log.exists() else []
        found = [line.strip() for line in lines if ERROR.search(line)]
        return found[-1][:400] if found else None


class Programs:
    """The workers of a peer; ends none but its own."""

    def __init__(self, launches: Sequence[tuple[list[str], dict[str, str]]], folder: Path) -> None:
        self._crews = [Program(folder / str(number), say) for number, _ in enumerate(launches)]
        self._launches = launches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts all of them at once."""
        for crew, (words, environment) in zip(self._crews, self._launches, strict=True):
            crew.start(words, 1, environment)

    @property
    def pids(self) -> list[int]:
        """Of all that were started."""
        return [pid for crew in self._crews for pid in crew.pids]

    def alive(self) -> bool:
        """Whether any runs; says of each that died."""
        return sum(crew.alive() for crew in self._crews) > 0

    def complaints(self) -> str:
        """What the workers' logs complain of, each thing once."""
        found = dict.fromkeys(words for crew in self._crews if (words := crew.complaint()))
        return "".join(f"; {words}" for words in found)

    def stop(self) -> None:
        """SIGTERM to all, then SIGKILL."""
        with ThreadPoolExecutor(len(self._crews)) as pool:
            for _ in pool.map(Crew.stop, self._crews):
                pass


def _create(cluster: ClusterConfig, names: Sequence[Topic], partitions: int) -> None:
    new = [NewTopic(cluster.prefix + topic.name, partitions, 1, config={}) for topic in names]
    client = admin_client(cluster)  # its futures end with it
    for future in client.create_topics(new, operation_timeout=CALL_S).values():
        future.result()


def _delete(cluster: ClusterConfig) -> None:
    """All topics of a run, so that none is compacted or expired beside the next one."""
    client = admin_client(cluster)
    names = [name for name in client.list_topics(timeout=CALL_S).topics if cluster.prefix in name]
    for future in client.delete_topics(names, operation_timeout=CALL_S).values():
        future.result()


def _publish(cluster: ClusterConfig, topic: Topic, records: Any, key: str) -> int:
    sender, count = Sender(cluster), 0
    for record in records:
        sender.send(topic.name, getattr(record, key).encode(), codec.encode(record))
        count += 1
    sender.flush()
    sender.close()
    return count


def peer_run(bench: Bench, wanted: Wanted, peer: Peer, variant: Variant, backlog: Backlog) -> Run:
    """One run of a peer from an empty state, in topics of its own that are deleted afterwards. Raises Unavailable."""
    name = f"{peer.name}-{backlog.number}-{time_ns() // 1_000_000}"
    cluster = replace(bench.cluster, prefix=f"{bench.cluster.prefix}{name}.")
    folder = bench.home / "peers" / name
    folder.mkdir(parents=True)
    credits_ = topics.INTENTS if variant.loops else topics.CREDITS
    told = Told(
        cluster.bootstrap, cluster.prefix + topics.INTENTS.name, cluster.prefix + credits_.name,
        cluster.prefix + topics.EVENTS.name, f"{cluster.prefix}app", str(folder), 0,
        variant.workers or wanted.workers,
        wanted.partitions, load.OPENING, variant.options,
    )  # fmt: skip
    launches = peer.launch(told, wanted.cache)
    _create(cluster, [topics.INTENTS, topics.CREDITS, topics.EVENTS], wanted.partitions)
    say(f"{peer.name} {backlog.number}: {variant.name}; publishing a backlog of {backlog.payments:,}")
    _publish(cluster, topics.INTENTS, backlog.intents(wanted), "debtor")
    try:
        with Programs(launches, folder / "logs") as programs:
            watch = Watch(cluster, {}, wanted.partitions, credits_.name)
            programs.start()
            watched = watch.drain(
                backlog.payments, wanted.patience, programs.alive, lambda: cpu_of(programs.pids, bench.broker_pid)
            )
            rss = [round(harness.peak_mb(pid), 1) for pid in programs.pids]
        if watched.trouble:
            watched = watched._replace(trouble=watched.trouble + programs.complaints())
        ended, judged = _judged(cluster, wanted, peer, backlog, told)
        return _run(peer.name, variant.name, backlog, (watched, ended, peer.warm_up), (rss, judged))
    finally:
        _delete(cluster)
        shutil.rmtree(folder, ignore_errors=True)


def _judged(cluster: ClusterConfig, wanted: Wanted, peer: Peer, backlog: Backlog, told: Told) -> tuple[int, list[Gate]]:
    """How many intents ended, and the gates."""
    try:
        found = judge.read(cluster, peer.outcome.subject)
        balances = None if peer.balances is None else peer.balances(told)
    except Unreachable as error:  # a worker that had to be killed leaves its transaction open
        return 0, [Gate("the outcomes can be read to their end", False, str(error))]
    offered = {intent.intent_id for intent in backlog.intents(wanted)}
    return len(found.intents), judge.judge(found, offered, load.OPENING, balances)


def _run(
    system: str,
    variant: str,
    backlog: Backlog,
    seen: tuple[Watched, int, float],
    judged: tuple[list[float], list[Gate]],
) -> Run:
    watched, ended, warm_up = seen
    speed = figures(watched.samples, backlog.payments, warm_up)
    run = Run(system, variant, backlog.number, backlog.payments, ended, speed, judged[0], watched.trouble, judged[1])
    told = "no rate" if speed.payments_per_s is None else f"{speed.payments_per_s:,.0f} payments/s"
    say(f"{system} {backlog.number}: {told}, {ended:,} of {backlog.payments:,} ended" + ("" if run.valid else ", VOID"))
    for gate in judged[1]:
        if not gate.ok:
            say(f"{system} {backlog.number}: {gate.name}: {gate.detail}")
    if watched.trouble:
        say(f"{system} {backlog.number}: {watched.trouble}")
    return run


class Headrace:
    """Headrace's role core as it comes, over accounts that its own pipeline opened and funded."""

    def __init__(self, bench: Bench, wanted: Wanted) -> None:
        self._bench = bench
        self._wanted = wanted

    def _crew(self) -> Crew:
        return Crew(self._bench.home / "logs", say)

    def prepare(self) -> None:
        """Topics, accounts and opening money. Raises TimeoutError where its workers do not do it."""
        cluster, accounts = self._bench.cluster, self._wanted.accounts
        create_topics(cluster, PLANS.values(), self._wanted.partitions, 1)
        now = Micros(time_ns() // 1_000)
        with self._crew() as crew:
            crew.start(worker("core", "--port", "0"), self._wanted.workers, self._bench.environment)
            say(f"{HEADRACE}: opening and funding {accounts:,} accounts")
            opened = _publish(cluster, topics.COMMANDS, load.opened(accounts, now), "account")
            self._wait(topics.ACCOUNT_EVENTS, opened)
            funded = _publish(cluster, topics.INTENTS, load.funded(accounts, now), "debtor")
            self._wait(topics.EVENTS, funded)

    def _wait(self, topic: Topic, total: int) -> None:
        deadline = time_ns() + int(PREPARE_S * 1e9)
        with Tail(self._bench.cluster, [topic.name]) as tail:
            counted = 0
            while counted < total:
                counted += tail.count(0.2)
                if time_ns() > deadline:
                    raise TimeoutError(f"{counted:,} of {total:,} records on {topic.name} in {PREPARE_S:.0f} s")

    def run(self, backlog: Backlog) -> Run:
        """One drain; the workers stand still while the backlog is published."""
        bench, wanted = self._bench, self._wanted
        with Reader(bench.cluster) as reader:
            before = reader.ends(gates.COUNTED)
        say(f"{HEADRACE} {backlog.number}: publishing a backlog of {backlog.payments:,}")
        _publish(bench.cluster, topics.INTENTS, backlog.intents(wanted), "debtor")
        with self._crew() as crew:
            watch = Watch(bench.cluster, before, wanted.partitions)
            crew.start(worker("core", "--port", "0"), wanted.workers, bench.environment)
            watched = watch.drain(
                backlog.payments, wanted.patience, lambda: crew.alive() > 0,
                lambda: cpu_of(crew.pids, bench.broker_pid),
            )  # fmt: skip
            rss = [round(harness.peak_mb(pid), 1) for pid in crew.pids]
        judged = gates.judge(bench.cluster, backlog.payments, before)
        return _run(
            HEADRACE, "as it comes", backlog, (watched, watched.samples[-1].outcomes, WARM_UP), (rss, judged)
        )  # fmt: skip
