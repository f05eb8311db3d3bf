"""The gateway's side of Kafka, step by step: nothing is committed before its outcome is acknowledged."""

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from notified import Notified, an_event

import headrace.gateway.intake
from headrace.gateway.calls import Outcome
from headrace.gateway.intake import Intake
from headrace.gateway.metrics import GatewayMetrics
from schemas import codec
from schemas.internal import AttemptAction
from topologies.engine.config import ClusterConfig
from topologies.topics import ATTEMPTS, DELIVERIES

OK = Outcome(AttemptAction.DELIVERED, 200)
FAILED = Outcome(AttemptAction.FAILED, 500, "status")
GONE = Outcome(AttemptAction.GONE, 410, "gone")


class Message:
    """A record of partition 2, or an error."""

    def __init__(self, offset, value=None, error=None):
        delivery = Notified().tell(an_event(f"pay-{offset}")).due[0]
        self._offset, self._error = offset, error
        self._value = codec.encode(delivery) if value is None else value

    def error(self):
        return self._error

    def partition(self):
        return 2

    def offset(self):
        return self._offset

    def value(self):
        return self._value


class Client:
    """A consumer's calls, noted."""

    def __init__(self, committed=7):
        self.known = committed
        self.commits, self.assigned = [], []
        self.paused = False
        """Kept over assignments, as librdkafka keeps it."""

    def commit(self, offsets, *, asynchronous):
        self.commits += [(one.topic, one.partition, one.offset) for one in offsets]

    def committed(self, places, timeout):
        return [TopicPartition(place.topic, place.partition, self.known) for place in places]

    def assign(self, places):
        self.assigned = [(place.partition, place.offset) for place in places]

    def assignment(self):
        return [TopicPartition(DELIVERIES.name, 2)]

    def pause(self, places):
        self.paused = True

    def resume(self, places):
        self.paused = False


class Sends:
    """A sender whose deliveries end when a test says so."""

    def __init__(self):
        self.sent = []

    def send(self, topic, key, value, *, partition, delivered):
        assert topic == ATTEMPTS.name
        self.sent.append((partition, key, codec.decoder(ATTEMPTS.subject)(value), delivered))

    def serve(self):
        pass

    def end(self, number, error=None):
        self.sent[number][3](error, None)


@pytest.fixture
def parts():
    """An intake that has partition 2, what it handed over, its consumer and its sender."""
    taken = []
    intake = Intake(ClusterConfig("nowhere", "p."), 4, taken.append, GatewayMetrics())
    client = Client()
    intake._assigned(client, [TopicPartition("p." + DELIVERIES.name, 2)])
    return intake, taken, client, Sends()


def committed(intake, client):
    intake._commit(client, wait=False)
    found, client.commits = client.commits, []
    return [offset for _, _, offset in found]


def test_an_offset_is_committed_only_behind_acknowledged_outcomes_without_a_gap(parts):
    """Answered is not enough: Kafka must have the outcome."""
    intake, taken, client, sender = parts
    assert client.assigned == [(2, 7)]
    for offset in (7, 8, 11):
        intake._read(Message(offset))
    assert committed(intake, client) == [7]
    intake.answer(taken[1], OK)
    intake._write(sender)
    sender.end(0)
    assert committed(intake, client) == []
    intake.answer(taken[0], FAILED)
    intake._write(sender)
    assert committed(intake, client) == []
    sender.end(1)
    assert committed(intake, client) == [11]
    intake.answer(taken[2], None)
    intake._write(sender)
    assert committed(intake, client) == [12]
    told = [
        (partition, key, one.action, one.http_status, one.number, one.attempt) for partition, key, one, _ in sender.sent
    ]
    assert told == [(2, b"alice", "DELIVERED", 200, 1, 1), (2, b"alice", "FAILED", 500, 1, 1)]


def test_an_outcome_that_kafka_did_not_take_is_written_again(parts):
    """As often as it takes; until then its delivery is not done."""
    intake, taken, client, sender = parts
    intake._read(Message(7))
    intake.answer(taken[0], OK)
    for number in range(3):
        intake._write(sender)
        assert len(sender.sent) == number + 1
        sender.end(number, None if number == 2 else KafkaError(KafkaError._MSG_TIMED_OUT))
    assert committed(intake, client) == [8]
    intake._write(sender)
    assert len(sender.sent) == 3


def test_an_endpoint_that_is_gone_is_told_to_every_partition(parts):
    """The outcome to the delivery's own, DISABLE to the others."""
    intake, taken, client, sender = parts
    intake._read(Message(7))
    intake.answer(taken[0], GONE)
    intake._write(sender)
    assert [(partition, one.action) for partition, _, one, _ in sender.sent] == [
        (0, "DISABLE"), (1, "DISABLE"), (3, "DISABLE"), (2, "GONE"),
    ]  # fmt: skip
    for number in range(3):
        sender.end(number)
    assert committed(intake, client) == [7]
    sender.end(3)
    assert committed(intake, client) == [8]


def test_what_can_not_be_read_is_passed_over_with_an_alert(parts, caplog):
    """One bad record stops nobody."""
    intake, taken, client, _ = parts
    intake._read(Message(7, value=b"nonsense"))
    assert (taken, committed(intake, client)) == ([], [8])
    assert "unreadable-delivery" in caplog.text
    assert b"headrace_webhook_unreadable_total 1.0" in intake._metrics.render()


def test_fetching_pauses_while_too_much_is_held_and_polling_goes_on(parts, monkeypatch):
    """Memory is bounded, and the group does not lose its member."""
    monkeypatch.setattr(headrace.gateway.intake, "HELD_MOST", 4)
    intake, taken, client, sender = parts
    for offset in range(7, 12):
        intake._read(Message(offset))
    intake._hold_back(client)
    assert client.paused
    for held in taken[:4]:
        intake.answer(held, None)
    intake._write(sender)
    intake._hold_back(client)
    assert not client.paused


def test_a_pause_does_not_outlive_the_move_of_partitions(parts, monkeypatch):
    """The client keeps it: partitions that come back would stand still for good."""
    monkeypatch.setattr(headrace.gateway.intake, "HELD_MOST", 0)
    intake, _taken, client, _sender = parts
    intake._read(Message(7))
    intake._hold_back(client)
    assert client.paused
    places = [TopicPartition("p." + DELIVERIES.name, 2)]
    intake._revoked(client, places)
    intake._assigned(client, places)
    assert not client.paused


def test_what_was_read_before_partitions_moved_is_somebody_elses(parts):
    """It is not called for any more, and its late outcome moves no offset of the new life."""
    intake, taken, client, sender = parts
    intake._read(Message(7))
    intake._read(Message(8))
    assert intake.current(taken[0])
    intake.answer(taken[0], OK)
    intake._write(sender)
    sender.end(0)
    intake._revoked(client, [])
    assert client.commits == [("p." + DELIVERIES.name, 2, 8)]
    assert not intake.current(taken[1])
    client.known = 8
    intake._assigned(client, [TopicPartition("p." + DELIVERIES.name, 2)])
    assert not intake.current(taken[1])
    intake._read(Message(8))
    intake.answer(taken[1], OK)
    intake._write(sender)
    sender.end(1)
    client.commits = []
    assert committed(intake, client) == [8]
    intake._lost(client, [])
    assert not intake.current(taken[2])


@pytest.mark.parametrize(
    ("code", "stops"),
    [
        (KafkaError._ALL_BROKERS_DOWN, False),
        (KafkaError._TRANSPORT, False),
        (KafkaError._AUTO_OFFSET_RESET, True),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, True),
    ],
)
def test_an_error_that_waiting_heals_is_waited_out_and_any_other_stops_the_gateway(parts, code, stops):
    """A broker that is away comes back; what is deleted or forbidden needs a person."""
    intake = parts[0]
    message = Message(7, error=KafkaError(code))
    if stops:
        with pytest.raises(KafkaException):
            intake._read(message)
    else:
        intake._read(message)


def test_a_gateway_that_can_not_go_on_says_so(caplog):
    """Its health page tells, and the process ends with 1."""
    intake = Intake(ClusterConfig("nowhere"), 4, lambda held: None, GatewayMetrics())
    intake._run = lambda: (_ for _ in ()).throw(RuntimeError("odd"))
    intake.start()
    intake.join(10)
    ok, detail = intake.alive()
    assert (ok, detail) == (False, "stopped: odd")
    assert "can't go on" in caplog.text
