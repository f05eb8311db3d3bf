"""What must hold whatever strangers send: at the codec's door, and behind it."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from typing import Any

import fastavro
import orjson
from avro_values import current, plain, timeless
from builders import AT, PARTITIONS, a_claim, a_command, an_intent
from hostile import INSIDE, PEOPLE, Again, Flood, Published

from headrace.checks import Refused, check
from headrace.publisher import TOPIC_OF
from replay.audit import judge
from replay.reader import Place, Raw
from schemas import codec, wire
from schemas.codec import Undecodable
from schemas.events import Intent, Micros, Minor, Status
from schemas.keys import partition_of
from streams.rules import DAY, HOUR, Rules
from topologies import topics
from topologies.engine.memory import Memory
from topologies.payments import CORE
from topologies.topics import dead_letters

CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
EVERYBODYS = {"truncated", "bad-utf8"}
"""Codes of bytes that fastavro must refuse too. Others are limits of our own, and it takes an index of -1."""
ROW_MOST = RECORD_MOST = 900_000
"""Bytes that a changelog record or an output record may have: Kafka's clients take 1,000,000 as they come."""
SHOPPER, SHOP = "nina", "otto"
"""Good people: no stranger names them, and every payment between them must arrive."""

Act = Published | Again | Flood | int | tuple[int, int]
"""What a stranger sends, µs to let pass, or (partition, records of a topic) to step."""


# -- bytes -------------------------------------------------------------------------------------------


def value_is_judged(subject: str, value: bytes | None) -> str:
    """A record that fastavro finds too and that can be written again, or Undecodable; gives "record" or the code."""
    try:
        record = codec.decoder(subject)(value)
    except Undecodable as refused:
        return _refused(subject, value, refused)
    assert value is not None
    assert len(value) <= wire.VALUE_MOST
    found = _by_fastavro(subject, value)
    assert found, "fastavro refuses what we take"
    assert _same(found[0], plain(record)), (found[0], record)
    assert _same(plain(codec.decoder(subject)(codec.encode(record))), plain(record))
    return "record"


def _refused(subject: str, value: bytes | None, refused: Undecodable) -> str:
    assert CODE.fullmatch(refused.code), refused.code
    assert 0 < len(refused.reason) < 300, refused.reason
    if value is not None and refused.code in EVERYBODYS and len(value) >= codec.HEAD:
        assert not _by_fastavro(subject, value), f"fastavro takes what we refuse as {refused}"
    return refused.code


def _by_fastavro(subject: str, value: bytes) -> list[Any]:
    """What fastavro finds, if it takes all of the bytes."""
    source = BytesIO(value[codec.HEAD :])
    try:
        found = fastavro.schemaless_reader(source, fastavro.parse_schema(timeless(current(subject))), None)
    except Exception:  # noqa: BLE001  # whatever it says, it refuses
        return []
    return [found] if source.tell() == len(value) - codec.HEAD else []


def _same(one: Any, other: Any) -> bool:
    """Equal, with every NaN the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return bool(one == other and type(one) is type(other))


# -- decisions ---------------------------------------------------------------------------------------


def opened(rules: Rules) -> Memory:
    """The plan in memory, with the people's accounts open and funded; `rules` hold from then on."""
    memory = Memory(CORE, PARTITIONS, now=int(AT))
    memory.publish(topics.COMMANDS, "bank", a_command("bank", flags=("DEBIT_NORMAL",)))
    for name in (*PEOPLE, SHOPPER, SHOP):
        memory.publish(topics.COMMANDS, name, a_command(name))
    memory.publish(topics.ALIASES, "EMAIL:bob@example.org", a_claim("EMAIL:bob@example.org", "bob"))
    memory.run()
    for name in (*PEOPLE, SHOPPER):
        fund = an_intent(f"fund-{name}", debtor="bank", creditor=name, amount_minor=Minor(1_000_000))
        memory.publish(topics.INTENTS, "bank", fund)
    memory.run()._rules = rules
    return memory


def strangers_are_endured(acts: Sequence[Act], rules: Rules) -> Counter[str]:
    """Every input gets its one fate, the books stay right, and good payments arrive; gives how often which fate."""
    memory, sent, good = opened(rules), [], 0
    for act in acts:
        if isinstance(act, int):
            memory = memory.run() if act > 2 * DAY else memory  # no partition lags for so long
            memory.now = Micros(memory.now + act)
        elif isinstance(act, Published | Again | Flood):
            for one in _publications(act, sent):
                memory._append(*one)
                sent.append(one)
        else:
            memory._step(*act)
            good += 1
            memory.publish(topics.INTENTS, SHOPPER, _good(good, memory.now))
    memory.run()
    memory.run(at=memory.now + 5 * HOUR)
    _letters_are_the_inputs(memory)
    _commands_are_answered(memory)
    _state_is_bounded(memory)
    arrived = {e.intent_id for e in memory.records(topics.EVENTS) if e.status == Status.COMPLETED}
    assert {f"i-good-{n + 1}" for n in range(good)} <= arrived, "a good payment did not arrive"
    return _audited(memory, intruded=any(one.topic in INSIDE for one in sent))


def _publications(act: Published | Again | Flood, sent: list[Published]) -> list[Published]:
    """The records that an act means; `sent` are those before it."""
    if isinstance(act, Published):
        return [act]
    if isinstance(act, Again):
        return sent[-1 - act.back :][:1]
    intent, key = act.intent, act.intent.debtor
    place = (topics.INTENTS.name, partition_of(key, PARTITIONS), key.encode())
    return [
        Published(*place, codec.encode(intent._replace(idempotency_key=f"flood-{n}-{intent.idempotency_key[:100]}")))
        for n in range(act.count)
    ]


def _good(number: int, now: int) -> Intent:
    """A payment of its own amount, asked for late enough to be young when a later step reads it."""
    fields = {"amount_minor": Minor(number), "requested_at": Micros(now + 365 * DAY)}
    return an_intent(f"good-{number}", debtor=SHOPPER, creditor=SHOP, **fields)


def _letters_are_the_inputs(memory: Memory) -> None:
    """Byte for byte, each once, with a code and a way out."""
    places = set()
    for parcel in memory.letters:
        stored = memory._log[parcel.topic.name, parcel.partition][parcel.raw.offset]
        assert (stored.key, stored.value) == (parcel.raw.key, parcel.raw.value)
        assert CODE.fullmatch(parcel.code), parcel.code
        assert parcel.message
        places.add((parcel.topic.name, parcel.partition, parcel.raw.offset))
    assert len(places) == len(memory.letters), "a record was dead-lettered twice"


def _commands_are_answered(memory: Memory) -> None:
    """One answer on accounts.events for each command and claim that is no dead letter."""
    asked = [topics.COMMANDS, topics.ALIASES]
    letters = sum(parcel.topic in asked for parcel in memory.letters)
    published = sum(len(memory.stored(topic)) for topic in asked)
    assert len(memory.records(topics.ACCOUNT_EVENTS)) == published - letters


def _state_is_bounded(memory: Memory) -> None:
    """Every row is JSON of a bounded size, and so is every record that we write."""
    for (table, partition), base in memory._bases.items():
        for key, row in base.rows.items():
            size = len(orjson.dumps(row, default=tuple)) + len(key.encode())
            assert size <= ROW_MOST, f"a row of {table} on partition {partition} has {size} bytes"
    for topic in (topics.EVENTS, topics.POSTINGS, topics.CREDITS, topics.ACCOUNT_EVENTS):
        assert all(len(stored.value or b"") <= RECORD_MOST for stored in memory.stored(topic)), topic.name


class Log:
    """The log of the in-memory driver, as the audit reads it: keys, empty values and headers as they stand."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        letters = [dead_letters(agent.name) for agent in CORE.agents if agent.reads_topics]
        names = [topic.name for topic in (*topics.CONTRACT, *letters)]  # it keeps no changelog
        self._places = [(name, partition) for name in names for partition in range(memory.partitions)]

    def require(self, _topics: Sequence[str]) -> dict[str, int]:
        """Every topic of the plan is there."""
        return {topic: self._memory.partitions for topic, _ in self._places}

    def ends(self, wanted: Sequence[str]) -> dict[Place, int]:
        """The number of records of each partition."""
        return {place: len(self._memory._log.get(place, ())) for place in self._places if place[0] in wanted}

    def starts(self, wanted: Sequence[str]) -> dict[Place, int]:
        """Nothing was deleted."""
        return dict.fromkeys(self.ends(wanted), 0)

    def read(self, topic: str, ends: Mapping[Place, int], starts: Mapping[Place, int] | None = None) -> Iterator[Raw]:
        """Partition by partition."""
        for place, end in ends.items():
            if place[0] != topic:
                continue
            for stored in self._memory._log.get(place, [])[(starts or {}).get(place, 0) : end]:
                yield Raw(*place, stored.offset, stored.timestamp, stored.key, stored.value, list(stored.headers))


def _audited(memory: Memory, *, intruded: bool) -> Counter[str]:
    """The audit finds nothing; but where somebody else wrote to a topic of ours it says just that."""
    report = judge(Log(memory), quiet=True)
    failed = {check.name: check.detail for check in report.checks if not check.ok}
    if intruded:
        assert "somebody else wrote here" in failed.pop("records are readable")
    assert failed == {}, failed
    assert all(sum(kinds.values()) == 0 for kinds in report.money.values())
    letters = {f"letter {code}": count for code, count in report.dead_letters.items()}
    return Counter({**report.fates, **letters, **{f"declined {r}": n for r, n in report.declined_by_reason.items()}})


# -- publishers --------------------------------------------------------------------------------------

MALFORMED = {"bad-form", "AM01", "AM11", "AM12"}
"""Reasons that a publisher could have told (R10, guard 2)."""


def publisher_and_pipeline_agree(records: Sequence[Any], rules: Rules) -> int:
    """What the publisher lets out is no dead letter and not malformed; gives how much it let out."""
    memory, sent = opened(rules), 0
    for record in records:
        try:
            check(record, pan_guard=rules.pan_guard)
        except Refused:
            continue
        sent += 1
        topic = TOPIC_OF[type(record)]
        memory.publish(topic, str(getattr(record, topic.key)), record)
    memory.run()
    assert [(parcel.code, parcel.raw) for parcel in memory.letters] == []
    for answer in (*memory.records(topics.EVENTS), *memory.records(topics.ACCOUNT_EVENTS)):
        assert answer.reason not in MALFORMED, answer
    return sent
