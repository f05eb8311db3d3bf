"""The headers of a dead letter. Names: Kafka's KIP-1191 (`__dlq.errors.*`) and Kafka Streams' KIP-1034."""

from topologies.engine.step import Parcel

LONGEST_TRACE = 4_096


def letter_headers(parcel: Parcel, prefix: str, group: str) -> list[tuple[str, bytes | None]]:
    """The input's own headers, then why and where from; text as UTF-8."""
    ours: list[tuple[str, bytes | None]] = [
        ("__dlq.errors.topic", (prefix + parcel.topic.name).encode()),
        ("__dlq.errors.partition", str(parcel.partition).encode()),
        ("__dlq.errors.offset", str(parcel.raw.offset).encode()),
        ("__dlq.errors.group", group.encode()),
        ("__dlq.errors.message", parcel.message.encode()),
        ("headrace.error.code", parcel.code.encode()),
        ("headrace.error.retriable", b"true" if parcel.exception else b"false"),
    ]
    if parcel.exception:
        ours.append(("__streams.errors.exception", parcel.exception.rstrip().rsplit("\n", 1)[-1].encode()))
        ours.append(("__streams.errors.stacktrace", parcel.exception.encode()[-LONGEST_TRACE:]))
    return [*(parcel.raw.headers() or ()), *ours]
