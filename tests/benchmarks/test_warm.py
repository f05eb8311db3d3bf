"""The broker is warm before anything is measured on it."""

import argparse
import importlib
import shlex
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import warm
from benchmarks.__main__ import FULL, QUICK
from benchmarks.harness import Bench
from topologies.engine.config import ClusterConfig

BENCH = Bench(ClusterConfig("nobody:1", prefix="bench."), Path("home"), {}, None, "unknown")
WITHOUT_LOAD_ON_A_BROKER = {"restore", "micro"}


@pytest.fixture
def warmed(monkeypatch):
    """What is warmed up: the topics' prefix, and for how many seconds."""
    found = []

    @contextmanager
    def there(_prefix):
        yield BENCH

    monkeypatch.setattr(warm.harness, "bench", there)
    monkeypatch.setattr(warm, "warm_up", lambda bench, seconds: found.append((bench.cluster.prefix, seconds)))
    return found


def test_a_broker_is_warmed_up_first_on_topics_of_its_own(warmed):
    """So that nothing of the warm-up is counted or audited."""
    with warm.bench(argparse.Namespace(broker_warm_up=60.0)) as bench:
        assert warmed == [("bench.warm-up.", 60.0)]
        assert bench.cluster.prefix == "bench."


def test_who_wants_no_warm_up_gets_none(warmed):
    """`--broker-warm-up 0`."""
    with warm.bench(argparse.Namespace(broker_warm_up=0.0)):
        assert not warmed


@pytest.mark.parametrize("part", sorted({*FULL} - WITHOUT_LOAD_ON_A_BROKER))
def test_what_may_be_quoted_is_measured_on_a_warm_broker(monkeypatch, part):
    """A minute in full size; quick runs, which are never quoted, do without."""
    parsed = importlib.import_module("benchmarks.peers.__main__" if part == "peers" else f"benchmarks.{part}").parsed

    def seconds(words):
        monkeypatch.setattr(sys, "argv", [part, *shlex.split(words)])
        return parsed().broker_warm_up

    assert seconds(FULL[part]) == warm.SECONDS
    assert seconds(QUICK[part]) == 0.0
