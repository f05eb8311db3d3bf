"""The backlog: sums over partitions, when another look is taken, and what the command shows of it."""

import json

import pytest
from typer.testing import CliRunner

import headrace.backlog
import headrace.cli.lag
from headrace.backlog import APART_S, Backlog, by_group, by_topic, see, summed
from headrace.cli import app, common
from headrace.cli.common import Global
from headrace.pace import STANDSTILL_S, LagStatus, Rate
from topologies.engine.config import ClusterConfig
from topologies.payments import WATCHED

CORE, OTHER = "headrace.core", "headrace.settlement"


def a_backlog(**fields):
    """Nothing waits on partition 0 of the intents; `fields` replace any of its fields."""
    quiet = Backlog(CORE, "payments.intents", 0, 50, 50, 0, 0.0, 0, {}, True, 0.0, LagStatus.OK, "")
    return quiet._replace(**fields)


def waiting(status, drain=None, **fields):
    return a_backlog(records=10, end=60, seconds=9.0, drain_seconds=drain, status=status, **fields)


STALLED = waiting(LagStatus.STALLED, cause="nothing was committed in 9 s")
CATCHING_UP = waiting(LagStatus.CATCHING_UP, 12.0, partition=1, one_minute=Rate(2.0, 1.0))


def test_a_sum_has_the_worst_status_the_oldest_record_and_the_longest_drain():
    """Records and money are added up, ages and drains never."""
    one = waiting(LagStatus.CATCHING_UP, 12.0, money={"JPY": 7, "EUR": 5}, uncommitted_tail=3)
    worse = waiting(LagStatus.BLOCKED, money={"EUR": 1}, cause="hangs")._replace(seconds=4.0)
    (found,) = summed([one, worse, a_backlog()], by_group).values()
    assert (found.status, found.cause, found.partitions) == (LagStatus.BLOCKED, "hangs", 3)
    assert (found.records, found.seconds, found.uncommitted_tail) == (20, 9.0, 3)
    assert list(found.money.items()) == [("EUR", 6), ("JPY", 7)]
    assert found.drain_seconds is None
    (found,) = summed([one, a_backlog(drain_seconds=30.0)], by_group).values()
    assert found.drain_seconds == 30.0


def test_a_sum_is_exact_where_all_of_it_is():
    """One partition that was cut makes it "at least"."""
    cut = a_backlog(exact=False)
    assert summed([a_backlog(), a_backlog()], by_group)[CORE].exact
    assert not summed([a_backlog(), cut], by_group)[CORE].exact


def test_groups_and_topics_are_summed_apart():
    """In the order in which they come."""
    rows = [a_backlog(), a_backlog(topic="ledger.credits"), a_backlog(group=OTHER, committed=None)]
    assert list(summed(rows, by_group)) == [CORE, OTHER]
    assert list(summed(rows, by_topic)) == [
        (CORE, "payments.intents"),
        (CORE, "ledger.credits"),
        (OTHER, "payments.intents"),
    ]
    assert [one.ever for one in summed(rows, by_group).values()] == [True, False]


class Scripted:
    """Looks that are given; the last one stays."""

    def __init__(self, *looks):
        self.looks, self.taken = looks, 0

    def look(self):
        self.taken += 1
        return self.looks[min(self.taken, len(self.looks)) - 1]


@pytest.fixture
def slept(monkeypatch):
    """Time that passes only by sleeping."""
    naps = []
    monkeypatch.setattr(headrace.backlog, "sleep", naps.append)
    monkeypatch.setattr(headrace.backlog, "monotonic", lambda: sum(naps))
    return naps


FRESH = waiting(LagStatus.UNKNOWN)
ONE_LOOK = {
    "nothing waits": a_backlog(),
    "nobody is there": waiting(LagStatus.STOPPED),
    "a transaction hangs": a_backlog(status=LagStatus.BLOCKED),
}


@pytest.mark.parametrize("seen", ONE_LOOK.values(), ids=ONE_LOOK)
def test_one_look_is_enough_where_another_tells_nothing_more(slept, seen):
    """`headrace lag` answers at once."""
    assert see(Scripted((seen, a_backlog()))) == (seen, a_backlog())
    assert slept == []


@pytest.mark.parametrize("first", [FRESH, waiting(LagStatus.OK, 0.0)], ids=["old", "young"])
def test_where_something_waits_a_second_look_tells_the_rate(slept, first):
    """A second apart."""
    script = Scripted((first,), (CATCHING_UP,))
    assert see(script) == (CATCHING_UP,)
    assert slept == [APART_S]


def test_where_nothing_moves_it_looks_until_that_is_a_standstill(slept):
    """And no longer, whatever it sees."""
    assert see(Scripted((FRESH,), (FRESH,), (FRESH,), (STALLED,))) == (STALLED,)
    slept.clear()
    assert see(Scripted((FRESH,))) == (FRESH,)
    assert STANDSTILL_S < sum(slept) <= STANDSTILL_S + 3 * APART_S


@pytest.fixture
def lag(monkeypatch):
    """Runs `headrace lag` over backlogs that are given."""
    given = []

    class Given:
        def __init__(self, cluster, plans, bounds=None):
            self.plans = plans

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

    class Told:
        def cluster(self):
            return ClusterConfig("127.0.0.1:1")

    monkeypatch.setattr(common, "chosen", Global())
    monkeypatch.setattr(headrace.backlog, "Watch", Given)
    monkeypatch.setattr(headrace.backlog, "see", lambda watch: tuple(given))
    monkeypatch.setattr(headrace.cli.lag, "settings", lambda run: Told())

    def run(*words, backlogs):
        given[:] = backlogs
        result = CliRunner().invoke(app, ["lag", *words])
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    return run


PAID = waiting(LagStatus.CATCHING_UP, 75.4, money={"EUR": 123_456, "JPY": 500}, one_minute=Rate(20.0, 10.0))


def test_a_row_tells_records_seconds_money_drain_and_status(lag):
    """Money in the currency's own digits."""
    head, row, last = lag(backlogs=[PAID])
    assert head.split() == ["topic", "partition", "records", "seconds", "money", "drain", "status"]
    assert row.split() == [
        "payments.intents",
        "0",
        "10",
        "9.0",
        "1234.56",
        "EUR,",
        "500",
        "JPY",
        "75.4",
        "s",
        "catching-up",
    ]
    assert last == (
        "headrace.core: catching-up: at most 10 records wait, the oldest for 9.0 s, 1234.56 EUR, 500 JPY; done in 75.4 s"
    )


SENTENCES = {
    "nothing": ([a_backlog()], "headrace.core: ok: nothing waits"),
    "never": (
        [a_backlog(committed=None)],
        "headrace.core: ok: nothing waits, and no worker has ever committed anything",
    ),
    "stalled": (
        [STALLED],
        "headrace.core: stalled (nothing was committed in 9 s): at most 10 records wait, the oldest for 9.0 s",
    ),
    "cut": (
        [waiting(LagStatus.STOPPED, money={"EUR": 5}, exact=False, cause="no worker")],
        "headrace.core: stopped (no worker): at most 10 records wait, the oldest for 9.0 s, at least 0.05 EUR",
    ),
    "blocked": (
        [a_backlog(status=LagStatus.BLOCKED, cause="hangs", drain_seconds=None, uncommitted_tail=3)],
        "headrace.core: blocked (hangs): nothing waits that can be read",
    ),
}


@pytest.mark.parametrize(("backlogs", "sentence"), SENTENCES.values(), ids=SENTENCES)
def test_a_role_is_told_in_a_sentence(lag, backlogs, sentence):
    """The status, why, and what waits."""
    assert lag(backlogs=backlogs)[-1] == sentence


def test_open_transactions_have_a_column_where_there_are_some(lag):
    """Else it would be a column of zeros."""
    assert lag(backlogs=[a_backlog(uncommitted_tail=7)])[0].endswith("open")
    assert not lag(backlogs=[a_backlog()])[0].endswith("open")


def test_json_is_a_line_per_partition_and_a_summary_last(lag):
    """Each group's summary stands in the last line's `groups`."""
    other = a_backlog(group=OTHER, committed=None)
    first, second, last = map(json.loads, lag("--json", backlogs=[PAID, other]))
    assert first == {
        "group": CORE, "topic": "payments.intents", "partition": 0, "committed": 50, "end": 60, "records": 10,
        "seconds": 9.0, "uncommitted_tail": 0, "money": {"EUR": 123_456, "JPY": 500}, "exact": True,
        "drain_seconds": 75.4, "status": "catching-up", "cause": "", "tail_seconds": 0.0,
        "one_minute": {"consumed": 20.0, "produced": 10.0}, "five_minutes": None,
    }  # fmt: skip
    assert (second["group"], second["committed"], second["one_minute"]) == (OTHER, None, None)
    assert (last["group"], last["records"], last["partitions"]) == (f"{CORE}, {OTHER}", 10, 2)
    assert [(one["group"], one["status"], one["ever"]) for one in last["groups"]] == [
        (CORE, "catching-up", True),
        (OTHER, "ok", False),
    ]


def test_a_sum_beyond_64_bits_is_text_in_json(lag):
    """JSON's readers would take something else for it."""
    much = waiting(LagStatus.STOPPED, money={"EUR": 2**63, "USD": 2**63 - 1})
    assert json.loads(lag("--json", backlogs=[much])[-1])["money"] == {"EUR": str(2**63), "USD": 2**63 - 1}


def test_the_time_of_a_drain_is_told_in_a_unit_that_reads_well():
    """Seconds, minutes, hours."""
    told = headrace.cli.lag._drain
    assert [told(s) for s in (None, 0.0, 1.24, 119.9, 600.0, 7_200.0 * 5)] == [
        "-", "0", "1.2 s", "119.9 s", "10 min", "10.0 h",
    ]  # fmt: skip


REFUSED = {
    "seconds without --watch": (["3"], "headrace lag --watch 3"),
    "no such role": (["--role", "kore"], f"roles are {', '.join(WATCHED)}"),
}


@pytest.mark.parametrize(("words", "told"), REFUSED.values(), ids=REFUSED)
def test_wrong_usage_is_told_with_the_way_out(words, told):
    """Exit 2, before anything is asked of Kafka."""
    result = CliRunner().invoke(app, ["lag", *words])
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
