"""A seeded generator of a believable day of payments, ending at a given moment.

Most are everyday purchases; among them are salaries, transfers between people, fraud, retries, mistakes
and broken records, each at least once. The same arguments give the same records, byte for byte.
"""

from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

from headrace.world import CITIES, City, Customer, World, a_world, claims, commands, treasury
from schemas.events import AccountCommand, AliasClaim, Intent, Kind, Micros, Minor

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
FUNDING = 15 * MINUTE
"""Opening money comes in this first part of the day."""
LEAST = 200
"""The fewest intents in which a day with everything in it fits."""
HOURS = (1, 1, 1, 1, 1, 2, 4, 7, 8, 7, 7, 8, 10, 9, 8, 7, 8, 10, 11, 9, 7, 5, 3, 2)
"""How busy each hour of the day is, from its start."""

_SHARES = {
    "salary": 0.02,
    "between_people": 0.10,
    "by_alias": 0.06,
    "retry": 0.012,
    "conflict": 0.004,
    "unknown_debtor": 0.002,
    "unknown_creditor": 0.002,
    "unknown_alias": 0.001,
    "blocked_creditor": 0.002,
    "too_little_money": 0.006,
    "out_of_character": 0.001,
    "stolen": 0.0005,
    "travel": 0.003,
    "undecodable": 0.002,
    "wrong_key": 0.0005,
}
"""Which part of the slots starts each story; all others are plain purchases."""


class Published(NamedTuple):
    """A record for payments.intents: its key, and an intent or bytes that nobody can read."""

    key: str
    value: Intent | bytes


Money = tuple[int, str]
"""Minor units and their currency."""
Later = tuple[int, Published]
"""What is sent later: so many µs after the story's start."""


class Day(NamedTuple):
    """What to publish, in this order: accounts and aliases, opening money, everything else."""

    commands: list[AccountCommand]
    claims: list[AliasClaim]
    funding: list[Published]
    """TRANSFERs from the treasuries; to be answered before the rest is published."""
    rest: Iterator[Published]
    """Ordered by the time they are sent, which is `requested_at` except in retries (R21)."""
    rest_count: int


def a_day(payments: int, seed: int, now: Micros) -> Day:
    """A day of exactly `payments` records on payments.intents, `funding` included, ending at `now` (µs, UTC).

    Raises ValueError for fewer than `LEAST` payments.
    """
    if payments < LEAST:
        raise ValueError(f"a day has at least {LEAST} payments, not {payments}; ask for more")
    rng = Random(seed)  # noqa: S311  a story, no secret
    world = a_world(max(20, payments // 10), rng)
    start = Micros(now - DAY)
    stories = _Stories(world, rng, f"{seed}")
    funding = list(_funding(world, start, stories))
    rest = payments - len(funding)
    return Day(
        commands=commands(world, start),
        claims=claims(world, start),
        funding=funding,
        rest=_rest(rest, stories, start + FUNDING, now),
        rest_count=rest,
    )


def _funding(world: World, start: int, stories: "_Stories") -> Iterator[Published]:
    people = (*world.customers, *world.poor)  # the poor get a cent or two last: screening knows the rest by then
    for n, one in enumerate(people):
        at = start + n * FUNDING // len(people)
        source = treasury(one.city.currency, n)
        yield stories.sent(stories.transfer(at, source, one.account, (one.opening, one.city.currency), "TREASURY"))


def _rest(count: int, stories: "_Stories", start: int, end: int) -> Iterator[Published]:
    """Exactly `count` records: each slot sends what is due, or else starts a story."""
    rng = stories.rng
    planned = _planned(count, rng)
    waiting: deque[str] = deque()
    due: list[tuple[int, int, Published]] = []
    moment = _moments(count, start, end)
    for slot in range(count):
        at = moment(slot + rng.random())
        if slot in planned:
            waiting.append(planned.pop(slot))
        if due and (due[0][0] <= at or len(due) >= count - slot):
            yield heappop(due)[2]
            continue
        first, later = stories.tell(waiting.popleft() if waiting else "purchase", at)
        yield first
        for n, (after, published) in enumerate(later[: count - slot - 1 - len(due)]):
            heappush(due, (min(at + after, end), slot * 64 + n, published))


def _planned(count: int, rng: Random) -> dict[int, str]:
    """Which slot starts which story: each at least once, and none in the day's last tenth."""
    wanted = [name for name, share in _SHARES.items() for _ in range(max(1, round(share * count)))]
    rng.shuffle(wanted)
    slots = rng.sample(range(count * 9 // 10), min(len(wanted), count * 9 // 10))
    return dict(zip(sorted(slots), wanted, strict=False))


def _moments(count: int, start: int, end: int) -> Callable[[float], int]:
    """From a place in the queue, 0 to `count`, to a moment of the day: more of them in busy hours."""
    sums = [0.0]
    for weight in HOURS:
        sums.append(sums[-1] + weight)
    span = (end - start) / len(HOURS)

    def moment(place: float) -> int:
        reached = place / count * sums[-1]
        hour = min(bisect(sums, reached) - 1, len(HOURS) - 1)
        return start + int((hour + (reached - sums[hour]) / HOURS[hour]) * span)

    return moment


class _Stories:
    """Tells stories: each a first record and those that follow it."""

    def __init__(self, world: World, rng: Random, name: str) -> None:
        self.rng = rng
        self._world = world
        self._name = name
        self._number = 0
        self._travels = 0
        self._spent: set[str] = set()
        """Customers whose day has ended: their card was stolen and is blocked."""

    def tell(self, story: str, at: int) -> tuple[Published, list[Later]]:
        """The first record of a story that starts at `at`, and what follows."""
        told: tuple[Published, list[Later]] = getattr(self, f"_{story}")(at)
        return told

    @staticmethod
    def sent(intent: Intent) -> Published:
        """An intent under its own key."""
        return Published(intent.debtor, intent)

    def transfer(self, at: int, debtor: str, creditor: str, money: Money, channel: str) -> Intent:
        """A TRANSFER with fresh ids."""
        self._number += 1
        number = f"{self._name}-{self._number:07}"
        return Intent(
            f"intent-{number}", f"key-{number}", Kind.TRANSFER, f"payment-{number}", debtor, creditor,
            Minor(money[0]), money[1], Micros(at), channel=channel,
        )  # fmt: skip

    def _someone(self) -> Customer:
        world = self._world
        while True:
            one = self.rng.choices(world.customers, cum_weights=world.customer_weights)[0]
            if one.account not in self._spent:
                return one

    def _shop(self, city: City) -> tuple[str, str]:
        """Account and alias of a merchant in `city`."""
        shops = self._world.merchants[city.name]
        shop = self.rng.choices(shops, cum_weights=self._world.merchant_weights[city.name])[0]
        return shop.account, shop.alias

    def _price(self, city: City) -> Money:
        """An everyday amount: about 18 euros, from 4 to 80."""
        return int(min(max(self.rng.lognormvariate(2.9, 0.6), 4.0), 80.0) * city.euro), city.currency

    def _buy(self, at: int, one: Customer) -> Intent:
        """A purchase at a shop in the customer's city, by card or QR code."""
        rng, city = self.rng, one.city
        channel = "CARD" if rng.random() < 0.6 else "QR"
        intent = self.transfer(at, one.account, self._shop(city)[0], self._price(city), channel)
        return intent._replace(
            latitude=round(city.latitude + rng.uniform(-0.04, 0.04), 4),
            longitude=round(city.longitude + rng.uniform(-0.04, 0.04), 4),
            device_id=f"device-of-{one.account}",
        )

    def _purchase(self, at: int) -> tuple[Published, list[Later]]:
        return self.sent(self._buy(at, self._someone())), []

    def _salary(self, at: int) -> tuple[Published, list[Later]]:
        one = self._someone()
        money = (one.city.euro * self.rng.randrange(1_800, 3_600), one.city.currency)
        return self.sent(self.transfer(at, one.employer, one.account, money, "PAYROLL")), []

    def _between_people(self, at: int) -> tuple[Published, list[Later]]:
        one = self._someone()
        for _ in range(20):
            other = self._someone()
            if other.account != one.account and other.city.currency == one.city.currency:
                break
        else:
            return self._purchase(at)
        intent = self.transfer(at, one.account, other.account, self._price(one.city), "APP")
        if other.alias is not None:
            intent = intent._replace(creditor="", creditor_alias=other.alias)
        return self.sent(intent), []

    def _by_alias(self, at: int) -> tuple[Published, list[Later]]:
        one = self._someone()
        intent = self._buy(at, one)
        return self.sent(intent._replace(channel="QR", creditor="", creditor_alias=self._shop(one.city)[1])), []

    def _retry(self, at: int) -> tuple[Published, list[Later]]:
        """The answer got lost: asked again, byte for byte and then under an intent id of its own."""
        intent = self._buy(at, self._someone())
        again = intent._replace(intent_id=f"{intent.intent_id}-again")
        return self.sent(intent), [(4 * SECOND, self.sent(intent)), (40 * SECOND, self.sent(again))]

    def _conflict(self, at: int) -> tuple[Published, list[Later]]:
        """A key used a second time, for another amount."""
        intent = self._buy(at, self._someone())
        other = intent._replace(
            intent_id=f"{intent.intent_id}-other",
            amount_minor=Minor(intent.amount_minor + 100),
            requested_at=Micros(at + 9 * SECOND),
        )
        return self.sent(intent), [(9 * SECOND, self.sent(other))]

    def _unknown_debtor(self, at: int) -> tuple[Published, list[Later]]:
        intent = self._buy(at, self._someone())
        return self.sent(intent._replace(debtor=f"{intent.debtor}-misspelt")), []

    def _unknown_creditor(self, at: int) -> tuple[Published, list[Later]]:
        intent = self._buy(at, self._someone())
        return self.sent(intent._replace(creditor=f"{intent.creditor}-misspelt")), []

    def _unknown_alias(self, at: int) -> tuple[Published, list[Later]]:
        intent = self._buy(at, self._someone())
        return self.sent(intent._replace(creditor="", creditor_alias="EMAIL:nobody@mail.example")), []

    def _blocked_creditor(self, at: int) -> tuple[Published, list[Later]]:
        one = self._someone()
        blocked = self.rng.choice(self._world.blocked[one.city.name])
        return self.sent(self._buy(at, one)._replace(creditor=blocked)), []

    def _too_little_money(self, at: int) -> tuple[Published, list[Later]]:
        return self.sent(self._buy(at, self.rng.choice(self._world.poor))), []

    def _out_of_character(self, at: int) -> tuple[Published, list[Later]]:
        """Someone spends hundreds of times as much as ever before."""
        one = self._someone()
        minor = one.city.euro * self.rng.randrange(4_000, 5_500)
        return self.sent(self._buy(at, one)._replace(amount_minor=Minor(minor))), []

    def _stolen(self, at: int) -> tuple[Published, list[Later]]:
        """A stolen card: ten payments in half a minute at home, then more of them on the other side of the world."""
        one = self._someone()
        self._spend(one)
        bought = [self._buy(at + n * 3 * SECOND, one) for n in range(10)]
        bought += [self._far(self._buy(at + n * 3 * SECOND, one), one) for n in range(10, 14)]
        return self.sent(bought[0]), [(intent.requested_at - at, self.sent(intent)) for intent in bought[1:]]

    def _travel(self, at: int) -> tuple[Published, list[Later]]:
        """A card used at home, and minutes later on the other side of the world; an analyst looks at it.

        One in three is approved, one rejected, one left waiting.
        """
        one = self._someone()
        self._spend(one)
        here = self._buy(at, one)
        minutes = self.rng.randrange(4, 25)
        there = self._far(self._buy(at + minutes * MINUTE, one), one)
        later = [(minutes * MINUTE, self.sent(there))]
        self._travels += 1
        verdict = (Kind.APPROVE, Kind.REJECT, None)[self._travels % 3]
        if verdict is not None:
            after = minutes * MINUTE + self.rng.randrange(5, 90) * MINUTE
            later.append((after, self.sent(_decision(there, verdict, at + after))))
        return self.sent(here), later

    def _far(self, intent: Intent, one: Customer) -> Intent:
        """The same purchase, at the far end of the world."""
        far = max(CITIES, key=lambda city: abs(city.longitude - one.city.longitude))
        return intent._replace(latitude=far.latitude, longitude=far.longitude)

    def _undecodable(self, _at: int) -> tuple[Published, list[Later]]:
        """Bytes that are no intent: without a schema id, or with one and noise behind it."""
        key = self._someone().account
        rubbish = self.rng.randbytes(self.rng.randrange(1, 60))
        return Published(key, (b"\x00\x00\x00\x00\x01" if self.rng.random() < 0.5 else b"{") + rubbish), []

    def _wrong_key(self, at: int) -> tuple[Published, list[Later]]:
        """An intent under somebody else's key, as a careless producer sends it."""
        return Published("somebody-else", self._buy(at, self._someone())), []

    def _spend(self, one: Customer) -> None:
        """Ends the customer's day, while at least half of the customers are left."""
        if len(self._spent) < len(self._world.customers) // 2:
            self._spent.add(one.account)


def _decision(payment: Intent, verdict: Kind, at: int) -> Intent:
    """An analyst's APPROVE or REJECT of a payment that is held for review (R27)."""
    return payment._replace(
        intent_id=f"{payment.intent_id}-review",
        idempotency_key=f"{payment.idempotency_key}-review",
        kind=verdict,
        requested_at=Micros(at),
        decided_by="analyst-ada",
        device_id=None,
        latitude=None,
        longitude=None,
        channel="CONSOLE",
    )
