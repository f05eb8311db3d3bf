"""What the demo publishes, reports and refuses, as far as that goes without Kafka."""

import os
import subprocess
import sys

import pytest

from headrace.day import a_day
from headrace.demo import ALONE_S, Books, DemoFailed, Outcome, Wanted, Watch, encoded
from headrace.fates import Fates
from headrace.progress import Progress
from headrace.workers import Crew
from replay.verdicts import AuditReport, Check
from schemas import codec
from schemas.events import Intent
from topologies import topics

NOW = 1_800_000_000_000_000
WANTED = Wanted("7f3a", 200, 1, 2)


def headrace(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_is_published_can_be_read_back_but_for_the_rubbish():
    """Every intent of the day is the same after the wire; the broken bytes stay as they are."""
    records = list(a_day(2_000, 1, NOW).rest)
    decode = codec.decoder(topics.INTENTS.subject)
    unreadable = 0
    for record, (key, value) in zip(records, encoded(records), strict=True):
        assert key == record.key.encode()
        if isinstance(record.value, Intent):
            assert decode(value) == record.value
        else:
            with pytest.raises(codec.Undecodable):
                decode(value)
            unreadable += 1
    assert unreadable >= 3


def test_the_json_has_all_fields_that_scripts_rely_on():
    """The contract of `headrace demo --json`."""
    fates = Fates("demo-7f3a.")
    fates.answered = 200
    fates.by_status.update(COMPLETED=190, DECLINED=8)
    fates.dead_letters.update({"undecodable": 2})
    report = AuditReport(ok=True, checks=(Check("sum", True, "all zero", 12),))
    shown = Outcome(WANTED, fates, 4.0, Books({}, {}, {}), report).as_json()
    assert shown["run"] == "7f3a"
    assert shown["intents"] == 200
    assert shown["events_by_status"] == {"COMPLETED": 190, "DECLINED": 8}
    assert shown["dead_letters"] == {"undecodable": 2}
    assert shown["payments_per_second"] == 50.0
    assert set(shown["end_to_end_ms"]) == {"p50", "p95", "p99"}
    assert shown["audit"] == {"sum": True}
    assert (shown["seed"], shown["workers"]) == (1, 2)


def test_with_no_worker_left_and_no_progress_the_demo_fails_and_says_what_to_do(tmp_path, monkeypatch):
    """It waits for a worker that someone starts, but not for ever."""
    clock = [0.0]
    monkeypatch.setattr("headrace.demo.monotonic", lambda: clock[0])
    watch = Watch(Crew(tmp_path, lambda _: None), Progress(), WANTED)
    watch.stage("the day", 200)
    watch.look(10, lambda: "")
    clock[0] = ALONE_S - 1
    watch.look(10, lambda: "")
    watch.look(11, lambda: "")
    clock[0] = 2 * ALONE_S - 2
    watch.look(11, lambda: "")
    clock[0] = 2 * ALONE_S
    with pytest.raises(DemoFailed, match="headrace run core --run 7f3a"):
        watch.look(11, lambda: "")


def test_too_few_payments_are_a_wrong_usage():
    """Exit 2 and a sentence, no stack trace."""
    found = headrace("demo", "--payments", "10")
    assert found.returncode == 2
    assert "200" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_kafka_that_does_not_answer_is_named_with_exit_3(tmp_path):
    """The message names the address and the way out."""
    found = headrace("demo", "--payments", "200", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9", HEADRACE_HOME=str(tmp_path))
    assert found.returncode == 3
    assert "127.0.0.1:9" in found.stderr
    assert "Traceback" not in found.stderr
