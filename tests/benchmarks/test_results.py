"""What benchmarks print, what they keep, and when a part is run again."""

import json

import pytest

from benchmarks import __main__ as bench
from benchmarks import harness, report
from benchmarks.__main__ import Part
from benchmarks.harness import Gate
from benchmarks.report import Found, Story
from benchmarks.system import Shape, Void

MARKS = {"sources": "123"}
PART = Part("micro", ("--payments", "5"))
FINE = Gate("fine", ok=True, detail="")


def told(*gates, cv=None):
    rate = {"median": 10.0, "min": 9.0, "max": 11.0, "cv": cv}
    found = Found(
        report.config(Shape()), report.load("drain", 5), [], report.result(payments_per_s=rate), list(gates), []
    )
    return report.written(Story.begun("micro"), found)


def test_one_failed_gate_voids_a_run():
    """However fine the others are."""
    assert told(FINE)["valid"]
    assert not told(FINE, Gate("torn", ok=False, detail="1 torn"))["valid"]


def test_a_run_that_nothing_judged_is_void():
    """No gate, no number."""
    assert not told()["valid"]


def test_repeats_that_differ_by_more_than_a_tenth_are_void():
    """CV above 10 %."""
    assert told(FINE, cv=10.0)["valid"]
    assert not told(FINE, cv=10.1)["valid"]


def test_a_report_has_every_name_of_the_schema():
    """headrace.bench/1, as docs/performance.md tells it."""
    found = told(FINE)
    assert found["schema"] == "headrace.bench/1"
    assert set(found) == {
        "schema", "benchmark", "started_at", "git", "machine", "versions", "config", "load", "warmup_s", "measured_s",
        "runs", "result", "gates", "valid", "ratios", "goals",
    }  # fmt: skip
    assert {"floor_ms", "accounts", "distribution", "guarantee", "fsync", "replication"} <= set(found["config"])
    assert json.loads(json.dumps(found)) == found


def test_a_goal_without_a_value_is_missed():
    """Both ways round."""
    assert not report.goal("g", 5, None, at_least=True)["ok"]
    assert not report.goal("g", 5, None, at_least=False)["ok"]
    assert report.goal("g", 5, 5, at_least=True)["ok"]
    assert not report.goal("g", 5, 5.1, at_least=False)["ok"]


def test_a_void_run_ends_with_1_and_prints_no_table(capsys):
    """The reason stands on standard error."""

    def measure(_wanted):
        raise Void("no worker is left")

    wanted = type("Words", (), {"json": True})
    assert report.run("micro", wanted, measure, print) == report.VOID
    out, err = capsys.readouterr()
    assert out == ""
    assert "no worker is left" in err


def test_the_json_is_the_last_line(capsys):
    """A table before it, for people."""
    found = Found(report.config(None), report.load("x", 1), [], report.result(), [FINE], [])
    assert report.run("micro", type("Words", (), {"json": True}), lambda _wanted: found, lambda _told: None) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["valid"]


def test_columns_are_of_one_width():
    """Figures end below each other; what was not measured is a dash."""
    assert report.table(["a", "b"], [["long name", 1_234.5], ["x", None]]) == (
        "a              b\nlong name  1,234\nx              –"
    )


def test_a_result_that_is_there_is_not_made_again(tmp_path, monkeypatch):
    """Of the same sources and words; a commit that changes neither costs nobody hours."""
    bench.keep(PART, tmp_path, MARKS, told(FINE))
    monkeypatch.setattr(bench, "run", lambda part: pytest.fail(f"{part.name} was run"))
    (found,) = bench.all_of([PART], tmp_path, MARKS, None)
    assert found.resumed
    assert found.told["valid"]


@pytest.mark.parametrize(
    ("marks", "words", "gates"),
    [
        ({"sources": "124"}, PART.words, [FINE]),
        (MARKS, ("--payments", "6"), [FINE]),
        (MARKS, PART.words, [Gate("torn", ok=False, detail="")]),
    ],
    ids=["other sources", "other words", "a void result"],
)
def test_a_result_of_something_else_is_made_anew(tmp_path, monkeypatch, marks, words, gates):
    """And takes the old one's place."""
    bench.keep(Part("micro", words), tmp_path, marks, told(*gates))
    monkeypatch.setattr(bench, "run", lambda _part: (0, {**told(FINE), "new": True}))
    (found,) = bench.all_of([PART], tmp_path, MARKS, None)
    assert not found.resumed
    assert bench.kept(PART, tmp_path, MARKS)["new"]


def test_a_result_of_another_python_is_none(tmp_path, monkeypatch):
    """Two builds of one release differ by a tenth of a payment's time."""
    monkeypatch.setattr("sys.version", "3.11.2 (main, Apr 28 2025) [another build]")
    bench.keep(PART, tmp_path, bench.marks(), told(FINE))
    assert bench.kept(PART, tmp_path, bench.marks())
    monkeypatch.undo()
    assert bench.kept(PART, tmp_path, bench.marks()) is None


def test_half_a_result_is_none(tmp_path):
    """A run that was ended in the middle of writing."""
    (tmp_path / PART.file).write_text('{"schema": "headr')
    assert bench.kept(PART, tmp_path, MARKS) is None


def test_a_change_of_a_source_changes_the_marks(tmp_path, monkeypatch):
    """Also where there is no commit."""
    (tmp_path / "benchmarks").mkdir()
    source = tmp_path / "benchmarks" / "load.py"
    source.write_text("a = 1")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    before = bench.marks()
    assert bench.marks() == before
    source.write_text("a = 2")
    assert bench.marks() != before


def test_latency_takes_the_sustained_rate_that_was_found():
    """A rate that is named goes before it; without either there is only the default."""
    found = bench.Kept(Part("sustained", ()), told(FINE), 0, resumed=False)
    latency = Part("latency", ("--arrival", "both"))
    assert bench.with_rates(latency, [found], None).words[-2:] == ("--sustained", "10")
    assert bench.with_rates(latency, [found], 7.0).words[-2:] == ("--sustained", "7")
    assert bench.with_rates(latency, [found._replace(code=1)], None) == latency
    assert bench.with_rates(PART, [found], 7.0) == PART


def test_every_part_has_words_for_both_sizes():
    """A part without them would end the run."""
    assert set(bench.QUICK) == set(bench.FULL) == set(bench.PARTS)
    assert [part.name for part in bench.parts("full", None)] == list(bench.PARTS)
    assert [part.name for part in bench.parts("full", "echo")] == ["echo"]


def test_points_that_were_not_run_are_named_in_the_headline():
    """Never silently missing."""
    found = {**told(FINE), "runs": [{"point": "accounts 1e7", "not_run": "too long"}]}
    assert "not run: accounts 1e7" in bench.headline(found)


def test_the_spread_of_one_run_has_no_deviation():
    """One run tells nothing of its own noise."""
    assert harness.spread([5.0]) == {"median": 5.0, "min": 5.0, "max": 5.0, "cv": None}
    assert harness.spread([9.0, 11.0])["median"] == 10.0
