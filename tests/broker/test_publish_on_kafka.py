"""Topics, publishing and lag on the real Kafka."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from builders import AT, a_claim, a_command, an_intent
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import headrace
from headrace.lag import measure
from headrace.missing import MissingTopics
from headrace.publisher import Publisher
from schemas.codec import decoder
from schemas.keys import partition_of
from topologies.engine.admin import create_topics
from topologies.engine.config import ClusterConfig
from topologies.payments import CORE, PLANS

pytestmark = pytest.mark.broker
ROOT = Path(headrace.__file__).parents[1]
INTENTS, PARTITIONS = "payments.intents", 4


@pytest.fixture
def empty(kafka):
    """A cluster config with a prefix of its own, and no topics yet."""
    return ClusterConfig(kafka.bootstrap, f"demo-{uuid4().hex[:8]}.")


@pytest.fixture
def cluster(empty):
    """The same, with its topics."""
    create_topics(empty, PLANS.values(), PARTITIONS, 1)
    return empty


def start(cluster, *words, given=""):
    """The command line in a process of its own; words may hold {run}."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "HEADRACE_"))}
    env |= {
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
        "HEADRACE_TOPIC_PREFIX": cluster.prefix,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "headrace", *words]
    return subprocess.run(command, env=env, input=given, capture_output=True, text=True, timeout=90, check=False)


def last_json(result):
    return json.loads(result.stdout.splitlines()[-1])


def records(cluster, topic):
    """(partition, key, record) of every record of a topic."""
    read = decoder(f"{topic}-value")
    consumer = Consumer(
        cluster.client(**{"group.id": "test", "enable.partition.eof": True, "auto.offset.reset": "earliest"})
    )
    consumer.assign([TopicPartition(cluster.prefix + topic, n, 0) for n in range(PARTITIONS)])
    found, ended = [], 0
    while ended < PARTITIONS:
        message = consumer.poll(10.0)
        assert message is not None
        if message.error():
            ended += 1
        else:
            found.append((message.partition(), message.key().decode(), read(message.value())))
    consumer.close()
    return found


def commit(cluster, offsets, produce=(), *, end=True):
    """Commits offsets of the inputs as a worker does, in a transaction that may hold records on payments.events.

    `end` False leaves the transaction open, and gives back its producer.
    """
    group = {"group.id": f"{cluster.prefix}headrace.core", "enable.auto.commit": False}
    consumer = Consumer(cluster.client(**group))
    producer = Producer(cluster.client(**{"transactional.id": f"{cluster.prefix}test-{uuid4()}"}))
    producer.init_transactions()
    producer.begin_transaction()
    for topic, value in produce:
        producer.produce(cluster.prefix + topic, value, b"alice", partition=0)
    producer.flush()
    wanted = [TopicPartition(cluster.prefix + topic, n, offset) for (topic, n), offset in offsets.items()]
    if wanted:
        producer.send_offsets_to_transaction(wanted, consumer.consumer_group_metadata())
    if end:
        producer.commit_transaction()
    consumer.close()
    return producer


def test_a_published_record_stands_on_the_partition_of_its_key(cluster):
    """Key and partition are those that admission asks for; the receipt tells where."""
    wanted = [an_intent(f"p-{n}", debtor=f"account-{n}") for n in range(40)]
    receipts = []
    with Publisher(cluster, receipts.append) as publisher:
        for intent in wanted:
            publisher.publish(intent)
        publisher.publish(a_command("alice"))
        publisher.publish(a_claim())
    found = records(cluster, INTENTS)
    assert sorted(record.payment_id for _, _, record in found) == sorted(intent.payment_id for intent in wanted)
    for partition, key, record in found:
        assert key == record.debtor
        assert partition == partition_of(key, PARTITIONS)
    placed = {(receipt.partition, receipt.record) for receipt in receipts if receipt.topic.endswith(INTENTS)}
    assert placed == {(partition, record) for partition, _, record in found}
    report = publisher.report()
    assert (report.delivered, report.failed) == (42, 0)
    assert [record for _, _, record in records(cluster, "accounts.commands")] == [a_command("alice")]
    assert [key for _, key, _ in records(cluster, "accounts.aliases")] == [a_claim().alias]


def test_publishing_to_a_topic_that_is_not_there_names_the_way_out(empty):
    """At once, and not after the client's timeout."""
    begun = time.monotonic()
    with pytest.raises(MissingTopics, match=f"headrace topics create --run {empty.prefix[5:-1]}"):
        Publisher(empty).publish(an_intent())
    assert time.monotonic() - begun < 10


def test_topics_are_created_once_and_never_changed(empty):
    """Again is harmless; another partition count is refused and changes nothing."""
    first = start(empty, "topics", "create", "--partitions", "3", "--json")
    assert first.returncode == 0, first.stderr
    created = last_json(first)["created"]
    assert f"{empty.prefix}{INTENTS}" in created
    again = last_json(start(empty, "topics", "create", "--partitions", "3", "--json"))
    assert (again["created"], sorted(again["existing"]), again["drift"]) == ([], sorted(created), [])
    other = start(empty, "topics", "create", "--partitions", "5")
    assert other.returncode == 1
    assert "has 3 partitions, not 5" in other.stderr
    listed = [json.loads(line) for line in start(empty, "topics", "list", "--json").stdout.splitlines()]
    assert {row["partitions"] for row in listed[:-1]} == {3}
    assert listed[-1] == {"topics": len(created), "missing": []}


def test_a_worker_does_not_start_without_its_topics(empty):
    """It creates none, and says who does."""
    result = start(empty, "run", "core", "--port", "0")
    assert result.returncode == 3
    assert "headrace topics create" in result.stderr
    there = AdminClient(empty.client()).list_topics(timeout=10).topics
    assert not [name for name in there if name.startswith(empty.prefix)]


def test_a_file_is_published_or_skipped_line_by_line(cluster, tmp_path):
    """Fail sends nothing, skip sends the good lines, standard input sends up to the bad one."""
    fields = {"debtor": "alice", "creditor": "bob", "amount": "1.50", "currency": "EUR"}
    good = [json.dumps({"intent_id": one, **fields}) for one in "abc"]
    content = "\n".join([good[0], "{", good[1], good[2]]) + "\n"
    file = tmp_path / "day.jsonl"
    file.write_text(content)
    run = cluster.prefix[5:-1]
    failed = start(cluster, "publish", str(file), "--run", run)
    assert (failed.returncode, records(cluster, INTENTS)) == (1, [])
    streamed = start(cluster, "publish", "-", "--json", given=content)
    assert (streamed.returncode, last_json(streamed)["published"]) == (1, 1)
    assert "stopped at the bad line 2" in streamed.stderr
    skipped = start(cluster, "publish", str(file), "--on-error", "skip", "--json")
    assert skipped.returncode == 1
    result = last_json(skipped)
    assert (result["published"], result["skipped"], result["failed"]) == (3, 1, 0)
    assert [error["line"] for error in result["first_errors"]] == [2]
    assert sorted(record.intent_id for _, _, record in records(cluster, INTENTS)) == ["a", "a", "b", "c"]


def test_accounts_come_from_csv(cluster, tmp_path):
    """What a spreadsheet writes can be published as it is."""
    file = tmp_path / "accounts.csv"
    file.write_text("account,currency,flags,requested_at\r\nalice,EUR,NO_OVERDRAFT,2025-11-21T10:00:00Z\r\n")
    result = start(cluster, "publish", str(file), "--to", "accounts", "--json")
    assert (result.returncode, last_json(result)["published"]) == (0, 1)
    ((_, _, command),) = records(cluster, "accounts.commands")
    assert (command.account, command.flags, command.requested_at) == ("alice", ("NO_OVERDRAFT",), AT)


def test_lag_is_truly_zero_behind_markers_and_tells_what_waits(cluster):
    """A transaction's marker is no lag; a record that waits has its age; an open transaction is told apart."""
    assert (measure(cluster, CORE).records, measure(cluster, CORE).seconds) == (0, 0.0)
    leg = "ledger.credits"
    commit(cluster, {}, [(leg, b"x")])
    commit(cluster, {(leg, 0): 1})
    lag = measure(cluster, CORE)
    place = next(one for one in lag.partitions if one.topic.endswith(leg) and one.partition == 0)
    assert (place.committed, place.end, place.records) == (1, 2, 0)
    with Publisher(cluster) as publisher:
        publisher.publish(an_intent("p-1"))
        publisher.publish(an_intent("p-2"))
    here = partition_of("alice", PARTITIONS)
    lag = measure(cluster, CORE)
    assert lag.records == 2
    assert 0 < lag.seconds < 60
    commit(cluster, {(INTENTS, here): 1})
    assert measure(cluster, CORE).records == 1
    commit(cluster, {(INTENTS, here): 2})
    assert measure(cluster, CORE).records == 0
    hanging = commit(cluster, {}, [(leg, b"y")], end=False)
    lag = measure(cluster, CORE)
    assert (lag.records, lag.uncommitted_tail) == (0, 1)
    hanging.abort_transaction()


def test_lag_joins_no_group_and_commits_nothing(cluster):
    """Looking changes nothing: no group is there afterwards."""
    with Publisher(cluster) as publisher:
        publisher.publish(an_intent())
    result = start(cluster, "lag", "--json")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines[-1]["records"] == 1
    assert sum(line["records"] for line in lines[:-1]) == 1
    groups = AdminClient(cluster.client()).list_consumer_groups(request_timeout=10).result().valid
    assert not [group.group_id for group in groups if group.group_id.startswith(cluster.prefix)]


def test_lag_names_the_topics_that_are_missing(empty):
    """Exit 3, and the command that creates them."""
    result = start(empty, "lag")
    assert result.returncode == 3
    assert "headrace topics create" in result.stderr
