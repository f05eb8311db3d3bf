"""Which input a dead letter stands for, by its headers."""

from collections.abc import Mapping

from replay.reader import Raw
from topologies.topics import CONTRACT


def last_headers(raw: Raw) -> dict[str, str]:
    """Headers as text; of several with one name the last counts, which the last to letter it wrote."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in raw.headers or ()}


def origin_of(headers: Mapping[str, str], partitions: int) -> tuple[str, int, int] | None:
    """(topic without prefix, partition, offset) of the input that became a letter; None where no header tells."""
    named = headers.get("__dlq.errors.topic", "")
    topic = next((topic.name for topic in CONTRACT if named.endswith(topic.name)), None)
    partition, offset = headers.get("__dlq.errors.partition", ""), headers.get("__dlq.errors.offset", "")
    if topic is None or not partition.isdecimal() or not offset.isdecimal() or int(partition) >= partitions:
        return None
    return topic, int(partition), int(offset)
