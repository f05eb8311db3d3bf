"""One real Kafka for all broker tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import broker
from headrace.broker import BrokerState


def say(line: str) -> None:
    """Tells pytest's captured standard error what the broker does."""
    sys.stderr.write(f"{line}\n")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerState]:
    """The local broker on free ports, its data in a folder of this session: a BrokerState, stopped at the end.

    Its home is `kafka.log.parent.parent`. Tests that stop or kill a broker take one of their own.
    """
    home = Path(tmp_path_factory.mktemp("kafka"))
    state = broker.up(home, port=0, say=say)
    try:
        yield state
    finally:
        broker.down(home, say=say)
