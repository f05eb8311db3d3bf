"""`settlement.toml` as rules: zones become the cut-offs of each day, so that decisions need no time-zone database."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from re import fullmatch
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from streams.calendar import DAY_S
from streams.settlement_rules import Clock, SettlementRules, settlement_rules

UNTIL = date(2045, 1, 1)
"""Changes of a zone's clock are known up to here; from then on it stays as it is."""
SINCE = date(2020, 1, 1)
"""And from here on; before, it is as on this day."""
_EPOCH = date(1970, 1, 1)


def settlement_of(content: Mapping[str, object]) -> SettlementRules:
    """The rules in a settlement file. Raises ValueError, which names the key, what is wrong with it and the way out."""
    if "clocks" in content:
        raise ValueError("'clocks' is worked out from the zones: remove it.")
    rules = settlement_rules({**content, "clocks": _any_clock(content)})
    hour = _cut_off(rules.cut_off)
    zones = {rules.zone, *(merchant.zone for merchant in rules.merchants.values() if merchant.zone)}
    return replace(rules, clocks={zone: clock(zone, hour) for zone in sorted(zones)})


def _any_clock(content: Mapping[str, object]) -> dict[str, list[list[int]]]:
    """A place for the clock of every zone that is named, so that all else can be checked first."""
    merchants = content.get("merchants")
    named = (
        [each.get("zone") for each in merchants.values() if isinstance(each, dict)]
        if isinstance(merchants, dict)
        else []
    )
    return {zone: [[0, 0]] for zone in (content.get("zone", "UTC"), *named) if isinstance(zone, str)}


def _cut_off(text: str) -> time:
    found = fullmatch("([0-2][0-9]):([0-5][0-9])", text)
    if found is None or int(found[1]) > 23:
        raise ValueError(f"'cut_off' must be a time of day such as '17:00', not {text!r}.")
    return time(int(found[1]), int(found[2]))


def clock(zone: str, cut_off: time) -> Clock:
    """Where each day's cut-off is, from 2020 to 2044. A time that a day skips is as far behind its midnight as it says.

    Raises ValueError where nobody knows the zone.
    """
    try:
        place = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{zone!r} is no known time zone: use a name such as 'Europe/Berlin' or 'UTC'.") from None
    found: list[tuple[int, int]] = []
    day = SINCE
    while day < UNTIL:
        number = (day - _EPOCH).days
        moment = datetime.combine(day, cut_off, place).astimezone(UTC)
        second = int(moment.timestamp()) - number * DAY_S
        if not found or found[-1][1] != second:
            found.append((number if found else 0, second))
        day += timedelta(days=1)
    return tuple(found)
