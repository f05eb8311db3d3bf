"""What the demo shows behind the payments: merchants' batches, and webhooks to one of the shops."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from headrace.receiver import Receiver
from replay.reader import Reader
from schemas import codec
from topologies import topics
from topologies.engine.config import ClusterConfig

ROLES = ("settlement", "notification", "gateway")
"""What the demo runs beside core, a worker each."""
SHOPS = 2
"""How many merchants get webhooks."""


class Settled(NamedTuple):
    """What is on settlement.batches."""

    batches: Counter[str]
    """By currency, as all of these."""
    payments: Counter[str]
    gross_minor: Counter[str]
    fees_minor: Counter[str]
    net_minor: Counter[str]


class Webhooks(NamedTuple):
    """What the shops got."""

    expected: int
    """Events of their payments, repeats left out."""
    received: int
    """Different ones."""
    calls: int
    unsigned: int


def environment(folder: Path, receiver: Receiver, shops: Sequence[str]) -> dict[str, str]:
    """What the demo's workers are told: fees, short windows, and the shops' endpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    endpoints = folder / "endpoints.toml"
    accounts = ", ".join(json.dumps(shop) for shop in shops)
    endpoints.write_text(
        f'[[endpoint]]\nname = "shops"\nurl = "{receiver.url}"\naccounts = [{accounts}]\n'
        'secrets = [{ env = "DEMO_WEBHOOK_SECRET" }]\n',
        encoding="utf-8",
    )
    return {
        "HEADRACE_SETTLEMENT": str(resources.files("headrace") / "settlement_demo.toml"),
        "HEADRACE_ENDPOINTS": str(endpoints),
        "HEADRACE_GATEWAY_ALLOW_LOOPBACK": "true",
        "DEMO_WEBHOOK_SECRET": receiver.secret,
    }


def records_of(cluster: ClusterConfig, topic: topics.Topic) -> Iterator[Any]:
    """Every committed record of a topic that workers write."""
    decode = codec.decoder(topic.subject)
    with Reader(cluster) as reader:
        for raw in reader.read(topic.name, reader.ends([topic.name])):
            assert raw.value is not None, raw
            yield decode(raw.value)


def to_settle(cluster: ClusterConfig) -> int:
    """How many payments belong to a batch, open ones too."""
    postings = records_of(cluster, topics.POSTINGS)
    return sum(entry.settled_sequence is not None for posting in postings for entry in posting.entries)


def to_tell(cluster: ClusterConfig, shops: Sequence[str]) -> int:
    """How many events the shops are to be told."""
    wanted = set(shops)
    return sum(
        event.repeat_intent_id is None and not wanted.isdisjoint((event.debtor, event.creditor))
        for event in records_of(cluster, topics.EVENTS)
    )


def settled_in(cluster: ClusterConfig) -> Settled:
    """All closed batches, summed up."""
    found = Settled(*(Counter() for _ in Settled._fields))
    for batch in records_of(cluster, topics.BATCHES):
        found.batches[batch.currency] += 1
        found.payments[batch.currency] += batch.payment_count
        found.gross_minor[batch.currency] += batch.gross_minor
        found.fees_minor[batch.currency] += batch.fees_minor
        found.net_minor[batch.currency] += batch.net_minor
    return found


def as_json(found: Settled | None, told: Webhooks | None) -> dict[str, Any]:
    """Both, as `--json` prints them; None where nobody settled or told."""
    return {
        "settlement": None if found is None else {name: dict(sorted(part.items())) for name, part in found._asdict().items()},
        "webhooks": None if told is None else told._asdict(),
    }  # fmt: skip
