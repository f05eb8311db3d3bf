"""`headrace run`: the workers."""

import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.cli.common import UNREACHABLE, USAGE, Run, fail, front, say, settings

if TYPE_CHECKING:
    from headrace.settings import Settings

ROLES = ("core", "settlement", "notification", "gateway")
"""What can be run; each but the gateway is a plan of topologies/payments.py."""
GIVES_WAY = 10
"""The niceness of every role but core: where they share a machine, the money path comes first.

Linux weighs it within a session (`sched_autogroup`), so it counts among the workers of one `headrace run`.
"""


def run(
    roles: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE]...", help=f"{', '.join(ROLES)}; all when none is named.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=64, help="Processes of the role core; they share the partitions.")
    ] = 1,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port of /metrics, /livez, /readyz; each further process takes the next one, 0 a free one.  "
            "[HEADRACE_PORT, 6066]",
        ),
    ] = None,
    instance: Annotated[
        str | None, typer.Option(help="This worker's name, stable over restarts.  [HEADRACE_INSTANCE, the first free]")
    ] = None,
    run_id: Run = None,
) -> None:
    """Run workers until SIGTERM or Ctrl-C: a process for each role, kept running. They create no topics.

    Start it again, here or on another machine, to share the partitions. One role with one worker is one process.

    Examples: `headrace run`, `headrace run core --workers 2`, `headrace run settlement notification gateway`,
    `headrace run core --port 0 --run 7f3a`
    """
    for role in roles or ():
        if role not in ROLES:
            fail(f"{role!r} is no role; roles are {', '.join(ROLES)}", USAGE)
    wanted = list(dict.fromkeys(roles or ROLES))
    if workers > 1 and "core" not in wanted:
        fail("--workers is for the role core; start `headrace run` again for more of the others", USAGE)
    told = settings(run_id, port=port, instance=instance)
    _check_topics(told, wanted)
    from headrace.supervisor import die_with_supervisor

    if len(wanted) == workers == 1:
        die_with_supervisor()
        raise typer.Exit(_one(wanted[0], told))
    raise typer.Exit(_several(["core"] * (workers - 1) + wanted, told, run_id))


def _check_topics(told: "Settings", roles: list[str]) -> None:
    from headrace.missing import missing_sentence
    from topologies.engine.admin import missing_topics
    from topologies.payments import PLANS

    cluster = told.cluster()
    missing = missing_topics(cluster, [PLANS[role] for role in roles if role in PLANS])
    if missing:
        fail(missing_sentence(cluster, missing), UNREACHABLE)


def _one(role: str, told: "Settings") -> int:
    """Runs the worker in this process; its exit code."""
    from headrace.logs import configure

    configure(told.log_level)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the worker has its own handler
    if role != "core" and hasattr(os, "nice"):
        os.nice(GIVES_WAY)
    if role == "gateway":
        from headrace.gateway.main import run_gateway

        return run_gateway(told)
    from headrace.metrics import Metrics
    from topologies.engine.worker import run_worker
    from topologies.payments import PLANS

    config, plan = told.engine(), PLANS[role]
    metrics = Metrics(version=config.version, group=f"{config.cluster.prefix}headrace.{role}")
    return run_worker(plan, config, metrics, metrics.render)


def _several(roles: list[str], told: "Settings", run_id: str | None) -> int:
    """A process for each, under a supervisor; its exit code."""
    from headrace.supervisor import Supervisor
    from headrace.workers import worker

    supervisor = Supervisor(lambda line: say(f"headrace: {line}"))
    for number, role in enumerate(roles):
        command = worker(role, "--port", str(told.port + number if told.port else 0), front=front())
        if told.instance is not None:
            twin = roles[:number].count(role)
            command += ["--instance", f"{told.instance}-{twin + 1}" if twin else told.instance]
        if run_id is not None:
            command += ["--run", run_id]
        supervisor.add(f"the worker of role {role}", command)
    return supervisor.run()
