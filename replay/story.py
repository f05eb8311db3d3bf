"""A payment's story: its events in their order, repeats beside what they repeat (R15, R19)."""

from typing import NamedTuple

from replay.audit import Source
from schemas import codec
from schemas.events import PaymentEvent
from schemas.keys import partition_of
from topologies.topics import EVENTS


class UnknownPayment(Exception):
    """No event names such a payment."""


class Unreadable(Exception):
    """An event can't be decoded."""


class Told(NamedTuple):
    """An event, and where it stands on `payments.events`."""

    partition: int
    offset: int
    event: PaymentEvent

    @property
    def repeat(self) -> bool:
        """Whether it says again what was said, for an intent that was sent again (R19)."""
        return self.event.repeat_intent_id is not None


def story(source: Source, payment_id: str, debtor: str | None = None) -> list[Told]:
    """The events of `payment_id`, by debtor, then by sequence and place; repeats follow what they repeat.

    Payment ids are a debtor's own, so without `debtor` several payments may be found, and every partition
    is read. Raises UnknownPayment, Unreadable, replay.reader.Unreachable and TopicMissing.
    """
    name = EVENTS.name
    count = source.require([name])[name]
    try:
        needle = payment_id.encode()
        home = None if debtor is None else partition_of(debtor, count)
    except UnicodeEncodeError:
        raise UnknownPayment(f"no payment is named {payment_id!r} of {debtor!r}: that is no UTF-8") from None
    decode = codec.decoder(EVENTS.subject)
    ends = {place: end for place, end in source.ends([name]).items() if home is None or place[1] == home}
    found = []
    for raw in source.read(name, ends):
        if raw.value is None or needle not in raw.value:  # strings stand in Avro as they are
            continue
        try:
            event = decode(raw.value)
        except codec.Undecodable as error:
            raise Unreadable(
                f"{name} partition {raw.partition} offset {raw.offset} can't be decoded ({error.code}: "
                f"{error.reason}); find out what else is wrong: headrace audit"
            ) from error
        if event.payment_id == payment_id and debtor in (None, event.debtor):
            found.append(Told(raw.partition, raw.offset, event))
    if not found:
        whose = "" if debtor is None else f" of {debtor}"
        raise UnknownPayment(
            f"no event on {name} tells of payment {payment_id}{whose}. Check the id{'' if debtor is None else 's'}, and "
            "--run or the topic prefix. What was just sent may still wait (`headrace lag`); what broke the contract is "
            "a dead letter."
        )
    return sorted(found, key=lambda told: (told.event.debtor, told.event.sequence, told.offset))
