"""The past on a real Kafka: dumps by time, balances at a moment, a payment's story; and nothing live is touched."""

import json
import os
import signal
import subprocess
import sys
import time

import duckdb
import pytest
from cluster import ROOT, Cluster
from confluent_kafka.admin import AdminClient

from replay.reader import Reader
from topologies import topics

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def cluster(kafka, tmp_path_factory):
    """Two rounds of payments; `between` is a moment after the first round, µs. The worker has gone."""
    made = Cluster(kafka, tmp_path_factory.mktemp("dump"))
    worker = made.worker()
    made.open("bank", flags=("DEBIT_NORMAL",))
    made.open("alice", "bob")
    made.pay("bank", "alice", 10_000)
    made.settle()
    for _ in range(30):
        made.pay("alice", "bob", 100)
    made.settle()
    made.between = time.time_ns() // 1_000
    for _ in range(20):
        made.pay("alice", "bob", 10)
    made.pay("alice", "nobody", 1)
    made.send(topics.INTENTS, "alice", b"no payment's bytes")
    made.settle()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(25) == 0
    yield made
    made.close()


def headrace(cluster, *words):
    """A command as the analyst starts it: exit code, lines of JSON, what it said."""
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap, "HEADRACE_TOPIC_PREFIX": cluster.prefix}
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def moment(micros):
    return str(micros // 1_000)


def test_two_windows_that_join_hold_every_record_once(cluster, tmp_path):
    """By time, as Parquet: what is in the one is not in the other, and together they are all."""
    cut = moment(cluster.between)
    for words, folder in ((("--to", cut), "before"), (("--from", cut), "after"), ((), "all")):
        code, lines, stderr = headrace(
            cluster, "replay", "dump", "payments.events", *words, "--out", str(tmp_path / folder), "--json"
        )
        assert code == 0, stderr
        assert lines[-1]["records"] == {"before": 31, "after": 21, "all": 52}[folder]
    rows = {
        folder: duckdb.read_parquet(f"{tmp_path}/{folder}/**/*.parquet", hive_partitioning=True)
        .project("partition, _offset")
        .fetchall()
        for folder in ("before", "after", "all")
    }
    assert sorted(rows["before"] + rows["after"]) == sorted(rows["all"])
    statuses = duckdb.read_parquet(f"{tmp_path}/all/**/*.parquet").aggregate("status, count(*), sum(amount_minor)")
    assert sorted(statuses.fetchall()) == [("COMPLETED", 51, 13_200), ("REVERSED", 1, 1)]


def test_postings_prove_double_entry_and_a_second_run_reads_nothing(cluster, tmp_path):
    """The manifest has both sides; the same command again says that it is complete."""
    words = ("replay", "dump", "ledger.postings", "--out", str(tmp_path), "--json")
    code, lines, stderr = headrace(cluster, *words)
    assert code == 0, stderr
    posted = lines[-1]["double_entry"]["EUR"]["POSTED"]
    assert (posted["balanced"], posted["DEBIT"] > 0) == (True, True)
    code, lines, stderr = headrace(cluster, *words)
    assert (code, "complete already" in stderr, lines[-1]["records"] > 0) == (0, True, True)


def test_lines_go_to_standard_output_with_a_summary_last(cluster):
    """Filtered, as kcat has them; and CSV with its heading."""
    code, lines, stderr = headrace(cluster, "replay", "dump", "payments.events", "--status", "REVERSED", "--json")
    assert (code, len(lines), lines[-1]["records"]) == (0, 2, 1), stderr
    assert (lines[0]["key"], lines[0]["payload"]["reason"]) == ("alice", "AC03")
    code, lines, stderr = headrace(cluster, "replay", "dump", "payments.intents", "-o", f"s@{moment(cluster.between)}")
    assert (code, len(lines), "1 values could not be decoded" in stderr) == (0, 22, True)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("payments.event",), 2, "did you mean payments.events?"),
        (("payments.events", "--from", "-1h", "--to", "-2h"), 2, "inverted"),
        (("payments.events", "--from", "-1h", "--to", "-1h"), 2, "empty"),
        (("payments.events", "--format", "parquet"), 2, "--out"),
        (("payments.events", "--status", "DONE"), 2, "no status is called"),
        (("payments.events", "--payment", "nobody-knows"), 1, "no record of"),
        (("payments.events", "--to", "2001-01-01T00:00:00Z"), 1, "no record of"),
        (("payments.events", "--margin", "soon"), 2, "no span"),
    ],
)
def test_a_wrong_wish_gets_a_clear_message_and_its_exit_code(cluster, words, code, told):
    """2 for what can't be meant, 1 for what was not found."""
    found, _, stderr = headrace(cluster, "replay", "dump", *words)
    assert (found, told in stderr) == (code, True), stderr


def test_a_topic_of_the_contract_that_is_not_there_is_exit_3(cluster):
    """It can be created."""
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap, "HEADRACE_TOPIC_PREFIX": "nowhere."}
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "replay", "dump", "payments.events"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, "headrace topics create" in done.stderr) == (3, True)


def test_an_account_has_at_a_moment_what_it_had_then(cluster):
    """Between the rounds and now."""
    code, [then], stderr = headrace(cluster, "account", "show", "alice", "--as-of", moment(cluster.between), "--json")
    assert (code, then["balances"][0]["posted_minor"]) == (0, 7_000), stderr
    code, [now], _ = headrace(cluster, "account", "show", "alice", "--json")
    assert now["balances"][0]["posted_minor"] == 6_800
    code, _, stderr = headrace(cluster, "account", "show", "alice", "--as-of", "2001-01-01T00:00:00Z")
    assert (code, "was not open yet" in stderr) == (1, True)


def test_a_payments_story_has_every_step(cluster):
    """A refused one, from its intent to the money's return, across five topics."""
    _, lines, _ = headrace(cluster, "replay", "dump", "payments.events", "--status", "REVERSED", "--json")
    payment = lines[0]["payload"]["payment_id"]
    code, lines, stderr = headrace(cluster, "replay", "payment", payment, "--debtor", "alice", "--json")
    assert code == 0, stderr
    assert [line["topic"] for line in lines[:-1]] == [
        "payments.intents", "ledger.postings", "ledger.credits", "ledger.reversals", "ledger.postings", "payments.events",
    ]  # fmt: skip
    assert [line["at"] for line in lines[:-1]] == sorted(line["at"] for line in lines[:-1])
    assert (lines[-1]["debtors"], lines[-1]["answered"]) == ({"alice": "REVERSED"}, True)
    code, _, stderr = headrace(cluster, "replay", "payment", "nobody-knows")
    assert (code, "no record tells of payment nobody-knows" in stderr) == (1, True)


def test_looking_back_joins_no_group_and_writes_nothing(cluster, tmp_path):
    """The cluster is after it what it was before: groups, their offsets, and the ends of all topics."""

    def state():
        client = AdminClient({"bootstrap.servers": cluster.bootstrap})
        groups = {group.group_id for group in client.list_consumer_groups().result().valid}
        with Reader(cluster.config) as reader:
            return groups, reader.ends(sorted(reader.partitions()))

    before = state()
    headrace(cluster, "replay", "dump", "payments.events", "--out", str(tmp_path), "--json")
    headrace(cluster, "replay", "payment", "p-2", "--json")
    headrace(cluster, "account", "show", "alice", "--as-of", "-1s", "--json")
    headrace(cluster, "dlq", "list", "--json")
    headrace(cluster, "dlq", "redrive", "--json")
    assert state() == before
