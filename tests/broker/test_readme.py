"""The README's examples, run as a reader runs them, from the first to the last."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LIMIT_S = 420
pytestmark = pytest.mark.broker


def script():
    """All blocks as one script, which stops at the first failure and ends whatever it left running."""
    parts = ["set -eu", "trap 'ended=$?; kill $(jobs -p) 2> /dev/null || true; wait; exit $ended' EXIT"]
    for number, (language, block) in enumerate(BLOCK.findall((ROOT / "README.md").read_text()), 1):
        text = block.replace("make demo\n", "headrace demo --payments 2000\n")
        text = re.sub(r"--payments \d+", "--payments 2000", text)
        parts.append(f'echo "### block {number}"')
        parts.append(text if language == "sh" else f"python - <<'PYTHON_ENDS'\n{text}PYTHON_ENDS")
    return "\n".join(parts)


def environment(kafka, home):
    """The reader's: nothing of ours but where Kafka is, topics of its own, and the path."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "HEADRACE_"))}
    return mine | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "HEADRACE_TOPIC_PREFIX": f"readme-{uuid4().hex[:8]}.",
        "HEADRACE_HOME": str(home / "state"),
    }


def run(text, cwd, env):
    """Runs the script in a process group of its own; gives its exit code and all that was printed."""
    with (cwd / "printed.txt").open("wb") as printed:
        process = subprocess.Popen(
            ["bash", "-c", text], cwd=cwd, env=env, stdout=printed, stderr=printed, start_new_session=True
        )
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                code = process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait(30)
    return code, (cwd / "printed.txt").read_text(errors="replace")


def test_every_example_of_the_readme_works_in_order(kafka, tmp_path):
    """A newcomer who copies block after block sees what the text promises."""
    (tmp_path / ".venv").symlink_to(Path(sys.prefix), target_is_directory=True)
    code, printed = run(script(), tmp_path, environment(kafka, tmp_path))
    logs = "\n".join(path.read_text(errors="replace")[-3000:] for path in tmp_path.glob("*.log"))
    assert code == 0, f"{printed[-5000:]}\n{logs}"
    parts = re.split(r"^### block \d+\n", printed, flags=re.MULTILINE)[1:]
    demo, chaos, _up, accounts, paid, again, live, books, python, lunch, day, duckdb, lag, stuck, metrics, _stop = parts
    assert "The books are right." in demo
    assert "The books are right" in chaos
    assert "ready: partitions" in (tmp_path / "worker-2.log").read_text()
    assert "Stopping" not in (tmp_path / "worker-1.log").read_text()
    assert "ready: partitions" in (tmp_path / "worker-1.log").read_text()
    assert [line.split()[1] for line in accounts.splitlines() if line.startswith("EUR")] == ["0.00"] * 3
    assert "payment rent-1 from alice to bob: COMPLETED" in paid
    ids = re.findall(r"COMPLETED +12\.34 EUR +event ([0-9a-f]{32})", again.partition("payment rent-1")[2])
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert re.search(r"^EUR +87\.66 +0\.00 +87\.66 +2 ", books, re.MULTILINE)
    assert "The books are right" in books
    told = json.loads(live.removeprefix("data: "))
    assert (told["type"], told["data"]["payment_id"]) == ("payment.completed", "rent-1")
    assert "payment lunch-1 from alice to bob: COMPLETED" in lunch
    assert "nothing waits" in lag
    assert re.search(r'^headrace_lag_records\{[^}]*topic="\S*payments.intents"\} 0\.0$', lag, re.MULTILINE)
    assert re.search(r"^4 records in \d files, day/\S+/manifest\.json", day, re.MULTILINE)
    assert re.search(r'^\{"topic":"\S*ledger.postings".*"(account|debtor)":"alice"', day, re.MULTILINE)
    assert re.search(r"^EUR +78\.16 +0\.00 +78\.16 +3 ", day, re.MULTILINE)
    assert re.search(r"COMPLETED +\S+ +EUR +\S+ +3 +\S+ +12184 ", duckdb)
    assert "0 dead letters, 0 parked" in stuck
    assert "0 would go; add --yes to do it" in stuck
    assert "delivered=1, failed=0" in python
    assert 'headrace_payments_total{reason="",status="COMPLETED"}' in metrics


def test_the_readme_names_every_command():
    """What there is can be found."""
    from headrace.cli import COMMANDS, GROUPS

    table = (ROOT / "README.md").read_text().partition("## Commands")[2].partition("## Settings")[0]
    missing = [name for name in (*COMMANDS, *GROUPS) if f"`{name}`" not in table and f"`headrace {name}" not in table]
    assert missing == []
