"""Faults of the local store and of the changelog."""

import random
import shutil
import time
from pathlib import Path

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from judge import HEAD_DELETED
from kinds import Kind, Shot
from readers import read
from stores import CHANGELOG, Rows
from system import System
from workers import Worker

DAMAGED = r"the store /\S+ (can't be|is damaged)|StoreCorrupt|StoreFailed"
FILES = ("*.sst", "MANIFEST-*", "CURRENT", "*.log")
REFUSES_WITHIN_S = 60.0


def bit_flips(system: System, chance: random.Random) -> Shot:
    """Some bits of one file are wrong."""
    worker = _killed(system, chance)
    file = _file(worker, chance)
    data = bytearray(file.read_bytes())
    count = chance.choice([1, 1, 8, 64])
    for _ in range(count):
        bit = chance.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8
    file.write_bytes(data)
    worker.start()
    return Shot(note=f"{count} in {file.parent.name}/{file.name} of {worker.name}")


def file_gone(system: System, chance: random.Random) -> Shot:
    """One file is missing, or cut short."""
    worker = _killed(system, chance)
    file = _file(worker, chance)
    if chance.random() < 0.5:
        file.unlink()
        how = "gone"
    else:
        with file.open("r+b") as opened:
            opened.truncate(chance.randrange(file.stat().st_size))
        how = "cut"
    worker.start()
    return Shot(note=f"{file.parent.name}/{file.name} of {worker.name} {how}")


def old_copy(system: System, chance: random.Random) -> Shot:
    """A backup of the store, a good one but old, is put back."""
    worker = system.workers[chance.choice("ab")]
    worker.terminate()
    kept = system.folder / f"copy-{time.monotonic_ns()}"
    shutil.copytree(worker.store, kept)
    worker.start()
    system.wait(worker.partitions, 60, "partitions of the worker")
    time.sleep(chance.uniform(0.5, 4.0))
    worker.kill()
    shutil.rmtree(worker.store)
    kept.rename(worker.store)
    worker.start()
    return Shot(note=worker.name)


def changelog_truncated(system: System, chance: random.Random) -> Shot:
    """The store is lost and rows of the changelog's head too: the worker must refuse, never begin with half a table."""
    worker = system.workers[chance.choice("ab")]
    system.wait(worker.partitions, 60, "partitions of the worker")
    number = chance.choice(worker.partitions())
    base = _base(system, number)
    worker.terminate()
    folder = worker.store / f"p{number}"
    kept = system.folder / f"copy-{time.monotonic_ns()}"
    folder.rename(kept)
    _delete_head(system, number, base)
    system.truncated.append(number)
    worker.start().wanted = False
    deadline = time.monotonic() + REFUSES_WITHIN_S
    while worker.alive and time.monotonic() < deadline:
        system.tend()
        time.sleep(0.05)
    reason = worker.reason()
    assert reason is not None, (
        f"worker {worker.name} runs on half a table: the head of {CHANGELOG} [{number}] was deleted"
    )
    assert HEAD_DELETED in reason, f"worker {worker.name} stopped, but said: {reason}"
    system.stopped.append(reason)
    shutil.rmtree(folder, ignore_errors=True)
    kept.rename(folder)
    worker.start()
    system.wait(lambda: number in worker.partitions(), 60, f"worker {worker.name} with its old copy of p{number}")
    return Shot(note=f"{CHANGELOG} [{number}]: refused")


def _base(system: System, number: int) -> int:
    """Where a partition's changelog has begun to have all rows."""
    place, rows = (CHANGELOG, number), Rows()
    begin, end = system.view.patiently(system.view.begins)[place], system.view.patiently(system.view.ends)[place]
    read(system.config, {place: end}, lambda _place, message: rows.take(message.value()), starts={place: begin})
    return rows.base


def _delete_head(system: System, number: int, base: int) -> None:
    """Deletes about half of what a partition's changelog needs to have all rows."""
    end = system.view.patiently(lambda: system.view.ends(topics=[CHANGELOG]))[CHANGELOG, number]
    where = TopicPartition(system.config.prefix + CHANGELOG, number, (base + 1 + end) // 2)
    admin = AdminClient(system.config.client(log_level=0))
    for future in admin.delete_records([where]).values():
        future.result()


def _killed(system: System, chance: random.Random) -> Worker:
    """A worker that was killed; half of the times once more just after its start, so that its rows lie in SST files."""
    worker = system.workers[chance.choice("ab")]
    if chance.random() < 0.5:
        worker.kill()
        worker.start()
        system.wait(worker.partitions, 60, "partitions of the worker")
    time.sleep(chance.uniform(0.0, 1.0))
    worker.kill()
    return worker


def _file(worker: Worker, chance: random.Random) -> Path:
    pattern = chance.choice(FILES)
    found = [file for file in sorted(worker.store.glob(f"p[0-9]/{pattern}")) if file.stat().st_size]
    return chance.choice(found or sorted(worker.store.glob("p[0-9]/CURRENT")))


KINDS = [
    Kind("store: bit flips", bit_flips, 20, may_stop=DAMAGED, lasts=True),
    Kind("store: file gone or cut", file_gone, 20, may_stop=DAMAGED, lasts=True),
    Kind("store: old copy", old_copy, 20),
    Kind("store lost, changelog truncated", changelog_truncated, 20, lives_alone=True),
]
