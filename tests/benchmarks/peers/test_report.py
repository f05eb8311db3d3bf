"""The comparison's figures."""

from itertools import pairwise

import pytest

from benchmarks.harness import Gate
from benchmarks.peers.__main__ import LEAST, backlog_of, parsed
from benchmarks.peers.drain import Figures, Patience
from benchmarks.peers.report import ratios
from benchmarks.peers.rounds import HEADRACE, Run, Wanted
from benchmarks.peers.systems import BY_NAME, PEERS
from schemas.events import Micros


def a_run(system, number, rate, ok=True):
    return Run(system, "v", number, 10, 10, Figures(rate, rate, 1.0, 1.0, {}), [1.0], None, [Gate("g", ok, "")])


def test_ratios_are_taken_repeat_by_repeat():
    """What both did at about the same time is compared, not median with median."""
    rates = {HEADRACE: (100, 400, 300), "quix": (50, 100, 100)}
    runs = [a_run(name, number, rate) for name, all_ in rates.items() for number, rate in enumerate(all_, 1)]
    assert ratios(runs, ["quix"])["quix"] == {"median": 3.0, "min": 2.0, "max": 4.0, "repeats": 3, "valid": 3}


def test_a_peer_without_any_speed_has_no_ratio():
    """A stall is told, not turned into a number."""
    runs = [a_run(HEADRACE, 1, 100), a_run("faust", 1, None, ok=False)]
    found = ratios(runs, ["faust"])["faust"]
    assert (found["median"], found["repeats"], found["valid"]) == (None, 1, 0)


def test_every_system_gets_the_same_intents_of_a_repeat():
    """A slower system gets fewer of them, and none that another one would not get."""
    wanted = Wanted(100, 0.0, 1, 4, 2, Patience(1, 1), None)
    shares = sorted({1.0, *(peer.share for peer in PEERS)})
    lists = [list(backlog_of(2, share, 2_000, Micros(10**15)).intents(wanted)) for share in shares]
    for fewer, more in pairwise(lists):
        assert more[: len(fewer)] == fewer
    assert [len(one) for one in lists] == [max(LEAST, int(2_000 * share)) for share in shares]


def test_all_peers_and_headrace_run_unless_some_are_named():
    """The names of the command line are those of the table."""
    assert set(parsed([]).peers) == {*BY_NAME, HEADRACE}
    assert parsed(["--peers", "echo,headrace"]).peers == ["echo", HEADRACE]


@pytest.mark.parametrize("words", [["--peers", "flink"], ["--payments", "10"], ["--repeats", "0"]])
def test_a_wrong_word_is_refused_before_anything_starts(words):
    """Exit 2, as everywhere."""
    with pytest.raises(SystemExit) as error:
        parsed(words)
    assert error.value.code == 2
