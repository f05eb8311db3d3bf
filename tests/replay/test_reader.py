"""The reader fails in time and says what is wrong; reading itself is tested on the real Kafka."""

import subprocess
import sys

import pytest
from confluent_kafka import KafkaError

from replay import reader
from replay.reader import Reader, TopicMissing, Unreachable
from topologies.engine.config import ClusterConfig


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """A reader of a cluster that is not there."""
    monkeypatch.setattr(reader, "CALL_S", 1.0)
    return Reader(ClusterConfig("127.0.0.1:1", prefix="demo-x."))


def test_a_cluster_that_is_not_there_is_named_with_the_way_out(nowhere: Reader):
    """No broker: the address and `headrace up`, within the time of one call, not a hang."""
    with nowhere, pytest.raises(Unreachable, match=r"127\.0\.0\.1:1.*headrace up"):
        nowhere.partitions()


def test_a_missing_topic_is_named_with_its_prefix(nowhere: Reader, monkeypatch: pytest.MonkeyPatch):
    """Whoever misses a topic reads its full name and the command that creates it."""
    monkeypatch.setattr(nowhere, "partitions", lambda: {"payments.events": 4})
    with nowhere, pytest.raises(TopicMissing, match=r"demo-x\.payments\.intents.*headrace topics create"):
        nowhere.require(["payments.events", "payments.intents"])


def test_nothing_to_read_asks_no_broker(nowhere: Reader):
    """Where a topic's end is its start, reading is over before it begins."""
    with nowhere:
        assert list(nowhere.read("t", {("t", 0): 5, ("other", 0): 9}, {("t", 0): 5})) == []


class Message:
    """A record, or with `error` the end of a partition."""

    def __init__(self, topic, partition, offset, error=None):
        self._of, self._error = (topic, partition, offset), error

    def topic(self):
        return self._of[0]

    def partition(self):
        return self._of[1]

    def offset(self):
        return self._of[2]

    def error(self):
        return self._error

    def timestamp(self):
        return (1, 0)

    def key(self):
        return None

    value = headers = key


class Client:
    """A consumer that hands out what is left of an earlier assignment first."""

    def __init__(self, *messages):
        self.messages = list(messages)

    def assign(self, places):
        """Nothing is dropped."""

    def unassign(self):
        """Nothing is dropped."""

    def close(self):
        """Nothing to do."""

    def consume(self, count, _wait_s):
        found, self.messages = self.messages[:count], self.messages[count:]
        return found


def test_the_end_of_a_topic_that_was_read_before_ends_no_other(nowhere: Reader):
    """A client may still tell it: the audit would take all that follows for lost."""
    end = KafkaError(KafkaError._PARTITION_EOF)
    late = [Message("demo-x.journal", 0, 9, end), Message("demo-x.journal", 0, 8)]
    here = [Message("demo-x.t", 0, 0), Message("demo-x.t", 0, 2, end)]
    nowhere._consumer.close()
    nowhere._consumer = Client(*late, *here)
    with nowhere:
        read = list(nowhere.read("t", {("t", 0): 2}, {("t", 0): 0}))
    assert [(raw.topic, raw.offset) for raw in read] == [("t", 0)]


def test_reading_does_not_load_faust_nor_a_store():
    """A judge needs no worker: importing it stays light."""
    code = "import sys, replay.audit; sys.exit(bool({'faust', 'mode', 'rocksdict'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_audit_shares_no_code_with_the_decisions():
    """A judge that runs the code it judges would repeat its mistakes."""
    code = (
        "import sys, replay.audit; "
        "print(sorted(n for n in sys.modules if n.startswith('streams.') and not n.endswith('rules')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
