"""Invariants 6 and 9 of workers' stores: real RocksDB folders beside the topics of an in-memory life."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from journalled import CHANGELOG, DOUBTFUL, Journalled, Logs, a_run, moments_of

from replay.audit import AuditReport, judge
from replay.state import Further
from replay.stores import Stores
from topologies import topics
from topologies.engine.errors import StoreFailed
from topologies.engine.inspect import Snapshot
from topologies.engine.limits import LIMITS
from topologies.engine.store import encode_row, rocksdb_stores, row_key

SIX, NINE, ROWS = "6 stores equal changelogs", "9 no store ahead of Kafka", "6 account rows equal postings"
TABLES = [spec.name for spec in DOUBTFUL.tables()]
Data = tuple[dict[bytes, bytes], dict[str, Any]]
"""Rows by their key in the store, and the meta row."""


def data_of(memory: Journalled, partition: int) -> Data:
    """What a worker's store holds now."""
    rows = {
        row_key(table, key): encode_row(row) for table in TABLES for key, row in memory.table(table, partition).items()
    }
    log = {place: len(records) for place, records in memory._log.items()}
    meta = {
        "cluster": "c",
        "step": memory._steps[partition],
        "at": memory.now,
        "offsets": {topic.name: memory._done.get((topic.name, partition), 0) for topic in DOUBTFUL.inputs},
        "changelog": log.get((CHANGELOG, partition), 0),
        "base": memory.logged_from[partition],
        "written_at": 5,
    }
    return rows, meta


def write(folder: Path, data: Data) -> Path:
    """A store with these rows."""
    store = rocksdb_stores(LIMITS).open(folder)
    store.write(list(data[0].items()), data[1])
    store.close()
    return folder


def judged(logs: Logs, folders: dict[int, Path]) -> AuditReport:
    """The audit, with these stores."""
    snapshots = [Snapshot(folder, partition) for partition, folder in folders.items()]
    try:
        return judge(logs, further=Further(stores=[Stores(snapshots, TABLES)]))
    finally:
        for snapshot in snapshots:
            snapshot.close()


def failed(report: AuditReport) -> dict[str, str]:
    return {check.name: check.detail for check in report.checks if not check.ok}


@pytest.fixture(scope="module")
def life() -> Journalled:
    """Some hundred steps; tests spoil copies of what it left."""
    return a_run(5, 120)


def test_stores_at_the_end_and_behind_it_are_right(tmp_path: Path):
    """One store is up to date, one was left behind by a worker that went; both are judged where they stand."""
    memory = a_run(5, 80)
    behind = {p: write(tmp_path / f"behind-{p}", data_of(memory, p)) for p in range(4)}
    moments_of(memory, 5)
    now = {p: write(tmp_path / f"now-{p}", data_of(memory, p)) for p in range(4)}
    with Snapshot(behind[0], 0) as snapshot:
        assert snapshot.meta["step"] < memory._steps[0]
    for folders in (behind, now):
        report = judged(Logs(memory), folders)
        assert failed(report) == {}
        assert {check.name: check.examined for check in report.checks}[NINE] == 4


def test_a_step_that_is_half_written_and_committed_is_right(tmp_path: Path):
    """The rows of a great step go to the store in pieces, the meta row with the last."""
    memory = a_run(6, 80)
    rows, meta = data_of(memory, 1)
    moments_of(memory, 6)
    later, _ = data_of(memory, 1)
    changed = [key for key in later if rows.get(key) != later[key]]
    half = rows | {key: later[key] for key in changed[::2]}
    assert failed(judged(Logs(memory), {1: write(tmp_path / "half", (half, meta))})) == {}


def _walked() -> tuple[Journalled, Data, Data]:
    """A life with a checkpoint; what partition 1's store held some steps before it, and holds at the end."""
    memory = a_run(6, 80)
    before = data_of(memory, 1)
    moments_of(memory, 6)
    memory.walks.add(1)
    moments_of(memory, 7)
    assert before[1]["changelog"] < memory.logged_from[1] < data_of(memory, 1)[1]["changelog"]
    return memory, before, data_of(memory, 1)


def test_without_the_logs_head_a_store_behind_its_base_is_compared(tmp_path: Path):
    """All that lives is there; a row other than the log's is found as ever."""
    memory, _, now = _walked()
    logs = Logs(memory)
    logs.delete_head((CHANGELOG, 1), memory.logged_from[1])
    report = judged(logs, {1: write(tmp_path / "right", now)})
    assert failed(report) == {}
    assert {check.name: check.examined for check in report.checks}[SIX] == len(now[0])
    a_row_is_missing(now)
    assert "has no row" in failed(judged(logs, {1: write(tmp_path / "wrong", now)}))[SIX]


def test_a_store_that_stands_before_the_logs_base_is_compared_as_far_as_the_log_goes(tmp_path: Path):
    """A row may be the one that the deleted head had if it was written again since; if not, there never was one."""
    memory, data, _ = _walked()
    logs = Logs(memory)
    logs.delete_head((CHANGELOG, 1), data[1]["changelog"] - 3)
    assert failed(judged(logs, {1: write(tmp_path / "right", data)})) == {}
    a_row_is_too_many(data)
    assert "'of nobody': has [1]" in failed(judged(logs, {1: write(tmp_path / "wrong", data)}))[SIX]


def test_a_store_that_stands_before_the_log_begins_is_told_and_no_offence(tmp_path: Path):
    """A worker moves it aside."""
    memory, data, _ = _walked()
    logs = Logs(memory)
    logs.delete_head((CHANGELOG, 1), memory.logged_from[1])
    report = judged(logs, {1: write(tmp_path / "old", data)})
    assert failed(report) == {}
    [six] = [check for check in report.checks if check.name == SIX]
    assert f"{tmp_path / 'old'} has read headrace.changelog.core partition 1 up to" in six.detail
    assert "a worker will not use it" in six.detail


def test_a_log_without_its_head_and_without_a_checkpoint_is_found(life: Journalled, tmp_path: Path):
    """The stores are right, but who loses one loses the rows."""
    logs = Logs(life)
    logs.delete_head((CHANGELOG, 1), 3)
    found = failed(judged(logs, {1: write(tmp_path / "p1", data_of(life, 1))}))
    assert "starts at 3, and only from 0 on it has all rows: its head was deleted" in found[SIX]
    assert "more)" not in found[SIX]


def test_a_damaged_record_is_found_and_named(life: Journalled, tmp_path: Path):
    """It is an offence with its place, never a crash."""
    logs = Logs(life)
    log = logs.log[CHANGELOG, 1]
    log[5] = log[5]._replace(value=log[5].value[:-1])
    found = failed(judged(logs, {1: write(tmp_path / "p1", data_of(life, 1))}))
    assert "headrace.changelog.core partition 1 offset 5: a changelog record has" in found[SIX]


Spoil = Callable[[Data], None]


def _key(data: Data, table: str) -> bytes:
    return next(key for key in sorted(data[0]) if key.startswith(row_key(table, "")))


def a_row_is_other(data: Data) -> None:
    data[0][_key(data, "payments")] = b'["DECLINED"]'


def a_row_is_missing(data: Data) -> None:
    del data[0][_key(data, "idempotency")]


def a_row_is_too_many(data: Data) -> None:
    data[0][row_key("credits", "of nobody")] = b"[1]"


def a_balance_is_other(data: Data) -> None:
    key = _key(data, "accounts")
    flags, purses = orjson.loads(data[0][key])
    purses[0][2] += 1
    data[0][key] = orjson.dumps([flags, purses])


def the_step_is_ahead(data: Data) -> None:
    data[1]["step"] += 1


def the_step_is_behind(data: Data) -> None:
    data[1]["step"] -= 1


def the_base_is_ahead(data: Data) -> None:
    data[1]["base"] += 1


def the_changelog_offset_is_behind(data: Data) -> None:
    data[1]["changelog"] -= 1


def the_changelog_offset_is_ahead(data: Data) -> None:
    data[1]["changelog"] += 1


def an_offset_is_ahead(data: Data) -> None:
    data[1]["offsets"][topics.INTENTS.name] += 1


def an_offset_is_behind(data: Data) -> None:
    data[1]["offsets"][topics.INTENTS.name] -= 1


SPOILS: list[tuple[Spoil, str, str]] = [
    (a_row_is_other, SIX, "table payments, key "),
    (a_row_is_missing, SIX, "has no row, its changelog ["),
    (a_row_is_too_many, SIX, "table credits, key 'of nobody': has [1], its changelog no row"),
    (a_balance_is_other, SIX, "table accounts"),
    (a_balance_is_other, ROWS, "of ledger.postings leaves Purse("),
    (the_step_is_ahead, NINE, "the broker lost committed data"),
    (the_step_is_behind, SIX, "; its changelog is at step "),
    (the_base_is_ahead, SIX, ", base 1; its changelog is at step "),
    (the_changelog_offset_is_behind, SIX, "; its changelog is at step "),
    (the_changelog_offset_is_ahead, NINE, "has headrace.changelog.core up to"),
    (an_offset_is_ahead, NINE, "has read payments.intents up to"),
    (an_offset_is_behind, NINE, "has read payments.intents up to"),
]


@pytest.mark.parametrize(("spoil", "check", "words"), SPOILS, ids=[f"{s.__name__}-{c[0]}" for s, c, _ in SPOILS])
def test_each_single_wrong_is_found_and_named(life: Journalled, tmp_path: Path, spoil: Spoil, check: str, words: str):
    """One thing other in one store, and the check says in which, and where."""
    data = data_of(life, 1)
    spoil(data)
    found = failed(judged(Logs(life), {1: write(tmp_path / "p1", data)}))
    assert words in found[check]
    assert str(tmp_path / "p1") in found[check]


def test_a_damaged_store_is_not_taken_for_a_short_one(tmp_path: Path):
    """RocksDB ends a walk at a damaged block as if no more rows came."""
    store = rocksdb_stores(LIMITS).open(tmp_path / "p0")
    rows = [(row_key("accounts", f"{number:06}"), b"[%d]" % number) for number in range(20_000)]
    store.write(rows, {"step": 1})
    store.close()
    victim = max((tmp_path / "p0").glob("*.sst"), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 0x40
    victim.write_bytes(data)
    with Snapshot(tmp_path / "p0", 0) as snapshot, pytest.raises(StoreFailed, match=str(tmp_path / "p0")):
        assert len(list(snapshot.rows("accounts"))) == len(rows)


def test_a_store_is_looked_into_while_its_worker_writes(tmp_path: Path):
    """It is seen as it stood when it was opened, its lock and its files stay as they are."""
    store = rocksdb_stores(LIMITS).open(tmp_path / "p0")
    store.write([(row_key("accounts", "alice"), b"[1]")], {"step": 1})
    files = sorted(path.name for path in (tmp_path / "p0").iterdir())
    with Snapshot(tmp_path / "p0", 0) as snapshot:
        assert sorted(path.name for path in (tmp_path / "p0").iterdir()) == files
        store.write([(row_key("accounts", "alice"), b"[2]"), (row_key("accounts", "bob"), b"[3]")], {"step": 2})
        assert snapshot.meta["step"] == 1
        assert list(snapshot.rows("accounts")) == [(b"alice", b"[1]")]
        assert list(snapshot.rows("credits")) == []
    store.close()
    with Snapshot(tmp_path / "p0", 0) as snapshot:
        assert [row for _, row in snapshot.rows("accounts")] == [b"[2]", b"[3]"]
