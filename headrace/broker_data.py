"""The data folders of the local broker: node 1 has `data/` in the broker's own folder, node n in `node-<n>/` there."""

import secrets
import shutil
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Callable
from pathlib import Path

from headrace.broker_config import places, write_properties
from headrace.broker_process import last_lines
from headrace.jars import BrokerError, free_mb

FORMAT_SECONDS = 60.0
SPACE_MB = 100
"""What each node needs free to start."""


def node_folder(folder: Path, node: int) -> Path:
    """Where a node has its data, log and state; `folder` is the broker's."""
    return folder if node == 1 else folder / f"node-{node}"


def further_nodes(folder: Path) -> list[Path]:
    """The folders of all nodes but the first."""
    return sorted(path for path in folder.glob("node-*") if path.is_dir())


def size(folder: Path) -> int:
    """How many nodes the data is for; 0 when there is none."""
    return 1 + len(further_nodes(folder)) if (folder / "data").exists() else 0


def need_space(folder: Path, nodes: int) -> None:
    """Kafka maps files into memory, so a disk that fills up kills it without a word. Raises BrokerError."""
    free, needed = free_mb(folder), SPACE_MB * nodes
    if free < needed:
        raise BrokerError(
            f"The disk that holds {folder} is full ({free} MB free; the broker needs {needed} MB to start). "
            "Free some space, or set HEADRACE_HOME to a folder elsewhere."
        )


def cluster_id_of(data: Path) -> str | None:
    """The cluster id of a formatted data folder, else None."""
    try:
        lines = (data / "meta.properties").read_text("utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("cluster.id=")), None)


def format_nodes(folder: Path, nodes: int, storage_tool: list[str], say: Callable[[str], None]) -> str:
    """The cluster id of the data of all nodes; what is not there yet is formatted.

    The first node's data comes last: without it there is no cluster, and what an interrupted start left goes.
    """
    kept = cluster_id_of(folder / "data")
    if kept is None:
        if (folder / "data").exists():
            raise _unreadable(folder / "data")
        for path in further_nodes(folder):
            shutil.rmtree(path)
        say("Preparing the data folder ...")
    cluster_id = kept or urlsafe_b64encode(b"\x1d" + secrets.token_bytes(15)).decode().rstrip(
        "="
    )  # never begins with "-"
    for node in range(nodes, 0, -1):
        where = node_folder(folder, node)
        if cluster_id_of(where / "data") is None:
            if (where / "data").exists():
                raise _unreadable(where / "data")
            where.mkdir(exist_ok=True)
            _format(where, node, nodes, [*storage_tool, "format", "-t", cluster_id])
    return cluster_id


def _unreadable(data: Path) -> BrokerError:
    return BrokerError(
        f"{data} has no readable meta.properties, so it is not a whole Kafka data folder. "
        "Move it away to look into it, or delete it with `headrace down --wipe`."
    )


def _format(folder: Path, node: int, nodes: int, format_words: list[str]) -> None:
    """Formats one node: beside, then moved into place whole."""
    fresh = folder / "data.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    cluster = places(nodes, None, {})
    write_properties(folder / "format.properties", cluster[node - 1], cluster, "data.new")
    words = [*format_words, "-c", "format.properties", "--ignore-formatted"]
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BrokerError(f"Kafka did not format {fresh} within {FORMAT_SECONDS:.0f} s. Repeat the command.") from None
    (folder / "format.properties").unlink(missing_ok=True)
    if done.returncode != 0 or cluster_id_of(fresh) is None:
        shutil.rmtree(fresh, ignore_errors=True)
        told = f"{last_lines(done.stdout + done.stderr)}{hint(folder, done.stderr)}"
        raise BrokerError(f"Kafka could not format {folder / 'data'}:\n{told}")
    fresh.replace(folder / "data")


def wipe_data(folder: Path) -> None:
    """Deletes the data of all nodes."""
    for name in ("data", "data.new"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for path in further_nodes(folder):
        shutil.rmtree(path)


def hint(folder: Path, log: str) -> str:
    """The way out of what the log tells, if it is one of the usual troubles."""
    if "No space left on device" in log or free_mb(folder) < SPACE_MB:
        return f"\nThe disk that holds {folder} is full. Free some space and run `headrace up`: the data is kept."
    if "OutOfMemoryError" in log:
        return "\nThe heap is too small: set HEADRACE_BROKER_HEAP=1g and run `headrace up`."
    if "Address already in use" in log:
        return "\nA port was taken meanwhile: run `headrace up` again, or with --port 0."
    return "\nRun `headrace up` again; if it ends the same way, `headrace down --wipe` starts from nothing."
