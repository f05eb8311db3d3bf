"""`headrace topics create` and `list`."""

from typing import Annotated, Any

import typer

from headrace.cli.common import FAILED, Json, Run, fail, print_json, say, settings, table

REPLICAS = "Replicas of each partition.  [HEADRACE_REPLICATION, the brokers' default]"

app = typer.Typer(no_args_is_help=True, help="Create and list the topics.", rich_markup_mode="markdown")


@app.command()
def create(
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=1000, help="Partitions of each topic, fixed from then on.  [HEADRACE_PARTITIONS, 4]"),
    ] = None,
    replication: Annotated[int | None, typer.Option(min=1, max=100, help=REPLICAS)] = None,
    run: Run = None,
    as_json: Json = False,
) -> None:
    """Create the topics that are missing; tell where those that are there differ from the plan.

    Nothing is ever deleted or changed: run it as often as you like. Exit 1 when a topic has another number
    of partitions.

    Examples: `headrace topics create`, `headrace topics create --partitions 12 --replication 3`
    """
    told = settings(run, partitions=partitions, replication=replication)
    cluster = told.cluster()
    from topologies.engine.admin import create_topics
    from topologies.payments import PLANS

    report = create_topics(cluster, PLANS.values(), told.partitions, told.replication)
    if as_json:
        print_json(
            {
                "bootstrap": cluster.bootstrap,
                "partitions": told.partitions,
                "replication": told.replication,
                "created": report.created,
                "existing": report.existing,
                "drift": report.drift,
                "refused": report.refused,
            }
        )
    else:
        for name in report.created:
            typer.echo(f"created  {name}")
        for sentence in report.drift:
            typer.echo(f"drift    {sentence}")
        typer.echo(
            f"{len(report.created)} created with {told.partitions} partitions, {len(report.existing)} were there, "
            f"{len(report.drift)} settings differ from the plan, at {cluster.bootstrap}"
        )
    for sentence in report.refused:
        say(f"headrace: {sentence}")
    if report.refused:
        fail("nothing was created", FAILED)


@app.command("list")
def list_topics(run: Run = None, as_json: Json = False) -> None:
    """List the topics of the plan: what each record is, its key, how many partitions there are.

    Examples: `headrace topics list`, `headrace topics list --json`
    """
    cluster = settings(run).cluster()
    from topologies.engine.admin import needed_topics, partition_counts
    from topologies.payments import PLANS

    there = partition_counts(cluster)
    rows: list[dict[str, Any]] = [
        {
            "topic": cluster.prefix + topic.name,
            "record": topic.record.__name__ if topic.record else None,
            "key": topic.key,
            "partitions": there.get(topic.name),
        }
        for topic in needed_topics(PLANS.values())
    ]
    missing = [row["topic"] for row in rows if row["partitions"] is None]
    if as_json:
        for row in rows:
            print_json(row)
        print_json({"topics": len(rows), "missing": missing})
        return
    table(
        ("topic", "record", "key", "partitions"),
        [(row["topic"], row["record"] or "-", row["key"], row["partitions"] or "missing") for row in rows],
    )
    if missing:
        typer.echo(f"{len(missing)} of {len(rows)} are missing; create them: headrace topics create")
