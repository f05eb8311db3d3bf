"""Notification in memory: events in, deliveries out, and answers as an endpoint might give them."""

from builders import AT, PARTITIONS

from schemas.events import Micros, Minor, PaymentEvent, PaymentState, Status
from schemas.internal import Attempt, AttemptAction, DeliveryState
from schemas.keys import derive_id, partition_of
from streams.notification_rules import EndpointRule, NotificationRules
from streams.rules import Rules
from topologies.engine.memory.driver import Memory
from topologies.payments import NOTIFICATION
from topologies.topics import ATTEMPTS, DELIVERIES, EVENTS

DELIVERED, FAILED, SLOW_DOWN, GONE = (
    AttemptAction.DELIVERED, AttemptAction.FAILED, AttemptAction.SLOW_DOWN, AttemptAction.GONE,
)  # fmt: skip
SECOND = 1_000_000


def an_event(payment_id="pay-1", sequence=1, **fields):
    """A COMPLETED payment of 12.00 EUR from alice to shop; `fields` replace any of its fields."""
    event = PaymentEvent(
        event_id=derive_id("event", fields.get("debtor", "alice"), payment_id, sequence),
        payment_id=payment_id,
        intent_id=f"i-{payment_id}",
        sequence=sequence,
        status=Status.COMPLETED,
        debtor="alice",
        creditor="shop",
        amount_minor=Minor(1_200),
        currency="EUR",
        occurred_at=AT,
        payment_state=PaymentState.COMPLETED,
    )
    return event._replace(**fields)


class Notified:
    """The role on an in-memory log, with an endpoint that takes everything unless told otherwise."""

    def __init__(self, *endpoints, waits_s=(0, 5, 300), window=256):
        self.rules = NotificationRules(endpoints or (EndpointRule("hook"),), waits_s, window)
        self.memory = Memory(NOTIFICATION, PARTITIONS, Rules(notification=self.rules), AT)

    def tell(self, *events):
        """The events happen."""
        for event in events:
            self.memory.publish(EVENTS, event.debtor, event)
        self.memory.run()
        return self

    def wait(self, seconds):
        """Time goes by."""
        self.memory.run(self.memory.now + round(seconds * SECOND))
        return self

    @property
    def all(self):
        """Every record on notification.deliveries, as decided on its partition."""
        return self.memory.records(DELIVERIES)

    @property
    def due(self):
        """Every delivery that was handed out."""
        return [one for one in self.all if one.state == DeliveryState.DUE]

    @property
    def parked(self):
        """(payment, sequence, reason) of what was parked."""
        return [(one.payment_id, one.sequence, one.parked_for) for one in self.all if one.state == DeliveryState.PARKED]

    def calls(self, endpoint="hook"):
        """(payment, sequence, attempt) of what an endpoint was to be told, in order."""
        return [(one.payment_id, one.sequence, one.attempt) for one in self.due if one.endpoint == endpoint]

    def answer(self, delivery, action=DELIVERED, **fields):
        """The gateway writes what became of a delivery."""
        attempt = Attempt(
            delivery.endpoint, action, Micros(self.memory.now), delivery.debtor, delivery.payment_id,
            delivery.event_id, delivery.number, delivery.attempt, **fields,
        )  # fmt: skip
        self.memory.publish(ATTEMPTS, delivery.debtor, attempt)
        self.memory.run()
        return self

    def command(self, action, endpoint="hook", resend=None):
        """A command by hand: RESEND to the payment's partition, the others to all."""
        attempt = Attempt(endpoint, action, Micros(self.memory.now), resend=resend)
        where = range(PARTITIONS) if resend is None else [partition_of(resend.debtor, PARTITIONS)]
        for partition in where:
            self.memory.publish(ATTEMPTS, endpoint, attempt, partition)
        self.memory.run()
        return self

    def rows(self, table):
        """The rows of a table, all partitions together."""
        return [row for p in range(PARTITIONS) for row in self.memory.table(table, p).values()]

    @property
    def endpoint(self):
        """How the endpoint stands where alice lives."""
        return self.memory.table("endpoints", partition_of("alice", PARTITIONS))["hook"]

    def queues(self):
        """How many payments an endpoint is still to be told of."""
        return len(self.rows("queues"))
