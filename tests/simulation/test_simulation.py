"""The real engine keeps its promises on a simulated Kafka, and the simulation sees it where it does not."""

import json
import os
import subprocess
import sys
import time

import pytest
from paths import ROOT
from planted import BUGS, planted
from shrink import shrink
from simulation import Simulation
from stories import read, story_of, write

SCRIPT = "tests/simulation/simulate.py"
ENOUGH_S = 8.0
"""A run of the tests gives the seeds so much time."""
FEWEST, MOST = 40, 400


def run(story):
    return Simulation(story).run()


def script(*args, **env):
    return subprocess.run(
        [sys.executable, SCRIPT, *args],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_promise_breaks_under_seeded_faults():
    """Books, journal, offsets, stores, answers and the audit, with crashes, zombies, lost answers and late requests."""
    begun, done, void, faults = time.monotonic(), 0, 0, 0
    for seed in range(MOST):
        result = run(story_of(seed))
        assert not result.violations, f"seed {seed} (python {SCRIPT} --seed {seed}): {result.violations[0]}"
        done, void, faults = done + 1, void + result.void, faults + result.counts["faults"]
        if done >= FEWEST and time.monotonic() - begun > ENOUGH_S:
            break
    print(f"{done} seeds, {faults} faults, {void} void")
    assert faults > done
    assert void < done / 5


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug):
    """Each of the mistakes that the engine must not make breaks a promise within some hundred seeds."""
    with planted(bug):
        assert any(run(story_of(seed)).violations for seed in range(MOST)), "no seed found it"


def test_the_same_seed_gives_the_same_trace():
    """In another process, with other hashes."""
    traces = {script("--seed", "7", PYTHONHASHSEED=hashes).stderr.split("trace ")[1] for hashes in ("1", "2")}
    assert traces == {run(story_of(7)).trace + "\n"}


def test_another_seed_gives_another_trace():
    """Chance is there."""
    assert run(story_of(7)).trace != run(story_of(8)).trace


def test_a_story_that_breaks_is_made_small_and_kept(tmp_path):
    """What is left still breaks, from a file, too."""
    with planted("unknown_taken_for_committed"):
        story = next(story for story in map(story_of, range(MOST)) if run(story).violations)
        small = shrink(story, lambda smaller: bool(run(smaller).violations), most=60)
        assert len(small.faults) < len(story.faults) or len(small.published) < len(story.published)
        write(small, tmp_path / "story.json", "it broke")
        again = run(read(tmp_path / "story.json"))
        assert again.violations
    assert again.trace == _trace(small, "unknown_taken_for_committed")


def _trace(story, bug):
    with planted(bug):
        return run(story).trace


def test_the_script_tells_its_figures_and_fails_on_a_violation():
    """For people and as JSON."""
    good = script("--seeds", "4", "--json")
    figures = json.loads(good.stdout.splitlines()[-1])
    assert (good.returncode, figures["seeds"], figures["violations"]) == (0, 4, 0), good.stderr
    bad = script("--seed", "0", "--plant", "offsets_not_in_the_transaction")
    assert bad.returncode == 1
    assert "smallest story" in bad.stdout
