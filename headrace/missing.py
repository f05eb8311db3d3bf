"""Says at once, and with the way out, that topics are not there."""

from collections.abc import Iterable

from topologies.engine.admin import partition_counts
from topologies.engine.config import ClusterConfig


class MissingTopics(Exception):
    """Topics that are needed are not on the cluster. Exit 3."""


def require_topics(cluster: ClusterConfig, names: Iterable[str]) -> dict[str, int]:
    """Partition count of each of `names` (without the prefix).

    Raises MissingTopics where one is not there, and ClusterUnreachable.
    """
    there = partition_counts(cluster)
    wanted = list(names)
    missing = [cluster.prefix + name for name in wanted if name not in there]
    if missing:
        raise MissingTopics(missing_sentence(cluster, missing))
    return {name: there[name] for name in wanted}


def missing_sentence(cluster: ClusterConfig, missing: list[str]) -> str:
    """What is missing, and the command that creates it. `missing` are names with the prefix."""
    run = cluster.prefix.removeprefix("demo-").removesuffix(".")
    flag = f" --run {run}" if cluster.prefix == f"demo-{run}." else ""
    topics = f"the topic {missing[0]} is" if len(missing) == 1 else f"{len(missing)} topics, such as {missing[0]}, are"
    return f"{topics} missing at {cluster.bootstrap}; create what is missing: headrace topics create{flag}"
