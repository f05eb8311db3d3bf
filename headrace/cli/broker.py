"""`headrace up`, `down` and `status`: the local broker, or the Kafka that KAFKA_BOOTSTRAP_SERVERS names."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.common import UNREACHABLE, USAGE, Json, fail, print_json, say, settings

if TYPE_CHECKING:
    from headrace.broker import Status
    from headrace.settings import Settings
    from topologies.engine.config import ClusterConfig


def up(
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Where to listen on 127.0.0.1; 0 takes a free port.  [9092]"),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes", help="1 or 3; with three, payments go on when one dies.  [what the data is for, else 1]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start the local Kafka, or find it running; fetch it the first time.

    With `--nodes 3` there are three of them on ports that follow each other, each record is on all three, and the
    payments go on when one is killed; a further `up` starts what has died. With KAFKA_BOOTSTRAP_SERVERS set nothing
    is started: that Kafka is checked instead.

    Examples: `headrace up`, `headrace up --port 9192`, `headrace up --nodes 3`
    """
    from headrace import broker

    if nodes not in (None, 1, 3):
        fail(
            f"--nodes {nodes}: the local Kafka has 1 node or 3. With any other number: KAFKA_BOOTSTRAP_SERVERS.", USAGE
        )

    told = settings()
    foreign = _foreign(told)
    if foreign is not None:
        _show_foreign(foreign, as_json)
        return
    state = broker.up(told.home, port, say if as_json else typer.echo, nodes=nodes)
    if as_json:
        print_json(
            {
                "pid": state.pid,
                "bootstrap": state.bootstrap,
                "port": state.port,
                "version": state.version,
                "log": str(state.log),
                "nodes": _nodes(broker.status(told.home)),
            }
        )


def down(
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete all data of the local Kafka too; asks first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Stop the local Kafka. Its data is kept.

    Examples: `headrace down`, `headrace down --wipe`
    """
    from headrace import broker

    home = settings().home
    question = f"Delete all topics and records of the local Kafka under {home / 'broker'}? They can't be brought back."
    if wipe and not yes and not typer.confirm(question, err=True):
        say("Nothing was stopped or deleted.")
        raise typer.Exit(1)
    broker.down(home, wipe=wipe, say=typer.echo)


def status(as_json: Json = False) -> None:
    """Tell how the local Kafka is, or the one that KAFKA_BOOTSTRAP_SERVERS names. Exit 3 when it does not answer.

    Examples: `headrace status`, `headrace status --json`
    """
    from headrace import broker

    told = settings()
    foreign = _foreign(told)
    if foreign is not None:
        _show_foreign(foreign, as_json)
        return
    seen = broker.status(told.home)
    if as_json:
        print_json(_plain(seen))
    else:
        _tell(seen)
    if not seen.ready:
        raise typer.Exit(UNREACHABLE)


def _foreign(told: "Settings") -> "ClusterConfig | None":
    """The Kafka that the user named, or None where the local one is meant."""
    named = told.kafka.get("bootstrap.servers") or told.kafka.get("metadata.broker.list")
    return told.cluster() if named else None


def _plain(seen: "Status") -> dict[str, Any]:
    state = seen.state
    return {
        "running": seen.running,
        "ready": seen.ready,
        "local": True,
        "bootstrap": state.bootstrap if state else None,
        "pid": state.pid if state else None,
        "version": state.version if state else None,
        "cluster_id": seen.cluster_id,
        "topics": seen.topics,
        "data_bytes": seen.data_bytes,
        "log": str(state.log) if state else None,
        "nodes": _nodes(seen),
    }


def _nodes(seen: "Status") -> list[dict[str, Any]]:
    return [
        {"node": one.node, "address": one.address, "pid": one.pid, "running": runs, "log": str(one.log)}
        for one, runs in seen.nodes
    ]


def _tell(seen: "Status") -> None:
    state = seen.state
    if state is None:
        typer.echo("The local Kafka is not running. Start it: headrace up")
    elif not seen.running:
        typer.echo(f"The local Kafka (pid {state.pid}) died; its data is kept. Start it again: headrace up")
        typer.echo(f"  log         {state.log}")
    elif len(seen.nodes) > 1:
        _tell_cluster(seen, state.version)
    else:
        typer.echo(f"Kafka {state.version} " + ("is ready" if seen.ready else "runs but does not answer"))
        typer.echo(f"  address     {state.bootstrap}")
        typer.echo(f"  pid         {state.pid}")
        typer.echo(f"  cluster id  {seen.cluster_id or 'unknown'}")
        if seen.topics is not None:
            typer.echo(f"  topics      {seen.topics}")
        typer.echo(f"  data        {seen.data_bytes / 1e6:.1f} MB on disk")
        typer.echo(f"  log         {state.log}")


def _tell_cluster(seen: "Status", version: str) -> None:
    alive = sum(runs for _, runs in seen.nodes)
    word = "is ready" if seen.ready else "does not answer"
    typer.echo(f"Kafka {version} {word}, {alive} of {len(seen.nodes)} nodes run")
    for one, runs in seen.nodes:
        how = f"pid {one.pid}" if runs else f"died (pid {one.pid}); start it again: headrace up"
        typer.echo(f"  node {one.node}      {one.address}  {how}")
        typer.echo(f"    log       {one.log}")
    typer.echo(f"  cluster id  {seen.cluster_id or 'unknown'}")
    if seen.topics is not None:
        typer.echo(f"  topics      {seen.topics}")
    typer.echo(f"  data        {seen.data_bytes / 1e6:.1f} MB on disk")


def _show_foreign(cluster: "ClusterConfig", as_json: bool) -> None:
    """The Kafka that the user named: its version and nodes, or exit 3."""
    from headrace import broker
    from headrace.kafka_version import kafka_version

    address = cluster.bootstrap
    seen = broker.ask(address, dict(cluster.kafka), timeout=broker.FOREIGN_SECONDS)
    if seen is None:
        fail(
            f"No Kafka answers at {address} (KAFKA_BOOTSTRAP_SERVERS) within {broker.FOREIGN_SECONDS:.0f} s. Check the "
            "address and the KAFKA_* security settings, or unset KAFKA_BOOTSTRAP_SERVERS to use the local Kafka.",
            UNREACHABLE,
        )
    version = kafka_version(address, cluster.kafka)
    if as_json:
        nodes = {str(node): where for node, where in seen.nodes.items()}
        print_json(
            {
                "running": True,
                "ready": True,
                "local": False,
                "bootstrap": address,
                "version": version,
                "cluster_id": seen.cluster_id,
                "nodes": nodes,
                "topics": seen.own_topics,
            }
        )
        return
    typer.echo(
        f"Kafka {version or '(version not told)'} at {address}, set by KAFKA_BOOTSTRAP_SERVERS; nothing is started here."
    )
    typer.echo(f"  cluster id  {seen.cluster_id or 'unknown'}")
    for node, where in seen.nodes.items():
        typer.echo(f"  node {node:<6} {where}")
    typer.echo(f"  topics      {seen.own_topics}")
