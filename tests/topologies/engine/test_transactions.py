"""What the end of a transaction means: only a clean commit is committed, and doubt is never taken for an abort."""

import time
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from topologies.engine import transactions
from topologies.engine.config import ClusterConfig
from topologies.engine.errors import Fenced, NotAuthorised, WorkerStopped
from topologies.engine.limits import Limits
from topologies.engine.seams import Seams
from topologies.engine.transactions import Contents, Outcome, Transactions
from topologies.engine.watchdog import Watchdog

RETRIABLE = KafkaError(KafkaError._TIMED_OUT, "slow", False, True, False)
ABORTABLE = KafkaError(KafkaError.INVALID_TXN_STATE, "abort it", False, False, True)
FATAL = KafkaError(KafkaError._FATAL, "broken", True, False, False)
PLAIN = KafkaError(KafkaError.UNKNOWN, "who knows", False, False, False)
FENCED = KafkaError(KafkaError._FENCED, "zombie", True, False, False)
SLOW = object()
FORBIDDEN = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no right", False, False, True)


class Client:
    """Answers each call as the test's script says, then normally; notes the calls of all its kind."""

    script: ClassVar[dict] = {}
    calls: ClassVar[list] = []

    def __init__(self, config):
        self.config = config
        self.calls.append("new")

    def _call(self, name):
        self.calls.append(name)
        answers = self.script.get(name)
        answer = answers.pop(0) if answers else None
        if answer is SLOW:
            time.sleep(transactions.SLOW_S + 0.01)
        elif answer is not None:
            raise KafkaException(answer)

    def poll(self, _timeout):
        """Tells what went wrong since the last call, as librdkafka does."""
        if self.script.pop("trouble", None) and self.calls.count("new") == 1:
            self.config["error_cb"](PLAIN)

    def init_transactions(self, _timeout):
        self._call("init_transactions")

    def begin_transaction(self):
        self._call("begin_transaction")

    def produce_batch(self, _topic, batch, partition):
        self._call("produce_batch")
        return len(batch) - self.script.pop("short", 0)

    def send_offsets_to_transaction(self, offsets, _metadata, _timeout):
        assert offsets
        self._call("send_offsets_to_transaction")

    def commit_transaction(self, _timeout):
        self._call("commit_transaction")

    def abort_transaction(self, _timeout):
        self._call("abort_transaction")

    def close(self):
        """Nothing is open."""


@pytest.fixture
def run():
    """Runs transactions one after another under a script; gives their outcomes and the calls made."""
    watchdog = Watchdog(60)

    def go(script, times=1):
        Client.script, Client.calls = script, []
        subject = Transactions(
            ClusterConfig("localhost:1", seams=Seams(producer=Client)), "id", Limits(call_s=0.2), watchdog
        )
        contents = Contents({("t", 0): [(b"k", b"v")]}, offsets=[TopicPartition("in", 0, 1, "1")])
        return [subject.run(contents, lambda: "metadata") for _ in range(times)], Client.calls

    yield go
    watchdog.close()


def test_a_clean_commit_is_committed(run):
    """One producer serves many transactions."""
    outcomes, calls = run({}, times=3)
    assert outcomes == [Outcome.COMMITTED] * 3
    assert calls.count("new") == 1


def test_offsets_go_last_before_the_commit(run):
    """Whatever is slow in the coordinator must not hold open partitions longer than needed."""
    _, calls = run({})
    assert calls[-2:] == ["send_offsets_to_transaction", "commit_transaction"]


@pytest.mark.parametrize("error", [ABORTABLE, FATAL, PLAIN], ids=lambda e: e.str())
def test_a_commit_that_fails_is_unknown_and_never_called_aborted(run, error):
    """The broker may have committed all the same: librdkafka reports a lost answer as abortable, too."""
    outcomes, calls = run({"commit_transaction": [error]}, times=2)
    assert outcomes == [Outcome.UNKNOWN, Outcome.COMMITTED]
    assert "abort_transaction" not in calls
    assert calls.count("new") == 2, "the next transaction has a new epoch"


def test_a_commit_that_needed_a_second_call_is_followed_by_a_new_epoch(run):
    """A late EndTxn must not land in the next transaction."""
    outcomes, calls = run({"commit_transaction": [RETRIABLE]}, times=2)
    assert outcomes == [Outcome.COMMITTED] * 2
    assert calls.count("new") == 2


@pytest.mark.parametrize("call", ["send_offsets_to_transaction", "commit_transaction"])
def test_a_call_that_took_long_is_followed_by_a_new_epoch(run, call):
    """The client may have sent its request twice without telling, and the second one may still be under way."""
    outcomes, calls = run({call: [SLOW]}, times=2)
    assert outcomes == [Outcome.COMMITTED] * 2
    assert calls.count("new") == 2


def test_a_commit_that_never_answers_is_unknown(run):
    """Retries end."""
    outcomes, _ = run({"commit_transaction": [RETRIABLE] * 10_000})
    assert outcomes == [Outcome.UNKNOWN]


def test_trouble_between_transactions_is_followed_by_a_new_epoch(run):
    """A producer whose broker went away remembers a coordinator that is gone, and would wait for it for ever."""
    outcomes, calls = run({"trouble": True}, times=2)
    assert outcomes == [Outcome.COMMITTED] * 2
    assert calls.count("new") == 2


@pytest.mark.parametrize("call", ["begin_transaction", "produce_batch", "send_offsets_to_transaction"])
def test_an_abortable_error_before_the_commit_aborts(run, call):
    """Nothing was promised yet; what is still under way is refused by the next transaction's new epoch."""
    outcomes, calls = run({call: [ABORTABLE]}, times=2)
    assert outcomes == [Outcome.ABORTED, Outcome.COMMITTED]
    assert calls.count("abort_transaction") == 1
    assert calls.count("new") == 2


@pytest.mark.parametrize("call", ["begin_transaction", "produce_batch", "send_offsets_to_transaction"])
@pytest.mark.parametrize("error", [FATAL, PLAIN], ids=lambda e: e.str())
def test_any_other_error_before_the_commit_is_unknown(run, call, error):
    """What can't be named is not guessed at."""
    assert run({call: [error]})[0] == [Outcome.UNKNOWN]


def test_a_batch_that_was_taken_in_part_is_aborted(run):
    """A full queue refuses single records and raises nothing."""
    outcomes, calls = run({"short": 1}, times=2)
    assert outcomes == [Outcome.ABORTED, Outcome.COMMITTED]
    assert calls.count("abort_transaction") == 1


def test_a_membership_that_ended_aborts_the_step():
    """What the group's metadata says is asked for at the end of every transaction."""
    Client.script, Client.calls = {}, []
    subject = Transactions(ClusterConfig("localhost:1", seams=Seams(producer=Client)), "id", Limits(), Watchdog(60))

    def ended():
        raise KafkaException(ABORTABLE)

    contents = Contents({("t", 0): [(b"k", b"v")]}, offsets=[TopicPartition("in", 0, 1, "1")])
    assert subject.run(contents, ended) is Outcome.ABORTED
    assert "send_offsets_to_transaction" not in Client.calls
    assert "abort_transaction" in Client.calls


def test_a_client_that_loses_committed_messages_is_refused(monkeypatch):
    """Librdkafka before 2.15."""
    monkeypatch.setattr(transactions, "libversion", lambda: ("1.9.2", 0x010902FF))
    with pytest.raises(WorkerStopped, match=r"librdkafka 1\.9\.2"):
        Transactions(ClusterConfig("localhost:1"), "id", Limits(), Watchdog(60))


def test_an_abort_that_fails_is_unknown(run):
    """The next producer ends it."""
    outcomes, calls = run({"produce_batch": [ABORTABLE], "abort_transaction": [PLAIN]}, times=2)
    assert outcomes == [Outcome.UNKNOWN, Outcome.COMMITTED]
    assert calls.count("new") == 2


def test_offsets_are_sent_again_with_the_same_arguments(run):
    """A retriable answer is no answer; the first request may be late, so the next transaction has a new epoch."""
    outcomes, calls = run({"send_offsets_to_transaction": [RETRIABLE]}, times=2)
    assert outcomes == [Outcome.COMMITTED, Outcome.COMMITTED]
    assert calls.count("send_offsets_to_transaction") == 3
    assert calls.count("new") == 2


def test_a_worker_that_is_fenced_twice_does_not_fight(run):
    """Once may be its own timeout; twice is somebody else in its slot."""
    with pytest.raises(Fenced, match="HEADRACE_INSTANCE"):
        run({"commit_transaction": [FENCED, FENCED]}, times=2)


def test_a_missing_right_stops_the_worker_by_name(run):
    """No retry loop against an ACL."""
    with pytest.raises(NotAuthorised, match="grant"):
        run({"produce_batch": [FORBIDDEN]})


def test_a_transaction_without_offsets_is_a_bug():
    """Empty offsets are not fenced by the group's generation."""
    subject = Transactions(ClusterConfig("localhost:1", seams=Seams(producer=Client)), "id", Limits(), Watchdog(60))
    with pytest.raises(AssertionError, match="not fenced"):
        subject.run(Contents(), lambda: "metadata")
