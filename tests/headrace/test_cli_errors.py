"""Mistakes of a user: each ends in a sentence and its exit code, with --json also in an object, never in a trace."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import headrace

ROOT = Path(headrace.__file__).parents[1]
NOWHERE = "127.0.0.1:1"
FOLDER = {
    "empty.jsonl": b"",
    "noise.jsonl": bytes(range(256)) * 4,
    "noise.csv": bytes(range(256)) * 4,
    "ok.jsonl": b'{"debtor":"a","creditor":"b","amount":"1.00","currency":"EUR"}\n',
    "odd.csv": b"debtor,colour\na,b\n",
    "twice.csv": b"debtor,debtor\na,b\n",
    "long.csv": b"debtor,requested_at\na," + b"9" * 5_000,
    "port.toml": b'port = "many"\n',
    "syntax.toml": b"port = [",
    "option.toml": b"[kafka]\nx = 1\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Files of all kinds, and an environment without our variables."""
    for name in list(os.environ):
        if name.startswith(("HEADRACE_", "KAFKA_")):
            monkeypatch.delenv(name)
    for name, content in FOLDER.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.jsonl").mkdir()
    monkeypatch.chdir(tmp_path)


def start(*words, stdin=subprocess.DEVNULL, **env):
    """A real process, as the user starts it."""
    return subprocess.run(
        [sys.executable, "-m", "headrace", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **env},
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


USAGES = [
    (["bogus"], 2, "No such command 'bogus'"),
    (["publish"], 2, "Missing argument"),
    (["publish", "nowhere.jsonl"], 2, "nowhere.jsonl can't be read: No such file"),
    (["publish", "folder.jsonl"], 2, "folder.jsonl can't be read: Is a directory"),
    (["publish", "ok.jsonl", "--to", "friends"], 2, "'friends' is not one of 'intents'"),
    (["publish", "odd.csv"], 1, "odd.csv: heading: colour is no field of the schema"),
    (["publish", "twice.csv"], 1, "twice.csv: heading: debtor stands twice"),
    (["publish", "empty.jsonl"], 3, "no local Kafka runs"),
    (["account", "show", "a", "--entries", "many"], 2, "Invalid value for '--entries'"),
    (["account", "show", "a"], 3, "no local Kafka runs"),
    (["replay", "payment", "p", "--run", "a b"], 2, "'a b' is no run id"),
    (["topics", "create", "--partitions", "0"], 2, "greater than or equal to 1"),
    (["demo", "--payments", "5"], 2, "greater than or equal to 200"),
    (["audit"], 3, "no local Kafka runs"),
    (["--config", "syntax.toml", "lag"], 2, "syntax.toml is no TOML"),
    (["--config", "noise.csv", "lag"], 2, "noise.csv is no TOML"),
    (["--config", "port.toml", "lag"], 2, "HEADRACE_PORT is 'many'"),
    (["--config", "option.toml", "lag"], 2, "option.toml: [kafka] x is no option of librdkafka"),
    (["--config", "folder.jsonl", "lag"], 2, "folder.jsonl can't be read"),
    (["-X", "nothing", "lag"], 2, "-X nothing has no value"),
]


@pytest.mark.parametrize(
    ("words", "code", "told"), USAGES, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_an_error_is_told_in_json_too(words, code, told):
    """The same sentence and exit code, as the only line of standard output."""
    result = start(*words, "--json")
    assert (result.returncode, "Traceback" in result.stderr) == (code, False), result.stderr
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert found["exit_code"] == code
    assert told in found["error"]


@pytest.mark.parametrize("name", ["noise.jsonl", "long.csv"])
def test_a_file_of_noise_is_refused_line_by_line(name):
    """The result says which lines are bad; no error stands behind it."""
    result = start("publish", name, "--json")
    assert (result.returncode, "Traceback" in result.stderr) == (1, False), result.stderr
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    assert (found["published"], found["refused"] > 0, "error" in found) == (0, True, False)


def test_a_source_that_breaks_off_is_told():
    """A file that opens and can't be read."""
    result = start("publish", "/proc/self/mem", "--format", "jsonl", "--json")
    assert result.returncode == 2, result.stderr
    assert "/proc/self/mem can't be read" in json.loads(result.stdout)["error"]


def test_a_closed_standard_input_is_told():
    """Whoever started us has closed it."""
    code = "import sys; sys.stdin = None; sys.argv[1:] = ['publish', '-', '--json']; import headrace.cli; headrace.cli.main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, "standard input is closed" in json.loads(result.stdout)["error"]) == (2, True)


def test_a_service_that_is_not_there_is_exit_3_in_json():
    """The address and the way out."""
    result = start("account", "show", "a", "--json", KAFKA_BOOTSTRAP_SERVERS=NOWHERE)
    assert result.returncode == 3, result.stderr
    assert f"no Kafka answers at {NOWHERE}" in json.loads(result.stdout)["error"]
