"""`headrace lag`: how far the workers are behind."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from headrace.cli.common import INTERRUPTED, USAGE, Json, Run, fail, print_json, say, settings, table, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from headrace.backlog import Backlog, Summary, Watch
    from headrace.pace import Rate
    from topologies.plan import Plan

EVERY_S = 2.0
COLUMNS = ("topic", "partition", "records", "seconds", "money", "drain", "status")
_COLOURS = {"ok": "green", "catching-up": "yellow", "unknown": "dim"}
_SAFE = 2**63
Show = Callable[["Sequence[Backlog]"], None]


def lag(
    seconds: Annotated[
        float | None, typer.Argument(metavar="[SECONDS]", min=0.5, max=3600.0, help="With --watch: between looks.  [2]")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    role: Annotated[
        list[str] | None, typer.Option(help="Only this role's group; may be repeated.  [all that are built]")
    ] = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Tell what waits on the inputs of the workers: records, seconds, money, how long it will take, and how it goes.

    Zero means that nothing waits. Records are an upper bound: the ends of transactions count too. Money is that of the
    intents and credits that wait. "open" are offsets of transactions that have not ended. The status is ok,
    catching-up, falling-behind, stalled (workers, but nothing is committed), stopped (no workers), blocked (by a
    transaction that hangs) or unknown. Where something waits it takes a second or more, to see whether it moves.
    With --json a line per partition, and a summary last.

    Examples: `headrace lag`, `headrace lag --watch 5`, `headrace lag --role core --run 7f3a`, `headrace lag --json`
    """
    if seconds is not None and not watch:
        fail(f"{seconds:g} is the time between looks, and there is only one: headrace lag --watch {seconds:g}", USAGE)
    plans = plans_of(role)
    cluster = settings(run).cluster()
    from headrace.backlog import ONCE, Watch, see

    if watch:
        with Watch(cluster, plans) as watching:
            _go_on(watching, seconds or EVERY_S, as_json)
    with Watch(cluster, plans, ONCE) as watching:
        found = see(watching)
    if as_json:
        _print_json(found)
    else:
        _print(found)


def plans_of(roles: list[str] | None) -> "tuple[Plan, ...]":
    """The plans of these roles, all that are built by default. Fails with exit 2 at another name."""
    from topologies.payments import WATCHED

    if unknown := [name for name in roles or () if name not in WATCHED]:
        fail(f"{unknown[0]!r} is no role; roles are {', '.join(WATCHED)}", USAGE)
    return tuple(plan for name, plan in WATCHED.items() if not roles or name in roles)


# -- once -------------------------------------------------------------------------------------------


def _print(found: "Sequence[Backlog]") -> None:
    from headrace.backlog import by_group, summed

    table(*_rows(found))
    for one in summed(found, by_group).values():
        typer.echo(_told(one))


def _rows(found: "Sequence[Backlog]") -> tuple[Sequence[str], list[tuple[object, ...]]]:
    """Columns and cells; what is open has a column only where something is."""
    some_open = any(one.uncommitted_tail for one in found)
    rows: list[tuple[object, ...]] = [
        (
            one.topic,
            one.partition,
            one.records,
            f"{one.seconds:.1f}",
            _money(one.money, one.exact),
            _drain(one.drain_seconds),
            str(one.status),
            *([one.uncommitted_tail] if some_open else ()),
        )
        for one in found
    ]
    return (*COLUMNS, *(["open"] if some_open else ())), rows


def _money(money: dict[str, int], exact: bool) -> str:
    from schemas.money import format_minor

    shown = ", ".join(f"{format_minor(minor, currency)} {currency}" for currency, minor in money.items())
    return shown if exact else f"at least {shown}" if shown else "not known"


def _drain(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds else "0"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _told(one: "Summary") -> str:
    """A role in a sentence."""
    never = "" if one.ever else ", and no worker has ever committed anything"
    if not one.records and not one.cause:
        return f"{one.group}: {one.status}: nothing waits{never}"
    cause = f" ({one.cause})" if one.cause else ""
    if not one.records:
        return f"{one.group}: {one.status}{cause}: nothing waits that can be read"
    money = f", {_money(one.money, one.exact)}" if one.money or not one.exact else ""
    drain = "" if one.drain_seconds is None else f"; done in {_drain(one.drain_seconds)}"
    waits = f"at most {one.records:,} records wait, the oldest for {one.seconds:.1f} s"
    return f"{one.group}: {one.status}{cause}: {waits}{money}{drain}"


def _print_json(found: "Sequence[Backlog]") -> None:
    from headrace.backlog import by_group, summed

    for one in found:
        rates = {name: rate and rate._asdict() for name, rate in _rates(one).items()}
        print_json({**_plain(one), "tail_seconds": round(one.tail_seconds, 3), **rates})
    groups = list(summed(found, by_group).values())
    total = next(iter(summed(found, lambda _: "").values()))
    names = ", ".join(one.group for one in groups)
    print_json({**_plain(total), "group": names, "groups": [_plain(one) for one in groups]})


def _plain(one: "Backlog | Summary") -> dict[str, Any]:
    drain = one.drain_seconds
    return {
        **one._asdict(),
        "seconds": round(one.seconds, 3),
        "money": {currency: minor if minor < _SAFE else str(minor) for currency, minor in one.money.items()},
        "drain_seconds": drain if drain is None else round(drain, 3),
    }


def _rates(one: "Backlog") -> "dict[str, Rate | None]":
    return {"one_minute": one.one_minute, "five_minutes": one.five_minutes}


# -- again and again --------------------------------------------------------------------------------


def _go_on(watching: "Watch", every_s: float, as_json: bool) -> NoReturn:
    """Looks until Ctrl-C; the first look must succeed, later ones may find Kafka away."""
    from headrace.missing import MissingTopics
    from topologies.engine.admin import ClusterUnreachable

    found = watching.look()
    try:
        with _shown(as_json) as show:
            while True:
                show(found)
                time.sleep(every_s)
                try:
                    found = watching.look()
                except (ClusterUnreachable, MissingTopics) as error:
                    say(f"headrace: {error}")
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def _shown(as_json: bool) -> Iterator[Show]:
    """What shows a look: in place on a terminal, else one below the other."""
    if as_json or not sys.stdout.isatty():
        yield _print_json if as_json else _print_block
        return
    from rich.live import Live

    with Live(auto_refresh=False, screen=True, vertical_overflow="ellipsis") as live:
        yield lambda found: live.update(_drawn(found), refresh=True)


def _print_block(found: "Sequence[Backlog]") -> None:
    from headrace.moments import shown

    typer.echo(shown(time.time_ns() // 1_000))
    _print(found)
    typer.echo()


def _drawn(found: "Sequence[Backlog]") -> "RenderableType":
    """The look as a table in colours; partitions where nothing waits and nothing is open are left out."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from headrace.backlog import by_group, summed

    busy = [one for one in found if one.records or one.uncommitted_tail]
    columns, rows = _rows(busy)
    drawn = Table(box=None, padding=(0, 2, 0, 0))
    for name in columns:
        text = name in {"topic", "status"}
        drawn.add_column(name, justify="left" if text else "right", no_wrap=name != "topic", overflow="fold")
    for cells in rows:
        texts = [Text(f"{cell:,}" if isinstance(cell, int) else visible(str(cell))) for cell in cells]
        texts[columns.index("status")].stylize(_COLOURS.get(str(cells[columns.index("status")]), "bold red"))
        drawn.add_row(*texts)
    lines = [Text(_told(one), style=_COLOURS.get(one.status, "bold red")) for one in summed(found, by_group).values()]
    return Group(*lines, Text(), drawn) if busy else Group(*lines)
