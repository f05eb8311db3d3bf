"""What `make bench` printed, as a section of a document: each part with its words, commit, time, versions, machine and table."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from benchmarks.report import Result

BEGIN = "<!-- make bench: from here -->"
END = "<!-- make bench: to here -->"


class NoPlace(Exception):
    """The document has no place for the section; the message says how to make one."""


def results(folder: Path, names: Iterable[str]) -> list[Result]:
    """What is kept of these parts, in their order; a part that was never run, or broken off while it was written, is left out.

    So is one that was kept before what it printed was kept with it.
    """
    found = []
    for name in names:
        try:
            one = json.loads((folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            continue
        found += [one] if "printed" in one else []
    return found


def section(told: Result) -> str:
    """A part: what was run, when, with what and on what, whether it counts, and its table."""
    machine, versions = told["machine"], told["versions"]
    kafka = "" if versions["kafka"] == "none" else f", Kafka {versions['kafka']}, librdkafka {versions['librdkafka']}"
    load = " ".join(str(one) for one in machine["load_average"])
    return "\n".join([
        f"### {told['benchmark']}: {'valid' if told['valid'] else 'VOID'}",
        "",
        f"`python -m benchmarks.{' '.join((told['benchmark'], *told['words']))}`, {told['started_at']}, commit {told['git']};",
        f"Python {versions['python']}{kafka}; {machine['cpu']}, {machine['cores']} cores, {machine['ram_mb']:,} MiB,",
        f"steal {machine['steal_pct']} %, load average after it {load}.",
        "",
        "```text",
        told["printed"].strip("\n"),
        "```",
    ])  # fmt: skip


def around(document: Path) -> tuple[str, str]:
    """A document's text up to the first mark and from the second one on, marks included. Raises NoPlace, OSError."""
    found = re.fullmatch(f"(.*{re.escape(BEGIN)}\n).*?({re.escape(END)}.*)", document.read_text(), re.DOTALL)
    if found is None:
        raise NoPlace(
            f"{document} has no place for the results: put the lines {BEGIN} and {END} where they shall stand"
        )
    return found[1], found[2]


def write(document: Path, told: Iterable[Result]) -> None:
    """Puts the parts between the document's two marks, in place of what stood there. Raises NoPlace, OSError."""
    before, after = around(document)
    document.write_text(before + "".join(f"\n{section(one)}\n" for one in told) + "\n" + after)
