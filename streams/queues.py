"""What notification keeps: queues of events by endpoint and payment, an endpoint's line, and what waits for a moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from streams.tables import Table, TableSpec
from streams.turn import Turn


class QueueRow(NamedTuple):
    """The events of one payment that an endpoint is still to be told, under `queue_key`.

    Its head is out (`number`), waits for `due_at`, or else stands in the endpoint's line.
    """

    head: Sequence[Any]
    """The fields of a `Delivery`."""
    failures: int = 0
    number: int | None = None
    due_at: int | None = None
    first: int = 0
    next: int = 0
    """`waiting` holds the events behind the head from `first` to below `next`."""


class WaitingRow(NamedTuple):
    """An event behind the head of its queue, under `waiting_key`."""

    event: Sequence[Any]
    """The fields of a `Delivery`."""


class PlaceRow(NamedTuple):
    """A queue by name: in an endpoint's line under `line_key`, or until a moment under `due_key`.

    Without a debtor it is the endpoint itself that waits.
    """

    endpoint: str
    debtor: str
    payment_id: str


class EndpointRow(NamedTuple):
    """How an endpoint stands on this partition, under its name."""

    number: int = 0
    """Deliveries that it ever had."""
    out: int = 0
    first: int = 0
    next: int = 0
    """Its line holds the places from `first` to below `next`."""
    disabled_at: int | None = None
    slow_until: int | None = None
    wakes_at: int | None = None


@dataclass(frozen=True, slots=True)
class NotificationTables:
    """The tables of notification."""

    queues: Table[QueueRow]
    waiting: Table[WaitingRow]
    lines: Table[PlaceRow]
    endpoints: Table[EndpointRow]
    due: Table[PlaceRow]


TABLES = (
    TableSpec("queues", QueueRow),
    TableSpec("waiting", WaitingRow),
    TableSpec("lines", PlaceRow),
    TableSpec("endpoints", EndpointRow),
    TableSpec("due", PlaceRow),
)
NotificationTurn = Turn[NotificationTables]
Queue = tuple[str, str, str]
"""(endpoint, debtor, payment id)."""


def queue_key(endpoint: str, debtor: str, payment_id: str) -> str:
    """Where a queue stands."""
    return f"{len(endpoint)}:{endpoint}{len(debtor)}:{debtor}{payment_id}"


def waiting_key(queue: Queue, number: int) -> str:
    """Where an event behind the head stands."""
    return f"{queue_key(*queue)}\0{number}"


def line_key(endpoint: str, number: int) -> str:
    """Where a place in an endpoint's line stands."""
    return f"{endpoint}\0{number}"


def due_key(moment: int, queue: Queue) -> str:
    """Sorts by the moment (µs)."""
    return f"{moment:020d}{queue_key(*queue)}"
