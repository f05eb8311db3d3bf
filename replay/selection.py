"""Which records of a topic are meant: by window, key, payment, account, status."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from confluent_kafka import Message

from replay.window import Window
from schemas import codec
from schemas.codec import Undecodable
from schemas.events import Status
from topologies.topics import BY_NAME

ACCOUNTS = ("debtor", "creditor", "account")
"""Fields that name an account; entries name theirs, too."""


class BadSelection(Exception):
    """A filter that the topic's records can't be asked. Exit 2."""


class Wanted(NamedTuple):
    """What a record must have; None: anything."""

    key: str | None = None
    payment: str | None = None
    account: str | None = None
    status: str | None = None

    @property
    def fields(self) -> bool:
        """Whether a record must be decoded to be judged."""
        return any(one is not None for one in self[1:])


class Picked(NamedTuple):
    """A record that was meant; `record` is None where the topic has no schema, or `error` says why it is none."""

    message: Message
    at: int
    """When it happened, µs."""
    record: Any
    error: Undecodable | None = None


class Selection:
    """Picks the records of one topic (named without the prefix). Raises BadSelection, at once."""

    def __init__(self, topic: str, window: Window, wanted: Wanted) -> None:
        known = BY_NAME.get(topic)
        self.topic, self.window, self.wanted = topic, window, wanted
        self.subject = None if known is None else known.subject
        self.names: tuple[str, ...] = () if known is None else known.record._fields
        self.masks_key = known is not None and known.key == "alias"
        self._decode = None if self.subject is None else codec.decoder(self.subject)
        self._check()
        self._key = None if wanted.key is None else wanted.key.encode()
        # Strings stand in Avro as they are.
        self._needles = [one.encode() for one in (wanted.payment, wanted.account) if one is not None]

    def _check(self) -> None:
        wanted, names = self.wanted, self.names
        if wanted.fields and self.subject is None:
            raise BadSelection(
                f"what {self.topic} holds is not decoded, so it can be filtered by key only; for dead letters see "
                "`headrace dlq list --payment` and `--account`"
            )
        for name, value, there in (
            ("payment", wanted.payment, "payment_id" in names),
            ("account", wanted.account, {*ACCOUNTS, "entries"} & {*names}),
            ("status", wanted.status, "status" in names),
        ):
            if value is not None and not there:
                raise BadSelection(f"records of {self.topic} have no {name}; leave out --{name}, or name another topic")
        if wanted.status is not None and wanted.status not in set(Status):
            near = get_close_matches(wanted.status.upper(), [str(one) for one in Status], 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(Status)}"
            raise BadSelection(f"no status is called {wanted.status!r}; {hint}")
        for text in wanted:
            try:
                (text or "").encode()
            except UnicodeEncodeError:
                raise BadSelection(f"{text!r} is no UTF-8, so no record has it") from None

    def near(self, message: Message) -> bool:
        """Whether a record may be meant, as far as its bytes tell."""
        if self._key is not None and message.key() != self._key:
            return False
        if not self._needles:
            return True
        value = message.value() or b""
        return all(needle in value for needle in self._needles)

    def means(self, record: Any) -> bool:
        """Whether a record has what it must have."""
        _, payment, account, status = self.wanted
        if payment is not None and record.payment_id != payment:
            return False
        if status is not None and record.status != status:
            return False
        if account is None:
            return True
        if any(getattr(record, name, None) == account for name in ACCOUNTS):
            return True
        return any(entry.account == account for entry in getattr(record, "entries", ()))

    def pick(self, messages: Sequence[Message]) -> Iterator[Picked]:
        """The records that are meant. Undecodable ones are, unless a field is asked for."""
        decode, holds, asked = self._decode, self.window.holds, self.wanted.fields
        for message in messages:
            if not self.near(message):
                continue
            record, error, at = None, None, message.timestamp()[1] * 1_000
            if decode is not None:
                try:
                    record = decode(message.value())
                    at = getattr(record, "occurred_at", at)
                except Undecodable as undecodable:
                    error = undecodable
            if asked and (record is None or not self.means(record)):
                continue
            if holds(message.offset() or 0, at):
                yield Picked(message, at, record, error)
