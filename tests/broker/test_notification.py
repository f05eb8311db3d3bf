"""Notification on a real Kafka: workers, gateway and receivers as processes of their own, killed and made to wait."""

import asyncio
import json
import os
import signal
import subprocess
import sys

import aiohttp
import pytest
from cluster import ROOT, Cluster
from confluent_kafka.admin import AdminClient
from receiver import SECRET, Receiver, verified

from replay.audit import audit
from replay.reader import Reader
from schemas import codec
from schemas.internal import AttemptAction
from topologies.topics import ATTEMPTS, DELIVERIES, EVENTS, JOURNAL

pytestmark = pytest.mark.broker


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def other():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def cluster(kafka, tmp_path):
    made = Cluster(kafka, tmp_path)
    yield made
    made.close()


def settings(cluster, **receivers):
    """An endpoints file with an endpoint for each receiver, and the environment that names it."""
    path = cluster.home / "endpoints.toml"
    lines = ["waits_s = [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]"]
    for number, (name, receiver) in enumerate(receivers.items()):
        secret = SECRET[:-4] + f"{number:04d}" if number else SECRET
        lines += ["[[endpoint]]", f'name = "{name}"', f'url = "{receiver.url}"', f'secrets = ["{secret}"]']
    path.write_text("\n".join(lines) + "\n")
    return {"HEADRACE_ENDPOINTS": str(path), "HEADRACE_GATEWAY_ALLOW_LOOPBACK": "true", "HEADRACE_GATEWAY_PORT": "0"}


def start(cluster, env):
    """The workers of core and notification."""
    cluster.worker("core")
    cluster.worker("notification", role="notification", **env)
    cluster.open("bank", flags=("DEBIT_NORMAL",))
    cluster.open("alice", "bob", "shop")
    cluster.pay("bank", "alice", 10_000_000)
    cluster.settle()


def gateway(cluster, env, name="gateway"):
    return cluster.worker(name, role="gateway", **env)


def records(cluster, topic):
    decode = codec.decoder(topic.subject)
    with Reader(cluster.config) as reader:
        return [decode(raw.value) for raw in reader.read(topic.name, reader.ends([topic.name]))]


def news(cluster):
    """Every event that is not given again, by id."""
    return {event.event_id: event for event in records(cluster, EVENTS) if event.repeat_intent_id is None}


def all_told(cluster, receiver):
    def condition():
        told = set(receiver.told())
        return told >= set(news(cluster)) and told

    return condition


def in_order(receiver):
    """Whether each payment's events came in order."""
    last = {}
    for call, status in receiver.answered:
        data = call.data
        where = (data["debtor"], data["payment_id"])
        if data["sequence"] < last.get(where, 0):
            return False
        if 200 <= status < 300:
            last[where] = data["sequence"]
    return True


def test_a_receiver_that_was_dead_is_told_everything_in_order(cluster, receiver):
    """Down, then broken, then well: each event arrives signed, with its id, in its payment's order; a replay agrees."""
    env = settings(cluster, hook=receiver)
    receiver.vanish()
    start(cluster, env)
    gateway(cluster, env)
    for n in range(12):
        cluster.pay("alice", "shop" if n % 3 else "nobody", 100 + n)
    cluster.settle()
    cluster.wait(
        lambda: [one for one in records(cluster, ATTEMPTS) if one.reason == "no-connection"], 60, "calls in vain"
    )
    broken = set()

    def behave(call):
        if call.id in broken or call.id > "8":
            return 200
        broken.add(call.id)
        return 500

    receiver.behave = behave
    receiver.start()
    cluster.wait(all_told(cluster, receiver), 90, "all events told")
    events = news(cluster)
    assert len(events) == 13
    for call in receiver.calls:
        content = verified(call)
        event = events[call.id]
        assert content["type"] == f"payment.{event.status.lower()}"
        assert (content["data"]["amount_minor"], content["data"]["currency"]) == (event.amount_minor, "EUR")
    assert in_order(receiver)
    cluster.wait(lambda: _quiet(cluster), 60, "quiet role")
    _replayed(cluster)


def _replayed(cluster):
    """The books hold, and every step of every role, taken once more, gives the same bytes."""
    report = audit(cluster.config, quiet=True, replay=True, home=cluster.home / "state-of-workers")
    assert report.ok, [check for check in report.checks if not check.ok]
    again = next(check.detail for check in report.checks if check.name.startswith("8"))
    assert f"of {len(records(cluster, JOURNAL)):,} steps" in again
    assert "not comparable" not in again


def _quiet(cluster):
    """Every delivery has its outcome on the topic, and the role has read it."""
    due = {(one.endpoint, one.debtor, one.number) for one in records(cluster, DELIVERIES) if one.state == "DUE"}
    heard = {(one.endpoint, one.debtor, one.number) for one in records(cluster, ATTEMPTS)}
    return due <= heard and audit(cluster.config, quiet=True).ok


def test_a_gateway_that_dies_between_call_and_outcome_calls_again_with_the_same_id(cluster, receiver):
    """Nothing is lost: what is unknown is sent again, word for word."""
    env = settings(cluster, hook=receiver)
    start(cluster, env)
    process = gateway(cluster, env)
    killed = []

    def behave(call):
        if not killed:
            killed.append(call)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return 200

    receiver.behave = behave
    for n in range(8):
        cluster.pay("alice", "shop", 100 + n)
    cluster.settle()
    cluster.wait(lambda: killed and process.poll() is not None, 60, "a dead gateway")
    gateway(cluster, env, "gateway-2")
    cluster.wait(all_told(cluster, receiver), 90, "all events told")
    cluster.wait(lambda: _quiet(cluster), 60, "quiet role")
    again = [call for call in receiver.calls if call.id == killed[0].id]
    assert len(again) >= 2
    assert len({call.body for call in again}) == 1
    assert all(verified(call) for call in again)
    assert {one.event_id for one in records(cluster, ATTEMPTS) if one.action == AttemptAction.DELIVERED} == set(
        news(cluster)
    )


def test_a_receiver_that_hangs_keeps_neither_payments_nor_other_receivers_waiting(cluster, receiver, other):
    """Every payment gets its fate and another endpoint all its news, while nothing was answered by the one that hangs."""
    env = settings(cluster, dead=receiver, well=other)
    receiver.hang()
    start(cluster, env)
    gateway(cluster, env)
    cluster.wait(lambda: receiver.calls, 60, "a call that hangs")
    for n in range(300):
        cluster.pay("alice", "shop", 1 + n)
    report = cluster.settle()
    assert report.to_json()["events_by_status"] == {"COMPLETED": 301}
    cluster.wait(all_told(cluster, other), 60, "the other receiver's news")
    assert not receiver.answered
    receiver.release()
    cluster.wait(all_told(cluster, receiver), 90, "the news of the one that hung")
    assert in_order(receiver)


def test_an_endpoint_that_is_gone_is_listed_enabled_and_sent_again(cluster, receiver):
    """410 disables it everywhere; the command line tells, enables and resends."""
    env = settings(cluster, hook=receiver)
    receiver.behave = lambda call: 410
    start(cluster, env)
    gateway(cluster, env)
    for debtor in ("alice", "bob", "carol", "dan"):
        cluster.pay(debtor, "shop", 5)
    cluster.settle()
    cluster.wait(
        lambda: {one.event_id for one in records(cluster, DELIVERIES) if one.state == "PARKED"} == set(news(cluster)),
        60, "parked deliveries",
    )  # fmt: skip
    code, lines, stderr = command(cluster, env, "list")
    assert code == 0, stderr
    assert (lines[0]["endpoint"], lines[0]["enabled"], lines[0]["parked"]) == ("hook", False, 5)
    code, lines, _ = command(cluster, env, "enable", "nobody")
    assert (code, "no endpoint" in lines[-1]["error"]) == (2, True)
    code, lines, _ = command(cluster, env, "resend", "0" * 32, "--endpoint", "hook")
    assert (code, "no event" in lines[-1]["error"]) == (1, True)
    receiver.behave = lambda call: 200
    assert command(cluster, env, "enable", "hook")[0] == 0
    code, lines, stderr = command(cluster, env, "resend", "--parked", "--endpoint", "hook")
    assert (code, lines[-1]["asked"]) == (0, 5), stderr
    cluster.wait(all_told(cluster, receiver), 60, "all events told")
    cluster.wait(lambda: _quiet(cluster), 60, "quiet role")
    code, lines, _ = command(cluster, env, "list", "--each")
    assert (code, lines[-1]["delivered"], lines[-1]["parked"], len(lines)) == (0, 5, 0, 1)


def command(cluster, env, *words):
    environment = {
        **os.environ,
        **env,
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
        "HEADRACE_TOPIC_PREFIX": cluster.prefix,
    }
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "webhooks", *words, "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_gateways_share_the_work_and_one_that_stops_leaves_nothing_behind(cluster, receiver):
    """A second one takes its part, the first ends with 0; and where Kafka has forgotten the offsets, nothing is sent again."""
    env = settings(cluster, hook=receiver)
    start(cluster, env)
    first = gateway(cluster, env)
    cluster.wait(all_told(cluster, receiver), 60, "the first news")
    second = gateway(cluster, env, "second")
    cluster.wait(lambda: _members(cluster) == 2, 60, "two members")
    for n in range(20):
        cluster.pay(("alice", "bank")[n % 2], "shop", 10 + n)
    cluster.settle()
    cluster.wait(all_told(cluster, receiver), 60, "all events told")
    first.send_signal(signal.SIGTERM)
    assert first.wait(25) == 0, cluster.log_of("gateway")
    cluster.pay("alice", "shop", 5)
    cluster.settle()
    cluster.wait(all_told(cluster, receiver), 60, "all events told")
    second.send_signal(signal.SIGTERM)
    assert second.wait(25) == 0, cluster.log_of("second")
    group = f"{cluster.prefix}headrace.gateway"
    client = AdminClient(cluster.config.client())
    client.delete_consumer_groups([group], request_timeout=10)[group].result(20)
    calls = len(receiver.calls)
    gateway(cluster, env, "third")
    cluster.pay("alice", "shop", 6)
    cluster.settle()
    cluster.wait(all_told(cluster, receiver), 60, "all events told")
    assert len(receiver.calls) == calls + 1


def _members(cluster):
    group = f"{cluster.prefix}headrace.gateway"
    client = AdminClient(cluster.config.client())
    found = client.describe_consumer_groups([group], request_timeout=10)[group].result(20)
    return len([one for one in found.members if one.assignment.topic_partitions])


@pytest.mark.parametrize("point", ["after_produce:4", "during_commit:3", "after_commit:5"])
def test_a_worker_that_dies_hands_nothing_out_twice(cluster, receiver, point):
    """Whatever its last transaction became: each delivery has a number of its own, each event arrives, in order."""
    env = settings(cluster, hook=receiver)
    start(cluster, env | {"HEADRACE_CRASH_AT": point})
    worker = cluster.workers[-1]
    gateway(cluster, env)
    for n in range(30):
        cluster.pay("alice", "shop", 10 + n)
        cluster.sender.flush()

    def died():
        """A slow worker may take all that there is in fewer transactions than it is to live through."""
        cluster.pay("alice", "shop", 1)
        cluster.sender.flush()
        return worker.poll() is not None

    cluster.wait(died, 60, "a dead worker")
    cluster.worker("notification", role="notification", **env)
    cluster.settle()
    cluster.wait(all_told(cluster, receiver), 60, "all events told")
    cluster.wait(lambda: _quiet(cluster), 60, "quiet role")
    due = [one for one in records(cluster, DELIVERIES) if one.state == "DUE"]
    assert sorted(one.event_id for one in due) == sorted(news(cluster))
    assert in_order(receiver)
    _replayed(cluster)


def test_a_payment_is_followed_from_its_beginning_and_resumed_where_one_left(cluster, receiver):
    """SSE and WebSocket: what was, then what comes; a token goes on behind the last event that was told."""
    env = settings(cluster, hook=receiver)
    start(cluster, env)
    gateway(cluster, env)
    cluster.pay("alice", "shop", 100, payment_id="first")
    cluster.settle()
    url = cluster.url_of("gateway")
    asyncio.run(_follow(cluster, url))


async def _follow(cluster, url):
    async with aiohttp.ClientSession() as session, asyncio.timeout(60):
        async with session.get(f"{url}/payments/first/events", params={"debtor": "alice"}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            first, live = [await sse(response) for _ in range(2)]
            assert (first["event"], first["data"]["data"]["payment_state"]) == ("payment.completed", "COMPLETED")
            assert (live["event"], live["data"]) == ("live", {"events": 1})
            cluster.pay("alice", "shop", 100, payment_id="first", idempotency_key="another")
            cluster.sender.flush()
            declined = await sse(response)
            assert (declined["event"], declined["data"]["data"]["reason"]) == ("payment.declined", "DU03")
        headers = {"Last-Event-ID": first["id"]}
        async with session.get(f"{url}/payments/first/events?debtor=alice", headers=headers) as response:
            assert [(await sse(response))["id"], (await sse(response))["event"]] == [declined["id"], "live"]
        async with session.ws_connect(f"{url}/accounts/shop/events") as socket:
            begun = await socket.receive_json()
            assert (begun["type"], begun["events"]) == ("live", 0)
            cluster.pay("alice", "shop", 7)
            cluster.sender.flush()
            told = await socket.receive_json()
            assert (told["type"], told["data"]["creditor"], told["data"]["amount_minor"]) == (
                "payment.completed",
                "shop",
                7,
            )
        async with session.ws_connect(f"{url}/accounts/shop/events/ws", params={"after": begun["id"]}) as socket:
            again, live = [await socket.receive_json() for _ in range(2)]
            assert (again["data"], again["id"], live["type"]) == (told["data"], told["id"], "live")
        for path, status in (
            ("/payments/first/events", 400),
            ("/payments/first/events?debtor=alice&after=x", 400),
            ("/accounts/shop/events?after=1.2", 400),
            ("/accounts/shop/events/ws", 426),
            ("/nowhere", 404),
        ):
            async with session.get(url + path) as response:
                assert (response.status, (await response.json())["status"]) == (status, status), path
        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await session.ws_connect(f"{url}/accounts/shop/events", headers={"Origin": "https://evil.example"})
        async with session.get(f"{url}/readyz") as response:
            assert (response.status, (await response.json())["ok"]) == (200, True)


async def sse(response):
    """The next event of a stream; signs of life are passed over."""
    found = {}
    while True:
        line = (await response.content.readline()).decode().rstrip("\n")
        if not line and found:
            return {**found, "data": json.loads(found["data"])}
        name, _, value = line.partition(": ")
        if name:
            found[name] = value
