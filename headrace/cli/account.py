"""`headrace account show`: what an account has, as its entries say."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.common import USAGE, Json, Run, fail, group, print_json, reading, table, visible

if TYPE_CHECKING:
    from replay.accounts import AccountBooks, Balance, Line

app = group("Look at accounts.")


@app.command()
def show(
    account: Annotated[str, typer.Argument(metavar="ID", help="The account's id.")],
    entries: Annotated[int, typer.Option(min=0, max=1000, help="How many of its latest entries to show.")] = 5,
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="As it stood then: ISO 8601 with a zone, ms since 1970, or -2h.  [now]"
        ),
    ] = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Show an account's balances per currency and its latest entries, folded from ledger.postings.

    "held" is set aside, for a review say; "available" is what may go out, "no limit" where the account was
    opened without NO_OVERDRAFT. With --as-of all that happened up to that moment counts, and at it. Exit 1 when
    there is, or was then, no such account.

    Examples: `headrace account show alice`, `headrace account show alice --entries 20 --json`,
    `headrace account show alice --as-of 2026-11-20T17:00:00+01:00`
    """
    until = None if as_of is None else _moment(as_of)
    with reading(run) as reader:
        from replay.accounts import account_books

        found = account_books(reader, account, entries, until)
    if as_json:
        print_json(as_dict(found, until))
    else:
        tell(found, until)


def _moment(text: str) -> int:
    """A time that has come, µs. Ends the command where it has not."""
    from time import time_ns

    from headrace.moments import shown
    from replay.window import parse_moment

    now = time_ns() // 1_000
    moment = parse_moment(text, now)
    if moment > now:
        fail(f"--as-of {shown(moment)} is in the future: it is {shown(now)}", USAGE)
    return moment


def as_dict(found: "AccountBooks", until: int | None = None) -> dict[str, Any]:
    """The account as `--json` prints it: amounts in minor units, times in ISO 8601; `until` as in `account_books`."""
    from headrace.moments import shown

    return {
        "account": found.account,
        "partition": found.partition,
        "as_of": shown(until),
        "balances": [_balance(one) for one in found.balances],
        "entries": [_entry(one) for one in found.entries],
    }


def _balance(one: "Balance") -> dict[str, Any]:
    from headrace.moments import shown

    return {
        **one._asdict(),
        "at": shown(one.at),
        "posted_minor": one.posted,
        "held_minor": one.held,
        "available_minor": one.available,
    }


def _entry(one: "Line") -> dict[str, Any]:
    from headrace.moments import shown

    return {**one._asdict(), "at": shown(one.at)}


def tell(found: "AccountBooks", until: int | None = None) -> None:
    """Prints the account for a person; `until` as in `account_books`."""
    from headrace.moments import shown
    from schemas.money import format_minor

    then = "" if until is None else f", as of {shown(until)}"
    typer.echo(f"account {visible(found.account)}, partition {found.partition}{then}\n")
    rows: list[Sequence[object]] = [("currency", "posted", "held", "available", "entries", "last at")]
    for one in found.balances:
        posted, held = format_minor(one.posted, one.currency), format_minor(one.held, one.currency)
        available = "no limit" if one.available is None else format_minor(one.available, one.currency)
        rows.append((one.currency, posted, held, available, str(one.sequence), shown(one.at) or "-"))
    _right(rows, (1, 2, 3, 4))
    if not found.entries:
        return
    typer.echo()
    rows = [("at", "entry", "code", "direction", "layer", "amount", "currency", "counterparty", "payment")]
    for line in found.entries:
        amount = format_minor(line.amount_minor, line.currency)
        words = (line.code, line.direction, line.layer, amount, line.currency, line.counterparty or "-")
        rows.append((shown(line.at), str(line.sequence), *words, line.payment_id))
    _right(rows, (1, 5))


def _right(rows: list[Sequence[object]], columns: tuple[int, ...]) -> None:
    """Prints a table of texts, its heading first, with `columns` put to the right."""
    widths = {n: max(len(str(row[n])) for row in rows) for n in columns}
    heading, *lines = [
        [str(cell).rjust(widths[n]) if n in widths else str(cell) for n, cell in enumerate(row)] for row in rows
    ]
    table(heading, lines)
