"""What the peers run on is pinned."""

import re
import sys

import pytest

from benchmarks.peers import environments
from benchmarks.peers.systems import PEERS
from headrace.jars import read_lock


@pytest.mark.parametrize("path", sorted(environments.REQUIREMENTS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_requirement_has_one_version_and_no_address(path):
    """The same packages tomorrow, from whichever index the user has."""
    for line in path.read_text().split():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+]+", line), line


def test_the_lock_holds_what_the_coordinates_name():
    """A new version is a new lock."""
    locked = {jar.coordinate for jar in read_lock(environments.LOCK)}
    assert set(environments.COORDINATES) <= locked


def test_every_peer_says_its_version():
    """A figure without a version says nothing."""
    for peer in PEERS:
        assert peer.versions, peer.name
        assert all(re.match(r"\d+\.\d", version) for version in peer.versions.values()), peer.name


def test_an_environment_that_is_there_is_not_made_again(tmp_path, monkeypatch):
    """It is found by its requirements; other ones make another one."""
    made = []

    def make(words, _what):
        made.append(words)
        if "venv" in words:
            (words[-1]).mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environments, "_run", make)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "plain.txt").write_text("fastavro==1.13.1\n")
    first = environments.python_of("plain", tmp_path)
    assert len(made) == 2
    assert environments.python_of("plain", tmp_path) == first
    assert len(made) == 2
    (tmp_path / "plain.txt").write_text("fastavro==1.13.2\n")
    assert environments.python_of("plain", tmp_path) != first
    assert len(made) == 4


def test_what_can_not_be_made_says_why():
    """A peer that can't be run here is told, and the others go on."""
    with pytest.raises(environments.Unavailable, match="installing x: exit code 3: no such package"):
        environments._run(
            [sys.executable, "-c", "import sys; sys.stderr.write('no such package'); sys.exit(3)"], "installing x"
        )


def test_an_environment_that_failed_half_way_is_made_again(tmp_path, monkeypatch):
    """Only what is whole is marked as ready."""
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "plain.txt").write_text("fastavro==1.13.1\n")
    made = []

    def fail(words, _what):
        made.append(words)
        if "pip" in words:
            raise environments.Unavailable("the network is down")
        words[-1].mkdir(parents=True)

    monkeypatch.setattr(environments, "_run", fail)
    for _ in range(2):
        with pytest.raises(environments.Unavailable):
            environments.python_of("plain", tmp_path)
    assert len(made) == 4
