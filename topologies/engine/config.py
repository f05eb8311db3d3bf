"""What a worker is told when it starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from streams.rules import Rules
from topologies.engine.limits import LIMITS, Limits
from topologies.engine.seams import REAL, Seams

if TYPE_CHECKING:  # the readers of topics load no RocksDB
    from topologies.engine.store import Stores


@dataclass(frozen=True)
class ClusterConfig:
    """Where Kafka is: bootstrap servers, topic prefix, and any further librdkafka options."""

    bootstrap: str
    prefix: str = ""
    kafka: Mapping[str, str] = field(default_factory=dict)
    seams: Seams = REAL

    def client(self, tuning: Mapping[str, object] | None = None, /, **owned: object) -> dict[str, object]:
        """Options of one client: our tuning, then the user's options, last what exactly-once stands on."""
        return {**(tuning or {}), **self.kafka, "bootstrap.servers": self.bootstrap, **owned}


@dataclass(frozen=True)
class EngineConfig:
    """A worker's settings."""

    cluster: ClusterConfig
    home: Path = Path(".headrace")
    """Folder of all local state."""
    instance: str | None = None
    """HEADRACE_INSTANCE; None takes the first free slot of this host."""
    web_host: str = "127.0.0.1"
    web_port: int = 6066
    """0 takes a free port."""
    rules: Rules = field(default_factory=Rules)
    version: str = "0"
    """headrace's version."""
    group_protocol: str = "classic"
    """`classic` or `consumer` (KIP-848)."""
    limits: Limits = LIMITS
    stores: "Callable[[Limits], Stores] | None" = None
    """What opens a worker's stores; None: RocksDB."""
