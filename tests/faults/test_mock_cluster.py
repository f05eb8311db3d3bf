"""The engine's transactions against a Kafka that answers with every error there is; no JVM, no worker."""

import sys
import threading
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, OffsetSpec

from replay.reader import Reader
from topologies.engine.config import ClusterConfig
from topologies.engine.offsets import log_offsets

sys.path.append(str(Path(__file__).parent))

import mock_cluster_cases
from mock_cluster import TRANSPORT, Batch, MockCluster, truth
from mock_cluster_cases import ALWAYS, CALLS, CODES, Bench, Case, cases, mock_cases, run_alone

LIST_OFFSETS = 2
LIKELY = [
    *("closed", "COORDINATOR_LOAD_IN_PROGRESS", "NOT_COORDINATOR", "CONCURRENT_TRANSACTIONS", "REQUEST_TIMED_OUT"),
    *("INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "INVALID_TXN_STATE", "UNKNOWN_PRODUCER_ID", "FENCED_INSTANCE_ID"),
    *("TRANSACTIONAL_ID_AUTHORIZATION_FAILED", "UNKNOWN"),
]
"""What a Kafka in trouble answers most."""


@pytest.fixture(scope="module")
def bench():
    with Bench() as made:
        yield made


@pytest.mark.parametrize("call", CALLS)
def test_no_likely_error_makes_an_outcome_that_is_not_so(bench, call):
    """Committed is committed, aborted is aborted, and the next payment goes through."""
    told = [bench.run(Case(call, error, 1)) for error in LIKELY if Case(call, error, 1) in cases()]
    print(*told, sep="\n")
    assert len(told) == len(LIKELY)


@pytest.mark.parametrize("call", CALLS)
def test_an_error_that_stays_never_commits(bench, call):
    """The coordinator never has the answer: unknown, aborted or stopped, but never committed, and no hang."""
    told = bench.run(Case(call, "COORDINATOR_NOT_AVAILABLE", ALWAYS))
    assert told["outcome"] != "committed", told


@pytest.mark.parametrize("call", ["EndTxn", "TxnOffsetCommit"])
def test_an_answer_that_comes_too_late_is_no_abort(call):
    """The node has done it, the client gave up: a transaction that was ended so is unknown, never aborted."""
    told = run_alone(Case(call, "late", 1))
    assert call != "EndTxn" or told["outcome"] in ("unknown", "committed"), told


@pytest.mark.parametrize("what", ["transaction coordinator", "group coordinator", "leader"])
def test_nodes_that_take_over_are_found(bench, what):
    """A coordinator or leader moves between two transactions: the client follows."""
    assert bench.run(Case(what, "moves", 1))["outcome"] in ("committed", "unknown")


def test_any_cases_by_a_seed_hold():
    """A few of all of them, in the order of a seed; the fault harness runs them all."""
    told = [run() for _, run in mock_cases(seed=4, most=12)]
    assert len({one["case"] for one in told}) == 12


def test_every_code_meets_every_call():
    """Once and for ever, but for what can't be so."""
    assert len(CODES) > 110
    assert len({case.name for case in cases()}) == len(cases()) > 2 * len(CALLS) * len(CODES)


def test_a_wrong_outcome_is_noticed(bench, monkeypatch):
    """An engine that takes doubt for an abort, or a refusal for a success, does not pass."""
    run = mock_cluster_cases.Transactions.run

    def hopeful(self, contents, metadata):
        outcome = run(self, contents, metadata)
        return mock_cluster_cases.Outcome.COMMITTED if outcome != "committed" else outcome

    monkeypatch.setattr(mock_cluster_cases.Transactions, "run", hopeful)
    with pytest.raises(AssertionError, match=r"was told committed, is False"):
        bench.run(Case("EndTxn", "UNKNOWN", 1))


def test_a_call_that_hangs_is_noticed(monkeypatch):
    """It is named; the case ends all the same."""
    monkeypatch.setattr(mock_cluster_cases, "CASE_S", 0.05)
    with Bench() as own:
        with pytest.raises(AssertionError, match=r"EndTxn late 1: hangs in .* for more than 0.05 s"):
            own.run(Case("EndTxn", "late", 1))
        for thread in threading.enumerate():
            if thread.name == "EndTxn late 1":
                thread.join(60)


def test_the_log_tells_committed_from_aborted():
    """Records and markers as they stand, by a Fetch of our own; open transactions are neither."""
    with MockCluster() as mock:
        mock.topic("told")
        producer = Producer({"bootstrap.servers": mock.bootstrap, "transactional.id": "one", "log_level": 0})
        producer.init_transactions(10)
        for value in (b"kept", b"dropped", b"open"):
            producer.begin_transaction()
            producer.produce("told", value, b"key", partition=0)
            producer.flush(10)
            if value != b"open":
                (producer.commit_transaction if value == b"kept" else producer.abort_transaction)(10)
        found = mock.log("told")
        assert [batch.committed for batch in found] == [None, True, None, False, None]
        assert truth(found) == {b"kept": True, b"dropped": False, b"open": None}
        producer.abort_transaction(10)


def test_a_marker_of_another_producer_decides_nothing():
    """Only the marker of the producer and epoch that wrote it."""
    one, other = (1000, 0), (1000, 1)
    log = [Batch(one, (b"a",), None), Batch(other, (), True), Batch(other, (b"b",), None), Batch(other, (), False)]
    assert truth(log) == {b"a": None, b"b": False}


@pytest.fixture
def told():
    """A node with one record on a topic."""
    with MockCluster(nodes=1) as mock:
        mock.topic("told")
        producer = Producer({"bootstrap.servers": mock.bootstrap, "log_level": 0})
        producer.produce("told", b"value", partition=0)
        assert producer.flush(10) == 0
        yield mock


@pytest.mark.parametrize("error", [TRANSPORT, CODES["UNKNOWN"], CODES["NOT_LEADER_FOR_PARTITION"]])
def test_a_log_whose_end_was_not_told_is_not_taken_for_empty(told, error):
    """The client gives no error for a connection that broke, but no offset either: that is an error here."""
    admin = AdminClient({"bootstrap.servers": told.bootstrap, "log_level": 0})
    assert log_offsets(admin, [("told", 0)], OffsetSpec.latest(), 10) == {("told", 0): 1}
    told.answer(LIST_OFFSETS, [error])
    with pytest.raises(KafkaException):
        log_offsets(admin, [("told", 0)], OffsetSpec.latest(), 10)


def test_a_reader_asks_again_where_a_connection_broke(told):
    """An audit would find every record of a topic lost whose end it takes for its beginning."""
    with Reader(ClusterConfig(told.bootstrap, kafka={"log_level": "0"})) as reader:
        told.answer(LIST_OFFSETS, [TRANSPORT] * 2)
        assert reader.ends(["told"]) == {("told", 0): 1}
        told.answer(LIST_OFFSETS, [TRANSPORT])
        assert [raw.value for raw in reader.read("told", {("told", 0): 1})] == [b"value"]
