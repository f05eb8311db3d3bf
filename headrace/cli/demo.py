"""`headrace demo`: a believable day through the real pipeline."""

import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from headrace.cli.common import (
    FAILED,
    INTERRUPTED,
    UNREACHABLE,
    USAGE,
    Json,
    fail,
    front,
    print_json,
    say,
    settings,
)

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.demo import Outcome
    from headrace.settings import Settings

LEAST, MOST = 200, 5_000_000
_NUMBERS = {
    "batches",
    "payments",
    "gross",
    "fees",
    "net",
    "intents",
    "share",
    "accounts",
    "balance",
    "on hold",
    "examined",
}


def demo(  # noqa: PLR0917  typer makes options of them
    payments: Annotated[
        int, typer.Option(min=LEAST, max=MOST, help="Intents to publish, broken ones included.")
    ] = 50_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same day.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Workers to start.")] = 2,
    no_workers: Annotated[
        bool, typer.Option("--no-workers", help="Start none; use those of `headrace run --run ID`.")
    ] = False,
    run: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="The run's id; its topics begin with demo-ID.  [random]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a day of payments through Kafka, show where every intent and every cent went, and audit it.

    Starts the local Kafka where none is named. Exit 0 only if the audit passes; Ctrl-C stops what it started.

    Examples: `headrace demo`, `headrace demo --payments 5000 --seed 7 --json`, `headrace demo --run 7f3a --no-workers`
    """
    run = secrets.token_hex(4) if run is None else run
    told = settings(run)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _start_broker(told)
        outcome = _run(told, run, (payments, seed, 0 if no_workers else workers))
    except KeyboardInterrupt:
        say(f"stopped. What run {run} has done is safe; to go on: headrace run --run {run}")
        raise typer.Exit(INTERRUPTED) from None
    from rich.console import Console

    show(outcome, Console(stderr=as_json))
    if as_json:
        print_json(outcome.as_json())
    if not outcome.audit.ok:
        raise typer.Exit(FAILED)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _start_broker(told: "Settings") -> None:
    """Starts the local Kafka where nobody named one and none runs."""
    from headrace import broker

    if told.kafka.get("bootstrap.servers") or told.kafka.get("metadata.broker.list"):
        return
    if broker.running(told.home) is None:
        say("No Kafka is named by KAFKA_BOOTSTRAP_SERVERS: starting the local one. `headrace down` stops it.")
        broker.up(told.home, say=say)


def _run(told: "Settings", run: str, what: tuple[int, int, int]) -> "Outcome":
    from headrace.demo import DemoFailed, RunUsed, Wanted, prepare, run_demo
    from headrace.progress import Progress
    from headrace.workers import Crew
    from replay.reader import TopicMissing, Unreachable

    payments, seed, workers = what
    wanted = Wanted(run, payments, seed, workers, told.partitions, told.replication, tuple(front()))
    progress = Progress()
    cluster = told.cluster()
    progress.say(f"run {run}: {payments:,} intents, seed {seed}, topics {cluster.prefix}* at {cluster.bootstrap}")
    try:
        prepare(cluster, wanted)
        with Crew(_logs(told.home, run), progress.say) as crew:
            return run_demo(cluster, wanted, crew, progress)
    except DemoFailed as error:
        fail(str(error), USAGE if isinstance(error, RunUsed) else FAILED)
    except (Unreachable, TopicMissing) as error:
        fail(str(error), UNREACHABLE)
    finally:
        progress.done()


def _logs(home: Path, run: str) -> Path:
    return home / "demo" / run


def show(outcome: "Outcome", console: "Console") -> None:
    """The reconciliation: intents by fate, money by kind of account, dead letters, and the audit."""
    fates = outcome.fates
    letters = sum(fates.dead_letters.values())
    rows: list[tuple[Any, ...]] = []
    for status, count in sorted(fates.by_status.items()):
        rows.append((status, "", count, _share(count, fates.answered)))
        reasons = [(reason, n) for (of, reason), n in sorted(fates.by_reason.items()) if of == status]
        rows += [("", reason, n, _share(n, fates.answered)) for reason, n in reasons]
    rows.append(("dead letters", "", letters, _share(letters, fates.answered)))
    rows += [("", reason, n, _share(n, fates.answered)) for reason, n in sorted(fates.dead_letters.items())]
    rows.append(("all intents", "", fates.answered, ""))
    _table(console, "Intents by fate", ("fate", "reason", "intents", "share"), rows)
    console.print(
        f"Among them {fates.repeats:,} repeats that got the first answer again, and {fates.decided:,} decisions on a "
        "payment in review.\n"
    )
    _show_money(outcome, console)
    _show_settlement(outcome, console)
    times = fates.percentiles_ms()
    console.print(
        f"{outcome.rate:,.0f} payments/s over {outcome.seconds:.1f} s; from append to the terminal event "
        f"p50 {times['p50']:,.0f} ms, p95 {times['p95']:,.0f} ms, p99 {times['p99']:,.0f} ms (published as fast as it "
        "goes, so most of it is waiting)\n"
    )
    checks = [
        ("ok" if check.ok else "FAILED", check.name, check.examined, check.detail) for check in outcome.audit.checks
    ]
    _table(console, "Audit", ("", "check", "examined", "detail"), checks)
    console.print("The books are right." if outcome.audit.ok else "The audit FAILED.", style="bold")


def _show_money(outcome: "Outcome", console: "Console") -> None:
    from schemas.money import format_minor

    books = outcome.books
    rows: list[tuple[Any, ...]] = []
    totals: dict[str, int] = {}
    for kind, currency in sorted(books.accounts, key=lambda place: (place[1], place[0])):
        place = (kind, currency)
        totals[currency] = totals.get(currency, 0) + books.balances[place]
        held = format_minor(books.held[place], currency) if books.held[place] else ""
        rows.append((currency, kind, books.accounts[place], format_minor(books.balances[place], currency), held))
    rows += [(currency, "sum", "", format_minor(total, currency), "") for currency, total in totals.items()]
    rows.sort(key=lambda row: (row[0], row[1] == "sum"))
    _table(console, "Money by kind of account", ("currency", "kind", "accounts", "balance", "on hold"), rows)


def _show_settlement(outcome: "Outcome", console: "Console") -> None:
    from schemas.money import format_minor

    found, told = outcome.settled, outcome.webhooks
    if found is None or told is None:
        return
    sums = (found.gross_minor, found.fees_minor, found.net_minor)
    rows = [
        (
            currency,
            found.batches[currency],
            found.payments[currency],
            *(format_minor(part[currency], currency) for part in sums),
        )
        for currency in sorted(found.batches)
    ]
    _table(console, "Settlement of merchants", ("currency", "batches", "payments", "gross", "fees", "net"), rows)
    console.print(
        f"Webhooks: {told.received:,} of {told.expected:,} events told to the endpoint of some shops in {told.calls:,} "
        f"calls, {told.unsigned:,} of them with a wrong signature.\n"
    )


def _share(count: int, of: int) -> str:
    return f"{count / of:.2%}"


def _table(console: "Console", title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in _NUMBERS else "left")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else escape(str(cell)) for cell in row))
    console.print(table)
    console.print()
