"""The common job on headrace's engine gives what job.py's rules say."""

from random import Random

from benchmarks.peers import headrace_job, job
from schemas.events import Intent, Kind, Micros, Minor
from schemas.keys import partition_of
from topologies import topics
from topologies.engine.memory import Memory

OPENING = 10_000
NOW = 1_700_000_000_000_000
PARTITIONS = 4


def some_intents(rng, count=400, accounts=12):
    names = [f"account-{n}" for n in range(accounts)]
    found = []
    for n in range(count):
        debtor, creditor = rng.sample(names, 2)
        key = f"key-{rng.randrange(count)}"
        fields = (f"intent-{n}", key, Kind.TRANSFER, f"payment-{n}", debtor, creditor)
        found.append(Intent(*fields, Minor(rng.randrange(1, 4_000)), "EUR", Micros(NOW - rng.randrange(7_200_000_000))))
    return found


def oracle(intents):
    """job.py's rules: partition after partition, what came in before what goes out; then the last credits."""
    rows, seen, outcomes, credits_ = {}, set(), {}, []

    def take(partition):
        for intent, told in [one for one in credits_ if partition_of(one[0].creditor, PARTITIONS) == partition]:
            rows[intent.creditor] = job.credited(rows.get(intent.creditor), told, OPENING)
            credits_.remove((intent, told))

    for partition in range(PARTITIONS):
        take(partition)
        for intent in [one for one in intents if partition_of(one.debtor, PARTITIONS) == partition]:
            told = {"amount_minor": intent.amount_minor, "requested_at": intent.requested_at}
            if (intent.debtor, intent.idempotency_key) in seen:
                outcomes[intent.intent_id] = job.REPEATED
                continue
            seen.add((intent.debtor, intent.idempotency_key))
            after, reason = job.debited(rows.get(intent.debtor), told, OPENING)
            outcomes[intent.intent_id] = reason
            if after is not None:
                rows[intent.debtor] = after
                credits_.append((intent, told))
    for partition in range(PARTITIONS):
        take(partition)
    return outcomes, {name: job.unpacked(row)[0] for name, row in rows.items()}


def test_the_job_on_the_engine_decides_as_the_peers_do():
    """Same intents, same outcomes, same balances: what is compared is the engine, not the rules."""
    intents = some_intents(Random(7))
    memory = Memory(headrace_job.plan(OPENING), PARTITIONS, now=NOW)
    for intent in intents:
        memory.publish(topics.INTENTS, intent.debtor, intent)
    memory.run()
    outcomes, balances = oracle(intents)
    assert {event.intent_id: event.reason for event in memory.records(topics.EVENTS)} == outcomes
    assert set(outcomes.values()) >= {None, job.REPEATED, job.TOO_POOR}
    rows = {key: row for p in range(PARTITIONS) for key, row in memory.table(headrace_job.ACCOUNTS, p).items()}
    assert {name: row.balance for name, row in rows.items()} == balances
