"""The common job: the rules and the bytes that every Python peer uses; it needs fastavro alone.

A payment has two legs. The debtor's partition de-duplicates by (debtor, idempotency_key), counts and sums what
the debtor asked for in the last hour, checks the balance, debits, and hands the intent on under the creditor's
key; the creditor's partition credits and writes the outcome. What is refused ends at the first leg. An account
that the state does not know starts with the opening money.

A row of an account is big-endian int64s: balance, then (five minutes, count, sum) for each that had an intent.
`kafka_streams/Transfers.java` does the same, byte for byte.
"""

import json
import os
import struct
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

AVRO = Path(__file__).parents[2] / "schemas" / "avro"
VARIABLE = "HEADRACE_PEER"
"""Environment variable that holds a worker's `Told` as JSON."""
HEAD = 5
"""Bytes before the value: 0x00 and the schema's id."""
SLICE = 300_000_000
"""Five minutes, in µs."""
SLICES = 12
"""Slices that the velocity rule looks at: one hour."""
COUNT_MOST = 1_000
"""Intents of a debtor in an hour; generous, so that it is looked at and never reached."""
SUM_MOST = 1_000_000_000
"""Minor units of a debtor in an hour."""
REPEATED, TOO_FAST, TOO_POOR = "AM05", "velocity", "AM04"
INTENTS, EVENTS = "payments.intents", "payments.events"

Intent = dict[str, Any]


class Told(NamedTuple):
    """What a worker is told."""

    bootstrap: str
    intents: str
    """Topics, with their prefix."""
    credits: str
    events: str
    group: str
    folder: str
    """Of its own state."""
    worker: int
    """From 0."""
    workers: int
    partitions: int
    opening: int
    """Minor units that an account starts with."""
    options: dict[str, Any]
    """The peer's settings."""

    def mine(self) -> list[int]:
        """The partitions of a worker that is given its own for good."""
        return [number for number in range(self.partitions) if number % self.workers == self.worker]


def told() -> Told:
    """What this process was told by whoever started it."""
    return Told(**json.loads(os.environ[VARIABLE]))


def packed(row: tuple[int, ...]) -> bytes:
    """A row as bytes."""
    return struct.pack(f">{len(row)}q", *row)


def unpacked(row: bytes) -> tuple[int, ...]:
    """Bytes as a row."""
    return struct.unpack(f">{len(row) >> 3}q", row)


def debited(row: bytes | None, intent: Intent, opening: int) -> tuple[bytes | None, str | None]:
    """The debtor's row after its intent and None, or None and why it is refused. Order: velocity, balance."""
    balance, *slices = unpacked(row) if row is not None else (opening,)
    amount, now = intent["amount_minor"], intent["requested_at"] // SLICE
    kept, count, total = [], 0, 0
    for place in range(0, len(slices), 3):
        if slices[place] > now - SLICES:
            kept += slices[place : place + 3]
            count += slices[place + 1]
            total += slices[place + 2]
    if count >= COUNT_MOST or total + amount > SUM_MOST:
        return None, TOO_FAST
    if balance < amount:
        return None, TOO_POOR
    if kept and kept[-3] == now:
        kept[-2:] = kept[-2] + 1, kept[-1] + amount
    else:
        kept += now, 1, amount
    return packed((balance - amount, *kept)), None


def credited(row: bytes | None, intent: Intent, opening: int) -> bytes:
    """The creditor's row after the credit."""
    balance, *slices = unpacked(row) if row is not None else (opening,)
    return packed((balance + intent["amount_minor"], *slices))


@cache
def _schema(topic: str) -> tuple[Any, bytes]:
    """A topic's schema with times as plain longs, and the bytes before its values."""
    newest = json.loads((AVRO / "catalogue.json").read_text())["subjects"][f"{topic}-value"][-1]
    schema = json.loads((AVRO / newest["file"]).read_text())
    return fastavro.parse_schema(_without_times(schema)), b"\0" + newest["id"].to_bytes(4, "big")


def _without_times(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_without_times(branch) for branch in schema]
    if isinstance(schema, dict):
        return {name: _without_times(value) for name, value in schema.items() if name != "logicalType"}
    return schema


def intent_reader() -> Callable[[bytes], Intent]:
    """The function that decodes intents, by fastavro; ValueError where the bytes are of another schema."""
    schema, head = _schema(INTENTS)
    read = fastavro.schemaless_reader

    def decode(data: bytes) -> Intent:
        if data[:HEAD] != head:
            raise ValueError(f"a value starts with {data[:HEAD].hex()}, not with {head.hex()}")
        found = BytesIO(data)
        found.seek(HEAD)
        return read(found, schema, None)  # type: ignore[return-value]

    return decode


def event_writer() -> Callable[[Intent, str | None, int], bytes]:
    """The function that encodes an intent's outcome, by fastavro: (intent, reason or None, µs since 1970)."""
    schema, head = _schema(EVENTS)
    write = fastavro.schemaless_writer

    def encode(intent: Intent, reason: str | None, at: int) -> bytes:
        status = "COMPLETED" if reason is None else "DECLINED"
        out = BytesIO()
        out.write(head)
        write(
            out,
            schema,
            {
                "event_id": intent["intent_id"],
                "payment_id": intent["payment_id"],
                "intent_id": intent["intent_id"],
                "sequence": 0,
                "status": status,
                "debtor": intent["debtor"],
                "creditor": intent["creditor"],
                "amount_minor": intent["amount_minor"],
                "currency": intent["currency"],
                "occurred_at": at,
                "reason": reason,
                "payment_state": status,
            },
        )
        return out.getvalue()

    return encode
