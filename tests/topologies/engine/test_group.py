"""A worker's place in its group: partitions come whole, and a member that is none any more commits nothing."""

from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from topologies.engine.config import ClusterConfig, EngineConfig
from topologies.engine.errors import Fenced, NotAuthorised, WorkerStopped
from topologies.engine.group import Group
from topologies.engine.limits import Limits
from topologies.engine.membership import whole
from topologies.engine.seams import Seams
from topologies.engine.watchdog import Watchdog
from topologies.payments import CORE

TOPICS = [topic.name for topic in CORE.inputs]


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Client:
    """Notes what is asked of it; hands out what the test has put into `messages`."""

    def __init__(self, options):
        self.options, self.calls, self.messages, self.member, self.on = options, [], [], "me", {}

    def subscribe(self, _topics, **on):
        self.on = on

    def memberid(self):
        return self.member

    def consumer_group_metadata(self):
        return "metadata"

    def poll(self, _wait):
        return self.messages.pop(0) if self.messages else None

    def consume(self, _most, _wait):
        found, self.messages = self.messages, []
        return found

    def __getattr__(self, name):
        return lambda *partitions: self.calls.append((name, *partitions))


def places(*numbers, topics=TOPICS):
    return [TopicPartition(topic, number) for topic in topics for number in numbers]


def trouble(code, text="says the broker"):
    error = KafkaError(code, text, code == KafkaError._FATAL, False, False)
    return SimpleNamespace(error=lambda: error, topic=lambda: "t", partition=lambda: 0)


@pytest.fixture
def join():
    """Joins a group; gives it, its clock, and the clients that were made."""
    clients, watchdog = [], Watchdog(60)

    def go(protocol="classic"):
        def consumer(options):
            clients.append(Client(options))
            return clients[-1]

        clock = Clock()
        cluster = ClusterConfig("localhost:1", seams=Seams(consumer=consumer, clock=clock))
        config = EngineConfig(cluster, group_protocol=protocol, limits=Limits(partial_s=30, release_s=60))
        return Group(CORE, config, "a", watchdog), clock, clients

    yield go
    watchdog.close()


@pytest.fixture(params=["classic", "consumer"])
def joined(request, join):
    group, _clock, clients = join(request.param)
    clients[0].on["on_assign"](clients[0], places(0, 2))
    return group, clients[0]


def test_partitions_come_whole(joined):
    """Partition n of every topic, or none of it."""
    group, _client = joined
    assert group.assigned == (0, 2)


def test_nothing_is_fetched_before_the_recovery_has_said_from_where(join):
    """Classic: an empty assignment; KIP-848: assigned, and paused."""
    group, _, (client,) = join("classic")
    client.on["on_assign"](client, places(0))
    assert client.calls == [("assign", [])]
    group, _, clients = join("consumer")
    client = clients[-1]
    client.on["on_assign"](client, places(0))
    assert [name for name, *_ in client.calls] == ["incremental_assign", "pause"]
    group.start_at({0: dict.fromkeys(TOPICS, 7)})
    assert [name for name, *_ in client.calls[2:]] == ["seek"] * len(TOPICS) + ["resume"]


def test_what_was_held_back_is_fetched_again_after_a_rebalance(joined):
    """The client remembers a pause longer than the assignment in which it was asked for."""
    group, client = joined
    group.hold(TOPICS[0], [0], paused=True)
    group.start_at({0: dict.fromkeys(TOPICS, 7)})
    name, resumed = client.calls[-1][:2]
    assert name == "resume"
    assert {(tp.topic, tp.partition) for tp in resumed} == {(topic, 0) for topic in TOPICS}


def test_a_step_of_a_former_member_is_aborted(joined):
    """Metadata without the member's id would pass the broker's check: it is never sent."""
    group, client = joined
    assert group.metadata() == "metadata"
    client.member = ""
    with pytest.raises(KafkaException) as refused:
        group.metadata()
    assert refused.value.args[0].txn_requires_abort()


def test_topics_that_do_not_move_together_stop_a_classic_member(join):
    """Agents would write to tables that another worker writes to as well."""
    group, _, (client,) = join("classic")
    client.on["on_assign"](client, places(0, 1)[:-1])
    with pytest.raises(WorkerStopped, match="different partitions"):
        group.poll(0)


def test_topics_that_move_one_by_one_are_waited_for(join):
    """KIP-848: only whole partitions run, and half of one for half a minute at most."""
    group, clock, (client,) = join("consumer")
    client.on["on_assign"](client, places(0, 1)[:-1])
    assert group.assigned == (0,)
    group.poll(0)
    clock.now += 20
    client.on["on_assign"](client, places(0, 1)[-1:])
    assert group.assigned == (0, 1)
    client.on["on_revoke"](client, places(1, topics=TOPICS[:1]))
    assert group.assigned == (0,)
    clock.now += 29
    group.poll(0)
    clock.now += 2
    with pytest.raises(WorkerStopped, match="different partitions"):
        group.poll(0)


def test_an_assignment_that_changes_nothing_is_no_new_generation(join):
    """KIP-848 confirms with an empty list: the partitions that run go on."""
    group, _, (client,) = join("consumer")
    client.on["on_assign"](client, places(0))
    before = group.generation
    client.on["on_assign"](client, [])
    assert group.generation == before


def test_a_slot_that_the_broker_has_not_released_yet_is_asked_for_again(join):
    """KIP-848: after a kill the old life is a member for one more session."""
    group, clock, clients = join("consumer")
    refusal = "Broker: The instance ID is still used by another member in the consumer group"
    clients[0].messages.append(trouble(KafkaError._FATAL, refusal))
    assert group.poll(0) == []
    assert len(clients) == 2
    clock.now += 61
    clients[1].messages.append(trouble(KafkaError._FATAL, refusal))
    with pytest.raises(Fenced, match="another worker"):
        group.poll(0)


@pytest.mark.parametrize(
    ("code", "stop"),
    [
        (KafkaError._FATAL, WorkerStopped),
        (KafkaError.GROUP_AUTHORIZATION_FAILED, NotAuthorised),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, WorkerStopped),
    ],
)
def test_what_can_not_be_survived_stops_the_worker(joined, code, stop):
    """And says why."""
    group, client = joined
    client.messages.append(trouble(code))
    with pytest.raises(stop, match="says the broker"):
        group.poll(0)


@pytest.mark.parametrize("code", [KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID])
def test_a_member_that_is_fenced_twice_says_that_its_slot_is_taken(join, code):
    """Once may be its own second try at a coordinator that moved: it joins anew, without partitions."""
    group, _clock, clients = join("classic")
    clients[0].on["on_assign"](clients[0], places(0, 2))
    before = group.generation
    words = "Broker: Static consumer fenced by other consumer with same group.instance.id"
    clients[0].messages.append(trouble(code, words))
    assert group.poll(0) == []
    assert len(clients) == 2
    assert group.assigned == ()
    assert group.generation > before
    clients[1].messages.append(trouble(code, words))
    with pytest.raises(Fenced, match="HEADRACE_INSTANCE"):
        group.poll(0)


def test_a_place_that_can_not_be_read_is_told_until_there_is_a_new_one(joined):
    """A leader that lags says the same as one whose records were deleted: the recovery finds out."""
    group, client = joined
    client.messages.append(trouble(KafkaError._AUTO_OFFSET_RESET))
    assert group.poll(0) == []
    assert "says the broker" in group.lost_place
    group.start_at({})
    assert group.lost_place is None


def test_an_error_among_records_is_no_record(joined):
    """Elements of a batch may be errors; they are told, and left out."""
    group, client = joined
    record = SimpleNamespace(error=lambda: None)
    client.messages += [record, trouble(KafkaError._TRANSPORT), record]
    assert group.poll(0) == [record, record]


def test_whole_partitions_are_those_of_every_topic():
    """What is owned of some topics only is named."""
    owned = {("a", 0), ("b", 0), ("a", 1)}
    assert whole(owned, ["a", "b"]) == ((0,), {"a": [0, 1], "b": [0]})
    assert whole([], ["a", "b"]) == ((), {})
