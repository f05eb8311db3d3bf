"""What `make bench` printed, in a document."""

import json
import sys

import pytest

from benchmarks import __main__ as bench
from benchmarks import harness, page, report
from benchmarks.__main__ import Part
from benchmarks.harness import Gate
from benchmarks.report import Found, Story
from benchmarks.system import Shape

MARKED = f"# Performance\n\nBefore.\n\n{page.BEGIN}\nwhat stood there\n{page.END}\n\nAfter.\n"


def told(benchmark, printed, *, ok=True):
    gates = [Gate("fine", ok=ok, detail="")]
    found = Found(report.config(Shape()), report.load("drain", 5), [], report.result(), gates, [], "4.3.1")
    return {**report.written(Story.begun(benchmark), found), "printed": printed}


@pytest.fixture
def folder(tmp_path):
    """Where two parts are kept, one of them void."""
    bench.keep(
        Part("throughput", ("--payments", "5")), tmp_path, {"sources": "1"}, told("throughput", "payments/s  7\n")
    )
    bench.keep(Part("micro", ()), tmp_path, {"sources": "2"}, told("micro", "VOID: a gate failed\n", ok=False))
    return tmp_path


def test_a_document_tells_each_part_with_its_words_versions_and_machine(folder):
    """What stands around the marks stays as it is."""
    document = folder / "performance.md"
    document.write_text(MARKED)
    page.write(document, page.results(folder, bench.PARTS))
    text = document.read_text()
    assert text.startswith("# Performance\n\nBefore.\n")
    assert text.endswith("\n\nAfter.\n")
    assert "what stood there" not in text
    assert text.index("### throughput: valid") < text.index("### micro: VOID")
    assert "`python -m benchmarks.throughput --payments 5`" in text
    assert f"commit {harness.git()}" in text
    assert "Kafka 4.3.1" in text
    assert "```text\npayments/s  7\n```" in text


def test_the_same_results_make_the_same_document(folder):
    """Nothing piles up."""
    document = folder / "performance.md"
    document.write_text(MARKED)
    page.write(document, page.results(folder, bench.PARTS))
    once = document.read_text()
    page.write(document, page.results(folder, bench.PARTS))
    assert document.read_text() == once


@pytest.mark.parametrize("text", ['{"schema": "headr', '{"benchmark": "micro", "valid": true}'], ids=["half", "older"])
def test_what_can_not_be_told_is_left_out(folder, text):
    """A part that was broken off while it was written, or kept without what it printed."""
    (folder / "micro.json").write_text(text)
    assert [one["benchmark"] for one in page.results(folder, bench.PARTS)] == ["throughput"]


@pytest.mark.parametrize("text", ["", f"{page.END}\n{page.BEGIN}\n"], ids=["no marks", "the wrong way round"])
def test_a_document_without_a_place_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys, text):
    """Hours would be for nothing; the words say what to do."""
    document = tmp_path / "performance.md"
    document.write_text(text)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--docs", str(document)])
    monkeypatch.setattr(bench, "run", lambda part: pytest.fail(f"{part.name} was run"))
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 2
    assert page.BEGIN in capsys.readouterr().err
    assert document.read_text() == text


def test_what_a_part_prints_is_kept_with_its_result(tmp_path, monkeypatch):
    """All but the JSON, which is the last line."""
    package = tmp_path / "benchmarks"
    package.mkdir()
    (package / "micro.py").write_text(f"print('a table')\nprint({json.dumps(json.dumps({'valid': True}))})\n")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    assert bench.run(Part("micro", ())) == (0, {"valid": True, "printed": "a table\n"})
