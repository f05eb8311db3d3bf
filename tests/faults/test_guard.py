"""Nothing is left behind, however a campaign ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
DIES = """
import os, subprocess, sys
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(left.pid, flush=True)
os.kill(os.getpid(), {signal})
"""


def test_what_a_dead_campaign_leaves_behind_is_ended():
    """A crash of the campaign, and a grandchild in a session of its own."""
    code = f"import sys; sys.path.append({str(FOLDER)!r}); import guard; sys.exit(guard.guarded(['-c', sys.argv[1]]))"
    words = [sys.executable, "-c", code, DIES.format(signal=11)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    left = int(done.stdout)
    assert done.returncode == 128 + 11
    assert f"ended process {left}" in done.stderr
    deadline = time.monotonic() + 10
    while Path(f"/proc/{left}").exists():
        assert time.monotonic() < deadline, f"process {left} runs; {os.getpid()} looks"
        time.sleep(0.05)
