"""The reader fails in time and says what is wrong; reading itself is tested on the real Kafka."""

import subprocess
import sys

import pytest

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
