"""Reads a few partitions on to their stable ends, within a time; joins no group and commits nothing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import monotonic
from typing import Any

from confluent_kafka import KafkaError, Message, TopicPartition

from replay.reader import consumer
from topologies.engine.config import ClusterConfig
from topologies.engine.offsets import Where

BATCH = 2_000
"""Records taken from the client at once."""
_WAIT_S = 0.05
_OPTIONS = {"enable.partition.eof": True, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 20}


def follow(
    cluster: ClusterConfig, starts: Mapping[Where, int], seconds: float, take: Callable[[Where, Message], bool]
) -> set[Where]:
    """Gives every committed record from `starts` on to `take`; the partitions that were not finished in time.

    A partition is finished where `take` says so (true), or at its end. At the end `take` gets a message that bears an
    error and the end's offset, which is behind the markers. What can't be read is waited for, without a word.
    """
    left = set(starts)
    if not left:
        return left
    client = consumer(cluster, "follow", **_OPTIONS)  # a new one fetches at once, an idle one in a second
    try:
        client.assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        deadline = monotonic() + seconds
        while left and monotonic() < deadline:
            done = set()
            for place, message in _told(client.consume(1, _WAIT_S) + client.consume(BATCH, 0)):
                if place in left and place not in done and (take(place, message) or message.error() is not None):
                    done.add(place)
            if done:
                client.pause([TopicPartition(*place) for place in done])
                left -= done
    finally:
        client.close()
    return left


def _told(messages: Iterable[Any]) -> Iterator[tuple[Where, Message]]:
    """Records and ends; other errors pass by themselves, or the time does."""
    for message in messages:
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            yield (str(message.topic()), int(message.partition() or 0)), message
