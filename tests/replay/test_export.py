"""A dump holds the window's records, all of them and each once, whatever it was interrupted by."""

import csv
import io
import json
import subprocess
import sys
from collections import Counter

import duckdb
import pyarrow.parquet as pq
import pytest
from batched import START_MS, Batches, Interrupted
from builders import PARTITIONS
from worlds import EVENTS, INTENTS, LETTERS, POSTINGS, World, a_world

from replay import export
from replay.export import Asked, Dump, begin, form_of, resumed, span_of
from replay.manifest import DumpDamaged, OtherDump, rows_hash
from replay.reader import TopicMissing
from replay.selection import BadSelection, Wanted
from replay.window import Window, parse_window
from schemas.events import Minor, Status
from schemas.keys import partition_of

NOW = START_MS * 1_000 + 86_400_000_000
HOME = partition_of("alice", PARTITIONS)


@pytest.fixture
def source():
    """Every fate once, and forty more payments."""
    world = a_world()
    for number in range(40):
        world.pay(f"more-{number}", amount_minor=Minor(100 + number))
    return Batches(world)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Files of a few rows, so that a partition has several."""
    for name, rows in (("CHUNK", 4), ("CHUNK_LEAST", 4), ("FILE_ROWS", 8), ("FILE_ROWS_LEAST", 8)):
        monkeypatch.setattr(export, name, rows)


def asked(topic=EVENTS, form="parquet", **fields):
    known = {"window": Window(), "words": (None, None), "wanted": Wanted(), "mask": False, "margin": 0}
    return Asked(topic=topic, form=form, **(known | fields))


def dump(source, folder, wish):
    """Dumps into a folder; gives the manifest."""
    manifest = begin(source, wish, folder, wish.topic, NOW)
    now = resumed(wish, manifest)
    Dump(source, form_of(now, wish.topic), now, lambda *_: None).into(manifest)
    return manifest


def rows_of(folder, topic=EVENTS):
    """All files as one table, as DuckDB finds it."""
    return duckdb.read_parquet(f"{folder}/{topic}/**/*.parquet", hive_partitioning=True)


def there(source, topic=EVENTS):
    """(partition, offset) of each record of a topic."""
    return {(p, n) for (name, p), log in source.log.items() if name == topic for n, kept in enumerate(log) if kept}


def dumped(manifest):
    """(partition, offset) of each row."""
    found = []
    for file in manifest.data["files"]:
        offsets = pq.read_table(manifest.folder / file["path"], partitioning=None)["_offset"].to_pylist()
        assert (offsets[0], offsets[-1], len(offsets)) == (file["first_offset"], file["last_offset"], file["rows"])
        found += [(file["partition"], offset) for offset in offsets]
    return found


def test_every_record_is_in_one_file_and_duckdb_opens_them(source, tmp_path):
    """The folder is a table, with day and partition as columns; the manifest counts what is there."""
    manifest = dump(source, tmp_path, asked())
    assert Counter(dumped(manifest)) == Counter(there(source))
    assert len(manifest.data["files"]) > PARTITIONS
    assert len(rows_of(tmp_path)) == manifest.data["records"] == len(there(source))
    assert rows_of(tmp_path).project("date::varchar").distinct().fetchall() == [("2025-11-21",)]
    said = json.loads((tmp_path / EVENTS / "manifest.json").read_text())
    assert (said["complete"], said["sums"]["EUR"]) == (
        True,
        sum(kept.value.amount_minor for kept in source_events(source)),
    )


def source_events(source):
    return [kept for (name, _), log in source.log.items() if name == EVENTS for kept in log if kept]


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_a_dump_that_dies_anywhere_goes_on_and_ends_the_same(source, tmp_path, form):
    """Killed after each batch in turn: at the end every row is there once, and no file that is not listed."""
    wish = asked(form=form)
    whole = dump(source, tmp_path / "whole", wish)
    for died in range(30):
        source.die_after = 1
        try:
            manifest = dump(source, tmp_path / "cut", wish)
        except Interrupted:
            (tmp_path / "cut" / EVENTS / "date=2025-11-21" / "partition=00").mkdir(parents=True, exist_ok=True)
            (tmp_path / "cut" / EVENTS / "date=2025-11-21" / "partition=00" / f".{died}.part").write_bytes(b"torn")
            source.at_once += 1  # as nothing is written before a file is full, more must come at once
        else:
            break
    assert manifest.complete
    assert manifest.data["records"] == whole.data["records"]
    assert manifest.data["sums"] == whole.data["sums"]
    listed = {manifest.folder / file["path"] for file in manifest.data["files"]}
    assert {path for path in manifest.folder.rglob("*") if path.is_file()} == {
        *listed,
        manifest.folder / "manifest.json",
    }
    assert source.begun[-1] != source.begun[0], "it went on from where it was"


def test_what_is_done_is_not_done_again(source, tmp_path):
    """The same command once more reads nothing."""
    dump(source, tmp_path, asked())
    before = len(source.begun)
    assert begin(source, asked(), tmp_path, EVENTS, NOW).complete
    assert source.begun[before:] == []


def test_a_relative_window_keeps_the_moment_that_it_meant_at_first(source, tmp_path):
    """-2h of a resumed dump is two hours before it was begun, not before it was resumed."""
    wish = asked(window=parse_window("-2h", None, (), NOW), words=("-2h", None))
    begin(source, wish, tmp_path, EVENTS, NOW).save()
    later = wish._replace(window=parse_window("-2h", None, (), NOW + 5_000_000))
    manifest = begin(source, later, tmp_path, EVENTS, NOW + 5_000_000)
    assert resumed(later, manifest).window == wish.window


def test_another_dump_in_the_same_folder_is_refused(source, tmp_path):
    """Another window, another form, or files of somebody else: nothing of it is touched."""
    dump(source, tmp_path, asked())
    with pytest.raises(OtherDump, match="asked"):
        dump(source, tmp_path, asked(wanted=Wanted(status="DECLINED")))
    (tmp_path / INTENTS).mkdir()
    (tmp_path / INTENTS / "thesis.txt").write_text("mine")
    with pytest.raises(OtherDump, match="something else"):
        dump(source, tmp_path, asked(INTENTS))


def test_a_listed_file_that_changed_stops_a_resumed_dump(source, tmp_path):
    """It would be counted, and not be what was counted."""
    manifest = dump(source, tmp_path, asked())
    path = manifest.folder / manifest.data["files"][0]["path"]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DumpDamaged, match="remove"):
        begin(source, asked(), tmp_path, EVENTS, NOW)


def test_windows_by_time_filter_each_record_by_when_it_happened(source, tmp_path):
    """A record that was sent late and happened early is inside; reading begins a margin early and goes to the end."""
    home = [kept.value for kept in source.log[EVENTS, HOME]]
    middle = home[len(home) // 2].occurred_at
    source.log[EVENTS, HOME].append(source.log[EVENTS, HOME][0])
    wish = asked(window=parse_window("2025-11-21T10:00:00Z", str(middle // 1_000), (), NOW))
    found = {(p, n) for p, n in dumped(dump(source, tmp_path, wish)) if p == HOME}
    cut = middle // 1_000 * 1_000
    assert found == {(HOME, n) for n, event in enumerate([*home, home[0]]) if event.occurred_at < cut}
    assert (HOME, len(home)) in found


def test_reading_begins_a_margin_before_the_window(source):
    """Timestamps go back a little: the margin is in offsets what it is in time."""
    at = START_MS * 1_000 + 20_000_000
    wish = asked(window=Window(parse_window(str(at // 1_000), None, (), NOW).begin, None), margin=5_000_000)
    assert span_of(source, wish).starts[EVENTS, HOME] == 15


def test_offsets_bound_each_partition(source, tmp_path):
    """From offset 2 and before offset 5, of each partition."""
    found = dumped(dump(source, tmp_path, asked(window=parse_window("offset:2", "offset:5", (), NOW))))
    assert sorted(found) == sorted(place for place in there(source) if 2 <= place[1] < 5)


@pytest.mark.parametrize(
    "case",
    [
        (EVENTS, Wanted(payment="pay-1"), lambda one: one.payment_id == "pay-1"),
        (EVENTS, Wanted(status="DECLINED"), lambda one: one.status == Status.DECLINED),
        (EVENTS, Wanted(account="nobody"), lambda one: one.creditor == "nobody"),
        (EVENTS, Wanted(key="bank"), lambda one: one.debtor == "bank"),
        (EVENTS, Wanted(payment="pay-2", status="DECLINED"), lambda one: one.payment_id == "pay-2"),
        (POSTINGS, Wanted(account="shop"), lambda one: "shop" in [entry.account for entry in one.entries]),
    ],
)
@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_filters_leave_what_was_asked_for(source, tmp_path, case, form):
    """By key, payment, account, status; in the quick way and line by line."""
    topic, wanted, means = case
    manifest = dump(source, tmp_path, asked(topic, form, wanted=wanted))
    there = [kept.value for (name, _), log in source.log.items() if name == topic for kept in log if kept]
    assert manifest.data["records"] == sum(map(means, there)) > 0


@pytest.mark.parametrize(
    ("topic", "wanted", "told"),
    [
        (EVENTS, Wanted(status="COMPLETE"), "did you mean COMPLETED"),
        (POSTINGS, Wanted(status="COMPLETED"), "have no status"),
        ("accounts.events", Wanted(payment="p"), "have no payment"),
        (LETTERS, Wanted(account="alice"), "headrace dlq list"),
        (EVENTS, Wanted(key="\ud800"), "no UTF-8"),
    ],
)
def test_a_filter_that_a_topic_cannot_be_asked_is_refused(topic, wanted, told):
    """Before Kafka is asked, and not with an empty answer."""
    with pytest.raises(BadSelection, match=told):
        form_of(asked(topic, wanted=wanted), topic)


def lines(source, wish):
    found = []
    wrong = Dump(source, form_of(wish, f"x.{wish.topic}"), wish, lambda *_: None).through(
        span_of(source, wish), found.append
    )
    return found, wrong


def test_json_lines_are_kcats_with_the_record_as_payload(source):
    """Whoever reads kcat -J reads these; times are ISO 8601, nothing is left out."""
    found, _ = lines(source, asked(form="jsonl"))
    told = [json.loads(line) for line in found]
    assert {*told[0]} == {"topic", "partition", "offset", "tstype", "ts", "headers", "key", "payload"}
    assert {(one["partition"], one["offset"]) for one in told} == there(source)
    one = next(one for one in told if one["payload"]["payment_id"] == "pay-1")
    assert (one["topic"], one["tstype"], one["key"]) == (f"x.{EVENTS}", "create", "alice")
    assert one["payload"]["occurred_at"].startswith("2025-11-21T10:")


def test_values_that_are_no_records_are_told_and_not_dropped_in_silence(source, tmp_path):
    """JSON Lines keep their bytes, Parquet counts them, with place and code."""
    found, wrong = lines(source, asked(INTENTS, "jsonl"))
    odd = [one for one in map(json.loads, found) if one["payload"] is None]
    assert [(one["offset"], one["error"], bytes.fromhex(one["value"])) for one in odd] == [
        (wrong[0][0], "unknown-schema", b"\0poison")
    ]
    manifest = dump(source, tmp_path, asked(INTENTS))
    place = {"partition": HOME, "offset": wrong[0][0], "code": "unknown-schema"}
    assert manifest.data["unreadable"] == {"count": 1, "first": [place]}
    assert manifest.data["records"] == len(there(source, INTENTS)) - 1


def test_dead_letters_are_dumped_as_bytes(source, tmp_path):
    """No schema fits them all; headers come along."""
    found, _ = lines(source, asked(LETTERS, "jsonl"))
    assert "headrace.error.code" in json.loads(found[0])["headers"]
    manifest = dump(source, tmp_path, asked(LETTERS))
    [row] = pq.read_table(manifest.folder / manifest.data["files"][0]["path"], partitioning=None).to_pylist()
    assert (row["_value"], row["_headers"][3]) == (b"\0poison", {"name": "headrace.error.code", "value": b"truncated"})


def test_postings_prove_double_entry_in_the_manifest(source, tmp_path):
    """Debits and credits per currency and layer; an entry that is missing is seen."""
    manifest = dump(source, tmp_path, asked(POSTINGS))
    posted = manifest.data["double_entry"]["EUR"]["POSTED"]
    assert (posted["balanced"], posted["DEBIT"] == posted["CREDIT"] > 0, manifest.balanced) == (True, True, True)
    kept = source.log[POSTINGS, HOME][0]
    source.change(POSTINGS, HOME, 0, entries=kept.value.entries[:1])
    for form in ("parquet", "jsonl"):
        assert not dump(source, tmp_path / form, asked(POSTINGS, form)).balanced


def test_rows_have_a_hash_that_no_file_format_changes(source, tmp_path):
    """The same records, as Parquet and as text: other bytes, the same hash; another record: another hash."""
    one, other = (dump(source, tmp_path / form, asked(form=form)) for form in ("parquet", "csv"))
    hashes = [[file["rows_sha256"] for file in manifest.data["files"]] for manifest in (one, other)]
    assert hashes[0] == hashes[1]
    assert [file["sha256"] for file in one.data["files"]] != [file["sha256"] for file in other.data["files"]]
    [batch, *_] = source.batches(EVENTS, {(EVENTS, HOME): 3}, {(EVENTS, HOME): 0})
    assert rows_hash(batch.messages) != rows_hash(batch.messages[1:])


def test_a_spreadsheet_finds_no_formula_in_csv(tmp_path):
    """Texts that begin as formulas do get an apostrophe, numbers below zero do not; every cell is quoted."""
    world = World()
    for name in ("=cmd|'/C calc'!A0", "+1", "-1", "@sum", "\tx"):
        intent, offset = world.ask(name, debtor="eve")
        world.answer(intent, world.event(intent, offset, Status.DECLINED, amount_minor=Minor(-5), reason="=1+1"))
    found, _ = lines(Batches(world), asked(form="csv", mask=True))
    text = form_of(asked(form="csv", mask=True), EVENTS).heading() + b"".join(found)
    rows = list(csv.DictReader(io.StringIO(text.decode(), newline="")))
    assert {row["payment_id"] for row in rows} == {"'=cmd|'/C calc'!A0", "'+1", "'-1", "'@sum", "'\tx"}
    assert {row["amount_minor"] for row in rows} == {"-5"}
    assert {row["reason"] for row in rows} == {"'=1+1"}
    assert all(cell.startswith(b'"') for line in text.splitlines() for cell in line.split(b",", 1))


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_what_tells_of_a_person_can_be_hidden(form, tmp_path):
    """Aliases, devices, places and metadata; whose it is stays."""
    world = World()
    world.ask(
        "p", device_id="phone-7", latitude=1.0, longitude=2.0, metadata={"note": "secret"}, creditor_alias="EMAIL:a@b.c"
    )
    source = Batches(world)
    hidden = (b"phone-7", b"secret", b"a@b.c")
    wish = asked(INTENTS, form, mask=True)
    if form == "parquet":
        manifest = dump(source, tmp_path, wish)
        [row] = pq.read_table(manifest.folder / manifest.data["files"][0]["path"], partitioning=None).to_pylist()
        assert (row["device_id"], row["latitude"], row["metadata"], row["debtor"]) == ("****", None, None, "alice")
        return
    [line] = lines(source, wish)[0]
    assert not any(word in line for word in hidden)
    assert b"alice" in line
    assert all(word in lines(source, wish._replace(mask=False))[0][0] for word in hidden)


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    """A worker's environment has none of it."""
    monkeypatch.setitem(sys.modules, "replay.parquet", None)
    with pytest.raises(export.NoAnalytics, match=r"headrace\[analytics\]"):
        form_of(asked(), EVENTS)


def test_a_reader_of_text_loads_no_arrow():
    """Lines need nothing that is not there anyway, and no worker's machinery."""
    code = (
        "import sys, replay.export, replay.letters, replay.story, headrace.dlq; "
        "sys.exit(bool({'pyarrow', 'duckdb', 'faust', 'rocksdict'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("topic", "error", "told"),
    [
        ("payments.event", export.NoSuchTopic, "did you mean payments.events"),
        ("xyz", export.NoSuchTopic, "headrace topics list"),
        ("settlement.batches", TopicMissing, "missing"),
    ],
)
def test_a_topic_that_is_not_there_is_told_with_the_way_out(source, topic, error, told):
    """A slip of the finger, a name out of the air, a topic that can be created."""
    export.known_topic(source, EVENTS)
    with pytest.raises(error, match=told):
        export.known_topic(source, topic)
