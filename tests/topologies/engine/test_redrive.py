"""What a redrive's transaction means when calls fail: all or nothing, and doubt is told as doubt."""

from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException

from schemas.codec import decoder
from schemas.events import Micros
from schemas.internal import Redrive
from topologies.engine import redrive
from topologies.engine.config import ClusterConfig
from topologies.engine.limits import Limits
from topologies.engine.redrive import Move, Redriver, Refused, Taken, Undone
from topologies.engine.seams import Seams
from topologies.topics import REDRIVES

RETRIABLE = KafkaError(KafkaError._TIMED_OUT, "slow", False, True, False)
ABORTABLE = KafkaError(KafkaError.INVALID_TXN_STATE, "abort it", False, False, True)
FATAL = KafkaError(KafkaError._FATAL, "broken", True, False, False)
FENCED = KafkaError(KafkaError._FENCED, "zombie", True, False, False)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "too large", False, False, True)
FORBIDDEN = KafkaError(KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, "no right", False, False, False)


class Client:
    """Answers each call as the test's script says, then normally; notes the calls of all its kind."""

    script: ClassVar[dict] = {}
    calls: ClassVar[list] = []
    sent: ClassVar[list] = []
    configs: ClassVar[list] = []

    def __init__(self, config):
        self.configs.append(config)
        self.calls.append("new")

    def _call(self, name):
        self.calls.append(name)
        answers = self.script.get(name)
        if answers:
            raise KafkaException(answers.pop(0))

    def init_transactions(self, _timeout):
        self._call("init")

    def begin_transaction(self):
        self._call("begin")

    def produce(self, topic, value, key, *, partition, headers, on_delivery):
        self._call("produce")
        self.sent.append((topic, value, key, partition, headers))
        if value == self.script.get("too large at the broker"):
            on_delivery(TOO_LARGE, None)

    def commit_transaction(self, _timeout):
        self._call("commit")

    def abort_transaction(self, _timeout):
        self._call("abort")

    def close(self):
        self.calls.append("close")
        if self.script.get("close"):
            raise self.script["close"]


@pytest.fixture
def redriver(monkeypatch):
    """A redriver of a script, its id taken."""
    Client.script, Client.calls, Client.sent, Client.configs = {}, [], [], []
    monkeypatch.setattr(redrive, "LIMITS", Limits(call_s=0.2))
    made = Redriver(ClusterConfig("localhost:1", "demo-x.", seams=Seams(producer=Client)), 4)
    made.begin()
    return made


def move(value=b"v", offset=7):
    receipt = Redrive("dlq.payments.ledger", 2, offset, Micros(5), "ana")
    return Move("payments.intents", 1, b"alice", value, [("headrace.replay-count", b"1")], receipt)


def test_records_and_receipts_are_in_one_transaction(redriver):
    """Each record to its place with its headers, each with a receipt of its letter's place; one commit for all."""
    redriver.write([move(), move(offset=8)])
    assert Client.calls == ["new", "init", "begin", *["produce"] * 4, "commit"]
    assert [sent[0] for sent in Client.sent] == ["demo-x.payments.intents", "demo-x.headrace.redrives"] * 2
    assert Client.sent[0][1:] == (b"v", b"alice", 1, [("headrace.replay-count", b"1")])
    assert Client.sent[1][2] == b"dlq.payments.ledger:2:7"
    assert decoder(REDRIVES.subject)(Client.sent[3][1]) == move(offset=8).receipt


def test_everybody_shares_one_id(redriver):
    """That is what fences two people from each other."""
    assert [config["transactional.id"] for config in Client.configs] == ["demo-x.headrace.redrive"]
    redriver.begin()
    assert Client.calls[-3:] == ["close", "new", "init"]


def test_a_retriable_answer_is_asked_again(redriver):
    """A slow coordinator is no failure."""
    Client.script = {"commit": [RETRIABLE], "init": [RETRIABLE]}
    redriver.write([move()])
    redriver.begin()
    assert Client.calls.count("commit") == 2
    assert Client.calls.count("init") == 3


@pytest.mark.parametrize("call", ["begin", "produce", "commit"])
@pytest.mark.parametrize("error", [ABORTABLE, FATAL], ids=lambda error: error.str())
def test_a_failure_is_told_and_the_transaction_ended(redriver, call, error):
    """Only the receipts tell what was done, so nothing else is claimed."""
    Client.script = {call: [error]}
    with pytest.raises(Undone, match="did not carry out"):
        redriver.write([move()])
    assert Client.calls[-1] == "abort"


@pytest.mark.parametrize("call", ["init", "begin", "produce", "commit"])
def test_who_is_fenced_does_not_fight(redriver, call):
    """Somebody else presses now: he has the id, and this press says so."""
    Client.script = {call: [FENCED]}
    with pytest.raises(Taken, match="press again"):
        redriver.begin() if call == "init" else redriver.write([move()])
    assert "abort" not in Client.calls


def test_who_was_fenced_between_two_records_is_told_so(redriver):
    """`produce` says only that the client is broken; the abort says why."""
    Client.script = {"produce": [FATAL], "abort": [FENCED]}
    with pytest.raises(Taken, match="press again"):
        redriver.write([move()])


def test_a_record_that_kafka_does_not_take_is_named(redriver):
    """By the client at once, or by the broker at delivery: nothing of its transaction is written."""
    Client.script = {"produce": [TOO_LARGE]}
    with pytest.raises(Refused) as refused:
        redriver.write([move(), move()])
    assert refused.value.move == 0
    Client.script = {"too large at the broker": b"huge", "commit": [ABORTABLE]}
    with pytest.raises(Refused) as refused:
        redriver.write([move(), move(b"huge")])
    assert (refused.value.move, Client.calls[-1]) == (1, "abort")


def test_an_abort_that_fails_leaves_doubt(redriver):
    """Then nobody knows but the next one who takes the id."""
    Client.script = {"produce": [TOO_LARGE], "abort": [FATAL]}
    with pytest.raises(Undone):
        redriver.write([move()])


def test_a_missing_right_is_named(redriver):
    """No loop against an ACL."""
    Client.script = {"init": [FORBIDDEN]}
    with pytest.raises(Undone, match="grant"):
        redriver.begin()


def test_an_id_that_is_never_given_is_told(redriver):
    """Retries end."""
    Client.script = {"init": [RETRIABLE] * 1_000}
    with pytest.raises(Undone, match="can't be taken"):
        redriver.begin()


def test_a_fatal_answer_to_the_first_call_needs_a_new_client(redriver):
    """The one that had it repeats it for ever."""
    Client.script = {"init": [FATAL]}
    redriver.begin()
    assert Client.calls[-4:] == ["new", "init", "new", "init"]


@pytest.mark.parametrize(
    "error", [KafkaException(FENCED), SystemError("returned a result with an exception set")], ids=repr
)
def test_a_client_that_will_not_close_hides_nothing(redriver, error):
    """A fenced one raises even then; what was wrong before is what counts."""
    Client.script = {"commit": [FENCED], "close": error}
    with pytest.raises(Taken), redriver:
        redriver.write([move()])
