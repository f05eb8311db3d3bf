"""`headrace console`: the web page."""

import signal
import sys
from typing import Annotated

import typer

from headrace.cli.common import DONE, INTERRUPTED, UNREACHABLE, USAGE, Run, fail, settings


def console(
    host: Annotated[
        str, typer.Option(help="Address to listen at. Whoever reaches it sees all payments: there is no password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.")] = 6060,
    run: Run = None,
) -> None:
    """Serve a web page with what is going on: rates, lag, dead letters, any payment's story, any account.

    It only reads: it joins no group and commits nothing. What the page shows is JSON under /api/ too: rates, lag,
    dead-letters, payments/ID?debtor=, accounts/ID?as_of=, and live, a stream of server-sent events. Runs until
    SIGTERM or Ctrl-C.

    Examples: `headrace console`, `headrace console --port 0 --run 7f3a`
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))  # until the loop has its own handler
    cluster = settings(run).cluster()
    from headrace.console.serve import PortTaken, serve
    from headrace.logs import configure
    from headrace.missing import missing_sentence
    from topologies.engine.admin import missing_topics
    from topologies.payments import PLANS, WATCHED

    if missing := missing_topics(cluster, PLANS.values()):
        fail(missing_sentence(cluster, missing), UNREACHABLE)
    configure("warning")
    try:
        ended = serve(cluster, tuple(WATCHED.values()), (host, port), typer.echo)
    except PortTaken as error:
        fail(str(error), USAGE)
    raise typer.Exit(INTERRUPTED if ended == signal.SIGINT else DONE)
