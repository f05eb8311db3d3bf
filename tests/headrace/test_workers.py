"""Workers that the demo starts: watched, named when they die, and stopped."""

import os
import sys
import time
from pathlib import Path

from headrace.workers import Crew

VERSION = [sys.executable, "-m", "headrace", "--version"]


def ended(crew):
    """Waits until no process of the crew runs, at most 30 s."""
    deadline = time.monotonic() + 30
    while crew.alive() and time.monotonic() < deadline:
        os.sched_yield()
    return crew.alive() == 0


def test_a_worker_that_ends_is_said_once_with_pid_exit_code_and_last_line(tmp_path):
    """Whoever watches the demo learns which worker died, how, and what it said."""
    said = []
    with Crew(tmp_path, said.append) as crew:
        [pid] = crew.start([sys.executable, "-m", "headrace", "no-such-command"])
        assert ended(crew)
        crew.alive()
    deaths = [line for line in said if "died" in line]
    assert len(deaths) == 1
    assert f"pid {pid}" in deaths[0]
    assert "exit code 2" in deaths[0]
    assert "no-such-command" in (tmp_path / "worker-1.log").read_text()


def test_a_killed_worker_is_said_with_its_signal(tmp_path):
    """Kill -9 reads as SIGKILL, not as a negative number."""
    said = []
    with Crew(tmp_path, said.append) as crew:
        [pid] = crew.start(VERSION)
        os.kill(pid, 9)
        assert ended(crew)
    assert any("SIGKILL" in line and str(pid) in line for line in said)


def test_leaving_the_crew_ends_all_that_it_started(tmp_path):
    """No worker outlives the demo."""
    with Crew(tmp_path, lambda _: None) as crew:
        pids = crew.start(VERSION, 2)
    assert len(pids) == 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]


def test_workers_share_no_instance_name_of_the_environment(tmp_path, monkeypatch):
    """HEADRACE_INSTANCE names one worker; two with the same name would lock each other out."""
    monkeypatch.setenv("HEADRACE_INSTANCE", "not a valid name!")
    said = []
    with Crew(tmp_path, said.append) as crew:
        crew.start(VERSION)
        assert ended(crew)
    assert any("exit code 0" in line for line in said)
