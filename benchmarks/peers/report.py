"""What the comparison says: JSON of schema headrace.bench/1, and a table for people."""

from collections.abc import Collection, Sequence
from typing import Any

from benchmarks import harness
from benchmarks.harness import Bench, Gate
from benchmarks.peers.rounds import HEADRACE, Run, Wanted
from benchmarks.peers.systems import BY_NAME, HEADRACE_JOB
from benchmarks.report import machine_line
from topologies.engine.limits import LIMITS

GOALS = {"kafka_streams": 2.0, "quix": 8.0, "faust": 20.0}
"""By how much headrace is to be faster (G2)."""
CV_MOST = 10.0
NONE = {"median": None, "min": None, "max": None}


def base_of(systems: Collection[str]) -> str:
    """What ratios are taken from: the common job on headrace's engine where it was run, else headrace's whole core."""
    return HEADRACE_JOB if HEADRACE_JOB in systems else HEADRACE


def ratios(runs: Sequence[Run], peers: Sequence[str], base: str = HEADRACE) -> dict[str, dict[str, Any]]:
    """By how much `base` was faster than each peer, repeat by repeat: median, least, most.

    `valid` tells how many of the peer's runs passed their gates; a run that did not counts with how fast it was as
    far as it came. A peer without any speed has no numbers.
    """
    rates = {(run.system, run.number): run.figures.payments_per_s for run in runs}
    found = {}
    for peer in peers:
        theirs = [run for run in runs if run.system == peer]
        pairs = [(rates.get((base, run.number)), run.figures.payments_per_s) for run in theirs]
        values = [ours / its for ours, its in pairs if ours and its]
        found[peer] = {
            **(_spread(values) if values else NONE),
            "repeats": len(theirs),
            "valid": sum(run.valid for run in theirs),
        }
    return found


def _spread(values: Sequence[float]) -> dict[str, float]:
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return {"median": round(median, 2), "min": round(ordered[0], 2), "max": round(ordered[-1], 2)}


def _rate(runs: Sequence[Run]) -> dict[str, float | None]:
    values = [run.figures.payments_per_s for run in runs if run.figures.payments_per_s is not None]
    return harness.spread(values) if values else {"median": None, "min": None, "max": None, "cv": None}


def _told(run: Run) -> dict[str, Any]:
    """A run as JSON."""
    return {
        "system": run.system, "variant": run.variant, "repeat": run.number, "payments": run.payments,
        "outcomes": run.outcomes, **run.figures._asdict(), "rss_mb": run.rss_mb, "trouble": run.trouble,
        "gates": [gate._asdict() for gate in run.gates], "valid": run.valid,
    }  # fmt: skip


def _peer(name: str, runs: Sequence[Run]) -> dict[str, Any]:
    peer = BY_NAME[name]
    return {
        "name": name, "versions": peer.versions, "job": peer.job, "variant": runs[-1].variant if runs else None,
        "payments_per_s": _rate(runs), "valid": bool(runs) and all(run.valid for run in runs),
        "options": next((one.options for one in peer.variants if runs and one.name == runs[-1].variant), None),
        "warm_up_share": peer.warm_up,
    }  # fmt: skip


class Story:
    """Everything that was seen."""

    def __init__(self, peers: Sequence[str]) -> None:
        self.peers = list(peers)
        self.sweep: list[Run] = []
        self.runs: list[Run] = []
        self.unavailable: dict[str, str] = {}
        self.audit: list[Gate] = []

    def of(self, system: str) -> list[Run]:
        """The repeats of a system."""
        return [run for run in self.runs if run.system == system]


def report(bench: Bench, wanted: Wanted, payments: int, story: Story, about: dict[str, Any]) -> dict[str, Any]:
    """The JSON of the comparison; `valid` is about headrace's runs, or the peers' where headrace was not asked for."""
    ours = story.of(HEADRACE)
    rate = _rate(ours)
    judged = [*(gate for run in ours for gate in run.gates), *story.audit]
    steady = rate["cv"] is None or rate["cv"] <= CV_MOST
    base = base_of(story.peers)
    between = ratios(story.runs, [name for name in story.peers if name != base], base)
    last = ours[-1].figures if ours else None
    return {
        "schema": "headrace.bench/1",
        "benchmark": "peers",
        "started_at": about["started_at"],
        "git": harness.git(),
        "machine": harness.machine(about["steal"]),
        "versions": harness.versions(bench.kafka),
        "config": {
            "roles": ["core"], "job": f"transfer; headrace does its whole core, all others the common job; ratios of {base}",
            "partitions": wanted.partitions, "workers": wanted.workers, "acks": "all", "replication": 1,
            "fsync": False, "tls": False, "compression": "none", "guarantee": "exactly-once", "floor_ms": LIMITS.floor_ms,
            "accounts": wanted.accounts, "distribution": f"zipf {wanted.zipf}" if wanted.zipf else "uniform",
            "memory_mb": None,
        },
        "load": {
            "model": "drain", "arrival": "backlog", "offered_per_s": None, "intents": payments, "dropped": 0,
            "late_p99_ms": None, "cpu_pct": None,
        },
        "warmup_s": last and last.warm_up_s,
        "measured_s": last and last.measured_s,
        "runs": [_told(run) for run in story.runs],
        "sweep": [_told(run) for run in story.sweep],
        "peers": [_peer(name, story.of(name)) for name in story.peers],
        "unavailable": story.unavailable,
        "result": {
            "payments_per_s": rate, "latency_ms": None, "step": None,
            "cpu_us_per_payment": last.cpu_us if last else None, "records_per_payment": None,
            "bytes_per_payment": None, "rss_mb": max((mb for run in ours for mb in run.rss_mb), default=None),
        },
        "gates": [gate._asdict() for gate in judged],
        "valid": steady and all(run.valid for run in ours or story.runs) and all(gate.ok for gate in judged),
        "ratios": between,
        "goals": [
            {"id": f"ratio {name}", "target": target, "value": between[name]["median"],
             "ok": (between[name]["median"] or 0.0) >= target}
            for name, target in GOALS.items()
            if name in between and base in {run.system for run in story.runs}
        ],
    }  # fmt: skip


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _line(*cells: str) -> None:
    print(f"{cells[0]:<14}{cells[1]:>10}{cells[2]:>20}{cells[3]:>8}{cells[4]:>20}  {cells[5]}".rstrip())


def show(result: dict[str, Any]) -> None:
    """A table for people, on standard output."""
    for run in result["sweep"]:
        print(f"sweep  {run['system']}: {run['variant']}: {_number(run['payments_per_s'])} payments/s"
              f"{'' if run['valid'] else ', VOID'}")  # fmt: skip
    _line("system", "median/s", "min – max", "ratio", "min – max", "setting")
    if any(run["system"] == HEADRACE for run in result["runs"]):
        rate = result["result"]["payments_per_s"]
        _line(HEADRACE, _number(rate["median"]), f"{_number(rate['min'])} – {_number(rate['max'])}", "", "", "core")
    for peer in result["peers"]:
        rate, ratio = peer["payments_per_s"], result["ratios"].get(peer["name"], NONE)
        _line(
            peer["name"], _number(rate["median"]), f"{_number(rate['min'])} – {_number(rate['max'])}",
            _number(ratio["median"], 2), f"{_number(ratio['min'], 2)} – {_number(ratio['max'], 2)}",
            f"{peer['variant']}{'' if peer['valid'] else ' (VOID: see below)'}",
        )  # fmt: skip
    for name, reason in result["unavailable"].items():
        print(f"{name} can't be run here: {reason}")
    _show_trouble(result)
    print(machine_line(result))
    print("Mind: replication 1, no fsync, no TLS, no network; broker, workers and observer share these cores.")
    base = base_of([peer["name"] for peer in result["peers"]])
    print(f"Ratio: {base} over the peer, repeat by repeat. headrace does its whole core, all others the common job.")
    for goal in result["goals"]:
        print(f"goal  {'ok    ' if goal['ok'] else 'missed'}  {goal['id']}: {goal['value']} (target {goal['target']})")
    print(_verdict(result))


def _verdict(result: dict[str, Any]) -> str:
    """The last line."""
    if result["valid"]:
        return "valid"
    cv = result["result"]["payments_per_s"]["cv"]
    if cv is not None and cv > CV_MOST:
        return f"VOID: headrace's runs differ by {cv} % (coefficient of variation; {CV_MOST:.0f} % are allowed)"
    return "VOID: a gate failed"


def _show_trouble(result: dict[str, Any]) -> None:
    for run in [*result["sweep"], *result["runs"]]:
        failed = [f"{gate['name']}: {gate['detail']}" for gate in run["gates"] if not gate["ok"]]
        if run["trouble"]:
            failed.insert(0, f"{run['trouble']} at {run['outcomes']:,} of {run['payments']:,}")
        if failed:
            print(f"VOID  {run['system']} {run['repeat']} ({run['variant']}): {'; '.join(failed)}")
    for gate in result["gates"]:
        if not gate["ok"]:
            print(f"VOID  {HEADRACE}: {gate['name']}: {gate['detail']}")
