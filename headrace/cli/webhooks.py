"""`headrace webhooks`: what endpoints are still to be told, and a way to send it again."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.common import USAGE, Json, Run, fail, group, print_json, settings, table

if TYPE_CHECKING:
    from headrace.settings import Settings
    from headrace.webhooks import Line, Row

app = group("Look at webhooks, and send them again.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="An endpoint of the endpoints file.")]


@app.command("list")
def list_webhooks(
    *,
    endpoint: Annotated[str | None, typer.Option(metavar="NAME", help="Of this endpoint.  [all]")] = None,
    each: Annotated[bool, typer.Option("--each", help="Each delivery that is not done, on a line of its own.")] = False,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Count what each endpoint is still to be told: waiting for its answer, to be tried again, parked.

    Told from the topics; what stands behind these, in an endpoint's line, is not counted. With --json a line per row,
    and a summary last.

    Examples: `headrace webhooks list`, `headrace webhooks list --endpoint shop --each`
    """
    from headrace.webhooks import look, require_endpoint, rows
    from replay.reader import Reader

    told = settings(run)
    rules = told.rules().notification
    if endpoint is not None:
        require_endpoint(endpoint, rules)
    with Reader(told.cluster()) as reader:
        found = look(reader, rules)
    lines = [line for line in found.lines if endpoint in (None, line.delivery.endpoint)]
    counted = [row for row in rows(found, rules) if endpoint in (None, row.endpoint)]
    summary = {
        name: sum(getattr(row, name) for row in counted) for name in ("waiting", "retrying", "parked", "delivered")
    }
    if as_json:
        for one in map(_line, lines) if each else map(_row, counted):
            print_json(one)
        print_json({"endpoints": len(counted), **summary})
        return
    if each and lines:
        cells = [_line(line) for line in lines]
        names = ("endpoint", "event_id", "payment_id", "type", "state", "attempt", "reason", "next_at")
        table(names, [tuple("-" if cell[name] is None else cell[name] for name in names) for cell in cells])
    elif counted:
        heads = ("endpoint", "enabled", "waiting", "retrying", "parked", "delivered", "oldest")
        table(heads, [_cells(row) for row in counted])
    typer.echo(", ".join(f"{count:,} {name}" for name, count in summary.items()))


@app.command()
def resend(
    events: Annotated[
        list[str] | None, typer.Argument(metavar="[EVENT_ID]...", help="Events, as `webhooks list --each` prints them.")
    ] = None,
    *,
    endpoint: Annotated[str, typer.Option(metavar="NAME", help="The endpoint that is to be told again.")],
    parked: Annotated[bool, typer.Option("--parked", help="All that is parked for the endpoint.")] = False,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Send webhooks once more, with the ids that they had; one that waits for its next attempt is tried at once.

    One that is out and waits for its answer is left alone. Exit 1 when no such event is there.

    Examples: `headrace webhooks resend 5f1c... --endpoint shop`, `headrace webhooks resend --parked --endpoint shop`
    """
    from headrace import webhooks
    from replay.reader import Reader
    from topologies.topics import ATTEMPTS, DELIVERIES, EVENTS

    if bool(events) == parked:
        fail("name the events that are to be sent again, or all with --parked; not both", USAGE)
    told = settings(run)
    rules = told.rules().notification
    webhooks.require_endpoint(endpoint, rules)
    cluster = told.cluster()
    with Reader(cluster) as reader:
        reader.require([DELIVERIES.name, ATTEMPTS.name, EVENTS.name])
        if parked:
            every = webhooks.look(reader, rules).lines
            lines = [one for one in every if one.delivery.endpoint == endpoint and one.state == webhooks.PARKED]
        else:
            lines = [webhooks.find(reader, event, endpoint, rules) for event in dict.fromkeys(events or ())]
    asked = [line for line in lines if line.state != webhooks.WAITING]
    webhooks.resend(cluster, asked)
    if as_json:
        for line in lines:
            print_json(_line(line) | {"asked": line in asked})
        print_json({"endpoint": endpoint, "asked": len(asked), "left_alone": len(lines) - len(asked)})
        return
    for line in lines:
        word = "was asked for again" if line in asked else "is out already and was left alone"
        typer.echo(f"{line.delivery.event_id} ({line.state}) {word}")
    typer.echo(f"{len(asked):,} of {len(lines):,} will be sent to {endpoint} once more")


@app.command()
def enable(name: Name, run: Run = None, as_json: Json = False) -> None:
    """Let an endpoint be told again, after its 410 or a disable. What was parked stays so: see `webhooks resend`.

    Example: `headrace webhooks enable shop`
    """
    _switch(name, "ENABLE", settings(run), as_json=as_json)


@app.command()
def disable(name: Name, run: Run = None, as_json: Json = False) -> None:
    """Tell an endpoint nothing more until it is enabled; what waits for it is parked.

    Example: `headrace webhooks disable shop`
    """
    _switch(name, "DISABLE", settings(run), as_json=as_json)


def _switch(name: str, action: str, told: "Settings", *, as_json: bool) -> None:
    from headrace.missing import require_topics
    from headrace.webhooks import require_endpoint, switch
    from schemas.internal import AttemptAction
    from topologies.topics import ATTEMPTS

    rules = told.rules().notification
    require_endpoint(name, rules)
    cluster = told.cluster()
    partitions = require_topics(cluster, [ATTEMPTS.name])[ATTEMPTS.name]
    switch(cluster, name, AttemptAction(action), partitions)
    on = action == "ENABLE"
    in_file = next(rule.enabled for rule in rules.endpoints if rule.name == name)
    if as_json:
        print_json({"endpoint": name, "enabled": on, "enabled_in_file": in_file})
        return
    typer.echo(f"{name} is {'enabled' if on else 'disabled'} from now on")
    if on and not in_file:
        typer.echo(
            f"the endpoints file still says enabled = false for {name}: change it there, and restart the workers"
        )


def _line(line: "Line") -> dict[str, Any]:
    from headrace.moments import shown
    from headrace.webhooks import told

    found = told(line)
    return found | {"occurred_at": shown(found["occurred_at"]), "next_at": shown(found["next_at"])}


def _row(row: "Row") -> dict[str, Any]:
    from headrace.moments import shown

    return row._asdict() | {"oldest": shown(row.oldest)}


def _cells(row: "Row") -> tuple[object, ...]:
    cells = _row(row)
    return (cells["endpoint"], "yes" if row.enabled else "no", *row[2:6], cells["oldest"] or "-")
