"""Dead letters on a real Kafka: listed, shown, and put back once, whoever presses and whatever dies."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from builders import an_intent
from cluster import ROOT, Cluster

from headrace.dlq import Wish, choose, move_of
from replay.letters import letter_topics, letters, receipts
from replay.reader import Reader
from schemas import codec
from schemas.keys import partition_of
from topologies import topics
from topologies.engine.redrive import Redriver, Taken

pytestmark = pytest.mark.broker


@pytest.fixture
def cluster(kafka, tmp_path):
    """A worker, a bank and two customers with money."""
    made = Cluster(kafka, tmp_path)
    made.worker()
    made.open("bank", flags=("DEBIT_NORMAL",))
    made.open("alice", "bob")
    made.pay("bank", "alice", 10_000)
    made.settle()
    yield made
    made.close()


def headrace(cluster, *words, **env):
    """A command as the operator starts it; its exit code and the JSON that it printed."""
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
        "HEADRACE_TOPIC_PREFIX": cluster.prefix,
        "HEADRACE_HOME": str(cluster.home / "state-of-workers"),
        **env,
    }
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *words, "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def an_intent_of_alice(name):
    """1.00 EUR for bob; the same intent for the same name."""
    return an_intent(name, creditor="bob", amount_minor=100)


def astray(cluster, count):
    """Sends `count` good intents to a wrong partition; waits until they are letters."""
    wrong = (partition_of("alice", cluster.partitions) + 1) % cluster.partitions
    for number in range(count):
        intent = an_intent_of_alice(f"astray-{number}")
        cluster.sender.send(topics.INTENTS.name, b"alice", codec.encode(intent), partition=wrong)
    cluster.sender.flush()
    cluster.wait(lambda: len(stuck(cluster)) >= count, 60, "letters")
    cluster.settle()


def the_only_choice(cluster):
    """One letter, and where it would go back to."""
    astray(cluster, 1)
    with Reader(cluster.config) as reader:
        [choice] = choose(reader, Wish(), cluster.prefix)
    return choice


def stuck(cluster):
    """All letters, decoded."""
    with Reader(cluster.config) as reader:
        return list(letters(reader, letter_topics(reader), cluster.prefix))


def receipted(cluster):
    """The letters that have a receipt."""
    with Reader(cluster.config) as reader:
        return receipts(reader)


def completed(cluster):
    """Payments that arrived, the one that funds alice left out."""
    return cluster.settle().to_json()["events_by_status"]["COMPLETED"] - 1


def test_what_is_put_back_is_paid_once_however_often_it_is_pressed(cluster):
    """A dry run writes nothing; the first press does it, the second finds it done, and the books hold."""
    astray(cluster, 5)
    code, lines, _ = headrace(cluster, "dlq", "redrive")
    assert (code, lines[-1]["would_go"], lines[-1]["dry_run"]) == (0, 5, True)
    assert receipted(cluster) == set()
    code, lines, stderr = headrace(cluster, "dlq", "redrive", "--yes", "--by", "ana")
    assert (code, lines[-1]["redriven"]) == (0, 5), stderr
    assert {line["outcome"] for line in lines[:-1]} == {"redriven"}
    code, lines, _ = headrace(cluster, "dlq", "redrive", "--yes")
    assert (code, lines[-1]["redriven"], lines[-1]["done_before"]) == (0, 0, 5)
    assert completed(cluster) == 5
    assert receipted(cluster) == {letter.id for letter in stuck(cluster)}
    code, lines, _ = headrace(cluster, "dlq", "list")
    assert [(line["letters"], line["parked"]) for line in lines[:-1]] == [(5, 0)]


def test_two_people_who_press_at_once_pay_once(cluster):
    """One of them may be told that somebody else was quicker; nothing is done twice."""
    astray(cluster, 40)
    ended = []
    people = [
        threading.Thread(target=lambda: ended.append(headrace(cluster, "dlq", "redrive", "--yes", "--rate", "20")))
        for _ in range(2)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert {code for code, _, _ in ended} <= {0, 1}, ended
    assert all(code == 0 or "press again" in stderr for code, _, stderr in ended), ended
    assert headrace(cluster, "dlq", "redrive", "--yes")[0] == 0
    assert completed(cluster) == 40
    assert len(receipted(cluster)) == 40


def test_who_was_overtaken_writes_nothing(cluster):
    """The id is somebody else's by now: his press is refused whole, and says so."""
    choice = the_only_choice(cluster)
    with Redriver(cluster.config, 4) as first, Redriver(cluster.config, 4) as second:
        first.begin()
        second.begin()
        with pytest.raises(Taken, match="press again"):
            first.write([move_of(choice, 5, "first")])
        second.write([move_of(choice, 5, "second")])
    assert receipted(cluster) == {choice.letter.id}
    assert completed(cluster) == 1


def test_who_is_overtaken_while_he_writes_is_told_so(cluster):
    """His client hears of it between two records, and then refuses the next one without saying why."""
    choice = the_only_choice(cluster)
    with Redriver(cluster.config, 4) as first, Redriver(cluster.config, 4) as second:
        first.begin()

        def slowly():
            yield move_of(choice, 5, "first")
            second.begin()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                yield move_of(choice, 5, "first")
                time.sleep(0.01)

        with pytest.raises(Taken, match="press again"):
            first.write(slowly())
        second.write([move_of(choice, 5, "second")])
    assert receipted(cluster) == {choice.letter.id}
    assert completed(cluster) == 1


@pytest.mark.parametrize("point", ["after_produce", "during_commit", "after_commit"])
def test_a_press_that_dies_is_pressed_again_and_pays_once(cluster, point):
    """Killed with the transaction open, in the middle of its commit, or behind it."""
    astray(cluster, 3)
    code, _, _ = headrace(cluster, "dlq", "redrive", "--yes", HEADRACE_CRASH_AT=point)
    assert code == -9
    code, lines, stderr = headrace(cluster, "dlq", "redrive", "--yes")
    assert code == 0, stderr
    assert lines[-1]["redriven"] + lines[-1]["done_before"] == 3
    assert completed(cluster) == 3
    assert len(receipted(cluster)) == 3


def test_bytes_that_are_wrong_come_back_five_times_and_no_more(cluster):
    """Each time as a letter of its own, with the first origin and a count; then the loop guard stops it."""
    cluster.send(topics.INTENTS, "alice", b"no payment's bytes")
    cluster.wait(lambda: stuck(cluster), 60, "a letter")
    first = stuck(cluster)[0]
    for number in range(5):
        code, lines, stderr = headrace(cluster, "dlq", "redrive", "--yes")
        assert (code, lines[-1]["redriven"]) == (0, 1), stderr
        cluster.wait(lambda number=number: len(stuck(cluster)) == number + 2, 60, "the letter's return")
    last = max(stuck(cluster), key=lambda letter: letter.replays)
    assert (last.replays, last.origin, last.value) == (5, first.origin, first.value)
    assert last.latest.offset > first.latest.offset
    code, lines, _ = headrace(cluster, "dlq", "redrive", "--yes")
    assert (code, lines[-1]["redriven"], lines[-1]["refused"]) == (1, 0, 1)
    assert cluster.settle().ok


def test_an_intent_that_was_sent_again_in_the_meantime_is_not_put_back(cluster):
    """Its publisher saw no answer and published it rightly: it has its fate, and the letter says which."""
    astray(cluster, 1)
    cluster.send(topics.INTENTS, "alice", an_intent_of_alice("astray-0"))
    cluster.settle()
    code, lines, _ = headrace(cluster, "dlq", "redrive", "--yes")
    assert (code, lines[-1]["redriven"], lines[-1]["refused"]) == (1, 0, 1)
    assert "it has its fate" in lines[0]["note"]
    assert completed(cluster) == 1


def test_a_letter_is_shown_with_what_it_holds(cluster):
    """Decoded, with its place and its headers; a place without a letter is told."""
    astray(cluster, 1)
    [letter] = stuck(cluster)
    code, [shown], _ = headrace(cluster, "dlq", "show", str(letter.id))
    assert (code, shown["code"], shown["record"]["payment_id"]) == (0, "wrong-partition", "astray-0")
    assert {"name": "headrace.error.code", "value": "wrong-partition"} in shown["headers"]
    code, [told], _ = headrace(cluster, "dlq", "show", f"{letter.id.topic}:{letter.id.partition}:999")
    assert (code, told["exit_code"], "no letter stands at" in told["error"]) == (1, 1, True)
