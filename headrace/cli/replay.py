"""`headrace replay`: what happened, read from the topics."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.common import Json, Run, group, print_json, reading, table, visible

if TYPE_CHECKING:
    from replay.story import Told

app = group("Look at the past.")


@app.command()
def payment(
    payment_id: Annotated[str, typer.Argument(metavar="ID", help="The payment's id.")],
    debtor: Annotated[
        str | None,
        typer.Option(metavar="ACCOUNT", help="Who pays; then one partition is read, not all.  [any]"),
    ] = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Tell a payment's story: its events in order, with what was said again for repeated intents.

    With --json a line per event, and a summary last. Exit 1 when no event tells of the payment.

    Examples: `headrace replay payment rent-1 --debtor alice`, `headrace replay payment rent-1 --json`
    """
    with reading(run) as reader:
        from replay.story import story

        found = story(reader, payment_id, debtor)
    if as_json:
        for one in found:
            print_json(as_dict(one))
        print_json(summary(payment_id, found))
    else:
        tell(payment_id, found)


def as_dict(told: "Told") -> dict[str, Any]:
    """An event as `--json` prints it: the schema's fields, times in ISO 8601, where it stands, whether a repeat."""
    from headrace.moments import shown

    event = told.event
    return {
        **event._asdict(),
        "occurred_at": shown(event.occurred_at),
        "deadline_at": shown(event.deadline_at),
        "repeat": told.repeat,
        "partition": told.partition,
        "offset": told.offset,
    }


def summary(payment_id: str, found: "list[Told]") -> dict[str, Any]:
    """The payment in one line: for each debtor how it stands, and how much was said, and said again."""
    latest = {told.event.debtor: told.event for told in found}
    return {
        "payment_id": payment_id,
        "debtors": {debtor: event.payment_state for debtor, event in latest.items()},
        "events": sum(not told.repeat for told in found),
        "repeats": sum(told.repeat for told in found),
    }


def tell(payment_id: str, found: "list[Told]") -> None:
    """Prints the story for a person, debtor by debtor."""
    from headrace.moments import shown
    from schemas.money import format_minor

    for debtor, state in summary(payment_id, found)["debtors"].items():
        mine = [told for told in found if told.event.debtor == debtor]
        creditors = ", ".join(dict.fromkeys(told.event.creditor or "an alias" for told in mine))
        typer.echo(visible(f"payment {payment_id} from {debtor} to {creditors}: {state}") + "\n")
        rows = []
        for told in mine:
            event = told.event
            amount = _amount(event.amount_minor, event.currency, format_minor)
            said = "repeat" if told.repeat else ""
            rows.append(
                (
                    event.sequence,
                    event.status,
                    event.reason or "-",
                    amount,
                    shown(event.occurred_at),
                    event.event_id,
                    said,
                )
            )
        table(("sequence", "status", "reason", "amount", "at", "event id", ""), rows)
        typer.echo()


def _amount(minor: int, currency: str, form: Any) -> str:
    """As in "12.34 EUR"; minor units where the currency is one that was refused (AM11)."""
    try:
        return f"{form(minor, currency)} {currency}"
    except ValueError:
        return f"{minor} minor units of {currency!r}"
