"""The system under load: its topics and accounts, its workers, and the drain of a backlog, watched and judged."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from time import monotonic, process_time, time_ns
from typing import Any, NamedTuple, TypeVar

from benchmarks import gates, harness, load
from benchmarks.harness import Bench, Gate, say
from headrace.workers import Crew, worker
from replay.reader import Place, Reader
from replay.tail import Tail
from schemas import codec
from schemas.events import Micros
from topologies import topics
from topologies.engine.admin import create_topics
from topologies.engine.sender import Sender
from topologies.payments import PLANS

WARM_UP = 0.2
STALL_S = 120.0
Told = TypeVar("Told")
Cpu = dict[str, float | None]
"""CPU by who used it; None where nobody can tell."""


class Void(Exception):
    """The run can't be finished; the message says why."""


class Shape(NamedTuple):
    """What is loaded, and with what."""

    accounts: int = 100_000
    partitions: int = 4
    workers: int = 2
    seed: int = 1
    zipf: float = 0.0
    hot: load.Hot | None = None
    overdraft: bool = False
    """Accounts may go below zero, so they are opened without money: twice as quick."""
    merchants: int = 0
    """So many accounts are merchants, whom all others pay: each credit bears a fee and belongs to a batch."""
    beside: tuple[str, ...] = ()
    """Roles that run beside core, a worker each."""

    @property
    def distribution(self) -> str:
        """How accounts are drawn, for the report."""
        return f"one {self.hot}" if self.hot else f"zipf {self.zipf}" if self.zipf else "uniform"

    def pairs(self, rng: Random) -> load.Pairs:
        """Debtors and creditors."""
        if self.merchants:
            return load.shopping(self.accounts, self.merchants, rng)
        if self.hot:
            return load.hot(self.accounts, self.hot, rng)
        return load.skewed(self.accounts, self.zipf, rng) if self.zipf else load.uniform(self.accounts, rng)


class Run(NamedTuple):
    """One drain."""

    payments_per_s: float
    """After the warm-up."""
    overall_per_s: float
    """From the first terminal event to the last."""
    warm_up_s: float
    measured_s: float
    cpu_us: dict[str, float | None]
    """CPU per payment after the warm-up: workers, broker, this process, steal is not taken off."""
    rss_mb: list[float]
    """Peak of each worker."""


class Watch:
    """Counts records of a topic until `total`; raises Void where nothing comes."""

    def __init__(self, bench: Bench, crew: Crew, starts: Mapping[Place, int]) -> None:
        self._bench = bench
        self._crew = crew
        self._starts = starts

    def wait(self, topic: str, total: int) -> None:
        """Returns when `total` records stand on `topic`."""
        counted, moved = 0, monotonic()
        with Tail(self._bench.cluster, [topic], self._starts) as tail:
            while counted < total:
                new = tail.count(0.2)
                counted += new
                moved = monotonic() if new else moved
                self._check(counted, total, topic, moved)

    def drain(self, total: int, topic: str = topics.EVENTS.name) -> Run:
        """Times `total` records of a topic: terminal events, unless another is named."""
        counted, moved = 0, monotonic()
        marks: list[tuple[float, int, Cpu]] = []
        warm = int(total * WARM_UP)
        with Tail(self._bench.cluster, [topic], self._starts) as tail:
            while counted < total:
                new = tail.count(0.05)
                now = monotonic()
                if new:
                    first = counted == 0
                    moved, counted = now, counted + new
                    if first or (len(marks) == 1 and counted >= warm):
                        marks.append((now, counted, cpu_used(self._bench, self._crew)))
                self._check(counted, total, topic, moved)
            marks.append((moved, counted, cpu_used(self._bench, self._crew)))
        (start, _, _), (warmed, before, used), (end, _, most) = marks[0], marks[-2], marks[-1]
        measured = counted - before
        if not measured or end == warmed:
            raise Void(f"all {total:,} records of {topic} came at once: too few to time")
        return Run(
            round(measured / (end - warmed), 1),
            round(counted / (end - start), 1),
            round(warmed - start, 3),
            round(end - warmed, 3),
            cpu_per_payment(used, most, measured),
            [round(harness.peak_mb(pid), 1) for pid in self._crew.pids[-self._crew.alive() :]],
        )

    def _check(self, counted: int, total: int, topic: str, moved: float) -> None:
        if self._crew.alive() == 0:
            raise Void(f"no worker is left at {counted:,} of {total:,} records on {topic}")
        if monotonic() - moved > STALL_S:
            raise Void(f"nothing moved for {STALL_S:.0f} s at {counted:,} of {total:,} records on {topic}")


def cpu_used(bench: Bench, crew: Crew) -> Cpu:
    """CPU seconds so far: the workers', the broker's (None where it is not ours), and this process's."""
    pid = bench.broker_pid
    return {
        "workers": sum(harness.cpu_seconds(worker) for worker in crew.pids),
        "broker": None if pid is None else harness.cpu_seconds(pid),
        "observer": process_time(),
    }


def cpu_per_payment(before: Cpu, after: Cpu, payments: int) -> Cpu:
    """CPU µs a payment between two looks."""
    return {
        name: None if used is None else round(1e6 * ((after[name] or 0.0) - used) / payments, 1)
        for name, used in before.items()
    }


def send(bench: Bench, topic: str, records: Iterable[Any], key: str) -> int:
    """Publishes records under the field `key`; how many."""
    sender, count = Sender(bench.cluster), 0
    for record in records:
        sender.send(topic, getattr(record, key).encode(), codec.encode(record))
        count += 1
    sender.flush()
    return count


def ends(bench: Bench) -> dict[Place, int]:
    """The ends of the topics that are counted."""
    with Reader(bench.cluster) as reader:
        return reader.ends(gates.COUNTED)


@contextmanager
def crew_of(bench: Bench, workers: int, roles: Sequence[str] = ()) -> Iterator[Crew]:
    """`workers` workers of the role core and one of each of `roles`, started; they are stopped at the end."""
    with Crew(bench.home / "logs", say) as crew:
        crew.start(worker("core", "--port", "0"), workers, bench.environment)
        for role in roles:
            crew.start(worker(role, "--port", "0"), 1, bench.environment)
        yield crew


def prepare(bench: Bench, shape: Shape) -> float:
    """Topics, accounts and opening money, through the real pipeline; seconds that it took."""
    begun = monotonic()
    create_topics(bench.cluster, PLANS.values(), shape.partitions, 1)
    now = Micros(time_ns() // 1_000)
    flags = () if shape.overdraft else ("NO_OVERDRAFT",)
    with crew_of(bench, shape.workers) as crew:
        watch = Watch(bench, crew, {})
        say(f"opening {shape.accounts:,} accounts")
        commands = send(
            bench, topics.COMMANDS.name, load.opened(shape.accounts, now, flags, shape.merchants), "account"
        )
        watch.wait(topics.ACCOUNT_EVENTS.name, commands)
        if not shape.overdraft:
            say("funding them")
            watch.wait(topics.EVENTS.name, send(bench, topics.INTENTS.name, load.funded(shape.accounts, now), "debtor"))
    return monotonic() - begun


def publish(bench: Bench, shape: Shape, payments: int, number: int) -> None:
    """A backlog of transfers; `number` makes it another one than those before."""
    seed = shape.seed + number
    rng = Random(seed)
    now = Micros(time_ns() // 1_000)
    intents = load.transfers(shape.pairs(rng), payments, rng, str(seed), now)
    send(bench, topics.INTENTS.name, intents, "debtor")


def ended(
    bench: Bench, shape: Shape, payments: int, number: int, look: Callable[[Watch], Told]
) -> tuple[Told, list[Gate]]:
    """Publishes a backlog while no worker runs, starts them, `look`s until it has ended, and judges the result."""
    before = ends(bench)
    say(f"run {number}: publishing a backlog of {payments:,}")
    publish(bench, shape, payments, number)
    with crew_of(bench, shape.workers, shape.beside) as crew:
        told = look(Watch(bench, crew, before))
        codes = crew.stop()
    return told, [stopped(codes), *gates.judge(bench.cluster, payments, before)]


def drained(bench: Bench, shape: Shape, payments: int, number: int) -> tuple[Run, list[Gate]]:
    """A backlog, timed and judged."""
    run, judged = ended(bench, shape, payments, number, lambda watch: watch.drain(payments))
    say(f"run {number}: {run.payments_per_s:,.0f} payments/s")
    return run, judged


def stopped(codes: Sequence[int | None]) -> Gate:
    """Whether all workers ended as they were told."""
    return Gate("workers stopped gracefully", list(codes) == [0] * len(codes), f"exit codes {list(codes)}")
