"""librdkafka's mock cluster, by ctypes out of the library that the installed client brings; no JVM is needed.

It answers as Kafka does, keeps records and writes transaction markers, and gives the answers it is told to give
(https://github.com/confluentinc/librdkafka, src/rdkafka_mock.h). It does not end an old producer's transaction when a
new one takes its id, and its Fetch names no aborted transactions: so `MockCluster.log` reads the markers themselves.
"""

import ctypes
import itertools
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

import confluent_kafka

PRODUCER = 0
TRANSPORT = -195
"""As an answer: the node closes the connection instead."""
CONTROL = 1 << 5


class Batch(NamedTuple):
    """A batch of records on the log, or a transaction's marker."""

    producer: tuple[int, int]
    """Producer id and epoch."""
    values: tuple[bytes, ...]
    committed: bool | None
    """A marker: True for commit, False for abort; None: records."""


class MockCluster:
    """Three nodes on the loopback interface. Calls that Kafka would refuse raise AssertionError."""

    def __init__(self, nodes: int = 3) -> None:
        self._lib = _library()
        config = self._lib.rd_kafka_conf_new()
        error = ctypes.create_string_buffer(512)
        self._lib.rd_kafka_conf_set(config, b"log_level", b"0", error, len(error))
        self._handle = self._lib.rd_kafka_new(PRODUCER, config, error, len(error))
        assert self._handle, error.value
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._handle, nodes)
        assert self._cluster, "librdkafka made no mock cluster"
        self._lib.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        self.bootstrap: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        self.nodes = range(1, nodes + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._handle)

    def topic(self, name: str) -> None:
        """Makes a topic of one partition, led by node 1."""
        self._call("topic_create", name.encode(), 1, len(self.nodes))
        self.lead(name, 1)

    def lead(self, topic: str, node: int) -> None:
        """Another leader for the topic's partition."""
        self._call("partition_set_leader", topic.encode(), 0, node)

    def answer(self, api: int, errors: Iterable[int]) -> None:
        """The next requests of this kind get these error codes, one each; 0 is none."""
        codes = list(errors)
        array = (ctypes.c_int * len(codes))(*codes)
        self._lib.rd_kafka_mock_push_request_errors_array(self._cluster, api, len(codes), array)

    def delay(self, api: int, delay_ms: int, times: int = 1) -> None:
        """The next requests of this kind at each node are done at once and answered so much later.

        The nodes forget `answer` for this kind of request from then on.
        """
        words = [ctypes.c_int(word) for _ in range(times) for word in (0, delay_ms)]
        for node in self.nodes:
            self._call("broker_push_request_error_rtts", node, api, times, *words)

    def clear(self, *apis: int) -> None:
        """Normal answers again, but for those under way."""
        for api in apis:
            self._lib.rd_kafka_mock_clear_request_errors(self._cluster, api)

    def coordinator(self, kind: str, name: str, node: int) -> None:
        """Moves a coordinator; `kind` is "transaction" or "group"."""
        self._call("coordinator_set", kind.encode(), name.encode(), node)

    def down(self, node: int) -> None:
        """A node ends its connections and refuses new ones."""
        self._call("broker_set_down", node)

    def up(self, node: int) -> None:
        """The node is back."""
        self._call("broker_set_up", node)

    def log(self, topic: str, leader: int = 1) -> list[Batch]:
        """What stands in the partition, asked by a Fetch of our own: records and markers in their order."""
        host, _, port = self.bootstrap.split(",")[leader - 1].partition(":")
        found: list[Batch] = []
        with socket.create_connection((host, int(port)), timeout=10) as node:
            offset = 0
            while records := _fetch(node, topic, offset):
                offset, batch = _read_batch(records)
                found.append(batch)
        return found

    def _call(self, name: str, *words: object) -> None:
        failed = getattr(self._lib, f"rd_kafka_mock_{name}")(self._cluster, *words)
        assert failed == 0, f"{name}{words}: {confluent_kafka.KafkaError(failed)}"


def truth(batches: Iterable[Batch]) -> dict[bytes, bool | None]:
    """By value: True where its producer's next marker commits it, False where it aborts, None where there is none.

    A value that was written twice (the mock cluster does not know repeats) counts as committed once that is true of one.
    """
    found: dict[bytes, bool | None] = {}
    waiting: dict[tuple[int, int], list[bytes]] = {}
    for batch in batches:
        if batch.committed is None:
            waiting.setdefault(batch.producer, []).extend(batch.values)
            for value in batch.values:
                found.setdefault(value, None)
        else:
            for value in waiting.pop(batch.producer, []):
                found[value] = found[value] or batch.committed
    return found


_TEXT, _INT, _NODE, _API, _SIZE = ctypes.c_char_p, ctypes.c_int, ctypes.c_int32, ctypes.c_int16, ctypes.c_size_t
_MOCK_WORDS: dict[str, list[type]] = {
    "cluster_destroy": [],
    "cluster_bootstraps": [],
    "clear_request_errors": [_API],
    "group_initial_rebalance_delay_ms": [_INT],
    "push_request_errors_array": [_API, _SIZE, ctypes.POINTER(_INT)],
    "topic_create": [_TEXT, _INT, _INT],
    "partition_set_leader": [_TEXT, ctypes.c_int32, _NODE],
    "broker_push_request_error_rtts": [_NODE, _API, _SIZE],
    "coordinator_set": [_TEXT, _TEXT, _NODE],
    "broker_set_down": [_NODE],
    "broker_set_up": [_NODE],
}
"""What the functions take after the cluster; one of them any number of errors and times more."""


def _library() -> ctypes.CDLL:
    """The very library that `confluent_kafka` uses."""
    package = Path(confluent_kafka.__file__).parent
    folders = [package.with_name("confluent_kafka.libs"), package / ".dylibs", package]
    libraries = [path for folder in folders for path in sorted(folder.glob("librdkafka*"))]
    assert libraries, f"no librdkafka beside {package}: the mock cluster needs the wheel of confluent-kafka"
    lib = ctypes.CDLL(str(libraries[0]))
    for name in ("conf_new", "new", "mock_cluster_new"):
        getattr(lib, f"rd_kafka_{name}").restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    pointer = ctypes.c_void_p
    lib.rd_kafka_conf_set.argtypes = [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_destroy.argtypes = [pointer]
    lib.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    for name, words in _MOCK_WORDS.items():
        getattr(lib, f"rd_kafka_mock_{name}").argtypes = [pointer, *words]
    return lib


_correlations = itertools.count(1)


def _fetch(node: socket.socket, topic: str, offset: int) -> bytes:
    """The records of a Fetch v4 (https://kafka.apache.org/protocol#The_Messages_Fetch), empty at the end."""
    name = topic.encode()
    body = struct.pack(">iiiib", -1, 0, 1, 1 << 20, 0) + struct.pack(">ih", 1, len(name)) + name
    body += struct.pack(">iiqi", 1, 0, offset, 1 << 20)
    head = struct.pack(">hhih", 1, 4, next(_correlations), 4) + b"test"
    node.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
    (size,) = struct.unpack(">i", _exactly(node, 4))
    answer = _exactly(node, size)
    at = 4 + 4 + 4 + 2 + len(name) + 4
    _, error, _, _, aborted = struct.unpack_from(">ihqqi", answer, at)
    assert error == 0, confluent_kafka.KafkaError(error)
    at += 26 + 16 * max(0, aborted)
    (length,) = struct.unpack_from(">i", answer, at)
    return answer[at + 4 : at + 4 + max(0, length)]


def _exactly(node: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = node.recv(size - len(data))
        assert piece, "the mock cluster closed the connection"
        data += piece
    return data


def _read_batch(data: bytes) -> tuple[int, Batch]:
    """The offset after the first record batch of `data`, and the batch (format 2, uncompressed)."""
    base, _length = struct.unpack_from(">qi", data)
    attributes, last_delta = struct.unpack_from(">hi", data, 21)
    producer, epoch = struct.unpack_from(">qh", data, 43)
    (count,) = struct.unpack_from(">i", data, 57)
    at, pairs = 61, []
    for _ in range(count):
        size, at = _varint(data, at)
        pairs.append(_read_record(data, at))
        at += size
    if not attributes & CONTROL:
        return base + last_delta + 1, Batch((producer, epoch), tuple(value for _, value in pairs), None)
    (kind,) = struct.unpack_from(">h", pairs[0][0], 2)
    return base + last_delta + 1, Batch((producer, epoch), (), kind == 1)


def _read_record(data: bytes, at: int) -> tuple[bytes, bytes]:
    """Key and value."""
    at += 1  # attributes
    _, at = _varint(data, at)
    _, at = _varint(data, at)
    found = []
    for _ in range(2):
        size, at = _varint(data, at)
        found.append(data[at : at + max(0, size)])
        at += max(0, size)
    return found[0], found[1]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag number, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at
