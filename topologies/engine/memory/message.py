"""Messages with the methods of confluent_kafka's."""

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError

from topologies.engine.memory.log import Record


class Message:
    """A record, or (with `error`) an event about a partition."""

    __slots__ = ("_error", "_offset", "_partition", "_record", "_topic")

    def __init__(
        self, topic: str, partition: int, offset: int, record: Record | None, error: KafkaError | None = None
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._record = record
        self._error = error

    def topic(self) -> str:
        """With the prefix."""
        return self._topic

    def partition(self) -> int:
        """Its partition."""
        return self._partition

    def offset(self) -> int:
        """Its offset; for the end of a partition: where that is."""
        return self._offset

    def error(self) -> KafkaError | None:
        """What it is instead of a record."""
        return self._error

    def key(self) -> bytes | None:
        """The record's key."""
        return None if self._record is None else self._record.key

    def value(self) -> bytes | None:
        """The record's value."""
        return None if self._record is None else self._record.value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        """The record's headers, None where there are none."""
        return list(self._record.headers) if self._record is not None and self._record.headers else None

    def timestamp(self) -> tuple[int, int]:
        """Type and ms since 1970."""
        return TIMESTAMP_CREATE_TIME, 0 if self._record is None else self._record.timestamp
