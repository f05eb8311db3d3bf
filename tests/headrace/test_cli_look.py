"""`account show` and `replay payment`: what a person and a program read."""

import json

import pytest
from builders import PARTITIONS, an_intent
from typer.testing import CliRunner
from worlds import EVENTS, POSTINGS, World

import headrace.cli.replay
import replay.reader
from headrace.cli import app, common, explain
from headrace.cli.common import Global
from schemas.events import Minor, PaymentState, Status
from schemas.keys import partition_of
from topologies.engine.config import ClusterConfig


class Told:
    """Settings that name a cluster."""

    def cluster(self):
        return ClusterConfig("127.0.0.1:1")


@pytest.fixture
def world(monkeypatch):
    """A world on lists, which the commands read in place of a cluster."""
    world = World()
    world.open("treasury", "DEBIT_NORMAL")
    world.open("alice", "NO_OVERDRAFT")
    world.open("shop", "NO_OVERDRAFT")
    world.pay("fund", debtor="treasury", creditor="alice", amount_minor=Minor(10_000))
    world.pay("rent")

    class Lists:
        def __init__(self, cluster):
            assert cluster == Told().cluster()

        def __enter__(self):
            return world

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(replay.reader, "Reader", Lists)
    monkeypatch.setattr(common, "chosen", Global())
    for module in (common, headrace.cli.replay):
        monkeypatch.setattr(module, "settings", lambda run: Told())
    return world


def run(*words):
    return CliRunner().invoke(app, words)


def refusal(*words):
    """What a command that fails says; it says nothing on standard output."""
    result = run(*words)
    assert result.stdout == ""
    message, code = explain(result.exception)
    assert code == common.FAILED
    return message


def test_an_account_is_shown_with_its_money_in_words(world):
    """Amounts with the currency's decimals, and the latest entries."""
    result = run("account", "show", "alice", "--entries", "1")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["currency", "posted", "held", "available", "entries", "last", "at"] in lines
    assert ["EUR", "88.00", "0.00", "88.00", "2"] in [line[:5] for line in lines]
    assert [line[1:] for line in lines if "rent" in line] == [
        ["2", "PRINCIPAL", "DEBIT", "POSTED", "12.00", "EUR", "-", "rent"]
    ]
    assert not any("fund" in line for line in lines)


def test_an_account_as_json_is_one_object_in_minor_units(world):
    """A program adds no decimals; no limit is null."""
    result = run("account", "show", "treasury", "--json")
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    (balance,) = found["balances"]
    assert (balance["currency"], balance["posted_minor"], balance["held_minor"]) == ("EUR", 10_000, 0)
    assert balance["available_minor"] is None
    assert "no limit" in run("account", "show", "treasury").stdout
    assert found["entries"][0]["amount_minor"] == 10_000
    assert found["entries"][0]["at"].endswith("Z")


def test_an_unknown_account_is_exit_1_with_a_message(world):
    """Nothing on standard output, no stack trace."""
    assert "nobody was never opened" in refusal("account", "show", "nobody")


def test_a_story_is_told_with_repeats_marked(world):
    """Record by record, with amount and place; the second time is a repeat."""
    first = world.find(EVENTS, payment_id="rent")[2]
    _, credit = world.ask_again(first, "rent", "again")
    world.say_again(first, credit)
    result = run("replay", "payment", "rent", "--debtor", "alice")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if first.event_id in line]
    assert sorted(line[1:7] for line in lines) == [
        ["COMPLETED", "12.00", "EUR", "event", first.event_id, "payments.events:1:0"],
        ["COMPLETED", "12.00", "EUR", "event", first.event_id, "repeat"],
    ]
    assert result.stdout.splitlines()[0] == "payment rent from alice to shop: UNKNOWN"
    assert "debit alice, credit ~in-transit/EUR" in result.stdout


def test_a_story_as_json_lines_ends_with_a_summary(world):
    """The last line counts and says how the payment stands."""
    home = partition_of("alice", PARTITIONS)
    state = PaymentState.DECLINED
    event = world.event(an_intent("odd", currency="XAU"), 9, Status.DECLINED, reason="AM11", payment_state=state)
    world.append(EVENTS, home, event)
    lines = [json.loads(line) for line in run("replay", "payment", "odd", "--json").stdout.splitlines()]
    assert [(line["status"], line["reason"], line["repeat"]) for line in lines[:-1]] == [("DECLINED", "AM11", False)]
    nothing = {"repeats": 0, "intents": 0, "postings": 0, "credits": 0, "reversals": 0, "batches": 0, "letters": 0}
    debtors = {"alice": "DECLINED"}
    assert lines[-1] == {"payment_id": "odd", "debtors": debtors, "answered": True, "events": 1, **nothing}
    assert "1200 minor units of 'XAU'" in run("replay", "payment", "odd").stdout


def test_an_unknown_payment_is_exit_1_with_a_message(world):
    """And what to check."""
    told = refusal("replay", "payment", "nothing", "--debtor", "alice")
    assert "no record tells of payment nothing of alice" in told


def test_a_payment_without_an_answer_is_told_with_exit_1(world):
    """A script that waits for the answer goes on waiting; a person sees how far it came."""
    world.ask("slow")
    result = run("replay", "payment", "slow")
    assert result.exit_code == common.FAILED
    assert result.stdout.startswith("payment slow from alice to shop: WAITING")
    assert "has no answer yet" in result.stderr


def test_an_account_is_shown_as_of_a_moment(world):
    """What happened at the moment counts, what came later does not; --json says the moment."""
    at = [kept.value.occurred_at for kept in world.log[POSTINGS, partition_of("alice", PARTITIONS)]]
    moment = str(at[-1] // 1_000 - 1)
    result = run("account", "show", "alice", "--as-of", moment, "--json")
    found = json.loads(result.stdout)
    assert (found["balances"][0]["posted_minor"], len(found["entries"])) == (10_000, 1)
    assert found["as_of"].endswith("Z")
    assert "as of 20" in run("account", "show", "alice", "--as-of", moment).stdout


@pytest.mark.parametrize("moment", ["yesterday", "2026-01-01T00:00:00", "12", "2999-01-01T00:00:00Z", "offset:3"])
def test_a_moment_that_is_none_is_wrong_usage(world, moment):
    """No zone, no number of ms, no future."""
    result = run("account", "show", "alice", "--as-of", moment)
    code = result.exit_code if isinstance(result.exception, SystemExit) else explain(result.exception)[1]
    assert (result.stdout, code) == ("", common.USAGE)


def test_what_a_terminal_would_obey_is_made_visible(world):
    """Ids are strangers' words: no colours, no second lines, no bells."""
    odd = "red\x1b[31m\nnext"
    world.pay(odd, creditor="shop\x07")
    printed = run("account", "show", "alice").stdout + run("replay", "payment", odd).stdout
    assert printed.count("red\\x1b[31m\\nnext") == 3
    assert "shop\\x07" in printed
    assert "\x1b" not in printed
    assert "\x07" not in printed
