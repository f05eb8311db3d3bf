"""What strangers are told of an event: the same words in webhooks and on streams. Ids, codes and money, nothing else."""

from typing import Any

import orjson

from headrace.moments import shown
from schemas.events import PaymentEvent
from schemas.internal import Delivery
from streams.notification import type_of


def told(event: PaymentEvent | Delivery) -> dict[str, Any]:
    """`type`, `timestamp` and `data`; amounts are whole minor units beside their currency."""
    data = {
        "event_id": event.event_id,
        "payment_id": event.payment_id,
        "intent_id": event.intent_id,
        "sequence": event.sequence,
        "status": event.status,
        "payment_state": event.payment_state,
        "reason": event.reason,
        "debtor": event.debtor,
        "creditor": event.creditor,
        "amount_minor": event.amount_minor,
        "currency": event.currency,
        "occurred_at": shown(event.occurred_at),
        "deadline_at": shown(event.deadline_at),
    }
    return {"type": type_of(event), "timestamp": shown(event.occurred_at), "data": data}


def body_of(delivery: Delivery) -> bytes:
    """A webhook's body: the same bytes at each attempt (R38)."""
    return orjson.dumps(told(delivery))
