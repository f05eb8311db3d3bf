"""Invariant 9 on the cluster: committed offsets, lag and open transactions."""

from collections.abc import Callable, Iterable, Mapping

import pytest
from journalled import Journalled, Logs, Moving, a_run, moments_of

from replay import standing
from replay.audit import judge
from replay.reader import Place
from replay.standing import Committed
from replay.state import Further
from topologies import topics
from topologies.payments import CORE

OFFSETS, STILL = "9 offsets equal journal", "9 no lag, no open transaction"
INTENTS = topics.INTENTS.name


class Told:
    """A standing that a test lays down: the offsets that a worker would have committed."""

    def __init__(self, memory: Journalled) -> None:
        self.offsets = {
            (topic.name, p): Committed(memory._done.get((topic.name, p), 0), str(memory._steps[p]))
            for topic in CORE.inputs
            for p in range(memory.partitions)
        }
        self.open: list[dict[Place, int]] = [{}]

    def committed(self, places: Iterable[Place]) -> dict[Place, Committed]:
        return {place: self.offsets[place] for place in places if place in self.offsets}

    def open_at(self, ends: Mapping[Place, int]) -> dict[Place, int]:
        return self.open.pop(0) if len(self.open) > 1 else self.open[0]


def failed(logs: Logs, told: Told, *, quiet: bool = True) -> dict[str, str]:
    """The checks of invariant 9 that fail."""
    report = judge(logs, quiet=quiet, further=Further(standing={"core": told}))
    return {check.name: check.detail for check in report.checks if check.name[0] == "9" and not check.ok}


@pytest.fixture(scope="module")
def life() -> Journalled:
    """A quiet life of some hundred steps."""
    return a_run(5, 120)


def test_a_system_at_rest_agrees_with_itself(life: Journalled):
    """Every committed offset is where the journal says; nothing waits, nothing is open."""
    told = Told(life)
    assert failed(Logs(life), told) == {}
    report = judge(Logs(life), quiet=True, further=Further(standing={"core": told}))
    assert {check.name: check.examined for check in report.checks}[OFFSETS] == 4 * len(CORE.inputs)


def test_markers_behind_the_last_record_are_neither_lag_nor_a_hole(life: Journalled):
    """An idle worker commits positions that only transaction markers moved, or has not done so yet."""
    logs, told = Logs(life), Told(life)
    logs.log[INTENTS, 1] += [None, None]
    assert failed(logs, told) == {}
    told.offsets[INTENTS, 1] = told.offsets[INTENTS, 1]._replace(offset=told.offsets[INTENTS, 1].offset + 2)
    assert failed(logs, told) == {}


Spoil = Callable[[Logs, Told], None]


def _change(**changes: int) -> Spoil:
    """Moves offset and step of one committed offset, or of a whole partition's."""

    def spoil(_logs: Logs, told: Told) -> None:
        for place, found in told.offsets.items():
            if place == (INTENTS, 1):
                told.offsets[place] = found._replace(offset=found.offset + changes.get("offset", 0))
            if place[1] == 1 and (place[0] == INTENTS or "all" in changes):
                step = int(found.step) + changes.get("step", 0)
                told.offsets[place] = told.offsets[place]._replace(step=str(step))

    return spoil


def a_record_was_stepped_over(logs: Logs, told: Told) -> None:
    logs.log[INTENTS, 1].append(logs.log[INTENTS, 1][-1])
    _change(offset=1)(logs, told)


def an_offset_was_lost(_logs: Logs, told: Told) -> None:
    del told.offsets[INTENTS, 1]


def a_partition_lost_its_offsets(_logs: Logs, told: Told) -> None:
    told.offsets = {place: found for place, found in told.offsets.items() if place[1] != 1}


def an_offset_has_no_step(_logs: Logs, told: Told) -> None:
    told.offsets[INTENTS, 1] = told.offsets[INTENTS, 1]._replace(step="")


def a_record_waits(logs: Logs, _told: Told) -> None:
    log = logs.log[topics.COMMANDS.name, 1]
    log.append(next(kept for kept in log if kept is not None))


def a_transaction_is_open(_logs: Logs, told: Told) -> None:
    told.open = [{}, {}, {(topics.EVENTS.name, 2): 7}]


SPOILS: list[tuple[str, Spoil, str, str]] = [
    ("an offset is too low", _change(offset=-1), OFFSETS, "has read up to"),
    ("a record was stepped over", a_record_was_stepped_over, OFFSETS, "no step will"),
    ("a step number is other", _change(step=1), OFFSETS, "different steps"),
    ("the steps are ahead", _change(step=1, all=1), OFFSETS, "no worker can go on"),
    ("the steps are behind", _change(step=-1, all=1), OFFSETS, "no worker can go on"),
    ("an offset was lost", an_offset_was_lost, OFFSETS, "no offset is committed"),
    ("a partition lost its offsets", a_partition_lost_its_offsets, OFFSETS, "none is committed"),
    ("an offset has no step", an_offset_has_no_step, OFFSETS, "at no step"),
    ("a record waits", a_record_waits, STILL, "accounts.commands partition 1: the record at offset"),
    ("a transaction is open", a_transaction_is_open, STILL, "payments.events partition 2: a transaction is open"),
]


@pytest.mark.parametrize(("spoil", "check", "words"), [s[1:] for s in SPOILS], ids=[s[0] for s in SPOILS])
def test_each_single_wrong_is_found_and_named(life: Journalled, spoil: Spoil, check: str, words: str):
    """One thing other, and the check says where."""
    logs, told = Logs(life), Told(life)
    spoil(logs, told)
    assert words in failed(logs, told)[check]


def test_a_transaction_that_hangs_ends_the_audit_of_a_system_at_rest(life: Journalled, monkeypatch: pytest.MonkeyPatch):
    """Reading would not end: the check that found it is the whole report."""
    monkeypatch.setattr(standing, "HANGS_S", 0.3)
    told = Told(life)
    told.open = [{(topics.EVENTS.name, 2): 7}]
    report = judge(Logs(life), quiet=True, further=Further(standing={"core": told}))
    assert [check.name for check in report.checks] == [STILL]
    assert "from offset 7 on" in report.checks[0].detail


def test_a_transaction_that_was_open_at_the_ends_is_waited_for(life: Journalled):
    """Its records count once it has ended, so it must end before the journal is read again."""
    told = Told(life)
    told.open = [{}, {(topics.EVENTS.name, 2): 7}, {(topics.EVENTS.name, 2): 9}, {}]
    assert failed(Logs(life), told) == {}
    assert told.open == [{}]


def test_a_transaction_that_moves_on_is_no_hanging_one():
    """A worker's next transaction begins elsewhere; nobody waits for the other one's end."""

    class Busy:
        at = 0

        def open_at(self, ends: Mapping[Place, int]) -> dict[Place, int]:
            self.at += 1
            return {("t", 0): self.at}

    busy = Busy()
    assert standing.hanging(busy, {("t", 0): 9}) == {}
    assert busy.at == 2


@pytest.mark.parametrize("seed", range(4))
def test_a_running_system_agrees_with_itself(seed: int):
    """Offsets are asked between the journal's two ends, so they may stand at any step between."""
    memory = a_run(seed, 60)
    moments = moments_of(memory, seed)
    assert failed(Moving(memory, moments), Told(memory), quiet=False) == {}


def test_a_cluster_without_its_group_is_told_apart():
    """Topics that were copied have no group: that is said, and fails nothing."""
    memory = a_run(3, 20)
    told = Told(memory)
    told.offsets = {}
    report = judge(Logs(memory), further=Further(standing={"core": told}))
    [check] = [check for check in report.checks if check.name == OFFSETS]
    assert check.ok
    assert "the group has committed nothing" in check.detail


def test_topics_of_others_on_the_cluster_are_not_judged(life: Journalled):
    """Without a topic prefix a cluster may hold anything; a stranger's open transaction is his."""
    logs, told = Logs(life), Told(life)
    logs.log["a.strangers.topic", 0] = [None] * 9
    told.open_at = lambda ends: {place: 1 for place in ends if place[0] == "a.strangers.topic"}
    assert failed(logs, told) == {}
