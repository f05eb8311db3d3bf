"""Which release a Kafka is of: an ApiVersions request by hand, for no client library tells.

A broker never tells its own release, but from Kafka 3.0 on (KRaft) it tells the cluster's finalized
`metadata.version`, and each release has its own. ApiVersions is answered before any login.
Source: Kafka's protocol guide (ApiVersions v3) and `StorageTool version-mapping`.
"""

import bisect
import socket
import ssl
import struct
from collections.abc import Mapping

API_VERSIONS, API_VERSION = 18, 3
TIMEOUT_SECONDS = 3.0
ANSWER_BYTES_MAX = 1 << 20
FINALIZED_FEATURES_TAG = 2

LAST_LEVELS = {1: "3.0", 2: "3.1", 3: "3.2", 7: "3.3", 8: "3.4", 11: "3.5", 14: "3.6", 19: "3.7", 20: "3.8", 21: "3.9"}
LAST_LEVELS |= {25: "4.0", 27: "4.1", 29: "4.2", 30: "4.3"}
"""The last `metadata.version` of each release."""


def kafka_version(bootstrap: str, options: Mapping[str, str] | None = None) -> str | None:
    """The release ("4.3") of the first server of `bootstrap` that answers, or None when none tells.

    `options`: librdkafka's `security.protocol` and `ssl.*.location`. Errors: none; what cannot be read is None.
    """
    for server in bootstrap.split(","):
        host, _, port = server.rpartition("//")[2].strip().rpartition(":")
        try:
            level = _metadata_level(_ask(host.strip("[]"), int(port), options or {}))
        except (OSError, ValueError, IndexError, struct.error):
            continue
        if level is not None:
            return release_of(level)
    return None


def release_of(level: int) -> str:
    """The release of a `metadata.version`; "after 4.3" for one that is newer than this table."""
    levels = sorted(LAST_LEVELS)
    place = bisect.bisect_left(levels, level)
    return LAST_LEVELS[levels[place]] if place < len(levels) else f"after {LAST_LEVELS[levels[-1]]}"


def _ask(host: str, port: int, options: Mapping[str, str]) -> bytes:
    """The body of the answer."""
    request = struct.pack(">hhih", API_VERSIONS, API_VERSION, 1, -1) + b"\0" + b"\x09headrace" + b"\x020" + b"\0"
    with socket.create_connection((host, port), TIMEOUT_SECONDS) as plain, _secured(plain, host, options) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", _read(connection, 4))
        if not 6 <= size <= ANSWER_BYTES_MAX:
            raise ValueError(f"an answer of {size} bytes")
        return _read(connection, size)[4:]  # after the correlation id


def _secured(plain: socket.socket, host: str, options: Mapping[str, str]) -> socket.socket:
    if "SSL" not in options.get("security.protocol", "").upper().split("_"):
        return plain
    context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
    context.check_hostname = options.get("ssl.endpoint.identification.algorithm") != "none"
    if "ssl.certificate.location" in options:
        key, password = options.get("ssl.key.location"), options.get("ssl.key.password")
        context.load_cert_chain(options["ssl.certificate.location"], key, password)
    return context.wrap_socket(plain, server_hostname=host)


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise ConnectionError("closed")
        data += piece
    return data


def _metadata_level(body: bytes) -> int | None:
    """The finalized metadata.version of an ApiVersions answer (v3: compact arrays, tagged fields)."""
    if struct.unpack_from(">h", body)[0] != 0:
        return None
    count, at = _varint(body, 2)
    for _ in range(count - 1):
        _, at = _skip_tags(body, at + 6)
    at += 4  # the throttle time
    features, _ = _skip_tags(body, at)
    if FINALIZED_FEATURES_TAG not in features:
        return None
    at = features[FINALIZED_FEATURES_TAG]
    count, at = _varint(body, at)
    for _ in range(count - 1):
        size, at = _varint(body, at)
        name, at = body[at : at + size - 1], at + size - 1
        (level,) = struct.unpack_from(">h", body, at)
        if name == b"metadata.version":
            return int(level)
        _, at = _skip_tags(body, at + 4)
    return None


def _skip_tags(body: bytes, at: int) -> tuple[dict[int, int], int]:
    """(tag to the place of its content, the place after them)."""
    places = {}
    count, at = _varint(body, at)
    for _ in range(count):
        tag, at = _varint(body, at)
        size, at = _varint(body, at)
        places[tag] = at
        at += size
    return places, at


def _varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
