"""The numbers that the rules use: one frozen object, whose hash stands in every journal record."""

from dataclasses import dataclass, field

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True)
class ScreeningRules:
    """Thresholds and weights of screening; `headrace/screening.toml` holds and explains them."""

    version: str = "1"


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
    alias_rest: int = DAY
    """R24: how long a freed alias rests."""
    pan_guard: bool = True
    """R44."""
    screening: ScreeningRules = field(default_factory=ScreeningRules)
