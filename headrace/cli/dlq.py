"""`headrace dlq`: what is stuck, why, and a safe way to put it back."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.common import FAILED, Json, Run, fail, group, print_json, settings, table, visible

if TYPE_CHECKING:
    from headrace.dlq import Choice, Press, Row, Wish
    from replay.letters import Letter

Filters = tuple[str | None, str | None, str | None, str | None]
"""Topic, code, payment, account."""

app = group("Look at dead letters, and put them back.")

Topic = Annotated[str | None, typer.Option(metavar="TOPIC", help="Letters of this dead-letter topic.  [all dlq.*]")]
Code = Annotated[str | None, typer.Option(metavar="CODE", help="Letters with this code.")]
Payment = Annotated[str | None, typer.Option(metavar="ID", help="Letters about this payment.")]
Account = Annotated[str | None, typer.Option(metavar="ID", help="Letters about this account.")]
Begin = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Letters since then, such as -2h.")]
End = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Letters before then.")]


@app.command("list")
def list_letters(
    *,
    topic: Topic = None,
    code: Code = None,
    payment: Payment = None,
    account: Account = None,
    begin: Begin = None,
    end: End = None,
    each: Annotated[bool, typer.Option("--each", help="Each letter on a line of its own.")] = False,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Count the dead letters by topic and code, with the money that they hold as far as they can be read.

    "parked" are those that were not redriven; money and age are theirs. With --json a line per row, and a summary
    last.

    Examples: `headrace dlq list`, `headrace dlq list --code unprocessable --each`, `headrace dlq list --json | tail -1`
    """
    from headrace.dlq import look, rows
    from replay.reader import Reader

    wish = _wish((), (topic, code, payment, account), (begin, end))
    cluster = settings(run).cluster()
    with Reader(cluster) as reader:
        found, done = look(reader, wish, cluster.prefix)
    counted = rows(found, done)
    summary = summary_dict(counted)
    if as_json:
        for line in [brief_dict(one, redriven=one.id in done) for one in found] if each else map(row_dict, counted):
            print_json(line)
        print_json(summary)
        return
    if each:
        heading = ("letter", "at", "code", "from", "payment", "amount", "")
        table(heading, [(*_cells(one), "redriven" if one.id in done else "") for one in found])
    elif counted:
        heading = ("topic", "code", "letters", "parked", "oldest parked", "first", "money parked")
        table(heading, [_counted(row) for row in counted])
    parked = _money(summary["money"])
    typer.echo(f"{summary['letters']:,} dead letters, {summary['parked']:,} parked" + (f": {parked}" if parked else ""))


@app.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="As `dlq list` prints it: TOPIC:PARTITION:OFFSET.")],
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Show a dead letter: its bytes, decoded as far as possible, and its headers, ours, Kafka Connect's and Spring's.

    Exit 1 when no letter stands there.

    Examples: `headrace dlq show dlq.payments.admission:2:17`, `headrace dlq show dlq.payments.ledger:0:3 --json`
    """
    from replay.letters import LetterId, receipts, the_letter
    from replay.reader import Reader
    from topologies.topics import REDRIVES

    where = LetterId.parse(letter)
    cluster = settings(run).cluster()
    with Reader(cluster) as reader:
        found = the_letter(reader, where, cluster.prefix)
        redriven = where in (receipts(reader) if REDRIVES.name in reader.require([]) else ())
    told = letter_dict(found, redriven=redriven)
    if as_json:
        print_json(told)
        return
    for name in ("letter", "at", "code", "message", "first", "latest", "replays", "redriven", "key", "undecodable"):
        if told[name] not in (None, ""):
            typer.echo(f"{name:<12} {visible(str(told[name]))}")
    for title, values in (
        ("headers", {one["name"]: one["value"] for one in told["headers"]}),
        ("record", told["record"]),
    ):
        if values:
            typer.echo()
            table((title, ""), [(name, _plain(value)) for name, value in values.items()])
    if not told["record"]:
        typer.echo(f"\nbytes        {told['value'] or 'none'}")


@app.command()
def redrive(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[LETTER]...", help="As `dlq list --each` prints them.  [all]")
    ] = None,
    *,
    topic: Topic = None,
    code: Code = None,
    payment: Payment = None,
    account: Account = None,
    begin: Begin = None,
    end: End = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many letters now.  [all]")] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="At most so many letters a second.  [as fast as it goes]")
    ] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who does it, for the receipt.  [your user]")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it nothing is written.")] = False,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Put dead letters back on their first topics, each at most once, however often you press.

    Without --yes it says what would happen. A letter is decided on today's state; one that has its fate, came back
    five times, or stands behind another one that stays, is refused. With --json a line per letter, and a summary last.
    Exit 1 when a letter was refused.

    Examples: `headrace dlq redrive`, `headrace dlq redrive --code unprocessable --yes`,
    `headrace dlq redrive dlq.payments.ledger:0:3 --yes --by ana`
    """
    from headrace.dlq import Press, choose
    from replay.letters import LetterId
    from replay.reader import Reader

    wish = _wish(tuple(map(LetterId.parse, ids or ())), (topic, code, payment, account), (begin, end))
    cluster = settings(run).cluster()
    press = Press(cluster, by or _user(), limit, rate)
    with Reader(cluster) as reader:
        if yes:
            _press(press, reader, wish)
        else:
            press.choices = choose(reader, wish, cluster.prefix)
            press.refused = {one.letter.id: one.why_not for one in press.choices if one.why_not}
            press.left = max(sum(one.goes for one in press.choices) - (limit or len(press.choices)), 0)
    _told(press, yes=yes, as_json=as_json)
    if press.refused:
        fail(f"{len(press.refused):,} of {len(press.choices):,} letters can't be redriven", FAILED)


def _press(press: "Press", reader: Any, wish: "Wish") -> None:
    from headrace.progress import Progress

    bar = Progress()
    staged = False

    def progress(went: int, total: int) -> None:
        nonlocal staged
        if not staged:
            bar.stage("redriving", total)
            staged = True
        bar.update(went, lambda: "letters")

    try:
        press.run(reader, wish, progress)
    finally:
        bar.done()


def _wish(ids: tuple[Any, ...], filters: "Filters", times: tuple[str | None, str | None]) -> "Wish":
    from time import time_ns

    from headrace.dlq import Wish
    from replay.window import parse_window

    return Wish(ids, *filters, window=parse_window(*times, (), time_ns() // 1_000))


def _user() -> str | None:
    from getpass import getuser

    try:
        return getuser()
    except (OSError, KeyError):
        return None


def _told(press: "Press", *, yes: bool, as_json: bool) -> None:
    """What became, or would become, of each letter."""
    went = set(press.redriven)

    def word(one: "Choice") -> str:
        if one.done:
            return "done"
        if one.letter.id in press.refused:
            return "refused"
        return "redriven" if one.letter.id in went else "waits" if yes else "would go"

    summary = {
        "letters": len(press.choices),
        "redriven": len(went),
        "would_go": 0 if yes else sum(one.goes for one in press.choices),
        "done_before": sum(one.done for one in press.choices),
        "refused": len(press.refused),
        "left": press.left,
        "dry_run": not yes,
    }
    if as_json:
        for one in press.choices:
            print_json(brief_dict(one.letter, redriven=one.done) | _outcome(one, word(one), press))
        print_json(summary)
        return
    rows = [
        (
            str(one.letter.id),
            word(one),
            one.letter.code,
            f"{one.topic}:{one.partition}" if one.topic else "-",
            _note(one, press),
        )
        for one in press.choices
    ]
    if rows:
        table(("letter", "", "code", "to", "note"), rows)
    said = f"{len(went):,} redriven" if yes else f"{summary['would_go']:,} would go; add --yes to do it"
    typer.echo(
        f"{said} ({summary['done_before']:,} were redriven before, {len(press.refused):,} refused, {press.left:,} left)"
    )


def _note(one: "Choice", press: "Press") -> str:
    return press.refused.get(one.letter.id) or ("it will come back: its bytes are wrong" if one.comes_back else "")


def _outcome(one: "Choice", word: str, press: "Press") -> dict[str, Any]:
    place = {"to_topic": one.topic, "to_partition": one.partition} if one.topic else {}
    return {"outcome": word, "note": _note(one, press), **place}


def brief_dict(letter: "Letter", *, redriven: bool) -> dict[str, Any]:
    """A letter on one line."""
    from headrace.moments import shown

    currency, minor = letter.money or (None, None)
    return {
        "letter": str(letter.id),
        "at": shown(letter.at),
        "code": letter.code,
        "message": letter.message,
        "first": _place(letter.origin),
        "latest": _place(letter.latest),
        "payment_id": getattr(letter.record, "payment_id", None),
        "currency": currency,
        "amount_minor": minor,
        "replays": letter.replays,
        "redriven": redriven,
    }


def letter_dict(letter: "Letter", *, redriven: bool) -> dict[str, Any]:
    """A letter with all that it holds; bytes that are no text as hexadecimal digits."""
    from replay.letters import shown as header
    from replay.texts import plain

    record = None if letter.record is None else plain(letter.record)
    headers = [{"name": name, "value": header(name, value)} for name, value in letter.headers]
    more = {"key": header("", letter.key), "value": None if letter.value is None else letter.value.hex()}
    return {
        **brief_dict(letter, redriven=redriven), **more, "headers": headers, "record": record,
        "undecodable": letter.undecodable,
    }  # fmt: skip


def _place(origin: Any) -> str | None:
    if origin is None:
        return None
    numbers = ("?" if one is None else str(one) for one in origin[1:])
    return ":".join([origin.topic, *numbers])


def _cells(letter: "Letter") -> tuple[str, ...]:
    told = brief_dict(letter, redriven=False)
    amount = "-" if letter.money is None else _money(dict([letter.money]))
    return (told["letter"], told["at"], told["code"], told["first"] or "-", told["payment_id"] or "-", amount)


def row_dict(row: "Row") -> dict[str, Any]:
    """Letters of one topic and code."""
    from time import time_ns

    from headrace.moments import shown

    age = 0.0 if row.oldest is None else round(max(time_ns() / 1_000 - row.oldest, 0) / 1e6, 3)
    return row._asdict() | {"oldest": shown(row.oldest), "oldest_seconds": age, "first": str(row.first)}


def _counted(row: "Row") -> tuple[object, ...]:
    from headrace.moments import shown

    return (
        row.topic,
        row.code,
        row.letters,
        row.parked,
        shown(row.oldest) or "-",
        str(row.first),
        _money(row.money) or "-",
    )


def summary_dict(counted: "list[Row]") -> dict[str, Any]:
    """All of them together."""
    from collections import Counter

    money: Counter[str] = Counter()
    for row in counted:
        money.update(row.money)
    oldest = [row.oldest for row in counted if row.oldest is not None]
    from headrace.moments import shown

    return {
        "letters": sum(row.letters for row in counted),
        "parked": sum(row.parked for row in counted),
        "oldest": shown(min(oldest, default=None)),
        "money": dict(sorted(money.items())),
    }


def _money(money: dict[str, int]) -> str:
    from schemas.money import format_minor

    told = []
    for currency, minor in money.items():
        try:
            told.append(f"{format_minor(minor, currency)} {currency}")
        except ValueError:
            told.append(f"{minor} minor units of {currency!r}")
    return ", ".join(told)


def _plain(value: Any) -> str:
    return "-" if value is None else str(value)
