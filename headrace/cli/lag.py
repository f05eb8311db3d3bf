"""`headrace lag`: how far the workers are behind."""

from typing import Any

import typer

from headrace.cli.common import Json, Run, print_json, settings, table


def lag(run: Run = None, as_json: Json = False) -> None:
    """Tell what waits on the inputs of the workers, in records and in seconds.

    Zero means that nothing waits. A number is an upper bound: the ends of transactions count among the records.
    "open" are offsets of transactions that have not ended yet. With --json a line per partition, and a summary last.

    Examples: `headrace lag`, `headrace lag --run 7f3a`, `headrace lag --json | tail -1`
    """
    cluster = settings(run).cluster()
    from headrace.lag import measure
    from topologies.payments import CORE

    found = measure(cluster, CORE)
    total: dict[str, Any] = {
        "group": found.group,
        "records": found.records,
        "seconds": round(found.seconds, 3),
        "uncommitted_tail": found.uncommitted_tail,
    }
    if as_json:
        for one in found.partitions:
            print_json({"group": found.group, **one._asdict(), "seconds": round(one.seconds, 3)})
        print_json({**total, "partitions": len(found.partitions)})
        return
    table(
        ("topic", "partition", "committed", "end", "records", "seconds", "open"),
        [
            (
                one.topic,
                one.partition,
                "-" if one.committed is None else f"{one.committed:,}",
                one.end,
                one.records,
                f"{one.seconds:.1f}",
                one.uncommitted_tail,
            )
            for one in found.partitions
        ],
    )
    if found.records:
        typer.echo(f"{found.group}: at most {found.records:,} records wait, the oldest for {found.seconds:.1f} s")
    else:
        typer.echo(f"{found.group}: nothing waits")
