"""The sums of campaigns."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from sums import Sums  # the fault scripts are no package


def test_a_later_run_adds_to_what_an_interrupted_one_has_kept(tmp_path):
    """Counts go up, figures are kept one by one, so that medians stay true."""
    path = tmp_path / "deep" / "faults.json"
    first = Sums(path)
    first.faults["sigkill"] += 2
    first.recovery_s += [1.0, 9.0]
    first.violations.append({"round": 3})
    first.write()
    second = Sums(path)
    second.faults["sigkill"] += 1
    second.recovery_s += [2.0]
    second.write()
    shown = Sums(path).shown()
    assert shown["faults"] == {"sigkill": 3}
    assert shown["recovery_s"] == {"p50": 2.0, "max": 9.0}
    assert shown["violations"] == [{"round": 3}]
    assert json.loads(path.read_text())["recovery_s"] == [1.0, 9.0, 2.0]


def test_what_was_never_measured_is_told_as_nothing():
    """Not as zero."""
    assert Sums().shown()["sigkill_to_first_commit_s"] == {"warm": None, "lost_store": None}
