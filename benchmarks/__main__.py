"""All benchmarks, one after another; each part's JSON is kept, and what is there already is not run again.

    BENCH=full python -m benchmarks --json
    PART=latency python -m benchmarks

BENCH is `quick` (small sizes, to see that all works: never quoted) or `full`. A part's result stands in
`<results>/<BENCH>/<part>.json`, with a hash of the sources, the Python and the words that it was run with: where one of them differs,
or the result is void, the part is run anew. Results are under HEADRACE_HOME, default .headrace, or where
--results says. Latency takes its rates from what `sustained` has found, unless --sustained names one. `--docs FILE` puts what
all kept parts printed into a document.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks import harness, page, report
from benchmarks.harness import ROOT, say
from benchmarks.report import Result

Size = Literal["quick", "full"]
PARTS = ("throughput", "roles", "sustained", "latency", "restore", "micro", "curve", "echo", "peers", "scale")
"""In their order; the longest is the last."""
SOURCES = ("benchmarks", "schemas", "streams", "topologies", "replay", "headrace", "pyproject.toml")
"""Folders and files that decide what is measured."""
SUMMARY = "headrace.bench-summary/1"


class Part(NamedTuple):
    """A benchmark and the words that it is run with."""

    name: str
    words: tuple[str, ...]

    @property
    def file(self) -> str:
        """Of its result."""
        return f"{self.name}.json"


class Kept(NamedTuple):
    """How a part ended."""

    part: Part
    told: Result | None
    """Its JSON; None where it printed none."""
    code: int
    """0 valid, 1 void, 3 no Kafka."""
    resumed: bool
    """Whether the result was there already."""


COLD = "--broker-warm-up 0"
QUICK = {
    "throughput": f"--payments 20000 --accounts 2000 {COLD}",
    "roles": f"--payments 20000 --accounts 2000 --repeats 1 {COLD}",
    "sustained": f"--start 500 --seconds 5 --warm-up 2 --cut 1 --accounts 2000 {COLD}",
    "latency": f"--rate 500 --seconds 5 --warm-up 2 --cut 1 --accounts 2000 {COLD}",
    "scale": f"--payments 20000 --accounts 2000 --account-counts 1e3,5e3 --limit-s 300 {COLD}",
    "restore": "--rows 60000 --accounts 2000",
    "micro": "--payments 5000 --keys 20000",
    "curve": f"--floors 0,25 --payments 20000 --rate 500 --seconds 5 --warm-up 2 --cut 1 --accounts 2000 {COLD}",
    "echo": f"--payments 20000 --accounts 2000 {COLD}",
    "peers": f"--payments 10000 --repeats 2 {COLD}",
}
FULL = {
    "throughput": "--payments 200000 --repeats 5 --workers 4",
    "roles": "--payments 150000 --repeats 3",
    "sustained": "--start 7000",
    "latency": "--arrival both",
    "scale": "--payments 100000 --limit-s 4800",
    "restore": "--rows 600000 --repeats 5",
    "micro": "--payments 200000 --keys 1000000",
    "curve": "--payments 100000 --seconds 20",
    "echo": "--payments 300000 --repeats 5",
    "peers": "--payments 400000 --repeats 5",
}
WORDS = {"quick": QUICK, "full": FULL}


def parts(size: Size, only: str | None) -> list[Part]:
    """The parts to run, in their order."""
    return [Part(name, tuple(shlex.split(WORDS[size][name]))) for name in PARTS if only in (None, name)]


def marks() -> Result:
    """What a result must be of to be taken for today's: sources and Python as they are. A commit of words alone changes nothing."""
    digest = sha256()
    places = [ROOT / name for name in SOURCES]
    for path in sorted(path for place in places for path in (place, *place.rglob("*")) if path.is_file()):
        if path.suffix != ".pyc":
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return {"sources": digest.hexdigest()[:16], "python": sys.version}


def kept(part: Part, folder: Path, marked: Result) -> Result | None:
    """The valid result of a part with these very marks and words, or None."""
    try:
        found: Result = json.loads((folder / part.file).read_text())
    except (OSError, ValueError):
        return None
    wanted = {**marked, "words": list(part.words), "valid": True}
    return found if wanted.items() <= found.items() else None


def keep(part: Part, folder: Path, marked: Result, told: Result) -> Result:
    """Writes a result, as a whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {**told, **marked, "words": list(part.words)}
    half = folder / f"{part.file}.half"
    half.write_text(json.dumps(found, indent=1))
    half.replace(folder / part.file)
    return found


def run(part: Part) -> tuple[int, Result | None]:
    """Runs a part with the terminal as its own; its exit code and its JSON."""
    say(f"== {part.name} {shlex.join(part.words)}")
    words = [sys.executable, "-m", f"benchmarks.{part.name}", *part.words, "--json"]
    child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        heard, _ = child.communicate()
    except BaseException:
        child.terminate()  # it takes its broker and workers down itself
        child.wait()
        raise
    *lines, last = heard.splitlines() or [""]
    try:
        found = json.loads(last)
    except ValueError:
        lines.append(last)
        found = None
    printed = "\n".join([*lines, ""])
    sys.stderr.write(printed)
    return child.returncode, {**found, "printed": printed} if isinstance(found, dict) else None


def with_rates(part: Part, found: list[Kept], sustained: float | None) -> Part:
    """Latency with the sustained rate: the one that is named, else the one that was found; others as they are."""
    if part.name != "latency":
        return part
    told = next((one.told for one in found if one.part.name == "sustained" and one.code == report.VALID), None)
    rate = sustained if sustained is not None or told is None else told["result"]["payments_per_s"]["median"]
    return part if rate is None else part._replace(words=(*part.words, "--sustained", f"{rate:.0f}"))


def all_of(wanted: list[Part], folder: Path, marked: Result, sustained: float | None) -> list[Kept]:
    """Runs what is not there yet."""
    found: list[Kept] = []
    for plain in wanted:
        part = with_rates(plain, found, sustained)
        there = kept(part, folder, marked)
        if there is not None:
            say(f"== {part.name}: there already, {folder / part.file}")
            found.append(Kept(part, there, report.VALID, resumed=True))
            continue
        code, told = run(part)
        found.append(Kept(part, told and keep(part, folder, marked, told), code, resumed=False))
    return found


def headline(told: Result) -> str:
    """A part's figures in a line."""
    figures = told["result"]
    said = []
    rate = figures.get("payments_per_s")
    if rate:
        said.append(f"{rate['median']:,.0f} payments/s")
    if latency := figures.get("latency_ms"):
        said.append(f"p50 {latency['p50']} ms, p99 {latency['p99']} ms")
    if cold := figures.get("cold_rows_per_s"):
        said.append(f"cold {cold['median']:,.0f} rows/s")
    if alone := figures.get("us_per_payment"):
        said += [f"{name} {value} µs" for name, value in alone.items()]
    if ratios := told.get("ratios"):
        said += [f"÷ {name} {_median(value)}" for name, value in ratios.items() if value]
    left_out = [one["point"] for one in told["runs"] if one.get("not_run")]
    if left_out:
        said.append(f"not run: {', '.join(left_out)}")
    return "; ".join(said)


def _median(value: Any) -> Any:
    return value["median"] if isinstance(value, dict) else value


def rows(found: list[Kept]) -> list[list[str]]:
    """A line of the table for each part: name, state, figures."""
    lines = []
    for one in found:
        state = "valid" if one.code == report.VALID else "no Kafka" if one.code == report.UNREACHABLE else "VOID"
        told = "it printed no result; its lines are above" if one.told is None else headline(one.told)
        lines.append([one.part.name, f"{state}, kept" if one.resumed else state, told])
    return lines


def summary(found: list[Kept], size: Size, marked: Result) -> Result:
    """All results in one object."""
    return {
        "schema": SUMMARY,
        "bench": size,
        "git": harness.git(),
        **marked,
        "parts": {one.part.name: one.told for one in found},
        "resumed": [one.part.name for one in found if one.resumed],
        "valid": all(one.code == report.VALID for one in found),
        "goals": [{"part": one.part.name, **goal} for one in found if one.told for goal in one.told["goals"]],
    }


def parsed() -> argparse.Namespace:
    """The command line, and BENCH, PART and HEADRACE_HOME of the environment."""
    words = argparse.ArgumentParser(prog="python -m benchmarks", description="All benchmarks; PART=name for one.")
    words.add_argument("--bench", choices=list(WORDS), default=os.environ.get("BENCH") or "quick")
    words.add_argument("--part", choices=PARTS, default=os.environ.get("PART") or None)
    words.add_argument(
        "--sustained", type=float, help="payments a second; latency is measured at 50, 70 and 90 %% of it"
    )
    home = Path(os.environ.get("HEADRACE_HOME") or ROOT / ".headrace")
    words.add_argument("--results", type=Path, default=home / "bench", help="folder of the results")
    words.add_argument("--docs", type=Path, help="puts what the kept parts printed between the marks of this document")
    words.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    found = words.parse_args()
    if found.bench not in WORDS:
        words.error(f"BENCH={found.bench} is neither quick nor full")
    if found.part not in (None, *PARTS):
        words.error(f"PART={found.part} is none of {', '.join(PARTS)}")
    if found.docs is not None:
        try:
            page.around(found.docs)
        except (OSError, page.NoPlace) as error:
            words.error(str(error))
    return found


def main() -> int:
    """0: all valid; 1: one is void; 2: wrong usage; 3: no Kafka answers."""
    wanted, marked = parsed(), marks()
    harness.end_cleanly()
    folder = wanted.results / wanted.bench
    found = all_of(parts(wanted.bench, wanted.part), folder, marked, wanted.sustained)
    print(report.table(["part", "", ""], rows(found)))
    if wanted.bench == "quick":
        print("BENCH=quick: small sizes, to see that all works. Quote none of it; BENCH=full measures.")
    if wanted.docs is not None:
        page.write(wanted.docs, page.results(folder, PARTS))
    if wanted.json:
        print(json.dumps(summary(found, wanted.bench, marked)))
    return max(
        (one.code if one.code in (report.VALID, report.UNREACHABLE) else report.VOID for one in found), default=0
    )


if __name__ == "__main__":
    sys.exit(main())
