"""`headrace demo`: a believable day through the real pipeline, on topics of its own, and the books at its end."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from time import monotonic, sleep, time_ns
from typing import Any, NamedTuple

from headrace.aftermath import (
    ROLES,
    SHOPS,
    Settled,
    Webhooks,
    as_json,
    environment,
    records_of,
    settled_in,
    to_settle,
    to_tell,
)
from headrace.day import Day, Published, a_day
from headrace.fates import LETTERS, Fates
from headrace.progress import Progress
from headrace.receiver import Receiver
from headrace.workers import Crew, worker
from headrace.world import kind_of
from replay.audit import AuditReport, audit
from replay.reader import Reader
from replay.tail import Tail, members
from schemas import codec
from schemas.events import AccountAction, Intent, Micros, Status
from topologies import topics
from topologies.engine.admin import create_topics
from topologies.engine.config import ClusterConfig
from topologies.engine.sender import Sender
from topologies.payments import CORE, PLANS

ALONE_S = 120.0
"""How long the demo waits without progress once none of its workers is left."""
CHUNK = 500
"""Intents published between two looks at what has come back."""
QUIET_S = 30.0
"""After so long without progress the demo says so, again and again."""


class DemoFailed(Exception):
    """The demo can't go on: the message names the thing, the reason and the way out."""


class RunUsed(DemoFailed):
    """The run id was used before."""


class Wanted(NamedTuple):
    """What kind of demo."""

    run: str
    payments: int
    seed: int
    workers: int
    """0: those of `headrace run --run ID`."""
    partitions: int = 4
    replication: int | None = None
    """None: what the brokers are set to."""
    front: tuple[str, ...] = ()
    """Options that workers are given before their command."""


class Books(NamedTuple):
    """Money at the end, by (kind of account, currency)."""

    balances: Counter[tuple[str, str]]
    """Credits less debits, posted, in minor units."""
    held: Counter[tuple[str, str]]
    """Pending debits."""
    accounts: Counter[tuple[str, str]]


class Outcome(NamedTuple):
    """What a demo came to."""

    wanted: Wanted
    fates: Fates
    seconds: float
    """From the first intent published to the last fate seen."""
    books: Books
    audit: AuditReport
    settled: Settled | None = None
    """None where the demo's workers were not its own."""
    webhooks: Webhooks | None = None

    @property
    def rate(self) -> float:
        """Intents per second."""
        return self.fates.answered / self.seconds

    def as_json(self) -> dict[str, Any]:
        """The demo's result, as `--json` prints it."""
        return {
            "run": self.wanted.run,
            "seed": self.wanted.seed,
            "workers": self.wanted.workers,
            "intents": self.fates.answered,
            "events_by_status": dict(sorted(self.fates.by_status.items())),
            "dead_letters": dict(sorted(self.fates.dead_letters.items())),
            "repeats": self.fates.repeats,
            "seconds": round(self.seconds, 3),
            "payments_per_second": round(self.rate, 1),
            "end_to_end_ms": self.fates.percentiles_ms(),
            **as_json(self.settled, self.webhooks),
            "audit": {check.name: check.ok for check in self.audit.checks},
        }


def prepare(cluster: ClusterConfig, wanted: Wanted) -> None:
    """Creates the run's topics. Raises RunUsed where there are records on them."""
    report = create_topics(cluster, PLANS.values(), wanted.partitions, wanted.replication)
    if report.refused:
        raise DemoFailed(report.refused[0])
    if not report.existing:
        return
    with Reader(cluster) as reader:
        used = [name for (name, _), end in reader.ends([topics.INTENTS.name, topics.COMMANDS.name]).items() if end]
    if used:
        raise RunUsed(
            f"run {wanted.run} was used before: {cluster.prefix}{used[0]} is not empty. Choose another --run, or none."
        )


def run_demo(cluster: ClusterConfig, wanted: Wanted, crew: Crew, progress: Progress) -> Outcome:
    """The whole demo on prepared topics; starts its workers and stops them.

    Raises DemoFailed, replay.reader.Unreachable, topologies.engine.sender.Undelivered.
    """
    day = a_day(wanted.payments, wanted.seed, Micros(time_ns() // 1_000))
    with Receiver() as receiver:
        shops = _shops(day)
        if wanted.workers:
            _start_workers(wanted, crew, environment(crew.folder, receiver, shops))
        else:
            progress.say(f"waiting for a worker; start one with: {_another(wanted.run)}")
        _await_members(cluster, wanted, crew)
        progress.say(f"kill a worker if you like (kill -9 PID); start another with: {_another(wanted.run)}")
        watch, fates = Watch(crew, progress, wanted), Fates(cluster.prefix)
        seconds = _the_day(cluster, day, fates, watch)
        settled, webhooks = None, None
        if wanted.workers:
            settled, webhooks = _what_follows(cluster, watch, receiver, shops)
        progress.done()
        codes = crew.stop()
    if codes:
        progress.say(f"workers stopped, exit codes {', '.join(map(str, codes))}")
    progress.say("folding the books from ledger.postings, then auditing every topic from its start")
    return Outcome(wanted, fates, seconds, fold_books(cluster), audit(cluster, quiet=True), settled, webhooks)


def _another(run: str) -> str:
    return f"headrace run core --run {run} --port 0"


def _shops(day: Day) -> list[str]:
    """Some merchants with few payments: their webhooks are told one by one."""
    merchants = [command.account for command in day.commands if "MERCHANT" in command.flags]
    blocked = {command.account for command in day.commands if command.command != AccountAction.OPEN}
    return [account for account in merchants if account not in blocked][-SHOPS:]


def _start_workers(wanted: Wanted, crew: Crew, more: Mapping[str, str]) -> None:
    """The workers of core, and one process that keeps the other roles running."""
    told = ("--run", wanted.run, "--port", "0")
    crew.start(worker("core", *told, front=wanted.front), wanted.workers, more)
    crew.start(worker(*ROLES, *told, front=wanted.front), 1, more)


def _the_day(cluster: ClusterConfig, day: Day, fates: Fates, watch: "Watch") -> float:
    """Publishes all of it and waits for every fate; seconds from the first intent on."""
    rest, sender = encoded(day.rest), Sender(cluster)
    _open_accounts(cluster, day, sender, watch)
    with Tail(cluster, [topics.EVENTS.name, *_letter_topics()]) as tail:
        started = monotonic()
        _publish(encoded(day.funding), sender, tail, fates, watch.stage("opening money", len(day.funding)))
        _publish(rest, sender, tail, fates, watch.stage("the day", len(day.funding) + len(rest)))
        return monotonic() - started


def _what_follows(
    cluster: ClusterConfig, watch: "Watch", receiver: Receiver, shops: list[str]
) -> tuple[Settled, Webhooks]:
    """Waits until every merchant's credit is settled, and until the shops know all of it."""
    total = to_settle(cluster)
    watch.stage("settlement", total, ALONE_S)
    decode, counted = codec.decoder(topics.EVENTS.subject), 0
    with Tail(cluster, [topics.EVENTS.name]) as tail:
        while counted < total:
            counted += sum(decode(raw.value).status == Status.SETTLED for raw in tail.poll(0.1))
            watch.look(counted, lambda: "windows end every ten seconds here")
    total = to_tell(cluster, shops)
    watch.stage("webhooks", total, ALONE_S)
    while len(receiver.ids) < total:
        sleep(0.05)
        watch.look(len(receiver.ids), lambda: f"{len(receiver.ids):,} events told to {len(shops)} shops")
    return settled_in(cluster), Webhooks(total, len(receiver.ids), receiver.calls, receiver.unsigned)


def encoded(records: Iterable[Published]) -> list[tuple[bytes, bytes]]:
    """Keys and values as they go to Kafka."""
    encode = codec.encoder(Intent)
    return [
        (record.key.encode(), encode(record.value) if isinstance(record.value, Intent) else record.value)
        for record in records
    ]


def _letter_topics() -> list[str]:
    return [topic.name for topic in CORE.topics() if topic.name.startswith(LETTERS)]


class Watch:
    """Tells how far a stage is, and notices workers that die and progress that ends."""

    def __init__(self, crew: Crew, progress: Progress, wanted: Wanted) -> None:
        self._crew = crew
        self._progress = progress
        self._wanted = wanted
        self._total = 0
        self._done = -1
        self._moved = self._said = monotonic()
        self._alive = crew.alive()
        self._patience_s: float | None = None

    def stage(self, name: str, total: int, patience_s: float | None = None) -> "Watch":
        """A new stage; `total` of something are to be done. It fails after so long without progress, None: only alone."""
        self._total, self._done, self._patience_s = total, -1, patience_s
        self._moved = self._said = monotonic()
        self._progress.stage(name, total)
        return self

    def look(self, done: int, told: Callable[[], str]) -> None:
        """`done` so far. Raises DemoFailed where no worker is left and nothing moves."""
        now = monotonic()
        if done != self._done:
            self._done, self._moved = done, now
        alive, before = self._crew.alive(), self._alive
        self._alive = alive
        if alive < before:
            self._progress.say(f"the demo goes on; start another worker with: {_another(self._wanted.run)}")
        self._progress.update(done, told)
        still = now - self._moved
        if still > ALONE_S and alive == 0:
            raise DemoFailed(
                f"no worker is left and nothing moved for {ALONE_S:.0f} s: {done:,} of {self._total:,} are done. "
                f"Read the workers' logs; to try again, start a new demo. What run {self._wanted.run} has done "
                f"is safe: {_another(self._wanted.run)} continues it."
            )
        if self._patience_s is not None and still > self._patience_s:
            raise DemoFailed(
                f"nothing moved for {still:.0f} s: {done:,} of {self._total:,} are done. Read the workers' logs. What run "
                f"{self._wanted.run} has done is safe: headrace audit --run {self._wanted.run}"
            )
        if still > QUIET_S and now - self._said > QUIET_S:
            self._said = now
            self._progress.say(f"nothing moved for {still:.0f} s; {alive} of the demo's workers are alive")


def _await_members(cluster: ClusterConfig, wanted: Wanted, crew: Crew) -> None:
    """Waits until all workers are in their group. Raises DemoFailed where all that were started have died."""
    while members(cluster, CORE.role) < max(wanted.workers, 1):
        alive = crew.alive()
        if alive < wanted.workers:
            if alive == 0:
                raise DemoFailed("no worker came up; read their logs above, and try again")
            return
        sleep(0.2)


def _open_accounts(cluster: ClusterConfig, day: Day, sender: Sender, watch: Watch) -> None:
    """Publishes commands and claims, and waits until each has its answer."""
    waiting = {command.command_id for command in day.commands} | {claim.claim_id for claim in day.claims}
    total = len(waiting)
    watch.stage("accounts and aliases", total)
    for command in day.commands:
        sender.send(topics.COMMANDS.name, command.account.encode(), codec.encode(command))
    decode = codec.decoder(topics.ACCOUNT_EVENTS.subject)
    with Tail(cluster, [topics.ACCOUNT_EVENTS.name]) as tail:

        def answered(until: int) -> None:
            while len(waiting) > until:
                for raw in tail.poll(0.1):
                    assert raw.value is not None, raw
                    answer = decode(raw.value)
                    waiting.discard(answer.command_id)
                    if not answer.accepted:
                        raise DemoFailed(f"{answer.command_id} was refused with {answer.reason}; use a new --run")
                watch.look(total - len(waiting), lambda: f"{len(waiting):,} answers to come")

        sender.flush()
        answered(len(day.claims))  # an alias needs its account
        for claim in day.claims:
            sender.send(topics.ALIASES.name, claim.alias.encode(), codec.encode(claim))
        sender.flush()
        answered(0)


def _publish(records: list[tuple[bytes, bytes]], sender: Sender, tail: Tail, fates: Fates, watch: Watch) -> None:
    """Publishes as fast as it can, while the answers are read; returns when each has its fate."""
    due = fates.answered + len(records)
    source, note, topic = iter(records), fates.note, topics.INTENTS.name
    started, before = monotonic(), fates.answered

    def told() -> str:
        rate = (fates.answered - before) / max(monotonic() - started, 0.001)
        shown = ", ".join(f"{status.lower()} {count:,}" for status, count in fates.by_status.most_common(4))
        return f"{rate:,.0f}/s, lag {fates.waiting:,}, {shown}"

    while chunk := list(islice(source, CHUNK)):
        for key, value in chunk:
            sender.send(topic, key, value, delivered=note)
        fates.observe(tail.poll())
        watch.look(fates.answered, told)
    sender.flush()
    while fates.answered < due:
        if fates.failed is not None:
            raise DemoFailed(f"an intent could not be published: {fates.failed}; is the broker up? headrace status")
        fates.observe(tail.poll(0.1))
        watch.look(fates.answered, told)


def fold_books(cluster: ClusterConfig) -> Books:
    """Balances by kind of account, from each account's last entry on ledger.postings."""
    last: dict[tuple[str, str], tuple[int, int, int]] = {}
    for entry in (entry for posting in records_of(cluster, topics.POSTINGS) for entry in posting.entries):
        place = (entry.account, entry.currency)
        if place not in last or last[place][0] < entry.sequence:
            last[place] = (entry.sequence, entry.credits_posted - entry.debits_posted, entry.debits_pending)
    books = Books(Counter(), Counter(), Counter())
    for (account, currency), (_, balance, held) in last.items():
        place = (kind_of(account), currency)
        books.balances[place] += balance
        books.held[place] += held
        books.accounts[place] += 1
    return books
