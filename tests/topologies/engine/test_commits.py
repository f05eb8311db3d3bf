"""What is committed: waited for while a transaction is open on it, but not for ever."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from topologies.engine.commits import committed
from topologies.engine.errors import NotYet
from topologies.engine.limits import Limits
from topologies.payments import CORE

SLOW = KafkaError(KafkaError._TIMED_OUT, "timed out")
AWAY = KafkaError(KafkaError._ALL_BROKERS_DOWN, "nobody answers")


class Asked:
    """A cluster whose answers a test gives one after another, the last one again and again; each takes 5 s."""

    def __init__(self, *answers):
        self.now, self.answers = 0.0, list(answers)
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        cluster = SimpleNamespace(prefix="t.", seams=SimpleNamespace(clock=clock))
        watchdog = SimpleNamespace(guard=lambda _: nullcontext())
        self.place = SimpleNamespace(plan=CORE, cluster=cluster, limits=Limits(), watchdog=watchdog)

    def sleep(self, seconds):
        self.now += seconds

    def committed(self, wanted, timeout):
        assert timeout > 0
        self.now += 5
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, KafkaError):
            raise KafkaException(answer)
        return [TopicPartition(tp.topic, tp.partition, answer, "7") for tp in wanted]


def test_offsets_that_become_stable_are_waited_for():
    """An open transaction ends by itself after ten seconds."""
    asked = Asked(SLOW, SLOW, 42)
    offsets, step = committed(asked.place, asked, [0])[0]
    assert (set(offsets.values()), step) == ({42}, 7)


def test_offsets_that_never_become_stable_end_with_a_reason():
    """A single broker that was killed may leave a transaction open for good; waiting for it is no answer."""
    asked = Asked(SLOW)
    with pytest.raises(NotYet, match="a transaction hangs"):
        committed(asked.place, asked, [0])


def test_brokers_that_are_away_are_told_apart_from_that():
    """They are waited for by whoever asked."""
    asked = Asked(AWAY)
    with pytest.raises(KafkaException, match="nobody answers"):
        committed(asked.place, asked, [0])
