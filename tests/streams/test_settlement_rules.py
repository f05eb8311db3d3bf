"""Settlement's numbers: strict, and equal when they come back from the log."""

import re

import pytest

from headrace.windows import settlement_of
from schemas.events import Micros
from schemas.internal import SettingsRecord
from streams.rules import Rules
from streams.settlement_rules import SettlementRules, settlement_rules
from topologies.engine.identity import code_hash, settings_json
from topologies.engine.rerun import setting_of

CARD = {"bp": 275, "fixed_minor": {"EUR": 30}, "split": [["own", 70], ["partner", 30]]}

WRONG = [
    ({"evry_s": 1}, "'evry_s' is no settlement rule: did you mean 'every_s'?"),
    ({"every_s": -1}, "'every_s' must be a whole number from 0"),
    ({"every_s": True}, "'every_s' must be a whole number"),
    ({"grace_s": 1.5}, "'grace_s' must be a whole number"),
    ({"version": ""}, "'version' must be a string of 1 to 64"),
    ({"calendar": {"hollidays": []}}, "'hollidays' is no rule of the calendar: did you mean 'holidays'?"),
    ({"calendar": {"holidays": ["2026-02-30"]}}, "'calendar.holidays' must hold dates such as '2026-12-25'"),
    ({"calendar": {"holidays": "2026-02-20"}}, "'calendar.holidays' must be a list"),
    ({"calendar": {"weekend": [1, 2, 3, 4, 5, 6, 7]}}, "at most 6 days"),
    ({"calendar": {"weekend": [0]}}, "at most 6 days"),
    ({"calendar": []}, "'calendar' must be a table"),
    ({"schedules": {"card": {"bp": 10_001}}}, "'schedules.card.bp' must be a whole number from 0 to 10000"),
    ({"schedules": {"card": {"fixed": 1}}}, "'fixed' is no rule of schedules.card: did you mean 'fixed_minor'?"),
    ({"schedules": {"card": {"fixed_minor": {"euro": 1}}}}, "'schedules.card.fixed_minor' names 'euro'"),
    ({"schedules": {"card": {"split": [["Own", 1]]}}}, "'schedules.card.split' must be pairs of a party"),
    ({"schedules": {"card": {"split": [["own", 0]]}}}, "must name 1 to 16 parties, each once"),
    ({"schedules": {"card": {"split": [["own", 1], ["own", 2]]}}}, "must name 1 to 16 parties, each once"),
    ({"schedules": {"card": {"split": []}}}, "must name 1 to 16 parties"),
    ({"fees": "cart", "schedules": {"card": {}}}, "'fees' names the schedule 'cart', which is not there: did you mean 'card'?"),
    ({"merchants": {"shop": {"fees": "card"}}}, "'merchants.shop.fees' names the schedule 'card', which is not there: write it"),
    ({"merchants": {"shop": {"fee": "card"}}}, "'fee' is no rule of merchants.shop: did you mean 'fees'?"),
    ({"zone": "Mars/Base"}, "'Mars/Base' is no known time zone"),
    ({"merchants": {"shop": {"zone": "Europe/Berlim"}}}, "'Europe/Berlim' is no known time zone"),
    ({"cut_off": "25:00"}, "'cut_off' must be a time of day such as '17:00'"),
    ({"cut_off": 17}, "'cut_off' must be a string"),
    ({"clocks": {}}, "'clocks' is worked out from the zones: remove it."),
]  # fmt: skip


@pytest.mark.parametrize(("content", "told"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_named_with_the_way_out(content: dict[str, object], told: str):
    """No default takes the place of what somebody meant otherwise."""
    with pytest.raises(ValueError, match=re.escape(told)):
        settlement_of(content)


def test_nothing_set_is_the_default():
    """UTC, 17:00, weekends off, no fees."""
    assert settlement_of({}) == SettlementRules() == settlement_rules({})


def test_rules_come_back_equal_from_the_log():
    """A replay works with the record on headrace.settings, which stays small."""
    rules = Rules(
        settlement=settlement_of(
            {
                "version": "7", "grace_s": 9, "cut_off": "16:30", "zone": "Europe/Berlin", "fees": "card",
                "calendar": {"version": "2026-1", "holidays": ["2026-12-25"], "weekend": [5, 6]},
                "schedules": {"card": CARD, "free": {}},
                "merchants": {"shop": {"fees": "free", "zone": "America/New_York"}, "kiosk": {}},
            }
        )
    )  # fmt: skip
    text = settings_json(rules).decode()
    assert len(text) < 8_000
    found = setting_of(code_hash(rules), SettingsRecord(code_hash(rules), "1", text, Micros(1)))
    assert (found.rules, found.why) == (rules, "")


def test_a_merchant_has_its_own_schedule_and_zone():
    """What it does not name is the default's."""
    rules = settlement_of(
        {
            "fees": "card",
            "schedules": {"card": CARD, "free": {}},
            "merchants": {"a": {"fees": "free"}, "b": {"zone": "Asia/Tokyo"}},
        }
    )
    assert [rules.schedule_of(name).bp for name in ("a", "b", "c")] == [0, 275, 275]  # type: ignore[union-attr]
    assert [rules.clock_of(name)[0][1] for name in ("a", "b", "c")] == [61_200, 28_800, 61_200]
