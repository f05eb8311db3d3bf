"""What every benchmark prints: a table for people, JSON in schema headrace.bench/1, and an exit code."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.harness import Gate, say
from benchmarks.system import Shape, Void
from replay.reader import Unreachable
from topologies.engine.admin import ClusterUnreachable
from topologies.engine.limits import LIMITS

VALID, VOID, UNREACHABLE = 0, 1, 3
"""Exit codes; 2 is wrong usage."""
Result = dict[str, Any]


class Story(NamedTuple):
    """Of which benchmark a report is, and since when."""

    benchmark: str
    started_at: str
    steal: harness.Steal

    @classmethod
    def begun(cls, benchmark: str) -> "Story":
        """It begins now."""
        return cls(benchmark, datetime.now(UTC).isoformat(timespec="seconds"), harness.Steal())


class Found(NamedTuple):
    """What a benchmark has found out."""

    config: Result
    load: Result
    runs: list[Result]
    result: Result
    gates: list[Gate]
    goals: list[Result]
    kafka: str = "none"
    warmup_s: float = 0.0
    measured_s: float = 0.0
    ratios: Result | None = None


def config(shape: Shape | None, **more: Any) -> Result:
    """The part `config`; `shape` None: no accounts and no workers."""
    return {
        "roles": ["core"], "job": "transfer", "partitions": shape and shape.partitions,
        "workers": shape and shape.workers, "acks": "all", "replication": 1, "fsync": False, "tls": False,
        "compression": "none", "guarantee": "exactly-once", "floor_ms": LIMITS.floor_ms, "accounts": shape and shape.accounts,
        "distribution": shape and shape.distribution, "memory_mb": LIMITS.memory_mb, **more,
    }  # fmt: skip


def load(model: str, intents: int | None, **more: Any) -> Result:
    """The part `load`."""
    return {
        "model": model, "arrival": None, "offered_per_s": None, "intents": intents, "dropped": 0, "late_p99_ms": None,
        "cpu_pct": None, **more,
    }  # fmt: skip


def result(**figures: Any) -> Result:
    """The part `result`: every name of the schema, None where this benchmark does not measure it."""
    return {
        "payments_per_s": None, "latency_ms": None, "step": None, "cpu_us_per_payment": None,
        "records_per_payment": None, "bytes_per_payment": None, "rss_mb": None, **figures,
    }  # fmt: skip


def goal(name: str, target: float, value: float | None, *, at_least: bool) -> Result:
    """One goal; a value that was not measured reaches none."""
    ok = value is not None and (value >= target if at_least else value <= target)
    return {"id": name, "target": target, "value": value, "ok": ok}


def steady(rate: Result) -> bool:
    """Whether repeats agree: a coefficient of variation of at most 10 %, or one run only."""
    return rate["cv"] is None or rate["cv"] <= 10


def written(story: Story, found: Found) -> Result:
    """The JSON of a benchmark, schema headrace.bench/1."""
    rate = found.result["payments_per_s"]
    return {
        "schema": "headrace.bench/1",
        "benchmark": story.benchmark,
        "started_at": story.started_at,
        "git": harness.git(),
        "machine": harness.machine(story.steal),
        "versions": harness.versions(found.kafka),
        "config": found.config,
        "load": found.load,
        "warmup_s": found.warmup_s,
        "measured_s": found.measured_s,
        "runs": found.runs,
        "result": found.result,
        "gates": [gate._asdict() for gate in found.gates],
        "valid": bool(found.gates) and all(gate.ok for gate in found.gates) and (rate is None or steady(rate)),
        "ratios": found.ratios,
        "goals": found.goals,
    }


def named(point: str, judged: Iterable[Gate]) -> list[Gate]:
    """Gates that say of which point they are."""
    return [gate._replace(name=f"{point}: {gate.name}") for gate in judged]


def shown(value: Any) -> str:
    """A figure for people; what was not measured is a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.2f}".rstrip("0").rstrip(".")
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Columns of one width each; the first is words, the others are figures."""
    cells = [list(head), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def machine_line(told: Result) -> str:
    """The machine, its load, what a fixed loop takes in its Python, and the commit."""
    about = told["machine"]
    return (
        f"machine  {about['cpu']}, {about['cores']} cores, steal {about['steal_pct']} %, load {about['load_average']}, "
        f"loop {about['python_loop_ms']} ms, git {told['git']}"
    )


def closing(told: Result) -> None:
    """The end of every table: the machine, gates, goals, and whether it counts."""
    print(machine_line(told))
    if told["versions"]["kafka"] != "none":
        print("Mind: replication 1, no fsync, no TLS, no network; broker, workers and observer share these cores.")
    failed = [gate for gate in told["gates"] if not gate["ok"]]
    print(f"gates    {len(told['gates']) - len(failed)} of {len(told['gates'])} passed")
    for gate in failed:
        print(f"gate  FAILED  {gate['name']}: {gate['detail']}")
    for one in told["goals"]:
        print(
            f"goal  {'ok    ' if one['ok'] else 'missed'}  {one['id']}: {shown(one['value'])} (target {shown(one['target'])})"
        )
    if told["valid"]:
        print("valid")
    else:
        reason = "a gate failed" if failed else "no gate looked" if not told["gates"] else "repeats differ by too much"
        print(f"VOID: {reason}; these numbers mean nothing")


def arguments(benchmark: str, about: str) -> argparse.ArgumentParser:
    """The command line that all benchmarks share."""
    words = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=about)
    words.add_argument("--json", action="store_true", help="one JSON object on the last line of standard output")
    words.add_argument("--seed", type=int, default=1)
    return words


def at_least(least: float, kind: type = int) -> Callable[[str], Any]:
    """A number of a command line that may not be smaller."""

    def read(text: str) -> Any:
        if (number := kind(text)) < least:
            raise argparse.ArgumentTypeError(f"{text} is too small; the least is {least}")
        return number

    read.__name__ = kind.__name__
    return read


def run(
    benchmark: str,
    wanted: argparse.Namespace,
    measure: Callable[[argparse.Namespace], Found],
    show: Callable[[Result], None],
) -> int:
    """Measures, prints, and gives the exit code: 0 valid, 1 void, 3 no Kafka answers."""
    harness.end_cleanly()
    story = Story.begun(benchmark)
    try:
        told = written(story, measure(wanted))
    except Void as error:
        say(f"benchmarks.{benchmark}: {error}")
        return VOID
    except (Unreachable, ClusterUnreachable) as error:
        say(f"benchmarks.{benchmark}: {error}")
        return UNREACHABLE
    show(told)
    closing(told)
    if wanted.json:
        print(json.dumps(told))
    return VALID if told["valid"] else VOID
