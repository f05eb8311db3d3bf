"""Logs: one JSON object a line, whoever writes it."""

import json
import logging

import pytest
import structlog

from headrace.logs import configure


@pytest.fixture(autouse=True)
def restored():
    """The root logger and structlog as they were."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_the_standard_library_and_structlog_write_the_same_json(capsys):
    """Faust logs by the standard library: its lines look like ours, with their fields."""
    configure("info")
    logging.getLogger("faust.worker").warning("partition %d moved", 3, extra={"partition": 3})
    structlog.get_logger("headrace").info("committed", offset=17)
    theirs, ours = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (theirs["event"], theirs["level"], theirs["partition"]) == ("partition 3 moved", "warning", 3)
    assert (ours["event"], ours["logger"], ours["offset"]) == ("committed", "headrace", 17)
    assert theirs["timestamp"].endswith("Z")


def test_an_exception_is_one_line(capsys):
    """A stack trace is a field, so that no log reader cuts it up."""
    configure("info")
    try:
        int("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


def test_less_than_the_level_is_left_out(capsys):
    """HEADRACE_LOG_LEVEL holds for both."""
    configure("WARNING")
    logging.getLogger("x").info("small")
    structlog.get_logger("y").info("small")
    assert not capsys.readouterr().err
