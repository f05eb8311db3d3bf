"""The faults of the tier `change`, on a real Kafka: no promise breaks, and every kind counts or is named as skipped."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.broker
RUN = Path(__file__).with_name("run.py")
ONLY = "^(?!broker )"
"""A single broker that is killed may lose a transaction's markers, and three need their own minutes: campaigns do that."""
SEED = "879749"
"""Campaigns choose theirs by chance."""


def kinds():
    """The names of all kinds."""
    words = [sys.executable, RUN, "--list", "--json"]
    found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return {name for name in found if re.search(ONLY, name)}


def test_no_fault_of_the_tier_change_breaks_a_promise(tmp_path):
    """Kills at every point, kills at random, and as many of the other faults as fit into four minutes."""
    words = [
        sys.executable,
        RUN,
        "--tier",
        "change",
        "--minutes",
        "4",
        "--only",
        ONLY,
        "--seed",
        SEED,
        "--sums",
        tmp_path / "faults.json",
        "--json",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    print(done.stderr)
    result = json.loads(done.stdout.splitlines()[-1])
    assert not result["violations"]
    assert done.returncode == 0
    assert kinds() == {*result["faults"], *result["skipped"]}
    assert len(result["kills_by_point"]) >= 10
    assert result["aborted"] > 0, "no transaction was aborted: this run proves nothing"
    assert not any("broken" in verdict for verdict in result["verdicts"])
