"""Poison: records that no honest sender makes, on every topic that strangers write to."""

import random

from kinds import Kind, Shot
from load import CUSTOMERS
from system import PARTITIONS, System

from schemas import codec
from schemas.events import AccountAction, AccountCommand, AliasAction, AliasClaim, Intent, Micros
from schemas.events import Kind as IntentKind
from topologies import topics

RECORDS = 500
ODD_NUMBERS = (0, -1, 1, 2**31, 2**62, 2**63 - 1, -(2**63))
ODD_TEXTS = ("", "\x00", "~holds/EUR/0-1", "ÄÖÜ\u202e", "x" * 255, "x" * 5_000, "4111111111111111", "customer-1")


def poison(system: System, chance: random.Random) -> Shot:
    """500 records: random bytes, good records with wrong bytes, odd values, odd keys, wrong partitions, nothing at all."""
    for number in range(RECORDS):
        topic = chance.choice([topics.INTENTS, topics.COMMANDS, topics.ALIASES])
        key, value = _record(topic, chance, f"poison-{system.load.poison + number}")
        key = chance.choice([key, key, key, None, b"", chance.randbytes(8)])
        system.load.send_raw(topic, key, value, chance.randrange(PARTITIONS))
    system.load.poison += RECORDS
    return Shot(note=f"{RECORDS} records")


def _record(topic, chance: random.Random, name: str) -> tuple[bytes, bytes | None]:
    kind = chance.randrange(4)
    if kind == 0:
        return name.encode(), chance.choice([None, b"", chance.randbytes(chance.randint(1, 200))])
    good = _good(topic, chance, name)
    if kind == 1:
        good = _odd(good, chance)
    key = next(getattr(good, field) for field in ("debtor", "alias", "account") if hasattr(good, field))
    try:
        data = codec.encode(good)
    except codec.Unencodable:
        return key.encode()[:100], chance.randbytes(20)
    return key.encode()[:100], data if kind == 1 else _mutated(data, chance)


def _good(topic, chance: random.Random, name: str):
    account, other = chance.sample(CUSTOMERS, 2)
    moment = Micros(chance.choice([0, 1_700_000_000_000_000, 2**62]))
    if topic is topics.INTENTS:
        kind = chance.choice(list(IntentKind))
        return Intent(name, name, kind, name, account, other, chance.randint(1, 99), "EUR", moment)
    if topic is topics.COMMANDS:
        return AccountCommand(name, account, AccountAction.LIMIT, "EUR", moment, max_payment_minor=10**9)
    return AliasClaim(name, f"HANDLE:{name}", account, AliasAction.CLAIM, moment)


def _odd(record, chance: random.Random):
    """A record that its schema allows, with values that nobody expects."""
    for _ in range(chance.randint(1, 3)):
        field = chance.choice(record._fields)
        value = getattr(record, field)
        if isinstance(value, int):
            record = record._replace(**{field: chance.choice(ODD_NUMBERS)})
        elif type(value) is str:
            record = record._replace(**{field: chance.choice(ODD_TEXTS)})
        elif field in ("latitude", "longitude"):
            record = record._replace(**{field: chance.choice([float("nan"), float("inf"), -1e308])})
    return record


def _mutated(data: bytes, chance: random.Random) -> bytes:
    """Bits flipped, an end missing, something in between or behind."""
    made = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        where = chance.randrange(len(made))
        match chance.randrange(4):
            case 0:
                made[where] ^= 1 << chance.randrange(8)
            case 1:
                del made[where:]
            case 2:
                made[where:where] = chance.randbytes(chance.randint(1, 9))
            case 3:
                made += chance.randbytes(chance.randint(1, 9))
        if not made:
            break
    return bytes(made)


KINDS = [Kind("poison", poison, 20)]
