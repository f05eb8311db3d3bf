"""A benchmark takes down what it started, however it ends."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parents[2]


def of(folder: Path) -> list[str]:
    """The commands of the processes that have a folder in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.fsencode(folder) in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_that_is_ended_leaves_no_process_behind(tmp_path, number):
    """Its workers and its broker are not of its process group, so that a Ctrl-C reaches only the benchmark."""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "HEADRACE_HOME": str(tmp_path / "results")}
    environment.pop("KAFKA_BOOTSTRAP_SERVERS", None)
    words = [sys.executable, "-m", "benchmarks", "--bench", "quick", "--part", "throughput"]
    with subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, process_group=0
    ) as ended:
        assert any("worker 2: pid" in line for line in ended.stderr), "it ended before its workers ran"
        assert len(of(tmp_path)) >= 5, "two processes of the benchmark, a broker, two workers"
        os.killpg(ended.pid, number)
        said = ended.stderr.read()
        assert ended.wait(120) == 128 + number, said
    assert not of(tmp_path), said
    assert not list(tmp_path.glob("headrace-bench-*")), said
