"""The local broker is a real Kafka: it keeps its data, is found again, and never surprises."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from headrace import broker, broker_process
from headrace.broker import BrokerError
from headrace.kafka_version import kafka_version

sys.path.append(str(Path(__file__).parents[1] / "faults"))

from proxy import Api, Proxy

pytestmark = pytest.mark.broker


@pytest.fixture
def home(tmp_path):
    """A home whose broker, if any, is stopped at the end."""
    yield tmp_path
    broker.down(tmp_path, say=lambda _: None)


@pytest.fixture
def offline(monkeypatch):
    """No repository can be reached: the jars of the cache must do."""
    monkeypatch.setenv("HEADRACE_MAVEN_REPOSITORY", "http://127.0.0.1:9/nowhere")


def create(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)


def publish(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(topic, value)
    assert producer.flush(30) == 0


def first_value(bootstrap: str, topic: str) -> bytes:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test.reader", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        record = consumer.poll(30)
        assert record is not None
        assert record.error() is None
        return record.value()
    finally:
        consumer.close()


def headrace(*words: str, **environment: str) -> subprocess.CompletedProcess:
    """The command as a user runs it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "HEADRACE_"))}
    if "HEADRACE_CACHE" in os.environ:
        inherited["HEADRACE_CACHE"] = os.environ["HEADRACE_CACHE"]
    script = [sys.executable, "-c", "from headrace.cli import main; main()", *words]
    return subprocess.run(
        script, env={**inherited, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def test_the_shared_broker_is_ready_and_tells_its_release(kafka):
    """`up` returned: Kafka answers, with one node, and says it is a 4.3."""
    home = kafka.log.parent.parent
    seen = broker.status(home)
    assert (seen.running, seen.ready, seen.state) == (True, True, kafka)
    assert broker.ask(kafka.bootstrap).nodes == {1: kafka.bootstrap}
    assert kafka_version(kafka.bootstrap) == "4.3"


def test_a_second_up_finds_it_and_starts_nothing(kafka):
    """The same process and address, and it is said."""
    said = []
    assert broker.up(kafka.log.parent.parent, say=said.append) == kafka
    assert said == [f"Kafka 4.3.1 is already running at {kafka.bootstrap} (pid {kafka.pid})."]


def test_only_this_machine_can_reach_it(kafka):
    """Both listeners are on the loopback interface."""
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    ports = {kafka.port, kafka.controller_port}
    hosts = [row[1].rpartition(":")[0] for row in listening if row[3] == "0A" and int(row[1][-4:], 16) in ports]
    assert len(hosts) == 2
    assert {host[-8:] for host in hosts} == {"0100007F"}  # 127.0.0.1; last word of ::ffff:127.0.0.1 too


def test_it_is_configured_for_one_node_and_quick_tests(kafka):
    """Few partitions, one replica, dead transactions cleaned at once, no topics by accident."""
    resource = ConfigResource(ResourceType.BROKER, "1")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    told = admin.describe_configs([resource])[resource].result(30)
    expected = {
        "auto.create.topics.enable": "false",
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
        "transaction.state.log.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "group.initial.rebalance.delay.ms": "0",
    }
    assert {name: told[name].value for name in expected} == expected


def test_a_port_with_a_kafka_on_it_offers_to_use_that_one(kafka, home):
    """Never switched silently: the address for KAFKA_BOOTSTRAP_SERVERS, or --port."""
    with pytest.raises(BrokerError) as told:
        broker.up(home, kafka.port, say=lambda _: None)
    assert f"Port {kafka.port} is taken by a Kafka" in str(told.value)
    assert f"KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{kafka.port}" in str(told.value)
    assert "--port" in str(told.value)
    assert broker.running(home) is None


@pytest.mark.usefixtures("offline", "kafka")
def test_data_outlives_a_stop_and_a_kill(home):
    """Records, cluster id and, after a kill, the port are the same; all without a network."""
    state = broker.up(home, port=0, say=lambda _: None)
    cluster = broker.status(home).cluster_id
    create(state.bootstrap, "kept")
    publish(state.bootstrap, "kept", b"a record")
    broker.down(home, say=lambda _: None)
    assert broker.running(home) is None
    assert broker.status(home).cluster_id == cluster

    again = broker.up(home, port=0, say=lambda _: None)
    assert first_value(again.bootstrap, "kept") == b"a record"
    os.kill(again.pid, signal.SIGKILL)
    assert broker_process.await_end(again, 30)

    said = []
    third = broker.up(home, say=said.append)
    assert said[0].startswith(f"The broker with pid {again.pid} died")
    assert third.port == again.port
    assert first_value(third.bootstrap, "kept") == b"a record"
    assert broker.status(home).cluster_id == cluster


@pytest.mark.usefixtures("kafka")
def test_a_wipe_starts_from_nothing(home):
    """After `down --wipe` there are no topics, and it is another cluster."""
    state = broker.up(home, port=0, say=lambda _: None)
    first = broker.status(home)
    create(state.bootstrap, "gone")
    broker.down(home, wipe=True, say=lambda _: None)
    broker.up(home, port=0, say=lambda _: None)
    second = broker.status(home)
    assert second.topics == 0
    assert second.cluster_id != first.cluster_id


@pytest.mark.usefixtures("kafka")
def test_a_broker_that_cannot_start_shows_its_log_and_leaves_nothing_running(home):
    """Damaged data: Kafka's own words, and no process or state file stays."""
    broker.up(home, port=0, say=lambda _: None)
    broker.down(home, say=lambda _: None)
    meta = home / "broker" / "data" / "meta.properties"
    good = meta.read_text()
    meta.write_text(good.replace("node.id=1", "node.id=7"))
    with pytest.raises(BrokerError, match=r"(?s)ended while it started.*server\.log.*node"):
        broker.up(home, port=0, say=lambda _: None)
    assert broker.running(home) is None
    assert not (home / "broker" / "state.json").exists()


@pytest.mark.usefixtures("kafka")
def test_clients_that_come_by_a_proxy_are_told_to_stay_there(home):
    """The node advertises the proxy's port to those who come through it, its own to the others."""
    with Proxy() as proxy:
        state = broker.up(home, port=0, say=lambda _: None, advertised=[proxy.port])
        proxy.lead_to(state.proxied_port)
        create(state.bootstrap, "proxied")
        assert broker.ask(state.bootstrap).nodes == {1: state.bootstrap}
        assert broker.ask(f"127.0.0.1:{proxy.port}").nodes == {1: f"127.0.0.1:{proxy.port}"}
        publish(f"127.0.0.1:{proxy.port}", "proxied", b"by the proxy")
        assert proxy.counts[f"request {Api.PRODUCE}"] == 1
        assert first_value(state.bootstrap, "proxied") == b"by the proxy"


def test_with_another_kafka_named_nothing_is_started(kafka, tmp_path):
    """KAFKA_BOOTSTRAP_SERVERS: `up` and `status` check that one and print its release and nodes."""
    named = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "HEADRACE_HOME": str(tmp_path / "home")}
    done = headrace("up", "--json", **named)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["version"], told["nodes"], told["local"]) == ("4.3", {"1": kafka.bootstrap}, False)
    assert kafka.bootstrap in headrace("status", **named).stdout
    assert not (tmp_path / "home").exists()


def test_a_named_kafka_that_does_not_answer_is_exit_3(tmp_path):
    """The address, the setting and both ways out; no stack trace."""
    done = headrace("up", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9", HEADRACE_HOME=str(tmp_path))
    assert done.returncode == 3
    assert "127.0.0.1:9 (KAFKA_BOOTSTRAP_SERVERS)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("kafka")
def test_the_commands_start_show_and_stop_it(home):
    """`up --json`, `status`, `status --json`, `down`, `status` (exit 3), `down --wipe --yes`."""
    at = {"HEADRACE_HOME": str(home)}
    started = headrace("up", "--port", "0", "--json", **at)
    assert started.returncode == 0, started.stderr
    told = json.loads(started.stdout.splitlines()[-1])
    assert told["pid"] == broker.running(home).pid
    assert told["bootstrap"] in headrace("status", **at).stdout
    seen = json.loads(headrace("status", "--json", **at).stdout.splitlines()[-1])
    assert (seen["running"], seen["ready"], seen["topics"]) == (True, True, 0)
    assert headrace("down", **at).returncode == 0
    assert headrace("status", **at).returncode == 3
    assert headrace("down", "--wipe", "--yes", **at).returncode == 0
    assert not (home / "broker" / "data").exists()


def test_a_release_is_read_off_the_metadata_version():
    """Each release has its last metadata.version; what is newer than the table is said to be."""
    from headrace.kafka_version import release_of

    assert [release_of(level) for level in (1, 17, 21, 25, 29, 30, 31)] == [
        "3.0",
        "3.7",
        "3.9",
        "4.0",
        "4.2",
        "4.3",
        "after 4.3",
    ]


def test_another_program_on_the_port_has_no_release():
    """What is no Kafka tells none, and does not hang."""
    assert kafka_version("127.0.0.1:9") is None
    assert kafka_version("nonsense") is None
