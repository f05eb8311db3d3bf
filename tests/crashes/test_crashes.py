"""Stories that once broke a promise; each stays told."""

from pathlib import Path

import pytest
from simulation import Simulation
from stories import read

STORIES = sorted(Path(__file__).parent.glob("*.json"))


@pytest.mark.parametrize("file", STORIES, ids=lambda file: file.stem)
def test_what_once_broke_holds(file):
    """The file says what it was."""
    story = read(file)
    result = Simulation(story).run()
    assert not result.violations, result.violations[0]
    assert result.counts["faults"] or not story.faults, "no fault struck: this story proves nothing any more"


def test_there_are_stories():
    """Nobody swept them away."""
    assert STORIES
