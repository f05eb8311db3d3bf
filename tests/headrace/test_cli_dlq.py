"""`dlq` at the command line: what a person and a program read, and the exit codes."""

import json

import pytest
from batched import Batches
from builders import PARTITIONS, an_intent
from typer.testing import CliRunner
from worlds import INTENTS, LETTERS, Lists, letter_headers

import headrace.cli.dlq
import headrace.dlq
import replay.reader
from headrace.cli import app, common, explain
from headrace.cli.common import Global
from schemas.events import Micros, Minor
from schemas.internal import Redrive
from schemas.keys import partition_of
from topologies.engine.config import ClusterConfig
from topologies.payments import CORE
from topologies.topics import ACCOUNT_EVENTS, EVENTS, REDRIVES, REVERSALS

HOME = partition_of("alice", PARTITIONS)
SPRING = [
    ("kafka_dlt-original-topic", b"payments.intents"),
    ("kafka_dlt-original-partition", HOME.to_bytes(4, "big")),
    ("kafka_dlt-original-offset", (3).to_bytes(8, "big")),
    ("kafka_dlt-exception-fqcn", b"java.lang.IllegalStateException"),
]


class Told:
    """Settings that name a cluster."""

    def cluster(self):
        return ClusterConfig("127.0.0.1:1")


@pytest.fixture
def lists(monkeypatch):
    """Three letters: one that may go, one that was redriven, one of Spring's with bytes that are no record."""
    names = [topic.name for topic in (*CORE.inputs, REDRIVES, EVENTS, REVERSALS, ACCOUNT_EVENTS)]
    lists = Lists(topics=(*names, LETTERS))
    for number, payment in enumerate(("p", "q")):
        headers = letter_headers(INTENTS, HOME, number, "odd")
        lists.append(INTENTS, HOME, an_intent(payment, amount_minor=Minor(1_000 + number)))
        lists.append(LETTERS, HOME, an_intent(payment, amount_minor=Minor(1_000 + number)), headers)
    lists.append(LETTERS, HOME, b"\x1b[31mred", SPRING)
    lists.append(REDRIVES.name, 0, Redrive(LETTERS, HOME, 1, Micros(5), "ana"))

    class Reads:
        def __init__(self, cluster):
            assert cluster == Told().cluster()

        def __enter__(self):
            return Batches(lists)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(replay.reader, "Reader", Reads)
    monkeypatch.setattr(common, "chosen", Global())
    monkeypatch.setattr(headrace.cli.dlq, "settings", lambda run: Told())
    return lists


def run(*words):
    return CliRunner().invoke(app, ["dlq", *words])


def lines(*words):
    result = run(*words, "--json")
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def test_letters_are_listed_with_what_is_parked(lists):
    """Counts, age and money are those of the letters that were not redriven; the last line sums up."""
    code, found = lines("list")
    assert code == 0
    assert [(one["code"], one["letters"], one["parked"], one["money"]) for one in found[:-1]] == [
        ("java.lang.IllegalStateException", 1, 1, {}),
        ("odd", 2, 1, {"EUR": 1000}),
    ]
    assert (found[-1]["letters"], found[-1]["parked"], found[-1]["money"]) == (3, 2, {"EUR": 1000})
    assert "3 dead letters, 2 parked: 10.00 EUR" in run("list").stdout


def test_each_letter_can_be_listed(lists):
    """With its place, and whether it was redriven."""
    code, found = lines("list", "--each", "--code", "odd")
    assert code == 0
    assert [(one["letter"], one["payment_id"], one["redriven"]) for one in found[:-1]] == [
        (f"{LETTERS}:{HOME}:0", "p", False),
        (f"{LETTERS}:{HOME}:1", "q", True),
    ]
    assert "redriven" in run("list", "--each").stdout


def test_a_letter_is_shown_decoded_with_its_headers(lists):
    """Ours with the record, Spring's with numbers for its binary headers and its bytes as they are."""
    code, [ours] = lines("show", f"{LETTERS}:{HOME}:0")
    assert (code, ours["record"]["payment_id"], ours["first"]) == (0, "p", f"{INTENTS}:{HOME}:0")
    assert ours["record"]["requested_at"] == "2025-11-21T10:00:00.000000Z"
    code, [spring] = lines("show", f"{LETTERS}:{HOME}:2")
    assert {one["name"]: one["value"] for one in spring["headers"]}["kafka_dlt-original-offset"] == 3
    assert (spring["record"], bytes.fromhex(spring["value"])) == (None, b"\x1b[31mred")
    printed = run("show", f"{LETTERS}:{HOME}:2").stdout
    assert "bad-magic" in printed
    assert "\x1b" not in printed


def test_a_dry_run_says_what_would_happen_and_fails_where_something_is_refused(lists):
    """Exit 1, so that a script notices; nothing is written either way."""
    code, found = lines("redrive")
    assert (code, found[-1]["would_go"], found[-1]["done_before"], found[-1]["dry_run"]) == (0, 2, 1, True)
    assert [(one["outcome"], one["note"]) for one in found[:-1]] == [
        ("would go", ""),
        ("done", ""),
        ("would go", "it will come back: its bytes are wrong"),
    ]
    lists.append(INTENTS, HOME, an_intent("p"))
    before = {place: len(log) for place, log in lists.log.items()}
    code, found = lines("redrive", "--code", "odd")
    assert (code, found[-1]["refused"], "it has its fate" in found[0]["note"]) == (1, 1, True)
    assert "1 refused" in run("redrive", "--code", "odd").stdout
    assert {place: len(log) for place, log in lists.log.items()} == before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("show", "nowhere"), 2, "TOPIC:PARTITION:OFFSET"),
        (("show", f"{LETTERS}:{HOME}:9"), 1, "no letter stands at"),
        (("redrive", f"{LETTERS}:{HOME}:9"), 1, "no letter stands at"),
        (("list", "--from", "-1h", "--to", "-2h"), 2, "inverted"),
        (("list", "--topic", "dlq.nowhere"), 3, "is missing"),
    ],
)
def test_a_wrong_word_gets_a_clear_message_and_its_exit_code(lists, words, code, told):
    """2 wrong usage, 1 not found, 3 not there."""
    result = run(*words)
    message, found = explain(result.exception)
    assert (found, told in message, result.stdout) == (code, True, "")


def test_every_error_of_the_commands_has_its_exit_code():
    """None of them ends in a stack trace."""
    from replay.export import NoAnalytics, NoSuchTopic
    from replay.letters import BadLetterId, NoSuchLetter, ReceiptUnreadable
    from replay.manifest import DumpDamaged, OtherDump
    from replay.selection import BadSelection
    from replay.window import BadWindow
    from topologies.engine.redrive import Taken, Undone

    usage = (NoAnalytics, NoSuchTopic, BadLetterId, OtherDump, BadSelection, BadWindow)
    failed = (NoSuchLetter, ReceiptUnreadable, DumpDamaged, Taken)
    assert {explain(error("x")) for error in usage} == {("x", 2)}
    assert {explain(error("x")) for error in failed} == {("x", 1)}
    assert explain(Undone("x")) == ("x", 3)
