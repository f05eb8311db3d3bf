"""What all commands share: how to fail, to print a result, and to find the settings.

A command module imports at its top only the standard library, typer and this module; anything heavy is
imported inside the command, so that `headrace --help` answers at once.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NoReturn

import typer

if TYPE_CHECKING:
    from headrace.settings import Settings
    from replay.reader import Reader

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


def front() -> list[str]:
    """The options before the command as they were given, for a `headrace` that this one starts."""
    config = [] if chosen.config is None else ["--config", str(chosen.config)]
    return [*config, *(part for option in chosen.options for part in ("-X", option))]


class Failed(typer.Exit):
    """A command has ended with a message, which was said."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(code)
        self._message = message

    def format_message(self) -> str:
        """What was said, under the name that typer's own errors have for it."""
        return self._message


def fail(message: str, code: int = FAILED) -> NoReturn:
    """Ends the command: `message` (the thing, the reason, the way out) on standard error, and the exit code."""
    say(f"headrace: {message}")
    raise Failed(message, code)


def say(line: str = "") -> None:
    """Progress or an explanation, on standard error; mostly one line."""
    typer.echo("\n".join(map(visible, line.split("\n"))), err=True)


def visible(text: str) -> str:
    """`text` on one line, with what a terminal might obey, such as an escape in somebody's account id, made visible."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


_has_result = False
"""Whether `print_json` was called."""


def print_json(result: Any) -> None:
    """One JSON object on one line of standard output; NamedTuples become arrays, so hand in dicts."""
    global _has_result
    import orjson

    _has_result = True
    sys.stdout.write(orjson.dumps(result, default=_plain).decode() + "\n")
    sys.stdout.flush()


def group(about: str) -> typer.Typer:
    """A command that holds commands of its own."""
    app = typer.Typer(no_args_is_help=True, help=about, rich_markup_mode="markdown")
    app.callback()(lambda: None)  # else a single command would take its group's place
    return app


@contextmanager
def reading(run: str | None) -> "Iterator[Reader]":
    """A reader of the topics in force, or of a demo run's."""
    from replay.reader import Reader

    with Reader(settings(run).cluster()) as reader:
        yield reader


def print_error(message: str, code: int) -> None:
    """With --json, the error that ended the command; not behind a result, which tells more."""
    if "--json" in sys.argv and not _has_result:
        plain = message.encode(errors="backslashreplace").decode()
        print_json({"error": plain, "exit_code": code})


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
    lines = [
        list(columns),
        *([f"{cell:,}" if isinstance(cell, int) else visible(str(cell)) for cell in row] for row in rows),
    ]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    right = [bool(rows) and all(isinstance(row[n], int) for row in rows) for n in range(len(columns))]
    for line in lines:
        cells = zip(line, widths, right, strict=True)
        write("  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in cells).rstrip())
