"""`headrace run` with several processes: all roles from one command, kept running, stopped together."""

import os
import re
import signal
from pathlib import Path

import pytest
from cluster import Cluster

pytestmark = pytest.mark.broker
SAID = re.compile(r"^headrace (\w+): .*?pid (\d+), ", re.MULTILINE)


@pytest.fixture
def cluster(kafka, tmp_path):
    found = Cluster(kafka, tmp_path)
    yield found
    found.close()


def said(cluster):
    """(role, pid) of every process that came up."""
    return [(role, int(pid)) for role, pid in SAID.findall(cluster.log_of())]


def runs(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def a_payment(cluster, number):
    """One more payment, answered and audited."""
    cluster.pay("treasury", "alice", 100, payment_id=f"p{number}")
    return cluster.settle()


def test_one_command_runs_all_roles_and_starts_a_dead_one_anew(cluster):
    """Two workers of core, settlement, notification, the gateway: a kill of any of them passes by itself."""
    supervisor = cluster.worker("a", "core", "settlement", "notification", "gateway", "--workers", "2")
    cluster.wait(lambda: len(said(cluster)) == 5, 60, "five processes")
    assert sorted(role for role, _ in said(cluster)) == ["core", "core", "gateway", "notification", "settlement"]
    of_core, of_others = (
        {os.getpriority(os.PRIO_PROCESS, pid) for role, pid in said(cluster) if (role == "core") is core}
        for core in (True, False)
    )
    assert max(of_core) < min(of_others), "the money path comes first"
    cluster.open("treasury", flags=("DEBIT_NORMAL",))
    cluster.open("alice")
    a_payment(cluster, 1)

    victim = next(pid for role, pid in said(cluster) if role == "core")
    os.kill(victim, signal.SIGKILL)
    cluster.wait(lambda: len(said(cluster)) == 6, 60, "another life of the worker")
    a_payment(cluster, 2)

    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(40) == 0, cluster.log_of()
    assert not [pid for _, pid in said(cluster) if runs(pid)]
    assert "the worker of role core died (signal SIGKILL)" in cluster.log_of()


def test_killing_the_supervisor_kills_its_workers_and_the_next_one_goes_on(cluster):
    """Nobody processes payments unseen, and nothing is lost."""
    first = cluster.worker("a", "core", "settlement")
    cluster.wait(lambda: len(said(cluster)) == 2, 60, "two processes")
    cluster.open("treasury", flags=("DEBIT_NORMAL",))
    cluster.open("alice")
    a_payment(cluster, 1)
    first.kill()
    first.wait()
    cluster.wait(lambda: not [pid for _, pid in said(cluster) if runs(pid)], 30, "the end of the workers")
    cluster.worker("a", "core", "settlement")
    a_payment(cluster, 2)
