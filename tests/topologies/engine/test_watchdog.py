"""A hanging client call costs one life of the process, not the service."""

import os
import subprocess
import sys
from pathlib import Path

from topologies.engine.watchdog import EXIT_HUNG, LIVES, MOST_LIVES, next_life

ROOT = Path(__file__).parents[3]
HANGS = """
import os, sys, threading
from topologies.engine.watchdog import LIVES, Watchdog
print("life", os.environ.get(LIVES, "0").split(":")[0], "pid", os.getpid(), flush=True)
with Watchdog(0.1).guard("a call into C"):
    threading.Event().wait()
"""


def test_a_hanging_call_starts_the_process_anew_until_it_is_hopeless():
    """The same process (one pid) tries again five times, then exits with its own code."""
    environment = {name: value for name, value in os.environ.items() if name != LIVES}
    done = subprocess.run(
        [sys.executable, "-c", HANGS], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == EXIT_HUNG, done.stderr
    lives = done.stdout.splitlines()
    assert [line.split()[1] for line in lives] == [str(number) for number in range(MOST_LIVES + 1)]
    assert len({line.split()[3] for line in lives}) == 1
    assert "a call into C has hung" in done.stderr


def test_lives_are_counted_within_ten_minutes_only():
    """A hang a day is no reason to give up."""
    assert next_life(None, 1_000) == "1:1000"
    assert next_life("4:1000", 1_100) == "5:1000"
    assert next_life("5:1000", 1_100) is None
    assert next_life("5:1000", 1_601) == "1:1601"
    assert next_life("nonsense", 5) == "1:5"
