"""Every error code at every transaction call, against the engine's real `Transactions` on librdkafka's mock cluster.

Held in each case: *committed* only where the markers on the log say so, *aborted* only where they do not, all of a
transaction's topics alike, a stop only with a reason that names the producer, no other exception, no call beyond
its limits, and payments go on after the last error.
"""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple, Self

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from mock_cluster import TRANSPORT, MockCluster, truth

from topologies.engine.config import ClusterConfig
from topologies.engine.errors import NotAuthorised, WorkerStopped
from topologies.engine.limits import Limits
from topologies.engine.seams import Seams
from topologies.engine.transactions import Contents, Outcome, Transactions

CALLS = {
    "Produce": 0,
    "InitProducerId": 22,
    "AddPartitionsToTxn": 24,
    "AddOffsetsToTxn": 25,
    "EndTxn": 26,
    "TxnOffsetCommit": 28,
}
CODES = {
    name: code
    for name in sorted(vars(KafkaError))
    if not name.startswith("_") and isinstance(code := getattr(KafkaError, name), int) and code != 0
}
"""All that a Kafka can answer, by the client's names."""
FORBIDDEN = {f"{what}_AUTHORIZATION_FAILED" for what in ("CLUSTER", "GROUP", "TOPIC", "TRANSACTIONAL_ID")}
LIES = {("Produce", "DUPLICATE_SEQUENCE_NUMBER")}
"""Kafka answers so where the records are on the log already; the client takes its word."""
LIMITS = Limits(call_s=1.0, transaction_ms=2_000)
IMPATIENT = Limits(call_s=0.25, transaction_ms=2_000)
"""Where a producer can't be had at all: the engine tries for six times `call_s`."""
CASE_S = 20.0
"""A case with all its transactions; the sum of what `LIMITS` allows is below it."""
ALWAYS = 10_000
"""Requests that get an error that stays."""
TRIES = 4
"""Transactions after the error is over, one of which must commit: two may be unknown, one aborted."""
GROUP = "mock.group"


class Case(NamedTuple):
    """What is wrong with which call."""

    call: str
    error: str
    """A name of `CODES`, "closed" (the connection is), "late" (done, but answered too late)."""
    times: int

    @property
    def name(self) -> str:
        """For people: "EndTxn UNKNOWN_SERVER_ERROR always"."""
        return f"{self.call} {self.error} {'always' if self.times == ALWAYS else self.times}"


def cases() -> list[Case]:
    """Every error code once and for ever, a closed connection and a late answer, at every call; moves of the nodes."""
    moves = [Case(what, "moves", 1) for what in ("transaction coordinator", "group coordinator", "leader")]
    return moves + [
        Case(call, error, times)
        for call in CALLS
        for error, timeses in (("late", (1,)), ("closed", (1, 5)), *((code, (1, ALWAYS)) for code in CODES))
        for times in timeses
        if (call, error) not in LIES
    ]


def mock_cases(seed: int, most: int | None = None) -> Iterator[tuple[str, Callable[[], dict[str, object]]]]:
    """(name, run) of the cases in an order by `seed`, at most `most` of them.

    `run` gives a summary (outcome, seconds) and raises AssertionError where a promise is broken.
    """
    chosen = random.Random(seed).sample(cases(), most or len(cases()))
    with Bench() as bench:
        for case in chosen:
            yield case.name, lambda case=case: run_alone(case) if case.error == "late" else bench.run(case)


def run_alone(case: Case) -> dict[str, object]:
    """A late answer spoils the mock cluster for further answers of this kind."""
    with Bench() as bench:
        return bench.run(case)


class _Silent(Producer):
    """The mock cluster fences nobody: the abort by which a replaced producer closes would end its successor's work."""

    def close(self, *_: object) -> bool:
        """Sends nothing."""
        return True


class Calls:
    """In the watchdog's place, which would replace this process: knows the call that is under way."""

    def __init__(self) -> None:
        self.now = "nothing"

    @contextmanager
    def guard(self, what: str) -> Iterator[None]:
        """Guards one call."""
        self.now = what
        yield
        self.now = f"nothing, after {what}"


class Bench:
    """A mock cluster with a group member, used for many cases."""

    def __init__(self) -> None:
        self.mock = MockCluster()
        self.config = ClusterConfig(self.mock.bootstrap, kafka={"log_level": "0"}, seams=Seams(producer=_Silent))
        self.count = 0
        self.mock.topic("input")
        self.member = Consumer(
            self.config.client(**{"group.id": GROUP, "group.instance.id": "one", "auto.offset.reset": "earliest"})
        )
        self.member.subscribe(["input"])
        deadline = time.monotonic() + 30
        while not self.member.assignment():
            self.member.poll(0.1)
            assert time.monotonic() < deadline, "the group's only member got no partition"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.member.close()
        self.mock.__exit__()

    def run(self, case: Case) -> dict[str, object]:
        """One case in a thread of its own, so that a call that hangs is seen."""
        self.count += 1
        watch = Calls()
        one = _One(self, case, f"mock-{self.count}", watch)
        began = time.monotonic()
        thread = threading.Thread(target=one.run, name=case.name, daemon=True)
        thread.start()
        thread.join(CASE_S)
        self.mock.clear(*CALLS.values())
        assert not thread.is_alive(), f"{case.name}: hangs in {watch.now} for more than {CASE_S} s"
        if one.failed is not None:
            raise AssertionError(f"{case.name}: {one.failed!r}; outcomes {one.outcomes}") from one.failed
        return {"case": case.name, "outcome": one.told, "seconds": round(time.monotonic() - began, 2)}


class _One:
    """One producer's life: a transaction, the fault, transactions until one commits."""

    def __init__(self, bench: Bench, case: Case, identity: str, watch: Calls) -> None:
        self.bench, self.case, self.identity = bench, case, identity
        patient = (case.call, case.times) != ("InitProducerId", ALWAYS)
        self.transactions = Transactions(bench.config, identity, LIMITS if patient else IMPATIENT, watch)
        self.topics = [f"{identity}.records", f"{identity}.rows"]
        self.outcomes: list[tuple[bytes, Outcome]] = []
        self.failed: BaseException | None = None
        self.told = ""

    def run(self) -> None:
        """Notes what it finds in `told` and `failed`."""
        try:
            for topic in self.topics:
                self.bench.mock.topic(topic)
            assert self.transact() is Outcome.COMMITTED, "a healthy transaction did not commit"
            self.told = self.under_fault()
            self.judge()
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            self.failed = error
        finally:
            with suppress(Exception):
                self.transactions.close()

    def under_fault(self) -> str:
        """What became of the transaction; then the fault is over, and payments must go on."""
        self.break_it()
        try:
            if self.case.call == "InitProducerId":
                self.transactions.renew()
            outcome = self.transact()
        except WorkerStopped as stopped:
            return self.judge_stop(stopped)
        finally:
            self.bench.mock.clear(*CALLS.values())
        later = []
        while len(later) < TRIES and Outcome.COMMITTED not in later:
            if Outcome.UNKNOWN in (outcome, *later[-1:]):
                self.transactions.renew()  # as the engine does
            later.append(self.transact())
        assert Outcome.COMMITTED in later, f"no transaction commits after the error is over: {later}"
        return f"{outcome}"

    def judge_stop(self, stopped: WorkerStopped) -> str:
        """A stop tells whose it is and why, and there was reason to."""
        told = f"{type(stopped).__name__}: {stopped}"
        assert self.identity in told, f"the reason does not name the producer: {told}"
        assert (self.case.error in FORBIDDEN) is isinstance(stopped, NotAuthorised), told
        final = self.case.times == ALWAYS or self.case.error in FORBIDDEN
        assert final, f"one error stopped the worker: {told}"
        return type(stopped).__name__

    def break_it(self) -> None:
        """The fault, from now on."""
        if self.case.error == "moves":
            self.move()
            return
        api, error = CALLS[self.case.call], self.case.error
        if error == "late":
            self.bench.mock.delay(api, int(3_000 * LIMITS.call_s))
        else:
            self.bench.mock.answer(api, [TRANSPORT if error == "closed" else CODES[error]] * self.case.times)

    def move(self) -> None:
        """Another node takes over: the client has to find out."""
        if self.case.call == "leader":
            for topic in self.topics:
                self.bench.mock.lead(topic, 2)
            return
        kind, name = ("transaction", self.identity) if "transaction" in self.case.call else ("group", GROUP)
        for node in (1, 2, 3):  # whichever it was, it is another one after one of these
            self.bench.mock.coordinator(kind, name, node)
            if node < 3:
                assert self.transact() is not Outcome.ABORTED, "a move is no reason to abort"

    def transact(self) -> Outcome:
        """One transaction over two topics."""
        value = f"{self.identity}-{len(self.outcomes) + 1}".encode()
        records, rows = self.topics
        contents = Contents(
            records={(records, 0): [(b"key", value)]},
            changelogs={(rows, 0): [(None, value + b"-first"), (None, value + b"-last")]},
            offsets=[TopicPartition("input", 0, len(self.outcomes) + 1, metadata="1")],
        )
        outcome = self.transactions.run(contents, self.bench.member.consumer_group_metadata)
        self.outcomes.append((value, outcome))
        return outcome

    def judge(self) -> None:
        """Outcomes against the markers on the log."""
        found = {}
        for topic in self.topics:
            leader = 2 if self.case.call == "leader" else 1
            found.update(truth(self.bench.mock.log(topic, leader)))
        for value, outcome in self.outcomes:
            fates = [found.get(value + end) is True for end in (b"", b"-first", b"-last")]
            assert len(set(fates)) == 1, f"{value!r} is torn: {fates}"
            if outcome is not Outcome.UNKNOWN:
                assert fates[0] is (outcome is Outcome.COMMITTED), f"{value!r} was told {outcome}, is {fates[0]}"
