"""Settlement on a real Kafka, beside the core: whatever dies, every credit of a merchant is in one batch, told once."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import ROOT, Cluster

from headrace.settings import load
from replay.audit import audit
from replay.reader import Reader
from schemas import codec
from topologies import topics

pytestmark = pytest.mark.broker

SETTLED = "7 each member in one batch"
POINTS = (
    "after_poll",
    "before_produce",
    "after_produce",
    "after_send_offsets",
    "during_commit",
    "after_commit",
    "before_store_write",
    "after_store_write",
)
CUSTOMERS = [f"customer-{number}" for number in range(10)]
SHOPS = [f"shop-{number}" for number in range(7)]
WINDOWS = """
every_s = 1
grace_s = 1
fees = "card"

[schedules.card]
bp = 275
fixed_minor = { EUR = 30 }
split = [["own", 70], ["partner", 20], ["scheme", 10]]
"""


@pytest.fixture
def cluster(kafka, tmp_path, monkeypatch):
    """Windows of a second, every shop pays a fee; the core runs as worker a, and customers have money."""
    (tmp_path / "settlement.toml").write_text(WINDOWS)
    monkeypatch.setenv("HEADRACE_SETTLEMENT", str(tmp_path / "settlement.toml"))
    made = Cluster(kafka, tmp_path)
    made.open("bank", flags=("DEBIT_NORMAL",))
    made.open(*CUSTOMERS)
    made.open(*SHOPS, flags=("NO_OVERDRAFT", "MERCHANT"))
    for customer in CUSTOMERS:
        made.pay("bank", customer, 1_000_000)
    made.worker("a")
    made.settle()
    yield made
    made.close()


@pytest.fixture
def chance():
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    return random.Random(seed)


def sell(cluster, chance, count):
    """Customers pay shops, and each other."""
    for _ in range(count):
        debtor = chance.choice(CUSTOMERS)
        cluster.pay(
            debtor,
            chance.choice([*SHOPS, "customer-0"]) if debtor != "customer-0" else "shop-1",
            chance.randint(1, 900),
        )
    cluster.sender.flush()


def records_of(cluster, topic):
    with Reader(cluster.config) as reader:
        return [codec.decoder(topic.subject)(raw.value) for raw in reader.read(topic.name, reader.ends([topic.name]))]


def headrace(cluster, *words):
    """A command as the analyst starts it; what it prints."""
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap, "HEADRACE_TOPIC_PREFIX": cluster.prefix}
    done = subprocess.run(
        [sys.executable, "-m", "headrace", *words],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def settled(cluster, report):
    """Whether every credit of a shop that the books have is told."""
    sold = [
        event for event in records_of(cluster, topics.EVENTS) if event.status == "COMPLETED" and event.creditor in SHOPS
    ]
    return len(sold) == report.events_by_status.get("SETTLED", 0)


def all_settled(cluster):
    """Waits until every window is closed and told; then all that can be asked must hold."""
    cluster.settle(120)
    cluster.wait(lambda: settled(cluster, cluster.audit()), 120, "settled payments")
    cluster.settle(60)
    assert cluster.audit().events_by_status["SETTLED"] > 0
    return audit(cluster.config, quiet=True, replay=True, home=cluster.home / "state-of-workers")


def failed(report):
    return {check.name: check.detail for check in report.checks if not check.ok}


def test_every_credit_of_a_merchant_is_settled_less_its_fee(cluster, chance):
    """Gross less fees is net, the books hold the fees, each payment is told; invariants 1 to 10 hold for both roles."""
    cluster.worker("s", role="settlement")
    sell(cluster, chance, 200)
    report = all_settled(cluster)
    assert failed(report) == {}
    batches = records_of(cluster, topics.BATCHES)
    fees = {kind: minor for kind, minor in report.money["EUR"].items() if kind.startswith("fees")}
    assert sum(batch.fees_minor for batch in batches) == sum(fees.values()) > 0
    assert set(fees) == {"fees", "fees-partner", "fees-scheme"}
    assert sum(batch.net_minor for batch in batches) == report.money["EUR"]["merchants"]
    [check] = [check for check in report.checks if check.name == SETTLED]
    assert check.examined == report.events_by_status["SETTLED"] == sum(batch.payment_count for batch in batches)
    lines = [json.loads(line) for line in headrace(cluster, "replay", "dump", "settlement.batches").splitlines()]
    assert sorted(line["payload"]["batch_id"] for line in lines) == sorted(batch.batch_id for batch in batches)
    [one, *_] = [event for event in records_of(cluster, topics.EVENTS) if event.status == "SETTLED"]
    story = headrace(cluster, "replay", "payment", one.payment_id, "--debtor", one.debtor)
    assert story.splitlines()[0].endswith(": SETTLED")
    [line] = [line for line in story.splitlines() if " batch " in line]
    assert any(batch.batch_id in line for batch in batches)
    assert "settlement.batches:" in line


def test_a_settlement_that_dies_at_any_point_settles_once(cluster, chance):
    """Wherever in a step it is killed, the next one goes on with the same batches; the audit holds all along."""
    for point in POINTS:
        sell(cluster, chance, 30)
        worker = cluster.worker("s", role="settlement", HEADRACE_CRASH_AT=f"{point}:{chance.randint(1, 3)}")
        while worker.poll() is None:
            sell(cluster, chance, 5)
            live = cluster.audit()
            assert live.ok, (point, failed(live))
        assert worker.returncode == -signal.SIGKILL, point
    cluster.worker("s", role="settlement")
    assert failed(all_settled(cluster)) == {}


def test_a_settlement_killed_at_random_settles_once(cluster, chance):
    """Eight SIGKILLs of either role under load, one store lost; the audit holds all along and at the end."""
    workers = {"core": cluster.workers[0], "settlement": cluster.worker("s", role="settlement")}
    for number in range(8):
        role = "core" if number % 4 == 3 else "settlement"
        name = "a" if role == "core" else "s"
        lives = cluster.log_of(name).count("ready: partitions [")
        sell(cluster, chance, chance.randint(20, 200))
        cluster.wait(
            lambda name=name, lives=lives: cluster.log_of(name).count("ready: partitions [") >= max(lives, 1), 60, name
        )
        live = cluster.audit()
        assert live.ok, failed(live)
        workers[role].kill()
        workers[role].wait()
        if number == 5:
            _lose_stores(cluster, "settlement")
        workers[role] = cluster.worker(name, role=role)
    assert failed(all_settled(cluster)) == {}


def _lose_stores(cluster, role):
    folders = [one for one in (cluster.home / "state-of-workers" / "state").iterdir() if role in one.name]
    assert folders
    for number, folder in enumerate(folders):
        folder.rename(Path(cluster.home) / f"lost-{number}")


def test_the_settings_that_settled_are_on_record(cluster, chance):
    """A replay needs no file: fees and windows stand on headrace.settings."""
    sell(cluster, chance, 5)
    cluster.settle()
    [told] = {record.settings for record in records_of(cluster, topics.SETTINGS)}
    assert '"bp":275' in told
    assert load().rules().settlement.schedules["card"].bp == 275
