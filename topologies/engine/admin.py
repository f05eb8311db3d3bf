"""Topics on a cluster: which are missing, which drifted, and creating them."""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from topologies import topics
from topologies.engine.config import ClusterConfig
from topologies.plan import Plan
from topologies.topics import Topic

CALL_S = 15.0
BROKERS_DEFAULT = -1
"""As a replication factor: what the brokers are set to."""


class ClusterUnreachable(Exception):
    """No broker answered."""


@dataclass(frozen=True)
class TopicsReport:
    """What `create_topics` found and did; names carry the prefix. `drift` has a sentence per difference."""

    created: tuple[str, ...]
    existing: tuple[str, ...]
    drift: tuple[str, ...]
    refused: tuple[str, ...] = ()
    """Sentences on topics whose partition count can't be right."""


def needed_topics(plans: Iterable[Plan]) -> tuple[Topic, ...]:
    """Every topic of the contract and of the plans."""
    found = {topic.name: topic for topic in (*topics.CONTRACT, *(topic for plan in plans for topic in plan.topics()))}
    return tuple(found.values())


def admin_client(cluster: ClusterConfig) -> AdminClient:
    """An admin client that has seen the cluster.

    Raises ClusterUnreachable where no broker answers.
    """
    client: AdminClient = cluster.seams.admin(cluster.client(log_level=0))
    try:
        client.list_topics(timeout=CALL_S)
    except KafkaException as error:
        raise ClusterUnreachable(
            f"no Kafka answers at {cluster.bootstrap}: {error.args[0].str()}. Start one with `headrace up`, "
            "or set KAFKA_BOOTSTRAP_SERVERS."
        ) from error
    return client


def partition_counts(cluster: ClusterConfig) -> dict[str, int]:
    """Partition count by topic name (without prefix) of all topics that carry the prefix."""
    found = admin_client(cluster).list_topics(timeout=CALL_S).topics
    cut = len(cluster.prefix)
    return {name[cut:]: len(topic.partitions) for name, topic in found.items() if name.startswith(cluster.prefix)}


def identity_of(cluster: ClusterConfig) -> str:
    """What tells this cluster's topics from others of the same names: ids of the cluster and of the journal's topic."""
    client = admin_client(cluster)
    name = cluster.prefix + topics.JOURNAL.name
    found = client.describe_topics(TopicCollection([name]), request_timeout=CALL_S)[name].result()
    return f"{client.list_topics(timeout=CALL_S).cluster_id}/{found.topic_id}"


def missing_topics(cluster: ClusterConfig, plans: Iterable[Plan]) -> list[str]:
    """Names (with prefix) of topics that the plans need and the cluster does not have."""
    there = partition_counts(cluster)
    return [cluster.prefix + topic.name for topic in needed_topics(plans) if topic.name not in there]


def create_topics(
    cluster: ClusterConfig, plans: Iterable[Plan], partitions: int = 4, replication: int | None = None
) -> TopicsReport:
    """Creates what is missing; never deletes, never changes what is there.

    Every topic gets the same number of partitions; `replication` None takes what the brokers are set to. Raises
    ClusterUnreachable, and KafkaException where the broker refuses a topic.
    """
    client = admin_client(cluster)
    there = partition_counts(cluster)
    wanted = needed_topics(plans)
    refused = tuple(
        f"{cluster.prefix}{topic.name} has {there[topic.name]} partitions, not {partitions}: partition counts are "
        f"fixed at birth; use --partitions {there[topic.name]}, or another topic prefix"
        for topic in wanted
        if topic.name in there and there[topic.name] != partitions
    )
    if refused:
        return TopicsReport((), (), (), refused)
    new = [
        NewTopic(
            cluster.prefix + t.name,
            num_partitions=partitions,
            replication_factor=replication or BROKERS_DEFAULT,
            config=t.config,
        )
        for t in wanted
        if t.name not in there
    ]
    created = _create(client, new) if new else ()
    _await_everywhere(cluster, client, created)
    existing = [topic for topic in wanted if topic.name in there]
    return TopicsReport(
        created,
        tuple(cluster.prefix + topic.name for topic in existing),
        tuple(_drift(client, cluster.prefix, existing)),
    )


def _create(client: AdminClient, new: list[NewTopic]) -> tuple[str, ...]:
    created = []
    futures: dict[str, Future[Any]] = client.create_topics(new, operation_timeout=CALL_S, request_timeout=2 * CALL_S)
    for name, future in futures.items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return tuple(created)


def _await_everywhere(cluster: ClusterConfig, client: AdminClient, names: tuple[str, ...]) -> None:
    """Each broker hears of new topics in its own time, and a worker asks any of them."""
    clock = cluster.seams.clock
    deadline = clock.monotonic() + CALL_S
    for broker in client.list_topics(timeout=CALL_S).brokers.values() if names else ():
        options = {**cluster.client(log_level=0), "bootstrap.servers": f"{broker.host}:{broker.port}"}
        while not _tells(cluster.seams.admin(options), names):
            if clock.monotonic() > deadline:
                raise ClusterUnreachable(f"the broker at {broker.host}:{broker.port} does not hear of new topics")
            clock.sleep(0.05)


def _tells(client: AdminClient, names: tuple[str, ...]) -> bool:
    """True where all topics are known, and where the broker does not answer: it is not asked for them either."""
    try:
        return set(names) <= set(client.list_topics(timeout=CALL_S).topics)
    except KafkaException:
        return True


def _drift(client: AdminClient, prefix: str, existing: list[Topic]) -> list[str]:
    if not existing:
        return []
    resources = {ConfigResource(ResourceType.TOPIC, prefix + topic.name): topic for topic in existing}
    found = []
    for resource, future in client.describe_configs(list(resources), request_timeout=CALL_S).items():
        topic = resources[resource]
        actual = future.result()
        for name, value in topic.config.items():
            if name in actual and actual[name].value != value:
                found.append(f"{prefix}{topic.name}: {name} is {actual[name].value}, the plan says {value}")
    return found
