"""The numbers of fees and settlement: one frozen object, part of `streams.rules.Rules` (R28, R29, R47).

Plain data only, so that it comes back equal from the JSON on headrace.settings. `headrace/settlement.toml`
holds and explains the values; `clocks` are worked out from its zones when the settings are loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from re import fullmatch
from typing import Any, cast

Minors = dict[str, int]
OWN = "own"
"""The party of a split that is us: the account `~fees/...`; others have `~fees-<party>/...` (R6)."""
SECONDS_MOST = 366 * 86_400
CLOCKS_MOST = 200
Clock = tuple[tuple[int, int], ...]
"""Rising pairs (day, second): from this local day on the cut-off is so many seconds after the date's midnight in UTC."""
UTC_17: Clock = ((0, 17 * 3_600),)
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True)
class Calendar:
    """The days on which no window ends."""

    version: str = "1"
    weekend: tuple[int, ...] = (6, 7)
    """1 is Monday, 7 Sunday."""
    holidays: tuple[str, ...] = ()
    """Dates such as 2026-12-25."""


def day_of(date: str) -> int | None:
    """The number of a day such as 2026-12-25; None where there is no such day between 1970 and 2999."""
    found = fullmatch("([12][0-9]{3})-([0-9]{2})-([0-9]{2})", date)
    if found is None:
        return None
    year, month, day = (int(part) for part in found.groups())
    if year < 1970 or not 1 <= month <= 12:
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _MONTHS[month - 1] + (leap and month == 2):
        return None
    before = year - 1
    leaps = before // 4 - before // 100 + before // 400 - (1969 // 4 - 1969 // 100 + 1969 // 400)
    return (year - 1970) * 365 + leaps + sum(_MONTHS[: month - 1]) + (leap and month > 2) + day - 1


@dataclass(frozen=True)
class Schedule:
    """What a merchant pays for a credit: `(amount x bp + 5000) // 10000 + fixed`, at most the credit (R47)."""

    bp: int = 0
    """Hundredths of a per cent."""
    fixed_minor: Minors = field(default_factory=dict)
    """By currency; a currency that is not named has none."""
    split: tuple[tuple[str, int], ...] = ((OWN, 1),)
    """Who gets the fee, by weight: the largest remainder gets the odd cent, a tie goes to the first."""


@dataclass(frozen=True)
class Merchant:
    """What differs for one merchant; empty names take the default."""

    fees: str = ""
    zone: str = ""


@dataclass(frozen=True)
class SettlementRules:
    """Fees and windows. Spans in seconds where the name ends in `_s`."""

    version: str = "1"
    every_s: int = 0
    """Windows of this fixed length, from 1970 on; 0: windows end at the cut-off on business days."""
    grace_s: int = 60
    """R29: how long after its end a window closes that no later posting closes."""
    cut_off: str = "17:00"
    zone: str = "UTC"
    fees: str = ""
    """The schedule of merchants that are not named; empty: none."""
    calendar: Calendar = field(default_factory=Calendar)
    schedules: dict[str, Schedule] = field(default_factory=dict)
    merchants: dict[str, Merchant] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=lambda: {"UTC": UTC_17})
    """By zone: from which local day on the cut-off is how many seconds after that date's midnight in UTC."""

    def schedule_of(self, account: str) -> Schedule | None:
        """The schedule of a merchant, None where it pays nothing."""
        merchant = self.merchants.get(account)
        return self.schedules.get(self.fees if merchant is None or not merchant.fees else merchant.fees)

    def clock_of(self, account: str) -> Clock:
        """The cut-offs of a merchant's zone."""
        merchant = self.merchants.get(account)
        return self.clocks[self.zone if merchant is None or not merchant.zone else merchant.zone]


def settlement_rules(data: Mapping[str, object]) -> SettlementRules:
    """The rules in `data`, which has the names of `SettlementRules`; names left out keep their defaults.

    Raises ValueError, which names the key, what is wrong with it and the way out.
    """
    found: dict[str, Any] = {}
    for name, value in _named(data, SettlementRules, "settlement rule"):
        if name in {"every_s", "grace_s"}:
            found[name] = _whole(name, value, SECONDS_MOST)
        elif name == "calendar":
            found[name] = _calendar(_table(name, value))
        elif name == "schedules":
            found[name] = {key: _schedule(f"{name}.{key}", one) for key, one in _table(name, value).items()}
        elif name == "merchants":
            found[name] = {key: _merchant(f"{name}.{key}", one) for key, one in _table(name, value).items()}
        elif name == "clocks":
            found[name] = {key: _clock(f"{name}.{key}", one) for key, one in _table(name, value).items()}
        else:
            found[name] = _text(name, value, least=0 if name == "fees" else 1)
    rules = SettlementRules(**found)
    _check_together(rules)
    return rules


def _named(data: Mapping[str, object], kind: type, what: str) -> list[tuple[str, object]]:
    """The items of `data`, if `kind` has a field of each name."""
    known = [each.name for each in fields(kind)]
    for name in data:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise ValueError(f"{name!r} is no {what}: {f'did you mean {near[0]!r}?' if near else 'remove it.'}")
    return list(data.items())


def _calendar(data: Mapping[str, object]) -> Calendar:
    found: dict[str, Any] = {}
    for name, value in _named(data, Calendar, "rule of the calendar"):
        if name == "version":
            found[name] = _text(f"calendar.{name}", value)
        elif name == "weekend":
            days = tuple(_whole(f"calendar.{name}", day, 7) for day in _list(f"calendar.{name}", value))
            if len(set(days)) > 6 or 0 in days:
                raise ValueError(
                    f"'calendar.weekend' must name at most 6 days, 1 (Monday) to 7 (Sunday), not {list(days)}."
                )
            found[name] = days
        else:
            found[name] = tuple(_date(f"calendar.{name}", day) for day in _list(f"calendar.{name}", value))
    return Calendar(**found)


def _date(name: str, value: object) -> str:
    if not isinstance(value, str) or day_of(value) is None:
        raise ValueError(f"{name!r} must hold dates such as '2026-12-25', not {value!r}.")
    return value


def _schedule(name: str, value: object) -> Schedule:
    found: dict[str, Any] = {}
    for key, one in _named(_table(name, value), Schedule, f"rule of {name}"):
        if key == "bp":
            found[key] = _whole(f"{name}.bp", one, 10_000)
        elif key == "fixed_minor":
            found[key] = {code: _fixed(f"{name}.{key}", code, minor) for code, minor in _table(key, one).items()}
        else:
            found[key] = _split(f"{name}.split", one)
    return Schedule(**found)


def _fixed(name: str, currency: str, value: object) -> int:
    if not fullmatch("[A-Z]{3}", currency):
        raise ValueError(f"{name!r} names {currency!r}, which is no currency: use an ISO 4217 code such as EUR.")
    return _whole(f"{name}.{currency}", value, 10**15 - 1)


def _split(name: str, value: object) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for each in _list(name, value):
        party, weight = each if isinstance(each, list | tuple) and len(each) == 2 else (None, None)
        if not isinstance(party, str) or not fullmatch("[a-z0-9][a-z0-9-]{0,31}", party):
            raise ValueError(
                f"{name!r} must be pairs of a party (small letters, digits, '-') and its weight, such as "
                f'[["{OWN}", 70], ["partner", 30]], not {each!r}.'
            )
        found.append((party, _whole(f"{name}.{party}", weight, 1_000_000)))
    parties = [party for party, _ in found]
    if len(set(parties)) < len(parties) or not 1 <= len(found) <= 16 or not any(weight for _, weight in found):
        raise ValueError(f"{name!r} must name 1 to 16 parties, each once, with a weight above 0 among them.")
    return tuple(found)


def _merchant(name: str, value: object) -> Merchant:
    return Merchant(
        **{key: _text(f"{name}.{key}", one, least=0) for key, one in _named(_table(name, value), Merchant, f"rule of {name}")}
    )  # fmt: skip


def _clock(name: str, value: object) -> Clock:
    found = []
    for pair in _list(name, value):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(type(one) is int for one in pair):
            raise ValueError(f"{name!r} must be pairs of a day and the second of its cut-off, not {pair!r}.")
        found.append((cast("int", pair[0]), cast("int", pair[1])))
    if not 1 <= len(found) <= CLOCKS_MOST or found[0][0] != 0 or found != sorted(set(found)):
        raise ValueError(f"{name!r} must begin at day 0 and rise, with at most {CLOCKS_MOST} changes.")
    return tuple(found)


def _whole(name: str, value: object, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{name!r} must be a whole number from 0 to {most}, not {value!r}.")
    return value


def _text(name: str, value: object, least: int = 1) -> str:
    if not isinstance(value, str) or not least <= len(value) <= 64:
        raise ValueError(f"{name!r} must be a string of {least} to 64 characters, not {value!r}.")
    return value


def _list(name: str, value: object) -> list[object]:
    if not isinstance(value, list | tuple) or len(value) > 1_000:
        raise ValueError(f"{name!r} must be a list of at most 1,000 values, not {value!r}.")
    return list(value)


def _table(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name!r} must be a table, such as [{name}], not {value!r}.")
    return value


def _check_together(rules: SettlementRules) -> None:
    """Every schedule and zone that is named is there."""
    named = {"fees": rules.fees} | {f"merchants.{name}.fees": one.fees for name, one in rules.merchants.items()}
    for where, schedule in named.items():
        if schedule and schedule not in rules.schedules:
            near = get_close_matches(schedule, rules.schedules, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"write it as [schedules.{schedule}]."
            raise ValueError(f"{where!r} names the schedule {schedule!r}, which is not there: {hint}")
    zones = {"zone": rules.zone} | {f"merchants.{name}.zone": one.zone for name, one in rules.merchants.items()}
    for where, zone in zones.items():
        if zone and zone not in rules.clocks:
            raise ValueError(f"{where!r} names the zone {zone!r}, of which no clock is known: remove 'clocks'.")
