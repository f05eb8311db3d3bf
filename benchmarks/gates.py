"""What must hold for a measurement to count."""

from benchmarks.harness import Gate, say
from headrace.lag import measure
from replay.audit import audit
from replay.reader import Place, Reader
from schemas import codec
from schemas.events import PaymentEvent, Status
from topologies import topics
from topologies.engine.config import ClusterConfig
from topologies.payments import CORE

DECLINED_MOST = 0.02
PUBLISHED = {topics.INTENTS.name, topics.COMMANDS.name, topics.ALIASES.name}
COUNTED = [topics.INTENTS.name, topics.EVENTS.name, topics.POSTINGS.name, topics.CREDITS.name]
"""Topics whose records a gate counts."""


def judge(cluster: ClusterConfig, payments: int, before: dict[Place, int]) -> list[Gate]:
    """The gates of one drain of `payments` transfers; `before`: where the counted topics ended before it.

    Reading to the ends read_committed shows that no transaction is left open.
    """
    with Reader(cluster) as reader:
        after = reader.ends(COUNTED)
        # No transaction writes intents, so their offsets count them.
        offered = sum(end - before[place] for place, end in after.items() if place[0] == topics.INTENTS.name)
        events = [event for event in _events(reader, after, before) if event.status is not Status.SETTLED]
        postings, posting_ids = _postings(reader, after, before)
        credits_ = sum(1 for _ in reader.read(topics.CREDITS.name, after, before))
    lag = measure(cluster, CORE)
    statuses = [event.status for event in events]
    fates = {event.intent_id for event in events}
    completed, reversed_ = statuses.count(Status.COMPLETED), statuses.count(Status.REVERSED)
    declined = statuses.count(Status.DECLINED)
    repeated = len(events) - len({event.event_id for event in events})
    return [
        Gate(
            "one fate per intent",
            len(events) == len(fates) == payments,
            f"{len(events):,} events, {len(fates):,} intents",
        ),
        Gate("no repeated event id", repeated == 0, f"{repeated:,} repeated"),
        Gate("no repeated posting id", posting_ids == postings, f"{postings - posting_ids:,} repeated"),
        Gate(
            "exact counts",
            credits_ == completed + reversed_ and postings == 2 * (completed + reversed_) and _all_ended(statuses),
            f"{completed:,} completed, {reversed_:,} reversed, {credits_:,} credits, {postings:,} postings",
        ),
        Gate("at most 2 % declined", declined <= DECLINED_MOST * payments, f"{declined:,} declined"),
        Gate("0 dropped", offered == payments, f"{offered:,} of {payments:,} stand on {topics.INTENTS.name}"),
        Gate("zero lag, no open transaction", lag.records == 0 == lag.uncommitted_tail, f"{lag.records:,} wait"),
    ]


def _all_ended(statuses: list[Status]) -> bool:
    return all(status in {Status.COMPLETED, Status.REVERSED, Status.DECLINED} for status in statuses)


def _events(reader: Reader, after: dict[Place, int], before: dict[Place, int]) -> list[PaymentEvent]:
    decode = codec.decoder(topics.EVENTS.subject)
    return [decode(raw.value) for raw in reader.read(topics.EVENTS.name, after, before) if raw.value is not None]


def _postings(reader: Reader, after: dict[Place, int], before: dict[Place, int]) -> tuple[int, int]:
    """How many postings, and how many ids they have."""
    decode, count, ids = codec.decoder(topics.POSTINGS.subject), 0, set()
    for raw in reader.read(topics.POSTINGS.name, after, before):
        assert raw.value is not None, raw
        ids.add(decode(raw.value).posting_id)
        count += 1
    return count, len(ids)


def audited(cluster: ClusterConfig) -> list[Gate]:
    """The audit of everything, at rest."""
    say("auditing")
    return [Gate(f"audit: {check.name}", check.ok, check.detail) for check in audit(cluster, quiet=True).checks]


def volume(cluster: ClusterConfig) -> tuple[float, float]:
    """Records written per intent, and bytes of their keys and values, over all topics that workers write."""
    records = size = intents = 0
    with Reader(cluster) as reader:
        names = [topic.name for topic in CORE.topics() if topic.name not in PUBLISHED]
        after = reader.ends(names)
        for name in names:
            for raw in reader.read(name, after):
                records += 1
                size += len(raw.key or b"") + len(raw.value or b"")
        intents = sum(1 for _ in reader.read(topics.INTENTS.name, reader.ends([topics.INTENTS.name])))
    return round(records / intents, 2), round(size / intents, 1)
