"""Three nodes on one machine: each can die under load, and no payment waits for its return."""

import random
import threading

import pytest
from cluster import Cluster
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from headrace import broker
from headrace.cli import main
from replay.tail import Tail
from topologies import topics

pytestmark = pytest.mark.broker

CUSTOMERS = [f"customer-{number}" for number in range(20)]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The home of a running broker with three nodes."""
    found = tmp_path_factory.mktemp("three")
    broker.up(found, port=0, nodes=3, say=print)
    yield found
    broker.down(found, say=print)


@pytest.fixture
def cluster(home, tmp_path):
    made = Cluster(broker.running(home), tmp_path)
    yield made
    made.close()


def in_sync(bootstrap):
    """True when every replica of every partition has caught up."""
    found = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10)
    partitions = [one for topic in found.topics.values() for one in topic.partitions.values()]
    return all(len(one.isrs) == len(one.replicas) == 3 for one in partitions)


def test_topics_are_on_three_nodes_and_a_write_waits_for_two(home, monkeypatch, capsys):
    """`topics create` takes what the brokers are set to, offsets and transaction state too; leaders are spread."""
    bootstrap = broker.running(home).bootstrap
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", "cli.")
    monkeypatch.setattr("sys.argv", ["headrace", "topics", "create"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0, capsys.readouterr()
    assert in_sync(bootstrap)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    partitions = admin.list_topics(timeout=10).topics["cli.payments.intents"].partitions.values()
    assert {partition.leader for partition in partitions} == {1, 2, 3}
    topic, node = ConfigResource(ResourceType.TOPIC, "cli.payments.intents"), ConfigResource(ResourceType.BROKER, "2")
    told = {resource: future.result(30) for resource, future in admin.describe_configs([topic, node]).items()}
    assert told[topic]["min.insync.replicas"].value == "2"
    expected = {
        "offsets.topic.replication.factor": "3",
        "transaction.state.log.replication.factor": "3",
        "transaction.state.log.min.isr": "2",
        "unclean.leader.election.enable": "false",
    }
    assert {name: told[node][name].value for name in expected} == expected


class Publishing:
    """Publishes payments, some of them twice, in a thread of its own while the block runs."""

    def __init__(self, cluster, seed):
        self._cluster, self._chance = cluster, random.Random(seed)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._publish)

    def _publish(self):
        while not self._stop.wait(0.05):
            with self._lock:
                for _ in range(5):
                    debtor, creditor = self._chance.sample(CUSTOMERS, 2)
                    intent = self._cluster.pay(debtor, creditor, self._chance.randint(1, 500))
                    if self._chance.random() < 0.1:
                        self._cluster.send(topics.INTENTS, debtor, intent)

    def marked(self, name):
        """One payment that can be told from the others."""
        with self._lock:
            self._cluster.pay(*self._chance.sample(CUSTOMERS, 2), 1, payment_id=name)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def test_payments_go_on_while_each_node_is_killed_and_started_again(home, cluster, tmp_path):
    """SIGKILL under load, each node in turn: a payment made while it is dead is answered before it comes back."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    cluster.worker("a")
    cluster.open("bank", flags=("DEBIT_NORMAL",))
    cluster.open(*CUSTOMERS)
    for customer in CUSTOMERS:
        cluster.pay("bank", customer, 100_000)
    cluster.settle()
    with Tail(cluster.config, [topics.EVENTS.name]) as tail, Publishing(cluster, seed) as publishing:
        for node in (1, 2, 3):
            broker.kill_node(home, node)
            name = f"while-{node}-is-dead"
            publishing.marked(name)
            cluster.wait(lambda name=name: answered(tail, name), 60, f"answer {name}")
            assert cluster.audit().ok
            broker.start_node(home, node)
            cluster.wait(lambda: in_sync(cluster.bootstrap), 60, "replicas in sync")
    report = cluster.settle(120)
    assert report.to_json()["events_by_status"]["COMPLETED"] > len(CUSTOMERS) + 3


def answered(tail, name):
    return any(name.encode() in record.value for record in tail.poll(0.1))


def test_up_starts_a_dead_node_again_and_down_ends_all_of_them(home):
    """A second `up` finds what runs and starts what does not; two of three dead is no quorum, and still no loss."""
    before = broker.nodes_of(home)
    broker.kill_node(home, 1, 3)
    assert broker.running(home) == before[2]
    assert [runs for _, runs in broker.status(home).nodes] == [False, True, False]
    said = []
    broker.up(home, say=said.append)
    assert [line[:6] for line in said] == ["Node 1", "Node 3", "Kafka "]
    after = broker.nodes_of(home)
    assert after[2] == before[2]
    assert [state.place for state in after.values()] == [state.place for state in before.values()]
    assert broker.ask(after[1].bootstrap).nodes == {node: state.address for node, state in after.items()}
    assert broker.down(home, say=print)
    assert not any(broker.alive(state) for state in after.values())
    assert broker.nodes_of(home) == {}
