"""The people of a believable day: cities, customers, merchants, employers and treasuries, seeded.

Account ids are readable, `<kind>-<place>-<number>`, and never look like a card number (R44).
"""

from itertools import accumulate
from random import Random
from typing import NamedTuple

from schemas.events import AccountAction, AccountCommand, AliasAction, AliasClaim, Micros, Minor


class City(NamedTuple):
    """A place with its currency; `euro` is how many minor units of it one euro is worth, roughly."""

    name: str
    latitude: float
    longitude: float
    currency: str
    euro: int


CITIES = (
    City("berlin", 52.52, 13.405, "EUR", 100),
    City("madrid", 40.417, -3.703, "EUR", 100),
    City("paris", 48.857, 2.352, "EUR", 100),
    City("boston", 42.36, -71.058, "USD", 110),
    City("osaka", 34.694, 135.502, "JPY", 160),
    City("kuwait", 29.376, 47.977, "KWD", 340),
)
CITY_WEIGHTS = (30, 20, 20, 15, 10, 5)
TREASURIES = 4
"""Treasury accounts per currency, so that opening money comes from several partitions."""


class Customer(NamedTuple):
    """Someone who pays. `opening` is what the account starts with, in minor units."""

    account: str
    city: City
    opening: Minor
    employer: str
    alias: str | None


class Merchant(NamedTuple):
    """Someone who is paid."""

    account: str
    city: City
    alias: str


class World(NamedTuple):
    """Everyone, with cumulative weights to draw from: few pay and are paid often, most rarely (Zipf)."""

    customers: tuple[Customer, ...]
    poor: tuple[Customer, ...]
    merchants: dict[str, tuple[Merchant, ...]]
    """By city."""
    employers: tuple[tuple[str, City], ...]
    blocked: dict[str, tuple[str, ...]]
    """By city: accounts that were closed or frozen before the day."""
    customer_weights: tuple[float, ...]
    merchant_weights: dict[str, tuple[float, ...]]


def kind_of(account: str) -> str:
    """What an account is: "customer", "merchant", "employer", "treasury", or an internal role, "in-transit"."""
    if account.startswith("~"):
        return account[1:].split("/", 1)[0]
    return account.split("-", 1)[0]


def treasury(currency: str, number: int) -> str:
    """The account from which opening money of `currency` comes."""
    return f"treasury-{currency.lower()}-{number % TREASURIES + 1}"


def a_world(customers: int, rng: Random) -> World:
    """Everyone in a world of `customers` customers (at least 10)."""
    shares = rng.choices(CITIES, CITY_WEIGHTS, k=customers)
    cities = [city for city in CITIES if city in shares]
    per_city = max(3, customers // (20 * len(cities)))
    merchants = {
        city.name: tuple(
            Merchant(f"merchant-{city.name}-{n + 1:04}", city, f"HANDLE:{city.name}.shop.{n + 1}")
            for n in range(per_city)
        )
        for city in cities
    }
    employers = tuple(
        (f"employer-{city.name}-{n + 1:03}", city) for city in cities for n in range(max(1, customers // 600))
    )
    people = [_customer(n, city, employers, rng) for n, city in enumerate(shares)]
    poor = [one._replace(opening=Minor(one.city.euro), alias=None) for one in people[: max(2, customers // 50)]]
    others = people[len(poor) :]
    return World(
        customers=tuple(others),
        poor=tuple(poor),
        merchants=merchants,
        employers=employers,
        blocked={city.name: (f"merchant-{city.name}-closed", f"merchant-{city.name}-frozen") for city in cities},
        customer_weights=_zipf(len(others), flat=max(5, customers // 20)),
        merchant_weights={name: _zipf(len(shops), flat=2) for name, shops in merchants.items()},
    )


def _customer(number: int, city: City, employers: tuple[tuple[str, City], ...], rng: Random) -> Customer:
    account = f"customer-{city.name}-{number + 1:05}"
    near = [name for name, place in employers if place.currency == city.currency]
    alias = (None, f"MSISDN:+3069{number:07}", f"EMAIL:{account}@mail.example")[rng.randrange(3)]
    return Customer(account, city, Minor(city.euro * rng.randrange(6_000, 16_000)), rng.choice(near), alias)


def _zipf(count: int, flat: int) -> tuple[float, ...]:
    """Cumulative weights 1/(rank + flat): Zipf's law with its head cut, so that nobody pays without a pause."""
    return tuple(accumulate(1 / (rank + flat) for rank in range(1, count + 1)))


def commands(world: World, at: Micros) -> list[AccountCommand]:
    """The commands that open everyone's account, and close or freeze the blocked ones."""
    cities = [shops[0].city for shops in world.merchants.values()]
    found = [
        _open(treasury(currency, number), currency, at, "DEBIT_NORMAL")
        for currency in dict.fromkeys(city.currency for city in cities)
        for number in range(TREASURIES)
    ]
    found += [_open(account, city.currency, at, "DEBIT_NORMAL") for account, city in world.employers]
    for shops in world.merchants.values():
        found += [_open(shop.account, shop.city.currency, at, "NO_OVERDRAFT", "MERCHANT") for shop in shops]
    found += [_open(one.account, one.city.currency, at, "NO_OVERDRAFT") for one in (*world.poor, *world.customers)]
    for city in cities:
        closed, frozen = world.blocked[city.name]
        found += [_open(account, city.currency, at, "NO_OVERDRAFT", "MERCHANT") for account in (closed, frozen)]
        found.append(AccountCommand(f"close-{closed}", closed, AccountAction.CLOSE, city.currency, at))
        found.append(AccountCommand(f"freeze-{frozen}", frozen, AccountAction.FREEZE, city.currency, at))
    return found


def _open(account: str, currency: str, at: Micros, *flags: str) -> AccountCommand:
    return AccountCommand(f"open-{account}", account, AccountAction.OPEN, currency, at, flags)


def claims(world: World, at: Micros) -> list[AliasClaim]:
    """The claims of every merchant's handle and of the customers' phones and e-mail addresses."""
    owned = [(shop.alias, shop.account) for shops in world.merchants.values() for shop in shops]
    owned += [(one.alias, one.account) for one in world.customers if one.alias is not None]
    return [AliasClaim(f"claim-{account}", alias, account, AliasAction.CLAIM, at) for alias, account in owned]
