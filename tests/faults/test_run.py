"""What a campaign plans to do."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from registry import KINDS  # the fault scripts are no package
from run import RANDOM_KILLS, arguments, planned
from sums import Sums

from topologies.engine.crash import POINTS


def names_of(words, total=None, most=10_000):
    plan = planned(arguments(words), total or Sums())
    return [kind.name for kind, _ in zip(plan, range(most), strict=False)]


def test_the_tier_change_has_every_kind_once_and_five_kills_at_random():
    """Whatever the seed."""
    names = names_of(["--tier", "change", "--seed", "7"])
    assert sorted(names) == sorted([kind.name for kind in KINDS] + ["sigkill"] * (RANDOM_KILLS - 1))
    assert names != names_of(["--tier", "change", "--seed", "8"])
    assert names == names_of(["--tier", "change", "--seed", "7"])


def test_a_worker_is_killed_at_every_named_point():
    """A point that the engine adds is killed at, too."""
    killed = " ".join(kind.name for kind in KINDS if kind.name.startswith("sigkill at "))
    assert all(point in killed.split() for point in POINTS)


def test_a_night_aims_at_what_earlier_nights_have_not_reached():
    """Kinds that have had their rounds are hardly chosen any more."""
    total = Sums()
    total.faults.update({kind.name: 10_000 for kind in KINDS if kind.name != "sigterm"})
    names = names_of(["--tier", "nightly", "--seed", "7"], total, 200)
    assert names.count("sigterm") > 150


def test_a_night_ends():
    """However many kinds there are; the one under way is the last."""
    left = [True] * 20
    plan = planned(arguments(["--tier", "nightly", "--seed", "7"]), Sums(), lambda: not left or not left.pop())
    possible = [kind for kind in plan if kind.impossible() is None]
    assert 10 < len(possible) <= 20


def test_only_some_kinds_can_be_asked_for():
    """By a regular expression."""
    assert names_of(["--only", "^poison$"]) == ["poison"]
