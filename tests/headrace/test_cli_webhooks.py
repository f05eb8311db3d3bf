"""`webhooks` at the command line: how deliveries stand, and what is asked of the workers."""

import json

import pytest
from notified import Notified, an_event
from typer.testing import CliRunner
from worlds import Lists

import headrace.cli.webhooks
import headrace.missing
import headrace.webhooks
import replay.reader
from headrace.cli import app, common, explain
from headrace.cli.common import Global
from headrace.moments import shown
from schemas import codec
from schemas.events import Micros
from schemas.internal import Attempt, AttemptAction, DeliveryState
from schemas.keys import partition_of
from streams.notification import wait_of
from streams.notification_rules import EndpointRule, NotificationRules
from streams.rules import Rules
from topologies.engine.config import ClusterConfig
from topologies.topics import ATTEMPTS, DELIVERIES, EVENTS

RULES = NotificationRules((EndpointRule("hook"), EndpointRule("off", enabled=False)), (0, 5, 300))
HOME = partition_of("alice", 4)
AT = 1_763_719_200_000_000


class Told:
    """Settings that name a cluster and its endpoints."""

    def cluster(self):
        return ClusterConfig("127.0.0.1:1")

    def rules(self):
        return Rules(notification=RULES)


def delivery(payment, number, attempt=1, state=DeliveryState.DUE, **fields):
    found = Notified().tell(an_event(payment)).due[0]
    return found._replace(number=number, attempt=attempt, state=state, **fields)


def attempt(payment, action, number, **fields):
    one = delivery(payment, number)
    return Attempt("hook", action, Micros(AT), "alice", payment, one.event_id, number, 1, **fields)


@pytest.fixture
def lists(monkeypatch):
    """One waits, one is to be tried again, one was given up, one arrived at its second attempt."""
    lists = Lists(topics=(EVENTS.name, DELIVERIES.name, ATTEMPTS.name))
    for payment in ("waits", "fails", "parked", "done", "new"):
        lists.append(EVENTS.name, HOME, an_event(payment))
    for one in (
        delivery("waits", 1), delivery("fails", 2), delivery("parked", 3), delivery("done", 4), delivery("done", 5, 2),
        delivery("parked", 0, 3, DeliveryState.PARKED, parked_for="attempts-used"),
    ):  # fmt: skip
        lists.append(DELIVERIES.name, HOME, one)
    for one in (
        attempt("fails", AttemptAction.FAILED, 2, reason="timeout"), attempt("parked", AttemptAction.FAILED, 3),
        attempt("done", AttemptAction.FAILED, 4), attempt("done", AttemptAction.DELIVERED, 5),
    ):  # fmt: skip
        lists.append(ATTEMPTS.name, HOME, one)

    class Reads:
        def __init__(self, cluster):
            assert cluster == Told().cluster()

        def __enter__(self):
            return lists

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(replay.reader, "Reader", Reads)
    monkeypatch.setattr(common, "chosen", Global())
    monkeypatch.setattr(headrace.cli.webhooks, "settings", lambda run: Told())
    monkeypatch.setattr(headrace.missing, "require_topics", lambda cluster, names: dict.fromkeys(names, 4))
    return lists


@pytest.fixture
def sent(monkeypatch):
    """(partition, key, attempt) of what was written."""
    found = []

    class Sends:
        def __init__(self, cluster):
            pass

        def send(self, topic, key, value, *, partition=-1):
            assert topic == ATTEMPTS.name
            found.append((partition, key, codec.decoder(ATTEMPTS.subject)(value)))

        def flush(self):
            pass

        def close(self):
            pass

    monkeypatch.setattr(headrace.webhooks, "Sender", Sends)
    return found


def run(*words):
    return CliRunner().invoke(app, ["webhooks", *words])


def lines(*words):
    result = run(*words, "--json")
    return result.exit_code, [json.loads(line) for line in result.stdout.splitlines()]


def event_id(payment):
    return an_event(payment).event_id


def test_deliveries_are_counted_by_endpoint(lists):
    """Every endpoint of the file has a row; the last line sums up."""
    code, found = lines("list")
    assert code == 0
    assert found[0] == {
        "endpoint": "hook", "enabled": True, "waiting": 1, "retrying": 1, "parked": 1, "delivered": 1, "oldest": shown(AT),
    }  # fmt: skip
    assert (found[1]["endpoint"], found[1]["enabled"], found[1]["oldest"]) == ("off", False, None)
    assert found[2] == {"endpoints": 2, "waiting": 1, "retrying": 1, "parked": 1, "delivered": 1}
    assert "1 waiting, 1 retrying, 1 parked, 1 delivered" in run("list").stdout
    assert lines("list", "--endpoint", "off")[1][-1] == {
        "endpoints": 1, "waiting": 0, "retrying": 0, "parked": 0, "delivered": 0,
    }  # fmt: skip


def test_each_delivery_can_be_listed_with_what_it_waits_for(lists):
    """Why the last call was no success, and when the next one comes."""
    code, found = lines("list", "--each")
    assert code == 0
    assert [(one["payment_id"], one["state"], one["reason"]) for one in found[:-1]] == [
        ("waits", "waiting", None), ("fails", "retrying", "timeout"), ("parked", "parked", "attempts-used"),
    ]  # fmt: skip
    assert found[1]["next_at"] == shown(AT + wait_of(event_id("fails"), 1, RULES.waits_s))
    assert "attempts-used" in run("list", "--each").stdout


@pytest.mark.parametrize(
    ("last", "enabled"), [(AttemptAction.GONE, False), (AttemptAction.DISABLE, False), (AttemptAction.ENABLE, True)]
)
def test_the_latest_word_tells_whether_an_endpoint_is_enabled(lists, last, enabled):
    """A 410 counts, and so does what a person said after it, on whatever partition it stands."""
    lists.append(ATTEMPTS.name, 0, Attempt("hook", AttemptAction.GONE, Micros(AT)))
    lists.append(ATTEMPTS.name, 3, Attempt("hook", AttemptAction.ENABLE, Micros(AT + 1)))
    lists.append(ATTEMPTS.name, 1, Attempt("hook", last, Micros(AT + 2)))
    assert lines("list")[1][0]["enabled"] is enabled


def test_what_is_to_be_sent_again_is_asked_for_where_its_payment_lives(lists, sent):
    """Parked, arrived, to be tried again, or never sent: the same id; what is out is left alone."""
    asked = ("fails", "parked", "done", "new", "waits")
    code, found = lines("resend", *(event_id(one) for one in asked), "--endpoint", "hook")
    assert code == 0
    assert [(one["payment_id"], one["state"], one["asked"]) for one in found[:-1]] == [
        ("fails", "retrying", True), ("parked", "parked", True), ("done", "delivered", True), ("new", "never sent", True),
        ("waits", "waiting", False),
    ]  # fmt: skip
    assert found[-1] == {"endpoint": "hook", "asked": 4, "left_alone": 1}
    assert [(partition, key, one.action, one.resend.event_id) for partition, key, one in sent] == [
        (HOME, b"alice", AttemptAction.RESEND, event_id(one)) for one in asked[:4]
    ]


def test_all_that_is_parked_can_be_asked_for_at_once(lists, sent):
    """After an endpoint is well again."""
    code, found = lines("resend", "--parked", "--endpoint", "hook")
    assert (code, found[-1]["asked"], [one.resend.payment_id for _, _, one in sent]) == (0, 1, ["parked"])
    assert "will be sent to hook once more" in run("resend", "--parked", "--endpoint", "hook").stdout


@pytest.mark.parametrize(("word", "action"), [("enable", AttemptAction.ENABLE), ("disable", AttemptAction.DISABLE)])
def test_an_endpoint_is_switched_on_every_partition(lists, sent, word, action):
    """Each partition has its own part of the line."""
    code, found = lines(word, "hook")
    assert (code, found) == (0, [{"endpoint": "hook", "enabled": word == "enable", "enabled_in_file": True}])
    assert [(partition, one.action, one.endpoint) for partition, _, one in sent] == [
        (n, action, "hook") for n in range(4)
    ]


def test_enabling_what_the_file_switches_off_says_so(lists, sent):
    """The file has the last word."""
    assert "change it there" in run("enable", "off").stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("list", "--endpoint", "nobody"), 2, "known are hook, off"),
        (("enable", "nobody"), 2, "no endpoint of the endpoints file"),
        (("resend", "x", "--endpoint", "nobody"), 2, "no endpoint of the endpoints file"),
        (("resend", "0" * 32, "--endpoint", "hook"), 1, "no event"),
    ],
)
def test_a_wrong_word_gets_a_clear_message_and_its_exit_code(lists, sent, words, code, told):
    """2 wrong usage, 1 not found; nothing is written."""
    result = run(*words)
    message, found = explain(result.exception)
    assert (found, told in message, result.stdout) == (code, True, "")
    assert not sent


def test_events_or_all_that_is_parked_must_be_named(lists, sent):
    """Neither nothing nor both."""
    assert run("resend", "--endpoint", "hook").exit_code == 2
    assert run("resend", "x", "--parked", "--endpoint", "hook").exit_code == 2
    assert not sent


def test_topics_that_are_not_there_are_named(lists):
    """As everywhere: exit 3."""
    for n in range(4):
        del lists.log[DELIVERIES.name, n]
    assert explain(run("list").exception) == ("notification.deliveries is missing", 3)
