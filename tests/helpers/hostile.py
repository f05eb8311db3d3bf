"""What strangers may send, as hypothesis strategies: bytes that are no record, and records that no one expects."""

import struct
from typing import Any, NamedTuple

from avro_values import SUBJECTS, head, records
from builders import AT, PARTITIONS, a_claim, a_command, an_intent, key_of
from hypothesis import strategies as st

from schemas import codec, wire
from schemas.aliases import normal_alias
from schemas.events import AccountAction, AliasAction, AliasClaim, Intent, Kind
from schemas.keys import murmur2, partition_of
from streams.rules import DAY, HOUR, Rules, ScreeningRules
from topologies import topics

PEOPLE = ("alice", "bob", "carla", "dave")
"""Open and funded, in EUR, without overdraft."""
CARD = "4111 1111 1111 1111"

ints64 = st.sampled_from([0, 1, -1, 63, 64, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63)]) | st.integers(
    -(2**63), 2**63 - 1
)


def varint(raw: int) -> bytes:
    """An unsigned varint, of any length."""
    out = bytearray()
    while raw > 127:
        out.append(raw & 127 | 128)
        raw >>= 7
    return bytes([*out, raw])


# -- bytes -------------------------------------------------------------------------------------------

varints = st.one_of(
    ints64.map(lambda n: varint((n << 1) ^ (n >> 63))),
    st.integers(0, 2**70).map(varint),
    st.integers(1, 12).map(lambda n: b"\xff" * n),
    st.integers(1, 10).map(lambda n: b"\x80" * n + b"\0"),
)
bombs = st.one_of(
    varints,
    st.tuples(varints, varints).map(b"".join),
    st.integers(0, 300).map(lambda n: b"\x01\x02" * n),
    st.sampled_from([wire.STRING_MOST, wire.STRING_MOST + 1, wire.VALUE_MOST]).map(lambda n: varint(2 * n) + b"x" * n),
    st.sampled_from([wire.ITEMS_MOST, wire.ITEMS_MOST + 1]).map(lambda n: varint(2 * n) + bytes(n) + b"\0"),
    st.sampled_from([b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xff\xfe"]).map(
        lambda t: varint(2 * len(t)) + t
    ),
    st.sampled_from([float("nan"), float("inf"), -0.0, 1e308]).map(lambda f: struct.pack("<d", f)),
)


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Sound bytes with flips, bombs, deletions, pieces of itself repeated, and perhaps cut off."""
    value = bytearray(sound)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value)))
        what = draw(st.sampled_from(["flip", "bomb", "delete", "repeat", "truncate"]))
        end = min(len(value), at + draw(st.integers(1, 12)))
        if what == "flip" and at < len(value):
            value[at] ^= draw(st.integers(1, 255))
        elif what == "bomb":
            value[at : end if draw(st.booleans()) else at] = draw(bombs)
        elif what == "delete":
            del value[at:end]
        elif what == "repeat":
            value[at:at] = value[at:end] * draw(st.sampled_from([1, 2, 60, 9_000]))
        elif what == "truncate":
            del value[at:]
    return bytes(value)


def heads(subject: str) -> st.SearchStrategy[bytes]:
    """The five bytes before a value: right, of another subject, of no schema, or no head at all."""
    others = st.sampled_from(SUBJECTS).map(head)
    return st.just(head(subject)) | others | st.binary(min_size=5, max_size=5) | st.binary(max_size=17)


@st.composite
def values(draw: st.DrawFn, subject: str) -> bytes | None:
    """Any value for a subject: noise, or what was once sound."""
    if draw(st.integers(0, 9)) < 3:
        noise = draw(st.binary(max_size=80) | st.lists(bombs, max_size=8).map(b"".join) | st.none())
        return None if noise is None else draw(heads(subject)) + noise
    sound = codec.encode(draw(records(subject)))
    if draw(st.integers(0, 9)) < 2:
        return draw(heads(subject)) + sound[codec.HEAD :]
    return draw(damaged(sound))


# -- records that can be decoded ---------------------------------------------------------------------

texts = st.one_of(
    st.sampled_from(
        [
            "", " ", "\0", "\0" * 255, "\0" * 8192, "x" * 255, "x" * 256, "é" * 128, "x" * 8192, "😀" * 2048, "\u2028",
            "\ufeff", "\ufffd", "\U0010ffff", "\ud7ff\ue000", "a\u0301", "á", "nobody", "~", "~in-transit/EUR/0-0",
            "~holds/EUR/0-0", CARD, "4111111111111111", "4" * 19, "null", "-1", "\x1b[31m", "a\nb", "alice\0", "ALICE",
        ]
    ),
    st.text(max_size=12),
    st.sampled_from(PEOPLE),
)  # fmt: skip
amounts = ints64 | st.sampled_from([10**15 - 1, 10**15, -(10**15), 2**62 - 1, 100, 5_000])
times = ints64 | st.integers(AT - 3 * DAY, AT + 3 * DAY)
doubles = st.floats() | st.sampled_from([90.0, 90.1, -180.0, 180.1, 52.5])
aliases = st.sampled_from(
    [
        "EMAIL:bob@example.org", "email: Bob@Example.org", "EMAIL:nobody@example.org", "HANDLE:@x", "HANDLE:", ":",
        "MSISDN:+491701234567", "IBAN:DE89370400440532013000", f"HANDLE:{CARD}", "HANDLE:" + "a" * 8000, "FAX:1",
        "HANDLE:\u212a", "EMAIL:\0@x",
    ]
)  # fmt: skip
maps = st.dictionaries(texts, texts, max_size=3) | st.just({"allow_duplicate": "true"})
optional = {"expires_at": times, "creditor_alias": aliases | texts, "latitude": doubles, "longitude": doubles}
optional |= {"device_id": texts, "channel": texts | st.just("APP"), "metadata": maps, "decided_by": texts}
optional |= {"method": texts | st.just("step_up")}
odd_fields: dict[str, st.SearchStrategy[Any]] = {
    "intent_id": texts,
    "idempotency_key": texts | st.sampled_from(["k1", "k2", "k3"]),
    "kind": st.sampled_from(Kind),
    "payment_id": texts | st.sampled_from(["p1", "p2", "p3"]),
    "debtor": texts,
    "creditor": texts,
    "amount_minor": amounts,
    "currency": texts | st.sampled_from(["EUR", "USD", "JPY", "XAU", "eur"]),
    "requested_at": times,
    **{name: st.none() | strategy for name, strategy in optional.items()},
}


@st.composite
def intents(draw: st.DrawFn) -> Intent:
    """A transfer or a decision with up to four fields that nobody expects."""
    number = draw(st.integers(0, 5))
    intent = an_intent(
        f"p{number}",
        idempotency_key=f"k{draw(st.integers(0, 9))}",
        intent_id=f"i{draw(st.integers(0, 10**6))}",
        kind=draw(st.sampled_from([Kind.TRANSFER, Kind.TRANSFER, Kind.APPROVE, Kind.REJECT])),
        debtor=draw(st.sampled_from(PEOPLE)),
        creditor=draw(st.sampled_from(PEOPLE)),
        amount_minor=draw(st.sampled_from([1, 100, 5_000, 90_000_000])),
        decided_by=draw(st.sampled_from([None, "ann", "alice"])),
    )
    names = draw(st.lists(st.sampled_from(sorted(odd_fields)), max_size=4, unique=True))
    return intent._replace(**{name: draw(odd_fields[name]) for name in names})


@st.composite
def commands(draw: st.DrawFn) -> Any:
    """Any command on an account that may be there."""
    odd = {
        "command_id": texts | st.sampled_from(["c1", "c2"]),
        "account": texts,
        "currency": texts | st.sampled_from(["EUR", "USD", "XAU"]),
        "requested_at": times,
        "flags": st.lists(st.sampled_from(["NO_OVERDRAFT", "DEBIT_NORMAL", "NO_DEBITS", "NO_CREDITS", ""]), max_size=3).map(tuple),
        "max_payment_minor": st.none() | amounts,
        "window_s": st.none() | ints64 | st.just(3_600),
        "max_amount_minor": st.none() | amounts,
        "max_count": st.none() | ints64,
    }  # fmt: skip
    action = draw(st.sampled_from([*AccountAction, AccountAction.LIMIT]))
    account = draw(st.sampled_from([*PEOPLE[1:], "erin", "frank"]))
    command = a_command(account, command_id=f"c{draw(st.integers(0, 99))}", command=action, flags=())
    names = draw(st.lists(st.sampled_from(sorted(odd)), max_size=4, unique=True))
    return command._replace(**{name: draw(odd[name]) for name in names})


@st.composite
def claims(draw: st.DrawFn) -> Any:
    """A claim or release of any alias by anybody."""
    return a_claim(
        draw(aliases | texts),
        draw(st.sampled_from(PEOPLE) | texts),
        claim_id=draw(st.sampled_from(["a1", "a2"]) | texts),
        command=draw(st.sampled_from(AliasAction)),
        requested_at=draw(times),
    )


# -- publications ------------------------------------------------------------------------------------


class Published(NamedTuple):
    """A record as a stranger may put it anywhere: the key and the partition need not be right."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class Again(NamedTuple):
    """A stranger asks once more: the record that was published so many before."""

    back: int


class Flood(NamedTuple):
    """So many intents on one payment, each under a key of its own."""

    intent: Intent
    count: int


STRANGERS = {topics.INTENTS: intents(), topics.COMMANDS: commands(), topics.ALIASES: claims()}
INSIDE = (topics.CREDITS.name, topics.REVERSALS.name)
"""Only workers write there; a stranger who does can bring bytes that are no record."""
keys = st.none() | st.binary(max_size=9) | texts.map(str.encode)


def _partition(key: bytes) -> int:
    return (murmur2(key) & 0x7FFFFFFF) % PARTITIONS


def _key(draw: st.DrawFn, record: Any) -> bytes:
    """The key that the contract asks for; of a claim also the alias as it is spelt."""
    normal = normal_alias(record.alias) if isinstance(record, AliasClaim) else None
    return (normal if normal and draw(st.booleans()) else key_of(record)).encode()


@st.composite
def publications(draw: st.DrawFn) -> Published:
    """One record on an input topic: mostly under its key, mostly on its partition, often decodable."""
    dice = draw(st.integers(0, 99))
    if dice < 5:
        topic = draw(st.sampled_from(INSIDE))
        return Published(
            topic, draw(st.integers(0, PARTITIONS - 1)), draw(keys), b"\xff" + draw(st.binary(max_size=40))
        )
    topic = draw(st.sampled_from([*STRANGERS, topics.INTENTS, topics.INTENTS]))
    if dice < 20:
        return Published(topic.name, draw(st.integers(0, PARTITIONS - 1)), draw(keys), draw(values(topic.subject)))
    record = draw(STRANGERS[topic])
    value = codec.encode(record)
    key = _key(draw, record) if dice < 95 else draw(keys)
    where = partition_of(key_of(record), PARTITIONS) if key is None else _partition(key)
    where = where if dice < 97 else draw(st.integers(0, PARTITIONS - 1))
    return Published(topic.name, where, key, draw(damaged(value)) if 20 <= dice < 25 else value)


# -- settings ----------------------------------------------------------------------------------------

rules = st.builds(
    Rules,
    max_intent_age_s=st.sampled_from([None, None, 60]),
    duplicate_window_s=st.sampled_from([{}, {"APP": 3_600, "": 60}]),
    pan_guard=st.booleans(),
    screening=st.builds(
        ScreeningRules,
        floor_limit_minor=st.sampled_from([{}, {"EUR": 4_000}]),
        floor_policy=st.sampled_from(["open", "review", "closed"]),
    ),
)
_moments = st.sampled_from([0, 1_000_000, HOUR, 25 * HOUR, 91 * DAY])
_steps = st.tuples(st.integers(0, PARTITIONS - 1), st.sampled_from([1, 3, 1000]))
_agains = st.builds(Again, st.integers(0, 9))
_floods = st.builds(Flood, intents(), st.integers(2, 70))
_kinds = [publications()] * 13 + [_steps] * 3 + [_moments] * 2 + [_agains] * 3 + [_floods]
_act = st.integers(0, len(_kinds) - 1).flatmap(lambda dice: _kinds[dice])
acts = st.integers(0, 90).flatmap(lambda size: st.lists(_act, min_size=size, max_size=size))
"""A day with strangers: what they send, µs that pass, and steps (partition, records of a topic)."""
wishes = st.lists(intents() | commands() | claims(), min_size=5, max_size=30)
"""Records that somebody hands to the publisher."""
