"""The command line: exit codes, clear messages, help with examples, a quick start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import headrace
from headrace.cli import COMMANDS, app, common, explain
from headrace.cli.common import Global
from headrace.settings import NoCluster, SettingsError
from topologies.engine.admin import ClusterUnreachable
from topologies.engine.errors import Fenced

ROOT = Path(headrace.__file__).parents[1]
HEAVY = ("faust", "confluent_kafka", "rocksdict", "pydantic", "numpy", "prometheus_client", "structlog", "fastavro")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """An empty folder, and an environment without our variables."""
    for name in list(os.environ):
        if name.startswith(("HEADRACE_", "KAFKA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "chosen", Global())


def start(*words, python=(), **env):
    """A real process, as the user starts it."""
    return subprocess.run(
        [sys.executable, *python, "-m", "headrace", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def commands():
    """Every command's words, with those of groups."""
    found = typer.main.get_command(app)
    for name, command in found.commands.items():
        inner = getattr(command, "commands", None)
        yield from ([name, one] for one in inner) if inner else [[name]]


@pytest.mark.parametrize("words", list(commands()), ids=" ".join)
def test_the_help_of_every_command_has_an_example(words):
    """Nobody needs the documents to begin."""
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert f"headrace {' '.join(words)}" in " ".join(result.output.split()).split("Usage:")[1].partition("Example")[2]


def test_every_command_of_the_design_is_there():
    """up, down, status, topics create, run, demo, publish, audit, lag, console; and the exporter."""
    wanted = {"up", "down", "status", "run", "demo", "publish", "audit", "lag", "console", "exporter"}
    assert wanted == set(COMMANDS)
    assert ["topics", "create"] in list(commands())


def test_help_loads_nothing_heavy():
    """The first answer comes at once: what only a worker needs is not loaded for it."""
    code = f"import sys, headrace.cli; sys.exit(' '.join(m for m in {HEAVY} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stderr.strip() == ""


def test_the_version_is_that_of_the_package():
    """`--version` and pyproject.toml say the same."""
    assert f'version = "{headrace.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert CliRunner().invoke(app, ["--version"]).output == f"headrace {headrace.__version__}\n"


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["lag"], 3, "headrace up"),
        (["topics", "create"], 3, "headrace up"),
        (["run"], 3, "KAFKA_BOOTSTRAP_SERVERS"),
        (["run", "settlement", "--workers", "2"], 2, "--workers is for the role core"),
        (["run", "cor"], 2, "'cor' is no role"),
        (["lag", "--run", "no such.run"], 2, "is no run id"),
        (["publish", "nowhere.jsonl"], 2, "nowhere.jsonl can't be read"),
        (["publish", "table.xlsx"], 2, "add --format jsonl or --format csv"),
        (["-X", "acks=0", "lag"], 2, "exactly-once stands on acks"),
        (["-X", "securty.protocol=SSL", "lag"], 2, "did you mean security.protocol?"),
        (["--config", "no.toml", "lag"], 2, "no.toml can't be read"),
        (["nonsense"], 2, "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_gets_a_clear_message_and_its_exit_code(words, code, told):
    """2 for wrong usage, 3 for a service that is not there, and never a stack trace."""
    result = start(*words)
    assert result.returncode == code, result.stderr
    assert told in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_wrong_environment_is_told_by_every_command():
    """A typing mistake in a variable stops the start."""
    result = start("status", KAFKA_SASL_USERNAM="x")
    assert (result.returncode, "did you mean KAFKA_SASL_USERNAME?" in result.stderr) == (2, True)


def test_a_wrong_value_of_an_option_is_told_as_wrong_usage():
    """Librdkafka's own finding, without its stack trace."""
    result = start("lag", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1", KAFKA_SECURITY_PROTOCOL="TLS")
    assert result.returncode == 2, result.stderr
    assert "security.protocol" in result.stderr
    assert "Traceback" not in result.stderr


def test_python_without_asserts_is_refused_at_the_door():
    """Asserts guard the money."""
    result = start("lag", python=["-O"])
    assert (result.returncode, "python -O" in result.stderr) == (2, True)


def test_a_file_with_bad_lines_sends_nothing_and_names_them(tmp_path):
    """The whole file is checked first; no broker is needed to say so."""
    good = {"debtor": "alice", "creditor": "bob", "amount": "1.00", "currency": "EUR"}
    lines = [good, good | {"amount": "1.001"}, good, good | {"debtr": "x"}]
    Path("day.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = start("publish", "day.jsonl", "--json")
    assert result.returncode == 1, result.stderr
    assert "day.jsonl: line 2: amount is '1.001'" in result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert [error["line"] for error in found["first_errors"]] == [2, 4]
    assert (found["published"], found["refused"], found["skipped"]) == (0, 2, 0)


def test_only_the_first_ten_bad_lines_are_told_in_words():
    """A file of a million bad lines does not fill the screen."""
    Path("day.jsonl").write_text("{\n" * 25)
    result = start("publish", "day.jsonl")
    assert result.stderr.count("day.jsonl: line ") == 10
    assert "25 bad lines" in result.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), 2),
        (NoCluster("x"), 3),
        (ClusterUnreachable("x"), 3),
        (Fenced("x"), 1),
        (PermissionError(13, "Permission denied", "/home/x"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_user_can_mend_is_explained(error, code):
    """Subclasses too."""
    explained = explain(error)
    assert explained is not None
    assert explained[1] == code


def test_a_fault_of_ours_is_not_hidden():
    """It keeps its stack trace: nobody can mend it without."""
    assert explain(AssertionError("unbalanced")) is None


def test_a_table_puts_numbers_to_the_right():
    """As wide as its widest cell."""
    lines = []
    common.table(("topic", "records"), [("a", 12_345), ("long.name", 7)], lines.append)
    assert lines == ["topic      records", "a           12,345", "long.name        7"]


def test_json_is_one_line(capsys):
    """Paths become text."""
    common.print_json({"home": Path(".headrace"), "n": 1})
    assert json.loads(capsys.readouterr().out) == {"home": ".headrace", "n": 1}


def test_what_can_be_run_is_what_is_watched():
    """A role that is built can be started and its lag is seen."""
    from headrace.cli.run import ROLES
    from topologies.payments import WATCHED

    assert tuple(WATCHED) == ROLES
