"""Naive: the loop that one writes first, with confluent-kafka's transactions and rows in RocksDB.

It follows confluent-kafka-python's `examples/eos-transactions.py`; `records` of the options is how many input
records a transaction takes. The rows are written after the commit and have no changelog: a crash between the
two loses them, so its state is persisted, but not exactly once.
"""

from pathlib import Path
from time import time_ns
from typing import Any

from confluent_kafka import Message, Producer, TopicPartition
from rocksdict import Options, Rdict, WriteBatch

from benchmarks.peers import job
from benchmarks.peers.echo import Stop, clients, commit

ACCOUNT, KEY = b"a", b"k"
"""First bytes of the rows' keys."""


class Ledger:
    """The rows of one worker: a store, and what the open transaction changes."""

    def __init__(self, wanted: job.Told, producer: Producer) -> None:
        self._store = Rdict(str(Path(wanted.folder) / f"rows-{wanted.worker}"), Options(raw_mode=True))
        self._changed: dict[bytes, bytes] = {}
        self._told = wanted
        self._producer = producer
        self._decode, self._encode = job.intent_reader(), job.event_writer()

    def _get(self, key: bytes) -> bytes | None:
        found: bytes | None = self._changed[key] if key in self._changed else self._store.get(key)
        return found

    def take(self, message: Message) -> None:
        """One record of either topic."""
        intent = self._decode(message.value())
        if message.topic() == self._told.intents:
            self._debit(message, intent)
        else:
            row = ACCOUNT + message.key()
            self._changed[row] = job.credited(self._get(row), intent, self._told.opening)
            self._end(intent, None)

    def _debit(self, message: Message, intent: job.Intent) -> None:
        seen = KEY + message.key() + b"\0" + intent["idempotency_key"].encode()
        row = ACCOUNT + message.key()
        if self._get(seen) is not None:
            self._end(intent, job.REPEATED)
            return
        self._changed[seen] = intent["intent_id"].encode()
        after, reason = job.debited(self._get(row), intent, self._told.opening)
        if after is None:
            self._end(intent, reason)
        else:
            self._changed[row] = after
            self._produce(self._told.credits, intent["creditor"], message.value())

    def _end(self, intent: job.Intent, reason: str | None) -> None:
        self._produce(self._told.events, intent["debtor"], self._encode(intent, reason, time_ns() // 1_000))

    def _produce(self, topic: str, key: str, value: Any) -> None:
        self._producer.produce(topic, value, key)

    def apply(self) -> None:
        """The transaction is committed: its rows go to the store."""
        batch = WriteBatch(raw_mode=True)
        for key, value in self._changed.items():
            batch.put(key, value)
        self._store.write(batch)
        self._changed.clear()

    def close(self) -> None:
        """Closes the store."""
        self._store.close()


def main() -> None:
    """Runs until SIGTERM."""
    stop, wanted = Stop(), job.told()
    consumer, producer = clients({})
    topics = (wanted.intents, wanted.credits)
    consumer.assign([TopicPartition(topic, number, 0) for topic in topics for number in wanted.mine()])
    ledger = Ledger(wanted, producer)
    while not stop:
        messages = consumer.consume(wanted.options["records"], 0.1)
        if not messages:
            continue
        producer.begin_transaction()
        ends = {}
        for message in messages:
            if message.error() is not None:
                raise RuntimeError(str(message.error()))
            ledger.take(message)
            ends[message.topic(), message.partition()] = message.offset() + 1
        commit(consumer, producer, ends)
        ledger.apply()
    consumer.close()
    ledger.close()


if __name__ == "__main__":
    main()
