"""`headrace audit`: judges the books and every fate by the topics, and workers' stores where asked."""

from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.common import FAILED, UNREACHABLE, USAGE, Json, Run, fail, print_json, say, settings, table

if TYPE_CHECKING:
    from replay.audit import AuditReport


def audit(
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Also fail while intents wait or money is in transit: for a system at rest.")
    ] = False,
    replay: Annotated[
        bool,
        typer.Option("--replay", help="Also take every step once more: it must give the same bytes. Takes longer."),
    ] = False,
    store: Annotated[
        bool, typer.Option("--store", help="Also look into the stores of the workers whose HEADRACE_HOME is ours.")
    ] = False,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Check that no money was made or lost and that every intent has exactly one fate.

    Reads the topics alone, read_committed and from the start, changes nothing, and may run beside
    working workers: it judges everything up to one cut. `--replay` runs the journal again, at a few
    thousand payments a second. Exit 1 when a check failed; the first offending record is named.

    Examples: `headrace audit`, `headrace audit --quiet --json`, `headrace audit --replay --store --run 7f3a`
    """
    from replay.audit import audit as judge_cluster
    from replay.reader import TopicMissing, Unreachable
    from replay.source import NoStores

    told = settings(run)
    home = told.home if store else None
    try:
        report = judge_cluster(told.cluster(), quiet=quiet, replay=replay, home=home, progress=say)
    except (Unreachable, TopicMissing) as error:
        fail(str(error), UNREACHABLE)
    except NoStores as error:
        fail(str(error), USAGE)
    if as_json:
        print_json(report.to_json())
    else:
        show(report)
    if not report.ok:
        raise typer.Exit(FAILED)


def show(report: "AuditReport") -> None:
    """Prints a report for a person: checks, fates, dead letters, money."""
    table(
        ("", "check", "detail"), [("ok" if check.ok else "FAILED", check.name, check.detail) for check in report.checks]
    )
    _counts("intents by fate", report.fates)
    if report.waiting:
        typer.echo(f"{report.waiting:,} intents wait: no step has read them yet")
    _counts("dead letters by reason", report.dead_letters)
    for currency, kinds in report.money.items():
        _money(currency, {**kinds, "(held for customers)": report.held.get(currency, 0)})
    verdict = "The books are right" if report.ok else "The audit FAILED"
    typer.echo(f"\n{verdict}: {report.intents:,} intents, {sum(report.records.values()):,} records read")


def _counts(title: str, counts: dict[str, int]) -> None:
    if counts:
        typer.echo()
        table((title, "records"), list(counts.items()))


def _money(currency: str, kinds: dict[str, int]) -> None:
    from schemas.money import format_minor

    typer.echo()
    amounts = {kind: format_minor(minor, currency) for kind, minor in kinds.items()}
    width = max(map(len, amounts.values()))
    table(("kind of account", currency.rjust(width)), [(kind, text.rjust(width)) for kind, text in amounts.items()])
