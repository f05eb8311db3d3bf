"""What a dump has done so far: `manifest.json`, beside its files. A file counts once it is listed."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import Any, Protocol

from confluent_kafka import Message

from replay.reader import Place
from replay.sums import balanced, told
from replay.texts import Rows, Unreadable

FORMAT = "headrace.dump/1"
NAME = "manifest.json"
FIRST = 20
"""Unreadable records that are named."""
_HEAD = Struct(">qqqq").pack


class OtherDump(Exception):
    """The folder holds something else than this dump. Exit 2."""


class DumpDamaged(Exception):
    """A file that the manifest lists is gone or has another size. Exit 1."""


class Writes(Protocol):
    """What makes a file of contents."""

    suffix: str

    def write(self, path: Path, contents: Sequence[Any]) -> None:
        """Writes one file."""


class Manifest:
    """The manifest of one topic's dump in one folder."""

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder, self.data = folder, data
        self.sums: Counter[str] = Counter()
        for file in data["files"]:
            self.sums.update(file["sums"])

    @classmethod
    def found(cls, folder: Path, identity: Mapping[str, Any]) -> "Manifest | None":
        """The manifest of a dump that was begun, None where there is none.

        What it does not list is removed. Raises OtherDump, DumpDamaged, OSError.
        """
        path = folder / NAME
        if not path.exists():
            if folder.exists() and any(folder.iterdir()):
                raise OtherDump(f"{folder} holds files of something else; name another --out")
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            same = data["format"] == FORMAT and {name: data[name] for name in identity} == identity
        except (ValueError, KeyError, TypeError):
            raise OtherDump(f"{path} is no manifest of a dump; name another --out") from None
        if not same:
            odd = next((name for name in identity if data.get(name) != identity[name]), "format")
            raise OtherDump(
                f"{folder} holds another dump ({odd}: {data.get(odd)}, asked for: {identity.get(odd, FORMAT)}); name another "
                "--out, or remove the folder"
            )
        manifest = cls(folder, data)
        manifest._tidy()
        return manifest

    def _tidy(self) -> None:
        """Files that were written and not listed are done again; a listed one must be there."""
        listed = {self.folder / file["path"]: file["bytes"] for file in self.data["files"]}
        for path, size in listed.items():
            if not path.is_file() or path.stat().st_size != size:
                raise DumpDamaged(
                    f"{path} is listed in {NAME} and is gone or was changed; remove {self.folder}, begin anew"
                )
        for path in self.folder.glob("date=*/partition=*/*"):
            if path not in listed:
                path.unlink()

    @property
    def complete(self) -> bool:
        """Whether nothing is left to be read."""
        return bool(self.data["next"] == self.data["ends"])

    def places(self, topic: str, name: str) -> dict[Place, int]:
        """`starts`, `next` or `ends` as the reader takes them."""
        return {(topic, int(partition)): offset for partition, offset in self.data[name].items()}

    def add(self, form: Writes, partition: int, days: Mapping[str, list[Rows]], following: int) -> None:
        """Writes what a partition has up to the offset `following`, then lists it."""
        for day, parts in sorted(days.items()):
            messages = [message for rows in parts for message in rows.messages]
            first, last = messages[0].offset(), messages[-1].offset()
            path = self.folder / f"date={day}" / f"partition={partition:02d}" / f"{first}-{last}{form.suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            form.write(_temporary(path), [content for rows in parts for content in rows.content])
            sums: Counter[str] = Counter()
            for rows in parts:
                sums.update(rows.sums)
            entry = {
                "path": path.relative_to(self.folder).as_posix(),
                "partition": partition,
                "first_offset": first,
                "last_offset": last,
                "rows": len(messages),
                "bytes": _temporary(path).stat().st_size,
                "sha256": _sha256(_temporary(path)),
                "rows_sha256": rows_hash(messages),
                "sums": dict(sorted(sums.items())),
            }
            _settle(path)
            self.data["files"].append(entry)
            self.sums.update(sums)
        self.data["next"][str(partition)] = following

    def note(self, partition: int, unreadable: Unreadable) -> None:
        """Counts records that could not be decoded."""
        known = self.data["unreadable"]
        known["count"] += len(unreadable)
        for offset, code in unreadable[: max(FIRST - len(known["first"]), 0)]:
            known["first"].append({"partition": partition, "offset": offset, "code": code})

    def save(self) -> None:
        """Lists what was done, for good."""
        data = self.data
        data["complete"] = self.complete
        data["records"] = sum(file["rows"] for file in data["files"])
        data["bytes"] = sum(file["bytes"] for file in data["files"])
        data |= told(self.sums)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / NAME
        _temporary(path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        _settle(path)

    @property
    def balanced(self) -> bool:
        """Whether the entries of all files balance; true where there are none."""
        return balanced(self.sums)


def rows_hash(messages: Sequence[Message]) -> str:
    """SHA-256 over the records as they stand in Kafka, 64 hex digits: it depends on no file format.

    Of each record: offset, timestamp (ms), lengths of key and value as 64-bit big-endian numbers (-1: none), then
    key and value.
    """
    found = hashlib.sha256()
    for begin in range(0, len(messages), 4_096):
        found.update(b"".join(map(_packed, messages[begin : begin + 4_096])))
    return found.hexdigest()


def _packed(message: Message) -> bytes:
    key, value = message.key(), message.value()
    lengths = (-1 if key is None else len(key), -1 if value is None else len(value))
    return _HEAD(message.offset() or 0, message.timestamp()[1], *lengths) + (key or b"") + (value or b"")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _settle(path: Path) -> None:
    """The temporary file takes its name, with all its bytes on the disk."""
    with _temporary(path).open("rb") as file:
        os.fsync(file.fileno())
    _temporary(path).replace(path)
