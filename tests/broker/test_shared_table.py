"""The table of aliases: every worker knows all of it before it decides anything (R25)."""

import time

import pytest
from cluster import Cluster, now

from schemas.events import AliasAction, AliasClaim, Status
from topologies import topics
from topologies.engine.shared import SharedReader
from topologies.engine.watchdog import Watchdog
from topologies.payments import CORE

pytestmark = pytest.mark.broker


@pytest.fixture
def cluster(kafka, tmp_path):
    made = Cluster(kafka, tmp_path)
    yield made
    made.close()


def claim(cluster, alias, account):
    cluster.send(topics.ALIASES, alias, AliasClaim(f"claim-{alias}", alias, account, AliasAction.CLAIM, now()))


def test_the_table_counts_as_read_at_its_end_and_not_before(cluster):
    """Nor before the offsets up to which a partition's last owner had read it."""
    for number in range(500):
        claim(cluster, f"HANDLE:shop-{number}", f"merchant-{number}")
    cluster.sender.flush()
    watchdog = Watchdog(60)
    reader = SharedReader(cluster.config, CORE.shared, cluster.partitions, watchdog)
    assert not reader.is_read([])
    deadline = time.monotonic() + 60
    while not reader.is_read([]):
        assert time.monotonic() < deadline
        reader.poll(0.1)
    assert len(reader.rows) == 500
    assert reader.is_read(reader.offsets)
    assert not reader.is_read([offset + 1 for offset in reader.offsets])
    reader.close()
    watchdog.close()


def test_a_payment_to_an_alias_reaches_its_owner(cluster):
    """A worker that starts after the claims resolves the very first intent."""
    cluster.open("bank", flags=("DEBIT_NORMAL",))
    cluster.open("merchant-7")
    claim(cluster, "HANDLE:shop-7", "merchant-7")
    cluster.sender.flush()
    first = cluster.worker()
    cluster.settle()
    first.kill()
    first.wait()
    cluster.pay("bank", "", 125, creditor_alias="HANDLE:shop-7")
    cluster.worker()
    report = cluster.settle()
    assert report.events_by_status == {Status.COMPLETED: 1}
