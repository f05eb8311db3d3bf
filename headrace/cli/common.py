"""What all commands share: how to fail, to print a result, and to find the settings.

A command module imports at its top only the standard library, typer and this module; anything heavy is
imported inside the command, so that `headrace --help` answers at once.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer

if TYPE_CHECKING:
    from headrace.settings import Settings

DONE, FAILED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: done, a check failed, wrong usage, a service can't be reached, Ctrl-C."""

_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, on the last line of standard output.")]
"""`as_json: Json = False`"""
Run = Annotated[
    str | None, typer.Option("--run", metavar="ID", help="Use the topics of this demo run: the prefix demo-ID.")
]
"""`run: Run = None`"""


class Global(NamedTuple):
    """The options that stand before the command."""

    config: Path | None = None
    options: tuple[str, ...] = ()


chosen = Global()
"""Set by the app before a command runs."""


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Ends the command: `message` (the thing, the reason, the way out) on standard error, and the exit code."""
    say(f"headrace: {message}")
    raise typer.Exit(code)


def say(line: str = "") -> None:
    """One line of progress or explanation, on standard error."""
    typer.echo(line, err=True)


def print_json(result: Any) -> None:
    """One JSON object on one line of standard output; NamedTuples become arrays, so hand in dicts."""
    import orjson

    sys.stdout.write(orjson.dumps(result, default=_plain).decode() + "\n")
    sys.stdout.flush()


def _plain(value: Any) -> Any:
    if isinstance(value, Path | bytes):
        return str(value) if isinstance(value, Path) else value.decode(errors="backslashreplace")
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def run_prefix(run: str) -> str:
    """The topic prefix of a demo run: `demo-<run>.`. Fails with exit 2 where `run` can't be an id."""
    if not _RUN.fullmatch(run):
        fail(
            f"--run {run!r} is no run id: it has letters, digits and hyphens, at most 64, as `headrace demo` prints it",
            USAGE,
        )
    return f"demo-{run}."


def settings(run: str | None = None, **flags: Any) -> "Settings":
    """The settings in force: flags (those that are not None) before environment, `.env`, TOML and defaults.

    `run` puts the topics of a demo run in place of HEADRACE_TOPIC_PREFIX. Raises SettingsError, which
    `main` turns into exit 2.
    """
    from headrace.settings import load

    given = {name: value for name, value in flags.items() if value is not None}
    if run is not None:
        given["topic_prefix"] = run_prefix(run)
    if chosen.config is not None:
        given["config"] = chosen.config
    if chosen.options:
        given["options"] = chosen.options
    return load(**given)


def table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], write: Callable[[str], object] = typer.echo
) -> None:
    """A plain table: text on the left, whole numbers on the right; every row has as many cells as `columns`."""
    lines = [list(columns), *([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    right = [bool(rows) and all(isinstance(row[n], int) for row in rows) for n in range(len(columns))]
    for line in lines:
        cells = zip(line, widths, right, strict=True)
        write("  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in cells).rstrip())
