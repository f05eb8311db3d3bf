"""The console on a real Kafka, as its users start it: what it shows, that it only looks, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from cluster import ROOT, Cluster
from confluent_kafka.admin import AdminClient

from headrace import broker
from topologies import topics
from topologies.payments import PLANS

sys.path.append(str(Path(__file__).parents[1] / "browser"))

from chromium import Pages, browser

pytestmark = pytest.mark.broker


class Console:
    """A `headrace console` process."""

    def __init__(self, cluster, *words):
        self.environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
            "HEADRACE_TOPIC_PREFIX": cluster.prefix,
            "HEADRACE_HOME": str(cluster.home / "state-of-workers"),
        }
        self.cluster = cluster
        self.log = cluster.home / "console.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headrace", "console", "--port", "0", *words],
                cwd=ROOT, env=self.environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.url = cluster.wait(self._address, 60, "console's address")

    def _address(self):
        told = [word for word in self.log.read_text().split() if word.startswith("http://")]
        return told[0].rstrip(";") if told else None

    def get(self, path):
        """Status and JSON of an answer."""
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def until(self, path, condition, what, timeout_s=60):
        """The first good answer that `condition` is true of."""

        def found():
            status, data = self.get(path)
            return data if status == 200 and condition(data) else None

        return self.cluster.wait(found, timeout_s, what)

    def command(self, *words):
        """The last line of what a command prints with --json."""
        done = subprocess.run(
            [sys.executable, "-m", "headrace", *words, "--json"],
            cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return [json.loads(line) for line in done.stdout.splitlines()]

    def end(self, number=signal.SIGTERM):
        """Ends it by a signal; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def cluster(kafka, tmp_path):
    """Topics of its own."""
    made = Cluster(kafka, tmp_path)
    yield made
    made.close()


@pytest.fixture
def console(cluster):
    """A console of the cluster."""
    made = Console(cluster)
    yield made
    made.process.kill()
    made.process.wait()


def begin(cluster):
    """A worker, a bank and two customers, one with money."""
    worker = cluster.worker()
    cluster.open("bank", flags=("DEBIT_NORMAL",))
    cluster.open("alice", "bob")
    cluster.pay("bank", "alice", 10_000)
    cluster.settle()
    return worker


def core(lag):
    """The group of the payments' own role."""
    return next(one for one in lag["groups"] if one["group"].endswith("headrace.core"))


def test_rates_story_account_and_dead_letters_are_what_the_commands_say(cluster, console):
    """Payments appear in the rates as they are decided; every view agrees with the command line."""
    begin(cluster)
    console.until("/api/rates", lambda _: True, "a first second")
    for _ in range(30):
        cluster.pay("alice", "bob", 100)
    poor = cluster.pay("bob", "alice", 999_999_999)
    cluster.send(topics.INTENTS, "alice", b"no payment's bytes")
    cluster.settle()

    def seen(status):
        return lambda data: any(point["rates"].get(status, 0) > 0 for point in data["points"])

    console.until("/api/rates", seen("COMPLETED"), "completed payments in the rates")
    console.until("/api/rates", seen("DECLINED"), "a declined payment in the rates")
    status, story = console.get(f"/api/payments/{poor.payment_id}?debtor=bob")
    told = console.command("replay", "payment", poor.payment_id, "--debtor", "bob")
    assert status == 200
    assert {name: story[name] for name in told[-1]} == told[-1]
    assert [record["fields"]["intent_id"] for record in story["records"]] == [one["intent_id"] for one in told[:-1]]
    status, account = console.get("/api/accounts/alice")
    [told] = console.command("account", "show", "alice")
    assert status == 200
    assert account["balances"][0]["posted_minor"] == told["balances"][0]["posted_minor"] == 7_000
    assert account["balances"][0]["posted"] == "70.00 EUR"
    letters = console.until("/api/dead-letters", lambda data: data["letters"] == 1, "the dead letter")
    told = console.command("dlq", "list")[-1]
    assert (told["letters"], told["parked"]) == (letters["letters"], letters["parked"]) == (1, 1)
    [row] = letters["rows"]
    _, letter = console.get(f"/api/dead-letters/{row['first']}")
    assert letter["value"] == b"no payment's bytes".hex()
    assert console.get("/api/payments/nobody-knows")[0] == 404


def test_lag_shows_what_a_stopped_worker_leaves_waiting_in_all_three_units(cluster, console):
    """Records, seconds and money, and that nobody works on it; zero again when somebody does."""
    worker = begin(cluster)
    console.until("/api/lag", lambda data: core(data)["records"] == 0, "no lag")
    worker.send_signal(signal.SIGTERM)
    worker.wait(60)
    for _ in range(5):
        cluster.pay("alice", "bob", 250)
    cluster.sender.flush()
    found = console.until("/api/lag", lambda data: core(data)["status"] == "stopped", "the status stopped", 120)
    waiting = core(found)
    assert (waiting["money"], waiting["money_shown"], waiting["exact"]) == ({"EUR": 1_250}, ["12.50 EUR"], True)
    assert waiting["records"] >= 5
    assert waiting["seconds"] > 0
    assert waiting["drain_seconds"] is None
    [place] = [one for one in found["partitions"] if one["records"] and one["group"] == waiting["group"]]
    assert place["topic"] == f"{cluster.prefix}payments.intents"
    cluster.worker("b")
    console.until("/api/lag", lambda data: core(data)["records"] == 0, "no lag again", 120)


@pytest.mark.browser
def test_a_browser_shows_what_passes_through_kafka_and_runs_none_of_it(cluster, console, tmp_path):
    """The real page, the real topics: a payment whose id and metadata are markup, from the rates to its story."""
    odd = "<img src=x onerror=\"window.pwned='image'\">"
    script = "<script>window.pwned='script'</script>"
    begin(cluster)
    with browser() as chromium:
        from playwright.sync_api import expect

        pages = Pages(chromium, tmp_path / "browser")
        page = pages(console.url)
        expect(page.locator("#link")).to_have_text("live")
        console.until("/api/rates", lambda _: True, "a first second")
        cluster.pay("alice", "bob", 1_234, payment_id=odd, metadata={odd: script})
        cluster.sender.flush()
        expect(page.locator("main")).to_contain_text("COMPLETED", timeout=60_000)
        page.get_by_role("link", name="Payment").click()
        page.get_by_label("Payment id").fill(odd)
        page.get_by_label("Debtor").fill("alice")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name=f"Payment {odd}")).to_be_visible()
        expect(page.locator("main tbody tr")).to_have_count(5)
        page.get_by_role("button", name="all fields").first.click()
        expect(page.locator("main pre")).to_contain_text(script)
        expect(page.locator("main")).to_contain_text("12.34 EUR")
        assert page.evaluate("window.pwned") is None
        assert page.locator("main img, main script").count() == 0
        assert pages.wrong == []
        pages.close()


def test_the_stream_goes_on_where_it_was_left(cluster, console):
    """State, then changes; whoever comes back with an id gets the next one, and no state."""

    def events(count, **headers):
        request = urllib.request.Request(f"{console.url}/api/live", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as stream:
            found = []
            while len(found) < count:
                lines = []
                while (line := stream.readline().strip()) != b"":
                    lines.append(line.split(b": ", 1))
                event = dict(one for one in lines if len(one) == 2)
                if b"id" in event:
                    found.append((event[b"id"].decode(), event[b"event"].decode()))
            return found

    first = events(3)
    assert first[0][1] == "state"
    again = events(2, **{"Last-Event-ID": first[-1][0]})
    epoch, number = first[-1][0].split("-")
    assert [one[0] for one in again] == [f"{epoch}-{int(number) + n}" for n in (1, 2)]
    assert "state" not in [one[1] for one in again]


def test_looking_leaves_no_trace(cluster, console):
    """No group is joined or made, no offset committed, nothing written."""
    begin(cluster)
    cluster.settle()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def groups():
        found = admin.list_consumer_groups(request_timeout=15).result().valid
        return {one.group_id for one in found if one.group_id.startswith(cluster.prefix)}

    before = groups()
    for path in ("/api/payments/p-1", "/api/accounts/alice"):
        assert console.get(path)[0] == 200
    for path in ("/api/rates", "/api/lag", "/api/dead-letters"):
        console.until(path, lambda _: True, path)
    assert groups() == before
    assert groups() <= {f"{cluster.prefix}headrace.{role}" for role in PLANS}
    assert cluster.settle().ok


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_pages_open(cluster, console, number, code):
    """The streams end, the port is free, nothing is left to say."""
    with urllib.request.urlopen(f"{console.url}/api/live", timeout=60) as stream:
        stream.readline()
        assert console.end(number) == code
        stream.read()
    host, port = urllib.parse.urlsplit(console.url).netloc.split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
    assert "Traceback" not in console.log.read_text()


def test_a_port_that_is_taken_is_wrong_usage(cluster, console):
    """It names the port and the way out."""
    port = urllib.parse.urlsplit(console.url).port
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "console", "--port", str(port)],
        cwd=ROOT, env=console.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("bootstrap", "words"), [("127.0.0.1:1", "headrace up"), (None, "headrace topics create")], ids=["kafka", "topics"]
)
def test_what_is_missing_at_the_start_is_exit_3_and_the_way_out(kafka, tmp_path, bootstrap, words):
    """No Kafka; a Kafka without the topics."""
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": bootstrap or kafka.bootstrap,
        "HEADRACE_TOPIC_PREFIX": "nobody-made-these.",
        "HEADRACE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "console", "--port", "0"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kafka_that_went_away_is_told_and_found_again(tmp_path):
    """Every view says so at once and in one sentence; when it is back, so are the numbers."""
    home = tmp_path / "kafka"
    state = broker.up(home, port=0, say=lambda _: None)
    port = int(state.bootstrap.rsplit(":", 1)[1])
    cluster = Cluster(state, tmp_path)
    console = Console(cluster)
    try:
        console.until("/api/lag", lambda _: True, "a first look")
        broker.down(home, say=lambda _: None)
        cluster.wait(lambda: console.get("/api/lag")[0] == 503, 60, "the outage")
        status, told = console.get("/api/rates")
        assert (status, told["exit_code"]) == (503, 3)
        assert "no Kafka answers at" in told["error"]
        begun = time.time()
        broker.up(home, port=port, say=lambda _: None)
        console.until("/api/lag", lambda data: data["at"] > begun, "a new look", 120)
        console.until("/api/rates", lambda data: data["at"] > begun, "new rates", 120)
        console.until("/api/dead-letters", lambda _: True, "letters", 120)
        assert console.end() == 0
    finally:
        console.process.kill()
        console.process.wait()
        cluster.close()
        broker.down(home, say=lambda _: None)
