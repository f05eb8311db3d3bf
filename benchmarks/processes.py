"""Helpers of a benchmark as processes of their own: each is given a pipe, and says there what it found."""

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Self

from benchmarks.system import Void
from topologies.engine.config import ClusterConfig


class Address(NamedTuple):
    """A cluster as another process can be told of it."""

    bootstrap: str
    prefix: str
    kafka: dict[str, str]

    @classmethod
    def of(cls, cluster: ClusterConfig) -> Self:
        """Where a cluster is."""
        return cls(cluster.bootstrap, cluster.prefix, dict(cluster.kafka))

    def cluster(self) -> ClusterConfig:
        """The cluster there."""
        return ClusterConfig(*self)


@contextmanager
def process(target: Any, *arguments: Any) -> Iterator[Connection]:
    """A process of its own with a pipe as its last argument; it is ended at the end."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        yield ours
    finally:
        child.join(1.0)
        if child.is_alive():
            child.terminate()
            child.join()
        ours.close()


def heard(pipe: Connection, what: str, patience_s: float) -> Any:
    """What a process tells. Raises Void where it says nothing or is gone."""
    try:
        if not pipe.poll(patience_s):
            raise Void(f"the {what} did not answer for {patience_s:.0f} s")
        return pipe.recv()
    except EOFError:
        raise Void(f"the {what} died") from None
