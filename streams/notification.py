"""Notification: who is told of an event, when, and how often (R38-R40). The gateway makes the calls.

`tell` hands an event out to each endpoint that wants it, one at a time per endpoint and payment; `hear` takes
what became of the call; `expire` carries out waits that are over. At most `window` deliveries of an endpoint are
out on a partition: the others stand in its line here, so an endpoint that is dead fills no topic and no memory.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, assert_never

from schemas.events import Micros, PaymentEvent, Status
from schemas.internal import Attempt, AttemptAction, Delivery, DeliveryState
from schemas.keys import digest, partition_of
from streams.queues import (
    TABLES,
    EndpointRow,
    NotificationTables,
    NotificationTurn,
    PlaceRow,
    Queue,
    QueueRow,
    WaitingRow,
    due_key,
    line_key,
    queue_key,
    waiting_key,
)
from streams.rules import Rules
from streams.turn import Decided, Letter, Out, Received

__all__ = [
    "TABLES",
    "EventHead",
    "NotificationTables",
    "asked_for",
    "delivery_of",
    "expire",
    "hear",
    "next_deadline",
    "tell",
    "type_of",
    "wait_of",
]

DELIVERIES = "notification.deliveries"
SECOND = 1_000_000
SLOW_S, SLOW_MOST_S = 30, 3_600
"""How long an endpoint is left alone that asks for it: without a number, and at most."""
ASKED_MOST_S = 86_400
"""How long the delivery that was refused waits at most because the endpoint asks for it."""
AT_ONCE = 2_000
"""Deliveries of a line that one outcome may park."""
JITTER = 10
"""A wait is longer by less than this part of it."""


class EventHead(NamedTuple):
    """What tells whether anybody is told of an event."""

    status: Status


def asked_for(rules: Rules) -> Callable[[EventHead], bool]:
    """Whether an event is of a type that some endpoint asks for."""
    asking = [rule.types for rule in rules.notification.endpoints if rule.enabled]
    if not all(asking):
        return lambda _event: True
    wanted = frozenset().union(*asking)
    return lambda event: type_of(event) in wanted


def type_of(event: PaymentEvent | Delivery | EventHead) -> str:
    """The webhook's type, such as `payment.completed`."""
    return f"payment.{event.status.lower()}"


def wait_of(event_id: str, failures: int, waits_s: Sequence[int]) -> int:
    """The wait before the next attempt behind so many failures, in µs; the jitter comes from the event, not from chance."""
    wait = waits_s[failures] * SECOND
    return wait + int(digest(event_id, failures)[:12], 16) % (wait // JITTER + 1)


def tell(batch: Sequence[Received], turn: NotificationTurn) -> Decided:
    """`payments.events`: what is new goes to the endpoints that want it; what is given again is no news (R19)."""
    decided = Decided()
    rules = turn.rules.notification
    for received in batch:
        if isinstance(received.value, EventHead):
            continue
        event: PaymentEvent = received.value
        if event.repeat_intent_id is not None:
            continue
        for rule in rules.asking(event.debtor, event.creditor):
            if rule.enabled and (not rule.types or type_of(event) in rule.types):
                _add((rule.name, event.debtor, event.payment_id), delivery_of(rule.name, event), turn, decided)
    return decided


def delivery_of(endpoint: str, event: PaymentEvent) -> Delivery:
    """An event on its way to an endpoint, not handed out yet."""
    return Delivery(
        endpoint, 0, 0, DeliveryState.DUE, Micros(0), event.event_id, event.payment_id, event.intent_id, event.sequence,
        event.status, event.payment_state, event.debtor, event.creditor, event.amount_minor, event.currency,
        event.occurred_at, event.reason, event.deadline_at,
    )  # fmt: skip


def _add(queue: Queue, event: Delivery, turn: NotificationTurn, decided: Decided) -> None:
    """Puts an event behind the others of its payment; where there are none its turn comes at once."""
    tables = turn.tables
    row = tables.queues.get(queue_key(*queue))
    if row is None:
        _stand(queue, QueueRow(event), turn, decided)
        return
    tables.waiting.put(waiting_key(queue, row.next), WaitingRow(event))
    tables.queues.put(queue_key(*queue), row._replace(next=row.next + 1))


def _stand(queue: Queue, row: QueueRow, turn: NotificationTurn, decided: Decided) -> None:
    """The head's turn has come: it goes out at once, or goes to the end of its endpoint's line."""
    name = queue[0]
    endpoint = _endpoint(name, turn)
    if endpoint.first == endpoint.next and _has_room(endpoint, turn) and _why_not(name, endpoint, turn) is None:
        _hand_out(queue, row, endpoint, turn, decided)
    else:
        _line_up(queue, row, turn)
        _move(name, turn, decided)


def _line_up(queue: Queue, row: QueueRow, turn: NotificationTurn) -> None:
    name = queue[0]
    endpoint = _endpoint(name, turn)
    turn.tables.lines.put(line_key(name, endpoint.next), PlaceRow(*queue))
    turn.tables.queues.put(queue_key(*queue), row._replace(number=None, due_at=None))
    _keep(name, endpoint._replace(next=endpoint.next + 1), turn)


def _move(name: str, turn: NotificationTurn, decided: Decided) -> None:
    """Takes an endpoint's line on: what has room goes out; while the endpoint takes nothing, all is parked.

    After `AT_ONCE` of them the rest waits for the partition's next step.
    """
    tables = turn.tables
    for _ in range(AT_ONCE):
        endpoint = _endpoint(name, turn)
        why = _why_not(name, endpoint, turn)
        if endpoint.first == endpoint.next or (why is None and not _has_room(endpoint, turn)):
            return
        key = line_key(name, endpoint.first)
        place = tables.lines.get(key)
        assert place is not None, "a line holds what it counts"
        tables.lines.delete(key)
        endpoint = endpoint._replace(first=endpoint.first + 1)
        queue = (place.endpoint, place.debtor, place.payment_id)
        row = tables.queues.get(queue_key(*queue))
        assert row is not None, "a queue stands in the line as long as it is there"
        if why is None:
            _hand_out(queue, row, endpoint, turn, decided)
        else:
            _keep(name, endpoint, turn)
            _park(queue, row, why, turn, decided)
    tables.endpoints.put(name, _waking(name, _endpoint(name, turn), turn.at, turn))


def _endpoint(name: str, turn: NotificationTurn) -> EndpointRow:
    return turn.tables.endpoints.get(name) or EndpointRow()


def _why_not(name: str, endpoint: EndpointRow, turn: NotificationTurn) -> str | None:
    """Why nothing goes to the endpoint; None where it does."""
    rule = turn.rules.notification.by_name.get(name)
    if rule is None:
        return "endpoint-unknown"
    return None if rule.enabled and endpoint.disabled_at is None else "endpoint-disabled"


def _has_room(endpoint: EndpointRow, turn: NotificationTurn) -> bool:
    return endpoint.out < turn.rules.notification.window and (endpoint.slow_until or 0) <= turn.at


def _keep(name: str, endpoint: EndpointRow, turn: NotificationTurn) -> None:
    """Puts the endpoint's row; a slow one with a line is woken up when it may go on."""
    slow = endpoint.slow_until
    if slow is not None and slow > turn.at and endpoint.wakes_at is None and endpoint.first < endpoint.next:
        endpoint = _waking(name, endpoint, slow, turn)
    turn.tables.endpoints.put(name, endpoint)


def _waking(name: str, endpoint: EndpointRow, moment: int, turn: NotificationTurn) -> EndpointRow:
    turn.tables.due.put(due_key(moment, (name, "", "")), PlaceRow(name, "", ""))
    return endpoint._replace(wakes_at=moment)


def _hand_out(queue: Queue, row: QueueRow, endpoint: EndpointRow, turn: NotificationTurn, decided: Decided) -> None:
    number = endpoint.number + 1
    event = Delivery(*row.head)._replace(
        number=number, attempt=row.failures + 1, state=DeliveryState.DUE, decided_at=turn.at, parked_for=None
    )
    decided.records.append(Out(DELIVERIES, event.debtor, event, turn.partition))
    turn.tables.queues.put(queue_key(*queue), row._replace(number=number, due_at=None))
    _keep(queue[0], endpoint._replace(number=number, out=endpoint.out + 1), turn)


def _park(queue: Queue, row: QueueRow, why: str, turn: NotificationTurn, decided: Decided) -> None:
    """Gives up on the head, and goes on with the event behind it."""
    event = Delivery(*row.head)._replace(
        number=0, attempt=row.failures, state=DeliveryState.PARKED, decided_at=turn.at, parked_for=why
    )
    decided.records.append(Out(DELIVERIES, event.debtor, event, turn.partition))
    _follow(queue, row, turn)


def _follow(queue: Queue, row: QueueRow, turn: NotificationTurn) -> None:
    """The head is done with: the next event of the payment takes its place, at the end of the line."""
    tables = turn.tables
    if row.first == row.next:
        tables.queues.delete(queue_key(*queue))
        return
    key = waiting_key(queue, row.first)
    behind = tables.waiting.get(key)
    assert behind is not None, "a queue holds what it counts"
    tables.waiting.delete(key)
    _line_up(queue, QueueRow(behind.event, first=row.first + 1, next=row.next), turn)


# -- what became of the calls ------------------------------------------------------------------------


def hear(batch: Sequence[Received], turn: NotificationTurn) -> Decided:
    """`notification.attempts`: outcomes of calls, and commands."""
    decided = Decided()
    for received in batch:
        attempt: Attempt = received.value
        match attempt.action:
            case AttemptAction.DELIVERED | AttemptAction.FAILED | AttemptAction.SLOW_DOWN | AttemptAction.GONE:
                _take(attempt, turn, decided)
            case AttemptAction.ENABLE | AttemptAction.DISABLE:
                _switch(attempt, turn, decided)
            case AttemptAction.RESEND:
                _resend(received, attempt, turn, decided)
            case AttemptAction.UNKNOWN:
                message = "the action is none that this version knows; a newer one may"
                decided.letters.append(Letter(received, "unknown-action", message))
            case _:
                assert_never(attempt.action)
    return decided


def _take(attempt: Attempt, turn: NotificationTurn, decided: Decided) -> None:
    """The outcome of a call. One that was taken before, or that is not of the head that is out, changes nothing."""
    queue = (attempt.endpoint, attempt.debtor, attempt.payment_id)
    row = turn.tables.queues.get(queue_key(*queue))
    if row is None or row.number is None or row.number != attempt.number:
        return
    name, at = attempt.endpoint, turn.at
    endpoint = _endpoint(name, turn)
    assert endpoint.out > 0, "what is out was counted"
    endpoint = endpoint._replace(out=endpoint.out - 1)
    if attempt.action == AttemptAction.SLOW_DOWN:
        until = at + min(_asked_s(attempt), SLOW_MOST_S) * SECOND
        endpoint = endpoint._replace(slow_until=max(endpoint.slow_until or 0, until))
    if attempt.action == AttemptAction.GONE:
        endpoint = endpoint._replace(disabled_at=at)
    _keep(name, endpoint, turn)
    if attempt.action == AttemptAction.DELIVERED:
        _follow(queue, row, turn)
    else:
        _failed(queue, row._replace(failures=row.failures + 1), attempt, turn, decided)
    _move(name, turn, decided)


def _asked_s(attempt: Attempt) -> int:
    """How long the endpoint wants to be left alone, in seconds; 0: it does not ask."""
    if attempt.action != AttemptAction.SLOW_DOWN:
        return 0
    return SLOW_S if attempt.retry_after_s is None else max(attempt.retry_after_s, 1)


def _failed(queue: Queue, row: QueueRow, attempt: Attempt, turn: NotificationTurn, decided: Decided) -> None:
    """The head waits for its next attempt, or is parked: behind the last one, and where the endpoint is gone."""
    waits_s = turn.rules.notification.waits_s
    if attempt.action == AttemptAction.GONE:
        _park(queue, row, "endpoint-disabled", turn, decided)
    elif row.failures >= len(waits_s):
        _park(queue, row, "attempts-used", turn, decided)
    else:
        wait = wait_of(attempt.event_id, row.failures, waits_s)
        due_at = turn.at + max(wait, min(_asked_s(attempt), ASKED_MOST_S) * SECOND)
        turn.tables.due.put(due_key(due_at, queue), PlaceRow(*queue))
        turn.tables.queues.put(queue_key(*queue), row._replace(number=None, due_at=due_at))


def _switch(attempt: Attempt, turn: NotificationTurn, decided: Decided) -> None:
    """An endpoint is enabled or disabled by hand, or because another partition heard that it is gone."""
    name = attempt.endpoint
    if name not in turn.rules.notification.by_name:
        return
    disabled_at = turn.at if attempt.action == AttemptAction.DISABLE else None
    _keep(name, _endpoint(name, turn)._replace(disabled_at=disabled_at), turn)
    _move(name, turn, decided)


def _resend(received: Received, attempt: Attempt, turn: NotificationTurn, decided: Decided) -> None:
    """Sends an event once more, behind what its payment has waiting; one that waits for its next attempt goes now."""
    event = attempt.resend
    if event is None or event.endpoint != attempt.endpoint:
        decided.letters.append(
            Letter(received, "bad-resend", "a RESEND names what is to be sent, and to whom; send it again")
        )
        return
    if partition_of(event.debtor, turn.partitions) != turn.partition:
        message = "a RESEND belongs on the partition of the payment's debtor; send it there"
        decided.letters.append(Letter(received, "wrong-partition", message))
        return
    tables = turn.tables
    queue = (event.endpoint, event.debtor, event.payment_id)
    row = tables.queues.get(queue_key(*queue))
    if row is None:
        _add(queue, event, turn, decided)
    elif Delivery(*row.head).event_id == event.event_id:
        if row.due_at is not None:
            tables.due.delete(due_key(row.due_at, queue))
            _stand(queue, row, turn, decided)
    elif not any(_waits(queue, number, event.event_id, turn) for number in range(row.first, row.next)):
        _add(queue, event, turn, decided)


def _waits(queue: Queue, number: int, event_id: str, turn: NotificationTurn) -> bool:
    row = turn.tables.waiting.get(waiting_key(queue, number))
    return row is not None and Delivery(*row.event).event_id == event_id


# -- waits that are over -----------------------------------------------------------------------------


def expire(turn: NotificationTurn, most: int) -> Decided:
    """Takes on at most `most` waits that are over, the earliest first."""
    decided = Decided()
    tables = turn.tables
    for key, place in tables.due.first(f"{turn.at + 1:020d}", most):
        tables.due.delete(key)
        decided.deadlines += 1
        name, debtor, payment_id = place
        if not debtor:
            _keep(name, _endpoint(name, turn)._replace(wakes_at=None), turn)
            _move(name, turn, decided)
            continue
        row = tables.queues.get(queue_key(name, debtor, payment_id))
        assert row is not None, "a wait stands for a queue"
        _stand((name, debtor, payment_id), row, turn, decided)
    return decided


def next_deadline(tables: NotificationTables) -> int | None:
    """The end of the earliest wait in µs, or None."""
    for key, _ in tables.due.first("~", 1):
        return int(key[:20])
    return None
