"""Lag: sums of what was measured. Measuring is tested on the real Kafka."""

import pytest

from headrace.lag import Lag, PartitionLag, measure
from topologies.engine.admin import ClusterUnreachable
from topologies.engine.config import ClusterConfig
from topologies.payments import CORE


def a_partition(number, **fields):
    return PartitionLag("payments.intents", number, 10, 12, 0, 0.0, 0)._replace(**fields)


def test_the_sum_is_of_records_and_the_age_that_of_the_oldest():
    """Seconds are never summed."""
    lag = Lag(
        "headrace.core",
        (a_partition(0, records=2, seconds=5.0), a_partition(1, records=3, seconds=9.0, uncommitted_tail=4)),
    )
    assert (lag.records, lag.seconds, lag.uncommitted_tail) == (5, 9.0, 4)


def test_without_partitions_nothing_waits():
    """Zero, not an error."""
    assert (Lag("headrace.core", ()).records, Lag("headrace.core", ()).seconds) == (0, 0.0)


def test_a_kafka_that_does_not_answer_is_named(monkeypatch):
    """The address and the way out."""
    monkeypatch.setattr("topologies.engine.admin.CALL_S", 0.5)
    with pytest.raises(ClusterUnreachable, match="headrace up"):
        measure(ClusterConfig("127.0.0.1:1"), CORE)
