"""`headrace replay`: what happened, read from the topics. Nothing is written to Kafka, no group is joined."""

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.common import (
    FAILED,
    INTERRUPTED,
    USAGE,
    Json,
    Run,
    fail,
    group,
    print_json,
    reading,
    say,
    settings,
    table,
    visible,
)

if TYPE_CHECKING:
    from replay.export import Asked, Dump, Span
    from replay.manifest import Manifest
    from replay.story import Told

app = group("Look at the past.")


class Format(StrEnum):
    """How a dump is written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


Begin = Annotated[str | None, typer.Option("--from", metavar="TIME", help="The window's begin.  [the first record]")]
End = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Its end, not in it.  [the last record now]")]
Kcat = Annotated[list[str] | None, typer.Option("-o", metavar="s@TIME|e@TIME", help="The same, as kcat has it.")]
Payment = Annotated[str | None, typer.Option("--payment", metavar="ID", help="Records of this payment.")]
Form = Annotated[Format | None, typer.Option("--format", help="Parquet needs --out.  [parquet with --out, else jsonl]")]
Out = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where to, resumable.  [standard output]")]
Mask = Annotated[bool, typer.Option("--mask", help="Hide aliases, devices, places, metadata; CSV always does.")]
Margin = Annotated[str, typer.Option(metavar="SPAN", help="How long before --from to begin reading.")]


@app.command()
def dump(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="The topic, without the prefix.")],
    *,
    begin: Begin = None,
    end: End = None,
    kcat: Kcat = None,
    key: Annotated[str | None, typer.Option(help="Records with this key.")] = None,
    payment_id: Payment = None,
    account: Annotated[str | None, typer.Option(metavar="ID", help="Records that name this account.")] = None,
    status: Annotated[str | None, typer.Option(help="Events with this status.")] = None,
    form: Form = None,
    out: Out = None,
    mask: Mask = False,
    margin: Margin = "10m",
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Dump a window of a topic: as Parquet, JSON Lines or CSV, into a folder or to standard output.

    A TIME is ISO 8601 with a zone, ms since 1970, -2h (s, m, h, d, w), now, or offset:N, in every partition. It
    is compared with `occurred_at` where records have that, else with their timestamps. The folder gets
    `TOPIC/date=…/partition=…/` and `TOPIC/manifest.json`; the same command goes on where it was interrupted. Exit 1
    when no record was found.

    Examples: `headrace replay dump payments.events --from 2026-11-20T09:00:00Z --to 2026-11-20T10:00:00Z --out day`,
    `headrace replay dump ledger.postings -o s@-2h --account alice | jq .payload`
    """
    from replay.batches import BatchReader
    from replay.export import known_topic

    now = _now()
    filters = (key, payment_id, account, status)
    asked = _asked((topic, form, out), (begin, end, kcat or []), filters, margin, now)
    asked = asked._replace(mask=mask or asked.form == Format.CSV)
    cluster = settings(run).cluster()
    with BatchReader(cluster) as reader:
        known_topic(reader, topic)
        dumping = _Dumping(asked, cluster.prefix + topic, as_json=as_json)
        if out is None:
            dumping.through(reader)
        else:
            dumping.into(reader, out, now)


def _now() -> int:
    from time import time_ns

    return time_ns() // 1_000


def _asked(
    what: tuple[str, Format | None, Path | None],
    window: tuple[str | None, str | None, list[str]],
    filters: tuple[str | None, ...],
    margin: str,
    now: int,
) -> "Asked":
    """What is asked for; what is wrong with it is told before Kafka is asked."""
    from replay.export import Asked, form_of
    from replay.selection import Wanted
    from replay.window import parse_span, parse_window

    topic, form, out = what
    chosen = form or (Format.JSONL if out is None else Format.PARQUET)
    if out is None and chosen is Format.PARQUET:
        fail("Parquet is files: add --out FOLDER, or take --format jsonl or csv", USAGE)
    begin, end, kcat = window
    bounds = parse_window(begin, end, kcat, now)
    asked = Asked(topic, bounds, (begin, end, *kcat), Wanted(*filters), chosen.value, False, parse_span(margin))
    form_of(asked, topic)
    return asked


class _Dumping:
    """One dump and what is told of it."""

    def __init__(self, asked: "Asked", name: str, *, as_json: bool) -> None:
        from time import monotonic

        from headrace.progress import Progress

        self._asked, self._name, self._as_json = asked, name, as_json
        self._bar = Progress()
        self._total, self._begun = 0, monotonic()

    def _dump(self, reader: Any, asked: "Asked") -> "Dump":
        from replay.export import Dump, form_of

        return Dump(reader, form_of(asked, self._name), asked, self._progress)

    def _progress(self, scanned: int, passed: int) -> None:
        self._bar.update(min(scanned, self._total), lambda: f"{passed:,} records")

    def _stage(self, span: "Span") -> None:
        self._total = span.offsets
        if self._total:
            self._bar.stage(self._name, self._total)

    def through(self, reader: Any) -> None:
        """Line by line to standard output."""
        from replay.export import span_of
        from replay.texts import Lines

        dumping, span = self._dump(reader, self._asked), span_of(reader, self._asked)
        if sys.stderr.isatty() and not sys.stdout.isatty():
            self._stage(span)
        write = _to_stdout()
        try:
            if isinstance(dumping.form, Lines):
                write(dumping.form.heading())
            wrong = dumping.through(span, write)
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(INTERRUPTED) from None
        except KeyboardInterrupt:
            fail(f"interrupted after {dumping.passed:,} records", INTERRUPTED)
        finally:
            self._bar.done()
        result = {"topic": self._name, "window": str(self._asked.window), "records": dumping.passed}
        self._end(result | {"unreadable": len(wrong)}, len(wrong))

    def into(self, reader: Any, out: Path, now: int) -> None:
        """Into a folder, from where it was interrupted."""
        from replay.export import Span, begin, resumed

        manifest = begin(reader, self._asked, out, self._name, now)
        before = manifest.data["records"]
        done = manifest.complete and bool(manifest.data["complete"])
        dumping = self._dump(reader, resumed(self._asked, manifest))
        topic = self._asked.topic
        self._stage(Span(manifest.places(topic, "next"), manifest.places(topic, "ends")))
        try:
            if not done:
                dumping.into(manifest)
        except KeyboardInterrupt:
            again = (
                f"{manifest.data['records']:,} records are in {manifest.folder}; the same command goes on from there"
            )
            fail(f"interrupted; {again}", INTERRUPTED)
        except OSError as error:
            why = f"{manifest.folder} can't be written: {error.strerror or error}"
            fail(f"{why}; make room or mend the rights, then the same command goes on", FAILED)
        finally:
            self._bar.done()
        if done:
            say(f"{manifest.folder} was complete already, as of {manifest.data['captured_at']}")
        elif before:
            say(f"went on behind {before:,} records that were there")
        self._end(self._summary(manifest, dumping), manifest.data["unreadable"]["count"])
        if not manifest.balanced:
            fail(f"debits and credits of {self._name} differ; find out what is wrong: headrace audit", FAILED)

    def _summary(self, manifest: "Manifest", dumping: "Dump") -> dict[str, Any]:
        from time import monotonic

        told = ("topic", "window", "records", "bytes", "sums", "double_entry")
        found = {name: manifest.data[name] for name in told if name in manifest.data}
        seconds = monotonic() - self._begun
        return {
            **found,
            "unreadable": manifest.data["unreadable"]["count"],
            "format": self._asked.form,
            "files": len(manifest.data["files"]),
            "manifest": manifest.folder / "manifest.json",
            "seconds": round(seconds, 3),
            "records_per_second": round(dumping.passed / seconds) if seconds else 0,
        }

    def _end(self, result: dict[str, Any], unreadable: int) -> None:
        if unreadable:
            say(f"{unreadable:,} values could not be decoded; the manifest and `headrace dlq list` tell more")
        if self._as_json:
            print_json(result)
        elif "files" in result:
            rate = f" ({result['records_per_second']:,} a second)" if result["records_per_second"] else ""
            typer.echo(f"{result['records']:,} records in {result['files']:,} files, {result['manifest']}{rate}")
        else:
            say(f"{result['records']:,} records of {self._name}")
        if not result["records"]:
            fail(
                f"no record of {self._name} in {self._asked.window} has what was asked for: widen the window, or check the "
                "filters, and --run or the topic prefix",
                FAILED,
            )


def _to_stdout() -> Callable[[bytes], object]:
    sys.stdout.flush()
    return sys.stdout.buffer.write


@app.command()
def payment(
    payment_id: Annotated[str, typer.Argument(metavar="ID", help="The payment's id.")],
    debtor: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Who pays; then few partitions are read, not all.  [any]"),
    ] = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Tell a payment's whole story in order: intents, postings, credits, reversals, batches, events, dead letters.

    With --json a line per record, and a summary last. Exit 1 when no record tells of the payment, or none is an
    answer yet.

    Examples: `headrace replay payment rent-1 --debtor alice`, `headrace replay payment rent-1 --json`
    """
    cluster = settings(run).cluster()
    with reading(run) as reader:
        from replay.story import answered, story

        found = story(reader, payment_id, debtor, cluster.prefix)
    if as_json:
        for one in found:
            print_json(as_dict(one))
        print_json(summary(payment_id, found))
    else:
        tell(payment_id, found)
    if not answered(found):
        fail(f"payment {payment_id} has no answer yet: a worker must take its next step (`headrace lag`)", FAILED)


def as_dict(told: "Told") -> dict[str, Any]:
    """A record as `--json` prints it: where it stands, when it happened, the schema's fields, times in ISO 8601."""
    from headrace.moments import shown
    from replay.letters import Letter
    from replay.texts import plain

    place = {"topic": told.topic, "partition": told.partition, "offset": told.offset, "at": shown(told.at)}
    if isinstance(told.record, Letter):
        letter = told.record
        return {
            **place,
            "letter": str(letter.id),
            "code": letter.code,
            "message": letter.message,
            "replays": letter.replays,
        }
    return {**place, **plain(told.record), "repeat": told.repeat}


def summary(payment_id: str, found: "list[Told]") -> dict[str, Any]:
    """The payment in one line: for each debtor how it stands, how much was said and said again, what else there is."""
    from collections import Counter

    from replay.story import answered, state_of

    debtors: dict[str, list[Told]] = {}
    for told in found:
        debtors.setdefault(told.debtor, []).append(told)
    counts = Counter(type(told.record).__name__ for told in found)
    repeats = sum(told.repeat for told in found)
    return {
        "payment_id": payment_id,
        "debtors": {debtor: state_of(mine) for debtor, mine in debtors.items()},
        "answered": answered(found),
        "events": counts["PaymentEvent"] - repeats,
        "repeats": repeats,
        "intents": counts["Intent"],
        "postings": counts["Posting"],
        "credits": counts["Credit"],
        "reversals": counts["Reversal"],
        "batches": counts["SettlementBatch"],
        "letters": counts["Letter"],
    }


def tell(payment_id: str, found: "list[Told]") -> None:
    """Prints the story for a person, debtor by debtor."""
    from headrace.moments import shown

    for debtor, state in summary(payment_id, found)["debtors"].items():
        mine = [told for told in found if told.debtor == debtor]
        creditors = ", ".join(dict.fromkeys(name for told in mine if (name := _creditor(told.record)))) or "an alias"
        typer.echo(visible(f"payment {payment_id} from {debtor} to {creditors}: {state}") + "\n")
        rows = []
        for told in mine:
            what, detail = words(told)
            place = f"{told.topic}:{told.partition}:{told.offset}"
            rows.append((shown(told.at), what, _amount(told.record), detail, place))
        table(("at", "what", "amount", "", "where"), rows)
        typer.echo()


def _creditor(record: Any) -> str | None:
    from replay.letters import Letter

    return getattr(record.record if isinstance(record, Letter) else record, "creditor", None)


def words(told: "Told") -> tuple[str, str]:
    """What a record is, and what it says."""
    from replay.letters import Letter
    from schemas.events import Credit, Intent, PaymentEvent, Posting, SettlementBatch

    record = told.record
    if isinstance(record, Intent):
        return str(record.kind), f"intent {record.intent_id}"
    if isinstance(record, Posting):
        return "posting", ", ".join(f"{entry.direction.lower()} {entry.account}" for entry in record.entries)
    if isinstance(record, Credit):
        return "credit" if record.action == "CREDIT" else f"credit {record.action}", f"to {record.creditor}"
    if isinstance(record, PaymentEvent):
        reason = f" {record.reason}" if record.reason else ""
        return f"{record.status}{reason}", f"event {record.event_id}" + ("  repeat" if told.repeat else "")
    if isinstance(record, SettlementBatch):
        return "batch", f"batch {record.batch_id} of {record.account}, {record.payment_count:,} payments, net"
    if isinstance(record, Letter):
        return "dead letter", record.code
    return f"reversal {record.action}", record.reason or ""


def money_of(record: Any) -> tuple[int, str] | None:
    """Minor units and currency of what a story's record is about: a batch's net; None where it is about no money."""
    from replay.letters import Letter
    from schemas.events import Posting

    found = record.record if isinstance(record, Letter) else record
    if isinstance(found, Posting):
        found = found.entries[0]
    minor = getattr(found, "amount_minor", getattr(found, "net_minor", None))
    return None if minor is None else (minor, found.currency)


def _amount(record: Any) -> str:
    """As in "12.34 EUR"; minor units where the currency is one that was refused (AM11)."""
    from schemas.money import format_minor

    if (money := money_of(record)) is None:
        return "-"
    minor, currency = money
    try:
        return f"{format_minor(minor, currency)} {currency}"
    except ValueError:
        return f"{minor} minor units of {currency!r}"
