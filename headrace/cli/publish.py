"""`headrace publish`: a file of intents, account commands or aliases, put on its topic."""

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple

import typer

from headrace.cli.common import FAILED, UNREACHABLE, USAGE, Json, Run, fail, print_json, say, settings, visible

if TYPE_CHECKING:
    from headrace.lines import Line
    from headrace.publisher import Publisher, Report
    from headrace.settings import Settings

FIRST = 10
"""How many bad lines are told in words."""


class To(StrEnum):
    """Where to."""

    INTENTS = "intents"
    ACCOUNTS = "accounts"
    ALIASES = "aliases"


class Form(StrEnum):
    """How a line is written."""

    JSONL = "jsonl"
    CSV = "csv"


class OnError(StrEnum):
    """What to do about a bad line."""

    FAIL = "fail"
    SKIP = "skip"


class Wanted(NamedTuple):
    """What to publish."""

    file: str
    to: str
    form: str
    on_error: OnError


def publish(
    file: Annotated[
        str, typer.Argument(metavar="FILE|-", help="JSON Lines or CSV with a heading; - is standard input.")
    ],
    *,
    to: Annotated[To, typer.Option(help="What the lines are.")] = To.INTENTS,
    form: Annotated[Form | None, typer.Option("--format", help="How they are written.  [by the file's name]")] = None,
    on_error: Annotated[
        OnError,
        typer.Option(help="A bad line: fail sends nothing at all (from - : nothing after it); skip leaves it out."),
    ] = OnError.FAIL,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Check each line and publish it: intents, account commands or alias claims.

    Fields are named as in the schemas. An amount is `amount_minor`, or `amount` as text with its currency; a time is
    ISO 8601 with a zone, or µs since 1970. Ids that are left out are made up: give each intent an
    `idempotency_key` if the file may be published again. Exit 1 when a line was bad.

    Examples: `headrace publish accounts.csv --to accounts`, `headrace publish day.jsonl --on-error skip --json`,
    `echo '{"debtor":"alice","creditor":"bob","amount":"12.34","currency":"EUR"}' | headrace publish -`
    """
    wanted = Wanted(file, to.value, (form or _form_of(file)).value, on_error)
    told = settings(run)
    with _opened(file) as (source, again):
        if again and on_error is OnError.FAIL:
            _check_all(source, wanted, told, as_json)
            source.seek(0)
        _Publication(wanted, told, as_json).run(source, _size(source) if again else None)


def _form_of(file: str) -> Form:
    suffix = Path(file).suffix.lower()
    if file != "-" and suffix not in {".csv", ".jsonl", ".ndjson", ".json"}:
        fail(f"{file} does not tell by its name how it is written; add --format jsonl or --format csv", USAGE)
    return Form.CSV if suffix == ".csv" else Form.JSONL


@contextmanager
def _opened(file: str) -> Iterator[tuple[BinaryIO, bool]]:
    """The source, and whether it can be read twice."""
    if file == "-":
        if sys.stdin is None:
            fail("standard input is closed, so there is nothing to publish; name a file, or pipe the lines in", USAGE)
        yield sys.stdin.buffer, False
        return
    try:
        source = Path(file).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        fail(f"{file} can't be read: {error.strerror}; check the path", USAGE)
    with source:
        yield source, stat.S_ISREG(_status(source).st_mode)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _status(source: BinaryIO) -> Any:
    return os.fstat(source.fileno())


def _size(source: BinaryIO) -> int:
    return int(_status(source).st_size)


def _lines(source: BinaryIO, wanted: Wanted, told: "Settings") -> Iterator["Line"]:
    from headrace.checks import Refused
    from headrace.lines import read_lines

    try:
        yield from read_lines(source, wanted.to, wanted.form, pan_guard=told.rule.pan_guard is not False)
    except Refused as refused:
        fail(f"{wanted.file}: heading: {refused}; nothing was sent", FAILED)


class _Bad:
    """Bad lines: how many, and the first ones."""

    def __init__(self, file: str) -> None:
        self.count = 0
        self.first: list[dict[str, object]] = []
        self._file = "standard input" if file == "-" else file

    def note(self, line: "Line") -> None:
        refused = line.refused
        assert refused is not None
        self.count += 1
        if len(self.first) < FIRST:
            self.first.append(
                {"line": line.number, "field": refused.field, "reason": refused.reason, "way_out": refused.way_out}
            )
            say(f"{self._file}: line {line.number}: {refused}")
        elif self.count == FIRST + 1:
            say(f"{self._file}: further bad lines are counted, not told")


def _check_all(source: BinaryIO, wanted: Wanted, told: "Settings", as_json: bool) -> None:
    """Reads the whole file before anything is sent; ends the command when a line is bad."""
    bad = _Bad(wanted.file)
    try:
        for line in _lines(source, wanted, told):
            if line.refused is not None:
                bad.note(line)
    except OSError as error:
        fail(f"{wanted.file} can't be read: {error.strerror}; nothing was sent", USAGE)
    if bad.count:
        if as_json:
            print_json(_result(wanted, 0, 0, bad) | {"refused": bad.count})
        fail(
            f"{_count(bad.count, 'bad line')}, so nothing was sent; correct them, or leave them out by --on-error skip",
            FAILED,
        )


def _result(wanted: Wanted, published: int, failed: int, bad: _Bad) -> dict[str, object]:
    return {
        "file": visible(wanted.file),
        "to": wanted.to,
        "published": published,
        "skipped": bad.count if wanted.on_error is OnError.SKIP else 0,
        "refused": bad.count if wanted.on_error is OnError.FAIL else 0,
        "failed": failed,
        "first_errors": bad.first,
    }


class _Publication:
    """One run over the lines, and what is told of it."""

    def __init__(self, wanted: Wanted, told: "Settings", as_json: bool) -> None:
        self._wanted = wanted
        self._told = told
        self._as_json = as_json
        self._bad = _Bad(wanted.file)
        self._stopped = ""
        """Why not all lines were sent."""

    def run(self, source: BinaryIO, size: int | None) -> None:
        """Sends the lines; always waits for the deliveries of what was sent, and tells them."""
        from headrace.lines import TO
        from headrace.missing import require_topics
        from headrace.publisher import TOPIC_OF, Publisher
        from topologies.engine.sender import Undelivered

        cluster = self._told.cluster()
        topic = TOPIC_OF[TO[self._wanted.to]]
        require_topics(cluster, [topic.name])
        publisher = Publisher(cluster, pan_guard=self._told.rule.pan_guard is not False)
        interrupted = False
        try:
            with _bar(size) as advance:
                self._send(source, publisher, advance)
        except KeyboardInterrupt:
            interrupted = True
        except OSError as error:
            self._stopped = f"{self._wanted.file} can't be read any further: {error.strerror}"
        try:
            report = publisher.flush()
        except Undelivered as error:
            self._tell(publisher.report(), cluster.prefix + topic.name)
            fail(
                f"{error}; what was not acknowledged may or may not be there: publish the file again with ids",
                UNREACHABLE,
            )
        self._tell(report, cluster.prefix + topic.name)
        self._end(report, interrupted)

    def _send(self, source: BinaryIO, publisher: "Publisher", advance: Callable[[int], None]) -> None:
        from headrace.checks import Refused

        for line in _lines(source, self._wanted, self._told):
            refused = line.refused
            if line.record is not None:
                try:
                    publisher.publish(line.record)
                except Refused as error:  # too large for the client, say
                    refused = error
            if refused is not None:
                self._bad.note(line._replace(refused=refused))
                if self._wanted.on_error is OnError.FAIL:
                    self._stopped = f"stopped at the bad line {line.number}"
                    return
            advance(line.end)

    def _tell(self, report: "Report", topic: str) -> None:
        if self._as_json:
            places = {f"{partition}": place._asdict() for (_, partition), place in report.places.items()}
            result = _result(self._wanted, report.delivered, report.failed, self._bad)
            print_json({**result, "topic": topic, "partitions": places})
            return
        spread = ", ".join(f"{partition}: {place.records:,}" for (_, partition), place in report.places.items())
        typer.echo(f"{_count(report.delivered, 'record')} on {topic}" + (f" (partition {spread})" if spread else ""))

    def _end(self, report: "Report", interrupted: bool) -> None:
        if interrupted:
            fail("interrupted; what is told above was sent, the rest was not", 130)
        if report.failed:
            lost = _count(report.failed, "record")
            fail(f"{lost} not delivered, the first because of: {report.first_error}", UNREACHABLE)
        if self._stopped:
            fail(f"{self._stopped}: what came before it was sent, nothing after it", FAILED)
        if self._bad.count:
            fail(f"{_count(self._bad.count, 'bad line')} skipped", FAILED)


def _bar(size: int | None) -> AbstractContextManager[Callable[[int], None]]:
    return _shown_bar(size) if sys.stderr.isatty() else _no_bar()


@contextmanager
def _no_bar() -> Iterator[Callable[[int], None]]:
    yield lambda _end: None


@contextmanager
def _shown_bar(size: int | None) -> Iterator[Callable[[int], None]]:
    """A bar over the bytes of the file, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("publishing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("publishing", total=size)
        told = 0

        def advance(end: int) -> None:
            nonlocal told
            if end - told >= 1 << 16 or end == size:
                told = end
                progress.update(task, completed=end)

        yield advance
