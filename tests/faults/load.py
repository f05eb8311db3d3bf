"""Steady, seeded traffic on one topic prefix, and the log of what Kafka has acknowledged of it."""

import random
import threading
import time
from collections import deque
from typing import NamedTuple

from cluster import now

from schemas import codec
from schemas.events import AccountAction, AccountCommand, AliasAction, AliasClaim, Intent, Kind, Minor
from schemas.keys import partition_of
from topologies import topics

CUSTOMERS = [f"customer-{number}" for number in range(40)]
BANK = "bank"
EACH = 2_000_000
"""Opening money of a customer, minor units."""
SLICE_S = 0.05
HISTORY = 12
"""Small payments that a customer makes before a large one stands out and is reviewed."""


class Acknowledged(NamedTuple):
    """A record that Kafka has taken for good."""

    topic: str
    partition: int
    offset: int
    """-1 where the broker only said that it had the record already."""
    digest: int


class Load:
    """Publishes `rate` records a second in a thread of its own, except while paused. Same seed, same records.

    Among plain payments: repeats, conflicts, reviews with and without a decision, refusals, aliases, limits,
    freezes and bytes that nobody can read.
    """

    def __init__(self, cluster, seed: object, rate: int = 200) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.refused = 0
        """Records that were not acknowledged; they may stand in Kafka all the same."""
        self.poison = 0
        """Records of `kinds_poison` among them."""
        self.rate = rate
        self._cluster = cluster
        self._chance = random.Random(f"load/{seed}")
        self._count = 0
        self._recent: deque[Intent] = deque(maxlen=200)
        self._reviews: deque[tuple[int, Intent]] = deque()
        self._lock = threading.Lock()
        self._running = threading.Event()
        self._stop = threading.Event()
        self.failure: BaseException | None = None
        self._thread = threading.Thread(target=self._publish, name="load", daemon=True)

    def start(self) -> None:
        """Opens the accounts, funds them, and begins."""
        self._command(BANK, AccountAction.OPEN, flags=("DEBIT_NORMAL",))
        for customer in CUSTOMERS:
            self._command(customer, AccountAction.OPEN, flags=("NO_OVERDRAFT",))
        for number, customer in enumerate(CUSTOMERS):
            self._send(topics.ALIASES, self._alias(number), self._claim(number, AliasAction.CLAIM))
            self._pay(BANK, customer, EACH)
        for _ in range(HISTORY):
            for customer in CUSTOMERS:
                self._pay(customer, self._other(customer), self._chance.randint(100, 200))
        self._running.set()
        self._thread.start()

    def pause(self) -> None:
        """Stops publishing and waits for what is under way; returns when every record was acknowledged or given up."""
        self._running.clear()
        with self._lock:
            self._cluster.sender.flush(90.0)

    def resume(self) -> None:
        """Publishes again."""
        self._running.set()

    def burst(self, count: int) -> None:
        """`count` plain payments at once."""
        with self._lock:
            for _ in range(count):
                self._plain()

    def send_raw(self, topic, key: bytes | None, value: bytes | None, partition: int) -> None:
        """One record as it is."""
        with self._lock:
            self._raw(topic, key, value, partition)

    def close(self) -> None:
        """Ends the thread."""
        self._stop.set()
        self._running.set()
        if self._thread.is_alive():
            self._thread.join()

    def _publish(self) -> None:
        try:
            while not self._stop.is_set():
                self._running.wait()
                with self._lock:
                    if self._running.is_set() and not self._stop.is_set():
                        self._slice()
                self._stop.wait(SLICE_S)
        except BaseException as error:  # noqa: BLE001  # told by whoever waits for the load
            self.failure = error

    def _slice(self) -> None:
        for _ in range(max(1, round(self.rate * SLICE_S))):
            self._one()
        self._decide_reviews()

    def _one(self) -> None:
        chosen = self._chance.random()
        if chosen < 0.80:
            self._plain()
        elif chosen < 0.88:
            self._repeat()
        elif chosen < 0.90:
            self._conflict()
        elif chosen < 0.92:
            self._large()
        elif chosen < 0.94:
            debtor = self._chance.choice(CUSTOMERS)
            self._pay(debtor, self._chance.choice(["nobody", f"{debtor}-twin"]), 10)
        elif chosen < 0.96:
            debtor = self._chance.choice(CUSTOMERS)
            self._pay(debtor, "", 5, creditor_alias=self._alias(self._chance.randrange(len(CUSTOMERS))))
        elif chosen < 0.99:
            self._account()
        else:
            key = self._chance.choice(CUSTOMERS)
            self._send(topics.INTENTS, key, self._chance.randbytes(self._chance.randint(1, 40)))

    def _plain(self) -> None:
        debtor = self._chance.choice(CUSTOMERS)
        self._recent.append(self._pay(debtor, self._other(debtor), self._chance.randint(1, 500)))

    def _repeat(self) -> None:
        if self._recent:
            intent = self._chance.choice(self._recent)
            self._send(topics.INTENTS, intent.debtor, intent)

    def _conflict(self) -> None:
        if self._recent:
            intent = self._chance.choice(self._recent)
            self._send(topics.INTENTS, intent.debtor, intent._replace(amount_minor=Minor(intent.amount_minor + 1)))

    def _large(self) -> None:
        debtor = self._chance.choice(CUSTOMERS)
        intent = self._pay(debtor, self._other(debtor), self._chance.randint(40_000, 60_000))
        self._reviews.append((time.monotonic_ns() + self._chance.randint(0, 2_000_000_000), intent))

    def _decide_reviews(self) -> None:
        """A third is approved, a third rejected; the rest meets its deadline."""
        while self._reviews and self._reviews[0][0] < time.monotonic_ns():
            _due, intent = self._reviews.popleft()
            kind = self._chance.choice([Kind.APPROVE, Kind.REJECT, None])
            if kind is not None:
                self._count += 1
                name = f"i-{self._count}"
                decision = intent._replace(intent_id=name, idempotency_key=name, kind=kind, decided_by="analyst")
                self._send(topics.INTENTS, intent.debtor, decision._replace(requested_at=now()))

    def _account(self) -> None:
        number = self._chance.randrange(len(CUSTOMERS))
        what = self._chance.choice(["freeze", "limit", "claim", "release"])
        if what == "freeze":
            self._command(CUSTOMERS[number], AccountAction.FREEZE)
            self._command(CUSTOMERS[number], AccountAction.UNFREEZE)
        elif what == "limit":
            self._command(CUSTOMERS[number], AccountAction.LIMIT, max_payment_minor=Minor(1_000_000))
        else:
            action = AliasAction.CLAIM if what == "claim" else AliasAction.RELEASE
            self._send(topics.ALIASES, self._alias(number), self._claim(number, action))

    def _other(self, than: str) -> str:
        found = than
        while found == than:
            found = self._chance.choice(CUSTOMERS)
        return found

    @staticmethod
    def _alias(number: int) -> str:
        return f"HANDLE:customer-{number}"

    def _claim(self, number: int, action: AliasAction) -> AliasClaim:
        self._count += 1
        return AliasClaim(f"claim-{self._count}", self._alias(number), CUSTOMERS[number], action, now())

    def _command(self, account: str, action: AccountAction, **more: object) -> None:
        self._count += 1
        self._send(topics.COMMANDS, account, AccountCommand(f"c-{self._count}", account, action, "EUR", now(), **more))

    def _pay(self, debtor: str, creditor: str, amount: int, **more: object) -> Intent:
        self._count += 1
        name = f"p-{self._count}"
        intent = Intent(
            f"i-{self._count}", name, Kind.TRANSFER, name, debtor, creditor, Minor(amount), "EUR", now(), **more
        )
        self._send(topics.INTENTS, debtor, intent)
        return intent

    def _send(self, topic, key: str, value: object) -> None:
        data = value if isinstance(value, bytes) else codec.encode(value)
        self._raw(topic, key.encode(), data, partition_of(key, self._cluster.partitions))

    def _raw(self, topic, key: bytes | None, value: bytes | None, partition: int) -> None:
        name, digest = topic.name, hash((key, value))

        def delivered(error, message) -> None:
            if error is None:
                self.acknowledged.append(Acknowledged(name, message.partition(), message.offset(), digest))
            else:
                self.refused += 1

        self._cluster.sender.send(name, key, value, partition=partition, delivered=delivered)
