"""Rounds: inject a fault into a running system, heal it, wait for zero lag, check everything, count."""

import random
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from judge import AT_THE_END, NAMES, check, final_check
from kafka import Kafka
from kinds import Kind, Shot
from readers import Transcript, read
from sums import Sums
from system import Broken, Stopped, System
from workers import ANEW

from headrace.broker import BrokerError
from replay.audit import audit
from replay.reader import Unreachable
from topologies.engine.sender import Undelivered
from topologies.topics import INTENTS

ROUNDS_OF_A_SYSTEM = 8
"""Then a new topic prefix: checks read everything from the start."""
MOST_VOID = 3
"""How often a void round of a kind is repeated at once."""
CLOSING_S = 15.0
"""Kept back for the last checks."""
FAILURES = (
    Broken,
    AssertionError,
    KafkaException,
    Unreachable,
    BrokerError,
    TimeoutError,
    OSError,
    Undelivered,
    subprocess.SubprocessError,
)
"""What ends a round as a violation; anything else is a mistake of this harness."""


class Campaign:
    """Runs rounds, on one Kafka at a time, and counts them into every one of `sums`."""

    def __init__(self, folder: Path, evidence: Path, seed: int, sums: list[Sums]) -> None:
        self.skipped: dict[str, str] = {}
        self.seed = seed
        self._kafka: Kafka | None = None
        self._folder = folder
        self._evidence = evidence
        self._sums = sums
        self._number = 0
        self._in_system = 0
        self._system: System | None = None
        self._said_at = time.monotonic()

    def say(self, line: str) -> None:
        """Progress, on standard error."""
        print(f"[{time.monotonic() - self._said_at:6.1f} s] {line}", file=sys.stderr, flush=True)

    def run(self, kinds: Iterator[Kind], until: float) -> None:
        """Rounds of these kinds, until there are no more or the time (monotonic) is over."""
        for kind in kinds:
            if (reason := kind.impossible()) is not None:
                self.skipped[kind.name] = reason
                continue
            for _try in range(MOST_VOID):
                if time.monotonic() > until - CLOSING_S:
                    if not self._sums[0].faults[kind.name]:
                        self.skipped.setdefault(kind.name, "the minutes ran out")
                    break
                if self._round(kind):
                    break
            else:
                self.skipped[kind.name] = f"void {MOST_VOID} times: the fault did not fire"
        self._end_system()

    def close(self) -> None:
        """Ends what runs, without a check."""
        with ExitStack() as last_first:
            if self._kafka is not None:
                last_first.callback(self._kafka.close)
            if self._system is not None:
                last_first.callback(self._system.close)
            self._kafka = self._system = None

    # -- one round -------------------------------------------------------------------------------

    def _round(self, kind: Kind) -> bool:
        """Whether the round counts (a violation does)."""
        self._number += 1
        began = time.monotonic()
        chance = random.Random(f"{self.seed}/{self._number}/{kind.name}")
        try:
            shot = self._inject(self._running(kind), kind, chance) if kind.needs_system else kind.inject(None, chance)
        except Stopped as reason:
            shot = Shot(note=f"refused to go on: {reason}"[:200])
            self._refused()
        except FAILURES as error:
            self._violated(kind.name, f"{type(error).__name__}: {error}")
            return True
        word = "" if shot.fired else " VOID"
        self.say(f"round {self._number} {kind.name}: {shot.note or 'done'}{word} ({time.monotonic() - began:.1f} s)")
        for sums in self._sums:
            (sums.faults if shot.fired else sums.void)[kind.name] += shot.count
            sums.minutes += (time.monotonic() - began) / 60
            sums.write()
        if kind.lives_alone and self._system is not None:
            self._end_system()
        return shot.fired

    def _inject(self, system: System, kind: Kind, chance: random.Random) -> Shot:
        self._in_system += 1
        system.load.resume()
        system.steady()
        starts = system.view.patiently(system.view.ends)
        system.stopped.clear()
        if kind.lasts:
            system.scars.append(kind.may_stop)
        system.may_stop, system.a_stop_ends = re.compile("|".join([kind.may_stop, *system.scars])), kind.a_stop_ends
        shot = kind.inject(system, chance)
        recovery = system.recovered()
        ends = system.settle()
        aborted = self._aborted(system, starts, ends)
        broken = check(system, ends)
        self._verdicts(NAMES, broken)
        self._count(system, kind, shot)
        for sums in self._sums:
            sums.aborted += aborted
            sums.recovery_s += [round(recovery, 3)] if shot.fired else []
        return shot

    def _verdicts(self, names: tuple[str, ...], broken: dict[str, str]) -> None:
        for sums in self._sums:
            sums.verdicts.update({f"{name}: {'broken' if name in broken else 'held'}" for name in names})
        if broken:
            raise Broken("; ".join(f"{name}: {evidence}" for name, evidence in broken.items()))

    def _count(self, system: System, kind: Kind, shot: Shot) -> None:
        latencies = system.latencies()
        for sums in self._sums:
            sums.stopped.update({kind.name: len(system.stopped)} if system.stopped else {})
            sums.kills_by_point.update(shot.points)
            for kill, seconds in latencies:
                sums.first_commit_s["lost_store" if kill.lost_store else "warm"].append(round(seconds, 3))

    def _refused(self) -> None:
        """The topics are given up, as a worker asked for; what can be read of them must be right all the same."""
        system = self._system
        for sums in self._sums:
            sums.stopped["for good"] += 1
        try:
            report = audit(system.config)
            if not report.ok:
                self._violated("refusal", f"audit: {[one.detail for one in report.checks if not one.ok][:2]}")
                return
        except Unreachable as error:
            self.say(f"the audit could not be made: {error}")
        self._put_away(delete=False)

    @staticmethod
    def _aborted(system: System, starts: dict, ends: dict) -> int:
        """Records that are in the log but not committed."""
        begins = system.view.patiently(system.view.begins)
        starts = {place: max(start, begins[place]) for place, start in starts.items()}
        written = Transcript()
        read(system.config, ends, written.note, starts=starts, isolation="read_uncommitted")
        committed = system.live.seen.between(starts, ends)
        return sum(map(len, written.offsets.values())) - sum(map(len, committed.offsets.values()))

    # -- systems ---------------------------------------------------------------------------------

    def _running(self, kind: Kind) -> System:
        """The system for a kind's round: the one that runs, where it fits."""
        system = self._system
        worn = self._in_system >= ROUNDS_OF_A_SYSTEM
        if system is not None and (worn or kind.lives_alone or not system.fits(kind)):
            self._end_system()
        if self._kafka is not None and len(self._kafka.nodes) != kind.nodes:
            kafka, self._kafka = self._kafka, None
            kafka.close()
        if self._kafka is None:
            self._kafka = Kafka(self._folder / f"kafka-{kind.nodes}", kind.nodes)
        if self._system is None:
            folder, seed = self._folder / f"from-round-{self._number}", f"{self.seed}/{self._number}"
            self._system = System(self._kafka, kind, folder, seed, self.say)
            self._in_system = 0
            self._system.begin()
        return self._system

    def _end_system(self) -> None:
        """Ends the system that runs, if any, after the checks that end it."""
        if self._system is None:
            return
        system = self._system
        system.may_stop, system.a_stop_ends = None, False
        try:
            system.settle()
            system.stop_workers()
            self._verdicts(AT_THE_END, final_check(system))
        except FAILURES as error:
            self._violated("end of a system", f"{type(error).__name__}: {error}")
            return
        self._put_away()

    def _put_away(self, *, delete: bool = True) -> None:
        system, self._system = self._system, None
        self._add_up(system)
        system.close()
        if delete:
            system.view.patiently(system.view.delete_topics)
        shutil.rmtree(system.folder, ignore_errors=True)

    def _add_up(self, system: System) -> None:
        intents = sum(one.topic == INTENTS.name for one in system.load.acknowledged)
        lives = sum(worker.log.read_text(errors="replace").count(ANEW) for worker in system.workers.values())
        for sums in self._sums:
            sums.payments += intents
            sums.poison += system.load.poison
            sums.lives += lives
            sums.write()

    def _violated(self, kind: str, what: str) -> None:
        """Keeps the evidence, ends the system; the campaign goes on with a new one. Its topics stay in Kafka."""
        system, self._system = self._system, None
        where = self._evidence / f"{time.strftime('%Y%m%d-%H%M%S')}-seed-{self.seed}-round-{self._number}"
        row: dict[str, Any] = {"seed": self.seed, "round": self._number, "kind": kind, "what": what[:2_000]}
        row["evidence"] = str(where)
        self.say(f"VIOLATION in round {self._number}, {kind}: {what}\n  evidence: {where}")
        for sums in self._sums:
            sums.violations.append(row)
            sums.write()
        where.mkdir(parents=True, exist_ok=True)
        (where / "violation.txt").write_text(f"{row}\n\n{traceback.format_exc()}")
        if self._kafka is not None:
            self._kafka.heal()
            for state in self._kafka.states():
                shutil.copy(state.log, where / f"kafka-{state.node}.log")
        if system is None:
            return
        self._add_up(system)
        system.close()
        (where / "prefix.txt").write_text(system.cluster.prefix)
        shutil.copytree(system.folder, where / "system", dirs_exist_ok=True)
        shutil.rmtree(system.folder, ignore_errors=True)
