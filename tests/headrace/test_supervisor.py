"""Several processes as one: kept running, stopped together, never outliving their supervisor."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SUPERVISE = """
import sys
from headrace.supervisor import Supervisor
supervisor = Supervisor(lambda line: print(line, flush=True))
for number, code in enumerate(sys.argv[1:], 1):
    supervisor.add(f"worker {number}", [sys.executable, "-c", code])
sys.exit(supervisor.run())
"""
LIVE = """
import os, signal, sys, time
from headrace.supervisor import die_with_supervisor
die_with_supervisor()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open({folder!r} + f"/{{os.getpid()}}", "w").close()
time.sleep(600)
"""


def started(*codes, told=None):
    return subprocess.Popen([sys.executable, "-c", SUPERVISE, *codes], stdout=told)


def until(condition, what):
    """Waits until `condition()` holds, at most 30 s."""
    deadline = time.monotonic() + 30
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return value


def pids(folder: Path):
    return [int(path.name) for path in folder.iterdir()]


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_sigterm_stops_every_worker_gracefully(tmp_path):
    """One signal for all of them, and exit code 0."""
    live = LIVE.format(folder=str(tmp_path))
    supervisor = started(live, live)
    found = until(lambda: len(pids(tmp_path)) == 2 and pids(tmp_path), "two workers")
    supervisor.terminate()
    assert supervisor.wait(30) == 0
    assert not [pid for pid in found if runs(pid)]


def test_a_killed_worker_is_started_anew(tmp_path):
    """A role does not stay away because its process died; who died, and how, is said."""
    lives, told = tmp_path / "lives", tmp_path / "told"
    lives.mkdir()
    with told.open("wb") as out:
        supervisor = started(LIVE.format(folder=str(lives)), told=out)
    [first] = until(lambda: pids(lives), "a worker")
    os.kill(first, signal.SIGKILL)
    until(lambda: len(pids(lives)) == 2, "a second life")
    supervisor.terminate()
    assert supervisor.wait(30) == 0
    assert "worker 1 died (signal SIGKILL)" in told.read_text()


def test_no_worker_outlives_a_supervisor_that_was_killed(tmp_path):
    """Kill -9 of the supervisor is kill -9 of all: nobody processes payments unseen."""
    live = LIVE.format(folder=str(tmp_path))
    supervisor = started(live, live)
    found = until(lambda: len(pids(tmp_path)) == 2 and pids(tmp_path), "two workers")
    supervisor.kill()
    supervisor.wait(30)
    until(lambda: not [pid for pid in found if runs(pid)], "the end of the workers")


def test_wrong_usage_is_not_started_again(tmp_path):
    """Exit code 2 will be 2 again: the supervisor ends all and says it."""
    supervisor = started("import sys; sys.exit(2)", LIVE.format(folder=str(tmp_path)))
    assert supervisor.wait(30) == 2
    assert not [pid for pid in pids(tmp_path) if runs(pid)]
