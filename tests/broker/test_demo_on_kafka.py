"""The demo as a newcomer runs it, on the real Kafka."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.broker


def headrace(kafka, home, *arguments):
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "HEADRACE_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_demo_accounts_for_every_intent_and_passes_its_audit(kafka, tmp_path):
    """2,000 records: each has one fate, merchants are settled and told, the books are right, its workers are gone.

    Its run can't be used again.
    """
    found = headrace(kafka, tmp_path, "demo", "--payments", "2000", "--run", "d1", "--json")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout.splitlines()[-1])
    assert result["run"] == "d1"
    assert result["intents"] == 2000
    assert sum(result["events_by_status"].values()) + sum(result["dead_letters"].values()) == 2000
    assert result["events_by_status"]["COMPLETED"] >= 1860
    assert result["dead_letters"]["key-mismatch"] >= 1
    assert sum(result["dead_letters"].values()) >= 4
    assert all(result["audit"].values())
    assert result["payments_per_second"] > 0
    assert 0 < result["end_to_end_ms"]["p50"] <= result["end_to_end_ms"]["p99"]
    assert "exit codes 0, 0, 0" in found.stderr

    settlement, webhooks = result["settlement"], result["webhooks"]
    assert settlement["payments"]["EUR"] > 100
    for currency, gross in settlement["gross_minor"].items():
        assert gross == settlement["fees_minor"][currency] + settlement["net_minor"][currency]
        assert settlement["fees_minor"][currency] > 0
    assert webhooks["received"] == webhooks["expected"] > 0
    assert webhooks["unsigned"] == 0

    again = headrace(kafka, tmp_path, "demo", "--payments", "200", "--run", "d1")
    assert again.returncode == 2
    assert "used before" in again.stderr
    assert "Traceback" not in again.stderr
