"""Where peers run: a virtual environment for each set of requirements, and Kafka Streams' jars and classes.

All of it is made on first use, below one cache folder, and found again by a sum over what it is made from.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import say
from headrace import jars
from headrace.jvm import find_java

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements"
STREAMS = HERE / "kafka_streams"
LOCK = STREAMS / "streams.lock"
COORDINATES = (
    f"org.apache.kafka:kafka-streams:{jars.KAFKA_VERSION}",
    "org.apache.avro:avro:1.12.1",
    "org.slf4j:slf4j-simple:1.7.36",
    "org.eclipse.jdt:ecj:3.44.0",
)
"""What the lock resolves. To renew it: `python -m benchmarks.peers.environments > .../streams.lock`."""
COMPILER = "org.eclipse.jdt.internal.compiler.batch.Main"
CALL_S = 900.0
READY = ".ready"


class Unavailable(Exception):
    """A peer can't be run here; the message says why."""


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _run(words: Sequence[str | Path], what: str) -> None:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=CALL_S, check=False, cwd=HERE
    )
    if done.returncode:
        raise Unavailable(f"{what}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-2_000:]}")


def python_of(name: str, cache: Path) -> Path:
    """The Python of the environment that has exactly `requirements/<name>.txt`. Raises Unavailable."""
    wanted = REQUIREMENTS / f"{name}.txt"
    folder = cache / f"{name}-{_digest(wanted.read_text(), sys.version)}"
    python = folder / "bin" / "python"
    if not (folder / READY).exists():
        say(f"making the environment of {name} (once)")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run([sys.executable, "-m", "venv", folder], f"a virtual environment for {name}")
        _run(
            [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", wanted],
            f"installing {wanted.name}",
        )
        (folder / READY).touch()
    return python


def java_of(cache: Path) -> tuple[Path, str]:
    """Java, and the class path of the compiled `Transfers` with its jars. Raises Unavailable."""
    try:
        java = find_java()
        path = jars.classpath(None, LOCK)
    except jars.BrokerError as error:
        raise Unavailable(str(error)) from error
    source = STREAMS / "Transfers.java"
    joined = os.pathsep.join(map(str, path))
    folder = cache / f"kafka_streams-{_digest(source.read_text(), LOCK.read_text(), str(java))}"
    if not (folder / READY).exists():
        say("compiling Transfers.java (once)")
        shutil.rmtree(folder, ignore_errors=True)
        _run([java, "-cp", joined, COMPILER, "-25", "-nowarn", "-classpath", joined, "-d", folder, source], "ECJ")
        (folder / READY).touch()
    return java, os.pathsep.join((str(folder), joined))


def pinned(name: str, package: str) -> str:
    """The version of a package in `requirements/<name>.txt`. Raises LookupError."""
    for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines():
        found, _, version = line.partition("==")
        if found == package:
            return version
    raise LookupError(f"{name}.txt pins no {package}")


def resolve_lock() -> str:
    """A fresh lock of COORDINATES in jgo's format: asks the repository, fetches every jar, sums it up."""
    from jgo.env import LockFile
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=jars.HTTP_TIMEOUT_SECONDS)
        wanted = [context.create_dependency(coordinate) for coordinate in COORDINATES]
        inputs, transitive = context.resolver.resolve(wanted)
        needed = [*inputs, *(dep for dep in transitive if dep.scope in ("compile", "runtime"))]
        target = Path(folder) / LOCK.name
        LockFile.from_resolved_dependencies(needed, environment_name="kafka-streams").save(target)
        return target.read_text("utf-8")


if __name__ == "__main__":
    sys.stdout.write(resolve_lock())
