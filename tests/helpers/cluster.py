"""A real cluster for a test: its own topic prefix on the shared broker, real worker processes, real intents."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

from replay.audit import audit
from schemas import codec
from schemas.events import AccountAction, AccountCommand, Intent, Kind, Micros, Minor
from schemas.keys import partition_of
from topologies import topics
from topologies.engine.admin import create_topics
from topologies.engine.config import ClusterConfig
from topologies.engine.sender import Sender
from topologies.payments import PLANS

ROOT = Path(__file__).parents[2]


def now():
    return Micros(time.time_ns() // 1000)


class Cluster:
    """Topics under a prefix of their own; `close` ends every worker that was started here."""

    def __init__(self, kafka, home, partitions=4, replication=None):
        self.bootstrap = kafka.bootstrap
        self.home = Path(home)
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self.config = ClusterConfig(self.bootstrap, self.prefix)
        self.partitions = partitions
        self.workers = []
        self.count = 0
        create_topics(self.config, PLANS.values(), partitions, replication)
        self.sender = Sender(self.config)

    def worker(self, instance="a", role="core", *words, **env):
        """Starts `headrace run ROLE WORDS`; what it says is in `log_of(instance)`."""
        log = (self.home / f"{instance}.log").open("ab")
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "HEADRACE_TOPIC_PREFIX": self.prefix,
            "HEADRACE_HOME": str(self.home / "state-of-workers"),
            "HEADRACE_INSTANCE": instance,
            "HEADRACE_PORT": "0",
            **env,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace", "run", role, *words], cwd=ROOT, env=environment, stdout=log, stderr=log
        )
        log.close()
        self.workers.append(process)
        return process

    def log_of(self, instance="a"):
        return (self.home / f"{instance}.log").read_text(errors="replace")

    def url_of(self, instance="a", timeout_s=30):
        """The worker's web address, once it has said it."""
        return self.wait(lambda: _last_url(self.log_of(instance)), timeout_s, "a worker's address")

    def wait(self, condition, timeout_s, what):
        """Waits until `condition()` is true and gives its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := condition()):
            if time.monotonic() > deadline:
                logs = "\n".join(p.read_text(errors="replace")[-3000:] for p in self.home.glob("*.log"))
                raise AssertionError(f"no {what} within {timeout_s} s\n{logs}")
            time.sleep(0.1)
        return value

    def open(self, *accounts, flags=("NO_OVERDRAFT",)):
        """Opens EUR accounts."""
        for account in accounts:
            command = AccountCommand(f"open-{account}", account, AccountAction.OPEN, "EUR", now(), flags)
            self.send(topics.COMMANDS, account, command)
        self.sender.flush()

    def pay(self, debtor, creditor, amount_minor, **more):
        """Publishes a TRANSFER; returns its intent."""
        self.count += 1
        name = more.pop("payment_id", f"p-{self.count}")
        key = more.pop("idempotency_key", name)
        intent = Intent(
            f"{name}-{self.count}",
            key,
            Kind.TRANSFER,
            name,
            debtor,
            creditor,
            Minor(amount_minor),
            "EUR",
            now(),
            **more,
        )
        self.send(topics.INTENTS, debtor, intent)
        return intent

    def send(self, topic, key, value):
        data = value if isinstance(value, bytes) else codec.encode(value)
        self.sender.send(topic.name, key.encode(), data, partition=partition_of(key, self.partitions))

    def audit(self, *, quiet=False):
        return audit(self.config, quiet=quiet)

    def settle(self, timeout_s=90):
        """Waits until every intent has its fate and no money is in transit; the books must hold all along."""
        self.sender.flush()
        deadline = time.monotonic() + timeout_s
        while True:
            report = self.audit(quiet=True)
            if report.ok:
                return report
            live = self.audit()
            assert live.ok, _failures(live)
            if time.monotonic() > deadline:
                logs = "\n".join(p.read_text(errors="replace")[-3000:] for p in self.home.glob("*.log"))
                raise AssertionError(f"not quiet within {timeout_s} s: {_failures(report)}\n{logs}")

    def close(self):
        self.sender.close()
        for process in self.workers:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()


def _failures(report):
    return [(check.name, check.detail) for check in report.checks if not check.ok]


def _last_url(log):
    lines = [line for line in log.splitlines() if "http://" in line and "/metrics" in line]
    return lines[-1].rsplit(" ", 1)[1].removesuffix("/metrics") if lines else None
