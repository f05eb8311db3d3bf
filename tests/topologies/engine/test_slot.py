"""A slot is one worker's alone, and comes back to it."""

import os

import pytest

from topologies.engine.errors import WorkerStopped
from topologies.engine.slot import take_slot


def test_two_workers_of_a_host_get_two_slots(tmp_path):
    """The first free one each."""
    first, second = (take_slot(tmp_path, "", "core", None) for _ in range(2))
    assert first.instance != second.instance
    os.close(first.lock)
    os.close(second.lock)


def test_a_restarted_worker_gets_its_slot_back(tmp_path):
    """Same identity, same store, same transactional id."""
    first = take_slot(tmp_path, "demo-1.", "core", None)
    os.close(first.lock)
    again = take_slot(tmp_path, "demo-1.", "core", None)
    assert (again.instance, again.folder) == (first.instance, first.folder)
    os.close(again.lock)


def test_a_named_instance_that_runs_already_is_refused_by_name(tmp_path):
    """The message names the instance and the way out."""
    first = take_slot(tmp_path, "", "core", "blue")
    with pytest.raises(WorkerStopped, match=r"blue runs already.*HEADRACE_INSTANCE"):
        take_slot(tmp_path, "", "core", "blue")
    os.close(first.lock)


def test_a_home_that_can_not_be_written_is_named(tmp_path):
    """No stack trace for a wrong folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkerStopped, match="HEADRACE_HOME"):
        take_slot(tmp_path / "file", "", "core", None)
