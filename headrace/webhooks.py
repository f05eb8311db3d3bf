"""How webhooks stand, told from the topics alone, and what a person may want of them."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from headrace.gateway.offsets import ANSWERS, Answered, readable
from replay.source import Source
from schemas import codec
from schemas.events import Micros, PaymentEvent
from schemas.internal import Attempt, AttemptAction, Delivery, DeliveryState
from streams.notification import delivery_of, type_of, wait_of
from streams.notification_rules import NotificationRules
from topologies.engine.config import ClusterConfig
from topologies.engine.sender import Sender
from topologies.topics import ATTEMPTS, DELIVERIES, EVENTS

WAITING, RETRYING, PARKED, DELIVERED = "waiting", "retrying", "parked", "delivered"
ON, OFF = frozenset({AttemptAction.ENABLE}), frozenset({AttemptAction.GONE, AttemptAction.DISABLE})


class UnknownEndpoint(Exception):
    """No endpoint of this name is in the endpoints file. Exit 2."""


class UnknownEvent(Exception):
    """No event of this id is there. Exit 1."""


class Line(NamedTuple):
    """One delivery that is not done."""

    delivery: Delivery
    partition: int
    state: str
    reason: str | None = None
    """Why the last call was no success, or why it is parked."""
    next_at: int | None = None
    """When it is tried again, about, in µs."""


class Row(NamedTuple):
    """How an endpoint stands."""

    endpoint: str
    enabled: bool
    """False: switched off in the file, by hand, or by a 410."""
    waiting: int
    retrying: int
    parked: int
    delivered: int
    oldest: int | None
    """When the oldest event happened that waits or is to be tried again, in µs."""


class Look(NamedTuple):
    """All that the topics tell."""

    lines: list[Line]
    delivered: dict[str, int]
    """Successful calls by endpoint."""
    disabled: frozenset[str]


class _Heard:
    """What the attempts of one partition say."""

    def __init__(self) -> None:
        self.answered: dict[str, Answered] = {}
        self.failed: dict[tuple[str, int], Attempt] = {}

    def add(self, attempt: Attempt) -> None:
        """One outcome."""
        self.answered.setdefault(attempt.endpoint, Answered()).add(attempt.number)
        if attempt.action != AttemptAction.DELIVERED:
            self.failed.setdefault((attempt.endpoint, attempt.number), attempt)


def look(source: Source, rules: NotificationRules) -> Look:
    """How all deliveries stand. Reads only; raises Unreachable, TopicMissing."""
    source.require([ATTEMPTS.name, DELIVERIES.name])
    heard: dict[int, _Heard] = {}
    switched: dict[str, tuple[int, bool]] = {}
    ends = source.ends([DELIVERIES.name])  # before the attempts, so that what was answered is known to be
    for raw, attempt in readable(source, ATTEMPTS, source.ends([ATTEMPTS.name])):
        if attempt.action in ANSWERS:
            heard.setdefault(raw.partition, _Heard()).add(attempt)
        if attempt.action in ON | OFF:
            last = switched.get(attempt.endpoint, (0, True))
            switched[attempt.endpoint] = max(last, (attempt.occurred_at, attempt.action in ON))
    lines: dict[tuple[str, str], Line] = {}
    delivered: Counter[str] = Counter()
    for raw, delivery in readable(source, DELIVERIES, ends):
        line = _line(delivery, raw.partition, heard.get(raw.partition, _Heard()), rules)
        if line.state == DELIVERED:
            delivered[delivery.endpoint] += 1
            lines.pop((delivery.endpoint, delivery.event_id), None)
        else:
            lines[delivery.endpoint, delivery.event_id] = line
    off = frozenset(name for name, (_, enabled) in switched.items() if not enabled)
    return Look(list(lines.values()), dict(delivered), off)


def _line(delivery: Delivery, partition: int, heard: _Heard, rules: NotificationRules) -> Line:
    if delivery.state == DeliveryState.PARKED:
        return Line(delivery, partition, PARKED, delivery.parked_for)
    failed = heard.failed.get((delivery.endpoint, delivery.number))
    if failed is not None:
        wait = 0
        if delivery.attempt < len(rules.waits_s):
            wait = wait_of(delivery.event_id, delivery.attempt, rules.waits_s)
        return Line(delivery, partition, RETRYING, failed.reason, failed.occurred_at + wait)
    answered = heard.answered.get(delivery.endpoint)
    if answered is not None and delivery.number in answered:
        return Line(delivery, partition, DELIVERED)
    return Line(delivery, partition, WAITING)


def rows(found: Look, rules: NotificationRules) -> list[Row]:
    """How each endpoint stands: those of the file, and those that something is left of."""
    by_rule = {rule.name: rule.enabled for rule in rules.endpoints}
    told = [line.delivery.endpoint for line in found.lines]
    made = []
    for name in dict.fromkeys([*by_rule, *sorted({*told, *found.delivered})]):
        mine = [line for line in found.lines if line.delivery.endpoint == name]
        states = Counter(line.state for line in mine)
        open_since = [line.delivery.occurred_at for line in mine if line.state != PARKED]
        enabled = by_rule.get(name, False) and name not in found.disabled
        made.append(
            Row(name, enabled, states[WAITING], states[RETRYING], states[PARKED], found.delivered.get(name, 0),
                min(open_since, default=None))
        )  # fmt: skip
    return made


def require_endpoint(name: str, rules: NotificationRules) -> None:
    """Raises UnknownEndpoint unless the endpoints file has it."""
    known = [rule.name for rule in rules.endpoints]
    if name not in known:
        there = f"known are {', '.join(known)}" if known else "it names none; set HEADRACE_ENDPOINTS"
        raise UnknownEndpoint(f"{name!r} is no endpoint of the endpoints file; {there}")


def find(source: Source, event_id: str, endpoint: str, rules: NotificationRules) -> Line:
    """The event as it stands for an endpoint, which may never have been told of it. Raises UnknownEvent."""
    latest: Line | None = None
    heard: dict[int, _Heard] = {}
    ends = source.ends([DELIVERIES.name])
    for raw, attempt in readable(source, ATTEMPTS, source.ends([ATTEMPTS.name])):
        if attempt.event_id == event_id and attempt.endpoint == endpoint and attempt.action in ANSWERS:
            heard.setdefault(raw.partition, _Heard()).add(attempt)
    for raw, delivery in readable(source, DELIVERIES, ends):
        if delivery.event_id == event_id and delivery.endpoint == endpoint:
            latest = _line(delivery, raw.partition, heard.get(raw.partition, _Heard()), rules)
    if latest is not None:
        return latest
    for raw, event in readable(source, EVENTS, source.ends([EVENTS.name])):
        found: PaymentEvent = event
        if found.event_id == event_id:
            return Line(delivery_of(endpoint, found), raw.partition, "never sent")
    raise UnknownEvent(
        f"no event {event_id!r} is on payments.events; `headrace replay payment ID` tells a payment's events"
    )


def resend(cluster: ClusterConfig, lines: Iterable[Line]) -> None:
    """Asks for deliveries to be sent once more. Raises Undelivered."""
    now = Micros(cluster.seams.clock.micros())
    _write(
        cluster,
        (
            (line.partition, line.delivery.debtor, Attempt(
                line.delivery.endpoint, AttemptAction.RESEND, now, line.delivery.debtor, line.delivery.payment_id,
                line.delivery.event_id, resend=line.delivery,
            ))
            for line in lines
        ),
    )  # fmt: skip


def switch(cluster: ClusterConfig, endpoint: str, action: AttemptAction, partitions: int) -> None:
    """Enables or disables an endpoint on every partition. Raises Undelivered."""
    attempt = Attempt(endpoint, action, Micros(cluster.seams.clock.micros()), reason="by-hand")
    _write(cluster, ((partition, endpoint, attempt) for partition in range(partitions)))


def _write(cluster: ClusterConfig, records: Iterable[tuple[int, str, Attempt]]) -> None:
    sender = Sender(cluster)
    try:
        for partition, key, attempt in records:
            sender.send(ATTEMPTS.name, key.encode(), codec.encode(attempt), partition=partition)
        sender.flush()
    finally:
        sender.close()


def told(line: Line) -> dict[str, Any]:
    """A line as JSON takes it; times in µs."""
    delivery = line.delivery
    return {
        "endpoint": delivery.endpoint,
        "event_id": delivery.event_id,
        "payment_id": delivery.payment_id,
        "type": type_of(delivery),
        "state": line.state,
        "attempt": delivery.attempt,
        "reason": line.reason,
        "occurred_at": delivery.occurred_at,
        "next_at": line.next_at,
    }
