"""`headrace run`: a worker."""

import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.common import UNREACHABLE, USAGE, Run, fail, settings

if TYPE_CHECKING:
    from topologies.engine.config import ClusterConfig

ROLES = ("core", "settlement", "notification")
BUILT = ("core",)


def run(
    roles: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE]...", help="core; all that are built when none is named.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Port of /metrics, /livez, /readyz; 0 takes a free one.  [HEADRACE_PORT, 6066]"
        ),
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="This worker's name, stable over restarts.  [HEADRACE_INSTANCE, the first free]")
    ] = None,
    run_id: Run = None,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C. It creates no topics; start more to share the partitions.

    Examples: `headrace run`, `headrace run core --port 0`, `headrace run --run 7f3a`
    """
    for role in roles or BUILT:
        if role not in ROLES:
            fail(f"{role!r} is no role; roles are {', '.join(ROLES)}", USAGE)
        if role not in BUILT:
            fail(f"the role {role} is not part of this version; built is {', '.join(BUILT)}: headrace run core", USAGE)
    told = settings(run_id, port=port, instance=instance)
    config = told.engine()
    _check_topics(config.cluster)

    from headrace.logs import configure
    from headrace.metrics import Metrics
    from topologies.engine.worker import run_worker
    from topologies.payments import CORE

    configure(told.log_level)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until Faust has its own handler
    metrics = Metrics(version=config.version, group=f"{config.cluster.prefix}headrace.{CORE.role}")
    raise typer.Exit(run_worker(CORE, config, metrics, metrics.render))


def _check_topics(cluster: "ClusterConfig") -> None:
    from headrace.missing import missing_sentence
    from topologies.engine.admin import missing_topics
    from topologies.payments import PLANS

    missing = missing_topics(cluster, PLANS.values())
    if missing:
        fail(missing_sentence(cluster, missing), UNREACHABLE)
