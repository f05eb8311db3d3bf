"""What every benchmark needs: a broker, the machine, processes seen from outside, gates."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import timeit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import confluent_kafka

from headrace import broker
from headrace.settings import load
from topologies.engine.config import ClusterConfig

ROOT = Path(__file__).parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


class Bench(NamedTuple):
    """Where a benchmark runs."""

    cluster: ClusterConfig
    home: Path
    environment: dict[str, str]
    """Of the workers."""
    broker_pid: int | None
    """None where the broker is not ours to look at."""
    kafka: str
    """Version, or "unknown"."""


class Gate(NamedTuple):
    """One condition; if it fails the run is void."""

    name: str
    ok: bool
    detail: str


def say(line: str) -> None:
    """A line of progress, on standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def end_cleanly() -> None:
    """From now on the first Ctrl-C or SIGTERM ends this process by SystemExit, so that it takes down what it started.

    More of them are ignored: the way down takes seconds and is not to be broken off.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)

    def end(number: int, _frame: Any) -> NoReturn:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        say("ended from outside; its processes are taken down")
        raise SystemExit(128 + number)

    for number in numbers:
        signal.signal(number, end)


@contextmanager
def bench(prefix: str) -> Iterator[Bench]:
    """A broker of its own in a temporary home, or the one that KAFKA_BOOTSTRAP_SERVERS names."""
    home = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    state = None
    try:
        told = load(home=home, topic_prefix=prefix)
        environment = {"HEADRACE_HOME": str(home), "HEADRACE_TOPIC_PREFIX": prefix}
        if "bootstrap.servers" not in told.kafka:
            state = broker.up(home, port=0, say=say)
            environment["KAFKA_BOOTSTRAP_SERVERS"] = state.bootstrap
        cluster = told.cluster()
        yield Bench(cluster, home, environment, state and state.pid, state.version if state else "unknown")
    except Exception:
        _keep_logs(home)
        raise
    finally:
        if state is not None:
            broker.down(home, say=say)
        shutil.rmtree(home, ignore_errors=True)


def _keep_logs(home: Path) -> None:
    """A run that could not be finished leaves the logs of its processes, to find out why."""
    kept = Path(tempfile.mkdtemp(prefix="headrace-bench-logs-"))
    for log in home.rglob("*.log"):
        if not {"state", "data"} & {*log.relative_to(home).parts}:
            shutil.copy(log, kept / "-".join(log.relative_to(home).parts))
    say(f"the logs of this run are kept in {kept}")


def fresh(bench: Bench, name: str) -> Bench:
    """Topics and stores of their own on the same broker."""
    cluster = replace(bench.cluster, prefix=f"{bench.cluster.prefix}{name}.")
    home = bench.home / name
    more = {
        "HEADRACE_HOME": str(home),
        "HEADRACE_TOPIC_PREFIX": cluster.prefix,
        "KAFKA_BOOTSTRAP_SERVERS": cluster.bootstrap,
    }
    return bench._replace(cluster=cluster, home=home, environment={**bench.environment, **more})


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used, all threads, user and system; 0.0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mb(pid: int) -> float:
    """The most memory a process has had resident, in MiB; 0.0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = next((line for line in lines if line.startswith("VmHWM:")), "VmHWM: 0 kB")
    return int(found.split()[1]) / 1_024


class Steal:
    """How much of the machine's CPU time others took, from now on."""

    def __init__(self) -> None:
        self._before = self._read()

    @staticmethod
    def _read() -> tuple[int, int]:
        fields = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return fields[7], sum(fields)

    def percent(self) -> float:
        """Steal since the start, in percent of all CPU time."""
        steal, total = self._read()
        return round(100 * (steal - self._before[0]) / max(total - self._before[1], 1), 2)


def _loop() -> int:
    rows: dict[str, tuple[str, int]] = {}
    for number in range(20_000):
        name = str(number)
        rows[name] = name, number
        if number & 1:
            del rows[name]
    return len(rows)


def python_loop_ms() -> float:
    """The least time of five for 20,000 rounds of a fixed loop, ms: one release of Python differs by a third from build to build."""
    return round(1_000 * min(timeit.repeat(_loop, number=1, repeat=5)), 2)


def machine(steal: Steal) -> dict[str, Any]:
    """The machine, for the report."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = Path("/proc/meminfo").read_text().splitlines()[0].split()[1]
    return {
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.processor() or "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "pinned": False,
        "ram_mb": int(memory) // 1_024,
        "steal_pct": steal.percent(),
        "python_loop_ms": python_loop_ms(),
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }


def versions(kafka: str) -> dict[str, str]:
    """What the numbers were made with."""
    return {
        "python": platform.python_version(),
        "codec": "generated",
        "librdkafka": confluent_kafka.libversion()[0],
        "confluent_kafka": confluent_kafka.__version__,
        "kafka": kafka,
    }


def git() -> str:
    """The commit, with "+" where files differ from it; "unknown" outside a clone."""

    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return ask("rev-parse", "--short", "HEAD") + ("+" if ask("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Median, least, most, and coefficient of variation in percent (None for one run)."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    mean = sum(ordered) / len(ordered)
    deviation = (sum((value - mean) ** 2 for value in ordered) / max(len(ordered) - 1, 1)) ** 0.5
    return {
        "median": round(median, 1),
        "min": round(ordered[0], 1),
        "max": round(ordered[-1], 1),
        "cv": round(100 * deviation / mean, 2) if len(ordered) > 1 and mean else None,
    }
