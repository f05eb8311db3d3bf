"""What happens in one run: payments and faults, all of it from a seed, as values that can be left out one by one."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from builders import a_claim, a_command, an_intent

from schemas import codec
from schemas.events import AccountAction, Intent, Kind
from schemas.keys import partition_of
from streams.rules import Rules, ScreeningRules
from topologies.engine.crash import POINTS
from topologies.engine.memory.host import Trouble
from topologies.engine.memory.producer import TWICE

START = 1_700_000_000_000_000
"""The wall clock at virtual time 0, µs."""
FLOOR = 70
POISON = "poison-"
"""An intent with such a payment id makes its agent raise."""
BUSY_S = 4.0
"""Payments are published for so long; then the world heals."""
RULES = Rules(
    review_deadline=2_000_000,
    screening=ScreeningRules(
        velocity_1m=0, velocity_1h=0, velocity_24h=0, spend_minor={}, amount_high_z=0, amount_extreme_z=0,
        new_device_weight=0, new_payee_weight=0, impossible_travel_weight=0, floor_limit_minor={"EUR": FLOOR},
    ),
)  # fmt: skip
KINDS = ("retriable", "abortable", "fatal", "plain", "fenced")
EFFECTS = ("none", "done", "late", "held", "held")
CALLS = {
    "init_transactions": (6, ("retriable", "plain", "fenced", "fatal")),
    "begin_transaction": (20, ("abortable", "fatal", "plain")),
    "produce": (60, ("full",)),
    "produce_batch": (80, ("short",)),
    "deliver": (120, ("undelivered", "undelivered", *TWICE)),
    "send_offsets": (24, (*KINDS, "retriable", *TWICE, *TWICE)),
    "commit": (24, (*KINDS, "retriable", "retriable", *TWICE, *TWICE)),
    "abort": (2, ("retriable", "retriable", "plain", "fatal", *TWICE)),
    "committed": (6, ("failed",)),
    "list_offsets": (20, ("failed", "untold")),
    "consume": (150, ("element",)),
    "stale": (4, ("stale",)),
    "store.write": (40, ("full",)),
}
"""What can go wrong with each call, and about how often each is called in a run."""
DEATHS = ("kill", "kill", "kill", "power", "lose-store", "old-store", "swap-store")
MOMENTS = {
    **dict.fromkeys(POINTS, 24), "after_poll": 60, "in_ledger": 50, "in_revoke": 2, "in_restore": 3, "in_dead_letter": 2,
    "commit": 24, "commit.answer": 24, "deliver": 120, "send_offsets": 24, "init_transactions": 5, "store.write": 40,
    "poll": 70, "committed": 5, "list_offsets": 20, "abort": 2, "abort.answer": 2,
}  # fmt: skip
"""Where a worker can die or freeze, and about how often it comes there in a run."""


class Publish(NamedTuple):
    """A record that a stranger writes at a moment (s)."""

    moment: float
    topic: str
    key: str
    value: Any

    def data(self) -> bytes:
        return self.value if isinstance(self.value, bytes) else codec.encode(self.value)


class Fault(NamedTuple):
    """Strikes at the `nth` time that any worker comes to `call` (a client call or a crash point)."""

    kind: str
    """`trouble`; a death; `freeze`; `cut`: no heartbeats; `stop`: and start again; `retire`: for good; `join`: another
    worker; `hang`: the call never returns, and the watchdog ends the process; `hijack`: another machine takes the slot;
    `back`: the wall clock is set back."""
    call: str
    nth: int
    seconds: float = 0.0
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Story:
    """One run. `seed` also feeds the scheduler."""

    seed: int
    workers: int
    partitions: int
    step_records: int
    poll_records: int
    marker_s: float
    """Mean time that a marker is under way, s."""
    call_s: float = 0.004
    """The longest latency of a client call, s."""
    protocol: str = "classic"
    """The consumer group's: `classic` or `consumer` (KIP-848)."""
    published: tuple[Publish, ...] = field(repr=False, default=())
    faults: tuple[Fault, ...] = ()

    def without(self, published: set[int], faults: set[int]) -> "Story":
        """The same story with some records and faults left out, by their numbers."""
        return replace(
            self,
            published=tuple(p for n, p in enumerate(self.published) if n not in published),
            faults=tuple(f for n, f in enumerate(self.faults) if n not in faults),
        )


def story_of(seed: int) -> Story:
    """The story of a seed."""
    rng = Random(seed)
    accounts = [f"a{n}" for n in range(rng.randint(2, 5))]
    aliases = [f"EMAIL:e{n}@example.org" for n in range(rng.choice((0, 1, 2, 2)))]
    published = [*_opened(rng, accounts), *_claimed(rng, accounts, aliases)]
    published += _asked(rng, (accounts, aliases), rng.randint(8, 32))
    return Story(
        seed,
        rng.choice((1, 2, 2, 3)),
        rng.choice((2, 2, 3, 4)),
        rng.choice((2, 4, 8, 100)),
        rng.choice((3, 20, 100)),
        rng.choice((0.0, 0.002, 0.02, 0.2)),
        rng.choice((0.004, 0.004, 0.02)),
        rng.choice(("classic", "classic", "consumer")),
        tuple(sorted(published, key=lambda p: p.moment)),
        tuple(_fault(rng) for _ in range(rng.choice((2, 3, 4, 6, 8, 12, 16)))),
    )


def _opened(rng: Random, accounts: list[str]) -> list[Publish]:
    flags = {"bank": ("DEBIT_NORMAL",)}
    found = [
        Publish(
            rng.random() * 0.2, "accounts.commands", name, a_command(name, flags=flags.get(name, ("NO_OVERDRAFT",)))
        )
        for name in ("bank", *accounts)
    ]
    for n, name in enumerate(accounts):
        money = an_intent(f"start-{name}", debtor="bank", creditor=name, amount_minor=rng.randint(20, FLOOR))
        found.append(Publish(0.3 + 0.01 * n, "payments.intents", "bank", money))
    if rng.random() < 0.3:
        name = rng.choice(accounts)
        action = rng.choice((AccountAction.FREEZE, AccountAction.FREEZE, AccountAction.CLOSE))
        order = a_command(name, command=action, command_id=f"c-{action}", flags=())
        found.append(Publish(rng.random() * BUSY_S, "accounts.commands", name, order))
    return found


def _claimed(rng: Random, accounts: list[str], aliases: list[str]) -> list[Publish]:
    found = []
    for alias in aliases:
        for n in range(rng.randint(1, 3)):
            claim = a_claim(alias, rng.choice(accounts), claim_id=f"{alias}-{n}")
            found.append(Publish(rng.random() * BUSY_S, "accounts.aliases", alias, claim))
    return found


def _asked(rng: Random, known: tuple[list[str], list[str]], count: int) -> list[Publish]:
    accounts, aliases = known
    names = [*accounts, *accounts, "bank", "nobody"]
    found: list[Publish] = []
    for n in range(count):
        moment = 0.4 + rng.random() * (BUSY_S - 0.4)
        intent = _intent(rng, names, n, [p.value for p in found if isinstance(p.value, Intent)])
        chance = rng.random()
        if aliases and chance < 0.2 and intent.kind is Kind.TRANSFER:
            intent = intent._replace(creditor="", creditor_alias=rng.choice(aliases))
        found.append(Publish(moment, "payments.intents", intent.debtor, intent))
        if chance > 0.97:
            found.append(Publish(moment, "payments.intents", rng.choice(accounts), b"\x00nonsense"))
        elif chance > 0.92:
            bad = intent._replace(payment_id=f"{POISON}{n}", intent_id=f"x{n}", idempotency_key=f"x{n}")
            found.append(Publish(moment, "payments.intents", bad.debtor, bad))
    return found


def _intent(rng: Random, names: list[str], number: int, before: list[Intent]) -> Intent:
    chance = rng.random()
    if before and chance < 0.12:  # asked again, as it was or with another body
        first = rng.choice(before)
        changed = {} if rng.random() < 0.7 else {"amount_minor": first.amount_minor + 1}
        return first._replace(intent_id=f"i{number}", **changed)
    if before and chance < 0.22:
        first = rng.choice(before)
        kind = rng.choice((Kind.APPROVE, Kind.APPROVE, Kind.REJECT))
        return first._replace(intent_id=f"i{number}", idempotency_key=f"d{number}", kind=kind, decided_by="ana")
    amount = rng.randint(1, 40) if rng.random() < 0.85 else rng.randint(FLOOR + 1, FLOOR + 40)
    payment = f"p{rng.randint(0, 12)}" if rng.random() < 0.2 else f"p{number}"
    return an_intent(
        payment, intent_id=f"i{number}", idempotency_key=f"k{number}", debtor=rng.choice(names[:-1]),
        creditor=rng.choice(names), amount_minor=amount,
    )  # fmt: skip


def _fault(rng: Random) -> Fault:
    chance = rng.random()
    if chance < 0.55:
        call = rng.choice((*CALLS, "commit", "commit", "commit", "send_offsets", "send_offsets", "abort", "deliver"))
        often, kinds = CALLS[call]
        effect = rng.choice(EFFECTS)
        delay = rng.choice((0.005, 0.02, 0.08, 0.2, 1.0)) * (0.5 + rng.random())
        trouble = Trouble(rng.choice(kinds), effect, rng.randint(1, 12) if effect == "held" else delay)
        return Fault("trouble", call, rng.randint(1, often), 0.0, trouble)
    call = rng.choice(tuple(MOMENTS))
    nth = rng.randint(1, MOMENTS[call])
    if chance < 0.75:
        return Fault(rng.choice(DEATHS), call, nth, 0.1 + 2 * rng.random())
    if chance < 0.87:
        return Fault("freeze", call, nth, 0.2 + 3.5 * rng.random())
    kind = rng.choice(("cut", "stop", "join", "retire", "hang", "hijack", "back"))
    return Fault(kind, call, nth, 0.5 + 3 * rng.random())


def write(story: Story, file: Path, why: str) -> None:
    """Keeps a story in a file, with what it broke."""
    published = [[p.moment, p.topic, p.key, p.data().hex()] for p in story.published]
    plain = {**vars(story), "published": published, "breaks": why}
    file.write_text(json.dumps(plain, indent=1) + "\n")


def read(file: Path) -> Story:
    """The story in a file."""
    plain = json.loads(file.read_text())
    del plain["breaks"]
    published = [Publish(moment, topic, key, bytes.fromhex(data)) for moment, topic, key, data in plain["published"]]
    faults = [Fault(*fault[:4], Trouble(*fault[4]) if fault[4] else None) for fault in plain["faults"]]
    return Story(**{**plain, "published": tuple(published), "faults": tuple(faults)})


def home_of(publish: Publish, partitions: int) -> int:
    """Where its key sends a record."""
    return partition_of(publish.key, partitions)
