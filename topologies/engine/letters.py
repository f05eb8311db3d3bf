"""The headers of a dead letter. Names: Kafka's KIP-1191 (`__dlq.errors.*`) and Kafka Streams' KIP-1034."""

from topologies.engine.step import Parcel
from topologies.topics import LETTER_BYTES

LONGEST_TRACE = 4_096
ROOM = 65_536
"""What our own headers and Kafka's framing may take of a letter's bytes."""

Headers = list[tuple[str, bytes | None]]


def letter_of(parcel: Parcel, prefix: str, group: str) -> tuple[bytes | None, bytes | None, Headers]:
    """Key, value and headers of a dead letter, those of the input byte for byte.

    An input that is too large for any letter, as a compressed batch may hold, stays where it was read: the
    letter says where that is, and in `headrace.error.left-out` how many bytes it has.
    """
    raw = parcel.raw
    theirs = list(raw.headers() or ())
    headers = sum(len(name) * 4 + len(value or b"") + 16 for name, value in theirs)
    size = len(raw.key or b"") + len(raw.value or b"") + headers
    ours = letter_headers(parcel, prefix, group)
    if size <= LETTER_BYTES - ROOM:
        return raw.key, raw.value, [*theirs, *ours]
    return None, None, [*ours, ("headrace.error.left-out", str(size).encode())]


def letter_headers(parcel: Parcel, prefix: str, group: str) -> Headers:
    """Why and where from; text as UTF-8."""
    ours: Headers = [
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
    return ours
