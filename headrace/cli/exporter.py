"""`headrace exporter`: the backlog as metrics, whoever else runs."""

import signal
import sys
from typing import Annotated

import typer

from headrace.cli.common import DONE, FAILED, INTERRUPTED, USAGE, Run, fail, settings
from headrace.cli.lag import plans_of


def exporter(  # noqa: PLR0917  typer makes options of them
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 is all of them.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = 9464,
    every: Annotated[float, typer.Option(min=1.0, max=3600.0, help="Seconds between looks.")] = 5.0,
    alias: Annotated[
        bool,
        typer.Option("--kafka-exporter-names", help="Also export kafka_consumergroup_lag, for boards that have it."),
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Print the page and end.")] = False,
    role: Annotated[
        list[str] | None, typer.Option(help="Only this role's group; may be repeated.  [all that are built]")
    ] = None,
    run: Run = None,
) -> None:
    """Serve /metrics (Prometheus): lag of every role in records, seconds and money, time to drain, dead letters.

    It looks from outside, joins no group, commits nothing and outlives the workers; while Kafka is away it stays, and
    says headrace_exporter_up 0. /livez tells whether it turns. Runs until SIGTERM or Ctrl-C.

    Examples: `headrace exporter`, `headrace exporter --host 0.0.0.0`, `headrace exporter --once --run 7f3a`
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))  # until there is something to stop
    plans = plans_of(role)
    told = settings(run)
    cluster = told.cluster()
    from headrace.exporter import Exporter, PortTaken, Server
    from headrace.logs import configure

    configure(told.log_level)
    looking = Exporter(cluster, plans, alias=alias)
    if once:
        looking.look_once()
        typer.echo(looking.render().decode(), nl=False)
        return
    try:
        server = Server(looking, (host, port), every)
    except PortTaken as error:
        fail(str(error), USAGE)
    ended: list[int] = []

    def stop(number: int, _frame: object) -> None:
        ended.append(number)
        server.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    typer.echo(f"the exporter's metrics are at {server.url}")
    if not server.run():
        fail("the exporter has stopped for the reason above; start it again", FAILED)
    raise typer.Exit(INTERRUPTED if ended == [signal.SIGINT] else DONE)
