"""Stock Faust, `processing_guarantee="exactly_once"`: an agent per leg, rows in tables of RocksDB.

As its README has it for speed and production ("Bundles"): uvloop and RocksDB. Larger batches of its producers, by
its settings `producer_max_batch_size` and `producer_linger`, are tried beside its own; keys and values are raw bytes,
since the job has a codec. Both agents change one table, each under its own record's key.

    python -m faust -A benchmarks.peers.faust_stock --loop uvloop worker --without-web
"""

from time import time_ns

import faust

from benchmarks.peers import job

WANTED = job.told()
SEPARATOR = b"\0"

app = faust.App(
    WANTED.group,
    broker=f"kafka://{WANTED.bootstrap}",
    store="rocksdb://?driver=rocksdict",
    datadir=f"{WANTED.folder}/{WANTED.worker}",
    processing_guarantee="exactly_once",
    autodiscover=False,
    topic_partitions=WANTED.partitions,
    topic_replication_factor=1,
    key_serializer="raw",
    value_serializer="raw",
    consumer_auto_offset_reset="earliest",
    **WANTED.options,
)
intents = app.topic(WANTED.intents, key_type=bytes, value_type=bytes, partitions=WANTED.partitions)
credits_ = app.topic(WANTED.credits, key_type=bytes, value_type=bytes, partitions=WANTED.partitions)
events = app.topic(WANTED.events, key_type=bytes, value_type=bytes, partitions=WANTED.partitions)
accounts = app.Table("accounts", partitions=WANTED.partitions, key_type=bytes, value_type=bytes)
keys = app.Table("keys", partitions=WANTED.partitions, key_type=bytes, value_type=bytes)
decode, encode = job.intent_reader(), job.event_writer()


async def end(intent: job.Intent, reason: str | None) -> None:
    """The outcome's event."""
    await events.send(key=intent["debtor"].encode(), value=encode(intent, reason, time_ns() // 1_000))


@app.agent(intents)
async def debit(stream: faust.Stream[bytes]) -> None:
    """The first leg."""
    async for debtor, value in stream.items():
        intent = decode(value)
        seen = debtor + SEPARATOR + intent["idempotency_key"].encode()
        if keys.get(seen) is not None:
            await end(intent, job.REPEATED)
            continue
        keys[seen] = intent["intent_id"].encode()
        after, reason = job.debited(accounts.get(debtor), intent, WANTED.opening)
        if after is None:
            await end(intent, reason)
        else:
            accounts[debtor] = after
            await credits_.send(key=intent["creditor"].encode(), value=value)


@app.agent(credits_)
async def credit(stream: faust.Stream[bytes]) -> None:
    """The second leg."""
    async for creditor, value in stream.items():
        intent = decode(value)
        accounts[creditor] = job.credited(accounts.get(creditor), intent, WANTED.opening)
        await end(intent, None)
