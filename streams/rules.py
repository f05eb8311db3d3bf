"""The numbers that the rules use: one frozen object, whose hash stands in every journal record."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from streams.notification_rules import NotificationRules
from streams.settlement_rules import SettlementRules

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True)
class ScreeningRules:
    """Thresholds and weights of screening; `headrace/screening.toml` holds and explains them.

    A threshold of 0 turns its rule off. Spans in names are sliding windows before the intent.
    """

    version: str = "1"
    step_up_from: int = 550
    review_from: int = 600
    decline_from: int = 900

    velocity_weight: int = 400
    """Of velocity-1m, -1h, -24h and spend-1m, -1h, -24h together: windows of one burst don't add up."""
    impossible_travel_weight: int = 600
    new_payee_weight: int = 100
    new_device_weight: int = 200
    amount_high_weight: int = 250
    amount_extreme_weight: int = 600

    velocity_1m: int = 10
    velocity_1h: int = 60
    velocity_24h: int = 300
    spend_minor: dict[str, tuple[int, int, int]] = field(
        default_factory=lambda: {
            "EUR": (500_000, 1_000_000, 2_000_000),
            "USD": (500_000, 1_000_000, 2_000_000),
            "GBP": (500_000, 1_000_000, 2_000_000),
            "CHF": (500_000, 1_000_000, 2_000_000),
            "JPY": (800_000, 1_600_000, 3_200_000),
        }
    )
    """By currency, in minor units: the sums of 1 min, 1 h and 24 h."""

    travel_kmh: int = 900
    travel_km: int = 100
    """Shorter ways are never impossible."""
    amount_high_z: float = 4.0
    amount_extreme_z: float = 8.0
    amount_samples: int = 10
    amount_spread: float = 0.7
    """The least standard deviation of an account's amounts, in doublings."""

    floor_limit_minor: dict[str, int] = field(default_factory=dict)
    """R42, by currency, in minor units; a currency that is not named has none."""
    floor_policy: str = "review"
    """R42: what is above the floor limit: `open` approves, `review` reviews, `closed` declines."""


FLOOR_POLICIES = ("open", "review", "closed")


def screening_rules(data: Mapping[str, object]) -> ScreeningRules:
    """The rules in `data`, which has the names of `ScreeningRules`; names left out keep their defaults.

    Raises ValueError, which names the key, what is wrong with it and the way out.
    """
    known = {each.name: getattr(ScreeningRules(), each.name) for each in fields(ScreeningRules)}
    found: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise ValueError(f"{name!r} is no screening rule: {f'did you mean {near[0]!r}?' if near else 'remove it.'}")
        found[name] = _checked(name, value, known[name])
    rules = ScreeningRules(**found)
    _check_together(rules)
    return rules


def _checked(name: str, value: object, default: object) -> object:
    """`value`, if it has the type of `default`."""
    if name == "spend_minor":
        return {currency: _three(f"{name}.{currency}", each) for currency, each in _table(name, value).items()}
    if name == "floor_limit_minor":
        return {currency: _whole(f"{name}.{currency}", each) for currency, each in _table(name, value).items()}
    if isinstance(default, str):
        if not isinstance(value, str) or not 1 <= len(value) <= 64:
            raise ValueError(f"{name!r} must be a string of 1 to 64 characters, not {value!r}.")
        return value
    if isinstance(default, float):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1000.0:
            raise ValueError(f"{name!r} must be a number from 0 to 1000, not {value!r}.")
        return float(value)
    return _whole(name, value)


def _whole(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**15:
        raise ValueError(f"{name!r} must be a whole number from 0 to 10^15 - 1, not {value!r}.")
    return value


def _three(name: str, value: object) -> tuple[int, int, int]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"{name!r} must be three whole numbers: the sums of 1 min, 1 h and 24 h; not {value!r}.")
    minute, hour, day = (_whole(name, each) for each in value)
    return minute, hour, day


def _table(name: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name!r} must be a table by currency, such as [{name}], not {value!r}.")  # noqa: TRY004, one kind of error
    for currency in value:
        if not isinstance(currency, str) or len(currency) != 3 or not currency.isascii() or not currency.isupper():
            raise ValueError(f"{name!r} names {currency!r}, which is no currency: use an ISO 4217 code such as EUR.")
    return value


def _check_together(rules: ScreeningRules) -> None:
    """What holds between rules (R41, R42)."""
    if not 0 < rules.step_up_from <= rules.review_from <= rules.decline_from <= 1000:
        raise ValueError(
            "'step_up_from', 'review_from' and 'decline_from' must rise from 1 to at most 1000, "
            f"not {rules.step_up_from}, {rules.review_from}, {rules.decline_from}."
        )
    for name in ("impossible_travel_weight", "new_payee_weight"):
        if getattr(rules, name) >= rules.decline_from:
            raise ValueError(
                f"{name!r} must be less than 'decline_from', {rules.decline_from}: alone it may not decline."
            )
    if rules.velocity_weight + rules.new_payee_weight >= rules.step_up_from:
        raise ValueError(
            "'velocity_weight' and 'new_payee_weight' must together be less than 'step_up_from', "
            f"{rules.step_up_from}: a burst of plain payments is approved."
        )
    if rules.floor_policy not in FLOOR_POLICIES:
        raise ValueError(f"'floor_policy' must be one of {', '.join(FLOOR_POLICIES)}, not {rules.floor_policy!r}.")


@dataclass(frozen=True)
class Rules:
    """Defaults of docs/rules.md. Spans are in µs where the name does not say otherwise."""

    key_window: int = DAY
    """R21: how long a key is kept that made no payment."""
    payment_kept: int = 90 * DAY
    """R21: how long a payment's row lives after its last change."""
    max_intent_age_s: int | None = None
    """R21: older intents are refused with CH04; None is off."""
    duplicate_window_s: dict[str, int] = field(default_factory=dict)
    """R20, by channel; a channel that is not named has none."""
    review_deadline: int = 4 * HOUR
    """R27."""
    step_up_deadline: int = 5 * MINUTE
    """R27."""
    pan_guard: bool = True
    """R44."""
    screening: ScreeningRules = field(default_factory=ScreeningRules)
    settlement: SettlementRules = field(default_factory=SettlementRules)
    notification: NotificationRules = field(default_factory=NotificationRules)
