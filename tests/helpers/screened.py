"""Screening on the bench: intents one by one, and rows as the engine keeps them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from builders import AT, a_turn, an_intent, memory, received

from schemas.events import Intent
from streams.rules import Rules, ScreeningRules
from streams.screening import TABLES, Profile, ScreeningTables, screen
from streams.turn import Admitted, Screened


class JsonTable:
    """A table that keeps its rows as the engine does: as JSON arrays."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}

    def get(self, key: str) -> Profile | None:
        """The row under `key`, as read back."""
        row = self.rows.get(key)
        return None if row is None else Profile(*orjson.loads(row))

    def put(self, key: str, row: Profile) -> None:
        """Sets the row under `key`."""
        self.rows[key] = orjson.dumps(tuple(row))

    def prefetch(self, keys: Sequence[str]) -> None:
        """Nothing to do."""


def admitted(intent: Intent, **marks: Any) -> Admitted:
    """`intent` as admission hands it on, unmarked unless `marks` say otherwise."""
    return Admitted(received(intent), intent, "0" * 32, "1" * 32, **marks)


class Bench:
    """Screens intents of alice one by one, at times counted from `AT`."""

    def __init__(self, **rules: Any) -> None:
        self.tables = memory(ScreeningTables, TABLES)
        self.rules = Rules(screening=replace(ScreeningRules(), **rules))

    def pay(self, after: int = 0, *, at: int | None = None, **fields: Any) -> Screened:
        """Screens a payment of alice that is requested `after` µs, in a step at that time or at `at`."""
        intent = an_intent(requested_at=AT + after, **fields)
        turn = a_turn(self.tables, at=AT + (after if at is None else at), rules=self.rules)
        (one,) = screen([admitted(intent)], turn).handed_on
        return one

    @property
    def profile(self) -> Profile:
        """What is known of alice."""
        return self.tables.profiles.rows["alice"]


def located(place: tuple[float, float]) -> dict[str, float]:
    """The fields of an intent at `place` (latitude, longitude)."""
    return {"latitude": place[0], "longitude": place[1]}
