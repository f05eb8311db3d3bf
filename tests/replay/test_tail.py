"""The tail says at once what is wrong; following itself is tested on the real Kafka."""

import pytest

from replay import reader, tail
from replay.reader import TopicMissing, Unreachable
from replay.tail import Tail
from topologies.engine.config import ClusterConfig

NOWHERE = ClusterConfig("127.0.0.1:1", prefix="demo-x.")


def test_a_cluster_that_is_not_there_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch):
    """As the reader says it, within the time of one call."""
    monkeypatch.setattr(reader, "CALL_S", 0.5)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1.*headrace up"):
        Tail(NOWHERE, ["payments.events"])


def test_a_missing_topic_is_named_with_its_prefix(monkeypatch: pytest.MonkeyPatch):
    """And with the command that creates it."""
    monkeypatch.setattr(tail, "partition_counts", lambda _client, _cluster: {"payments.intents": 4})
    with pytest.raises(TopicMissing, match=r"demo-x\.payments\.events.*headrace topics create"):
        Tail(NOWHERE, ["payments.intents", "payments.events"])
