"""A credit that became a dead letter, on a real Kafka: put back, decided once, and the books and the replay hold."""

import json
import os
import subprocess
import sys

import pytest
from cluster import ROOT, Cluster

from replay.audit import audit
from replay.letters import letter_topics, letters
from replay.reader import Reader
from topologies import topics

pytestmark = pytest.mark.broker
POISONED = """
import streams.transit

decide = streams.transit._decide

def fails(received, *more):
    if received.value.payment_id.startswith("poisoned"):
        raise ValueError("a fault of this release")
    return decide(received, *more)

streams.transit._decide = fails
from headrace.cli import main
main()
"""
"""A worker whose ledger can't decide some credits."""


@pytest.fixture
def cluster(kafka, tmp_path):
    made = Cluster(kafka, tmp_path)
    yield made
    made.close()


def environment(cluster):
    return {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
        "HEADRACE_TOPIC_PREFIX": cluster.prefix,
        "HEADRACE_HOME": str(cluster.home / "state-of-workers"),
        "HEADRACE_INSTANCE": "a",
        "HEADRACE_PORT": "0",
    }


def redrive(cluster, *words):
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "dlq", "redrive", *words, "--json"],
        cwd=ROOT, env=environment(cluster), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def stuck(cluster):
    with Reader(cluster.config) as reader:
        return list(letters(reader, letter_topics(reader), cluster.prefix))


def test_money_in_transit_is_decided_once_and_the_books_hold(cluster):
    """Two credits and a question behind one of them are letters; the repaired worker decides them, a refused one goes home."""
    with (cluster.home / "a.log").open("ab") as log:
        poisoned = subprocess.Popen(
            [sys.executable, "-c", POISONED, "run", "core"], cwd=ROOT, env=environment(cluster), stdout=log, stderr=log
        )
    cluster.workers.append(poisoned)
    cluster.open("bank", flags=("DEBIT_NORMAL",))
    cluster.open("alice", "bob")
    cluster.pay("bank", "alice", 10_000)
    cluster.settle()
    asked = cluster.pay("alice", "bob", 700, payment_id="poisoned-1")
    cluster.pay("alice", "nobody", 300, payment_id="poisoned-2")
    cluster.sender.flush()
    cluster.wait(lambda: len(stuck(cluster)) == 2, 60, "letters of credits")
    cluster.send(topics.INTENTS, "alice", asked)
    cluster.sender.flush()
    cluster.wait(lambda: len(stuck(cluster)) == 3, 60, "the letter of a repeat")
    report = cluster.audit()
    assert report.ok, [check for check in report.checks if not check.ok]
    assert report.in_transit == {"EUR": 1_000}
    poisoned.kill()
    poisoned.wait()
    cluster.worker("a")

    question = next(letter for letter in stuck(cluster) if letter.code == "unknown-credit")
    code, lines, _ = redrive(cluster, str(question.id), "--yes")
    assert (code, "stands behind" in lines[0]["note"]) == (1, True)
    code, lines, stderr = redrive(cluster, "--yes")
    assert (code, lines[-1]["redriven"]) == (0, 3), stderr
    report = cluster.settle()
    assert report.to_json()["events_by_status"] == {"COMPLETED": 2, "REVERSED": 1}
    assert report.repeats == 1
    code, lines, _ = redrive(cluster, "--yes")
    assert (code, lines[-1]["redriven"], lines[-1]["done_before"]) == (0, 0, 3)
    again = audit(cluster.config, quiet=True, replay=True, home=cluster.home / "state-of-workers")
    assert again.ok, [check for check in again.checks if not check.ok]
