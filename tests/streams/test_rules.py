"""The rules' numbers, as they are read from settings."""

import tomllib
from dataclasses import asdict
from importlib import resources
from typing import Any

import pytest

from streams.rules import ScreeningRules, screening_rules

TOML = resources.files("headrace") / "screening.toml"


def test_the_settings_file_holds_every_name_with_its_default() -> None:
    """headrace/screening.toml says what happens without it."""
    data = tomllib.loads(TOML.read_text())
    assert screening_rules(data) == ScreeningRules()
    assert set(data) == set(asdict(ScreeningRules()))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"velocty_1m": 1}, ("'velocty_1m'", "did you mean 'velocity_1m'")),
        ({"zzz": 1}, ("'zzz'", "remove it")),
        ({"velocity_1m": "10"}, ("'velocity_1m'", "whole number", "'10'")),
        ({"velocity_1m": True}, ("'velocity_1m'", "whole number")),
        ({"velocity_1m": -1}, ("'velocity_1m'", "whole number")),
        ({"velocity_1m": 1.5}, ("'velocity_1m'", "whole number")),
        ({"amount_high_z": "4"}, ("'amount_high_z'", "number")),
        ({"amount_high_z": float("nan")}, ("'amount_high_z'", "number")),
        ({"version": ""}, ("'version'", "string")),
        ({"spend_minor": 5}, ("'spend_minor'", "table")),
        ({"spend_minor": {"eur": [1, 2, 3]}}, ("'spend_minor'", "'eur'", "ISO 4217")),
        ({"spend_minor": {"EUR": [1, 2]}}, ("'spend_minor.EUR'", "three")),
        ({"floor_limit_minor": {"EUR": 1.0}}, ("'floor_limit_minor.EUR'", "whole number")),
        ({"floor_policy": "maybe"}, ("'floor_policy'", "open, review, closed")),
        ({"review_from": 950}, ("'review_from'", "rise")),
        ({"decline_from": 1001}, ("'decline_from'", "1000")),
        ({"impossible_travel_weight": 900}, ("'impossible_travel_weight'", "'decline_from'")),
        ({"velocity_weight": 450}, ("'velocity_weight'", "'step_up_from'")),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(data: dict[str, Any], words: tuple[str, ...]) -> None:
    """The message holds the key and what to do."""
    with pytest.raises(ValueError, match=r".") as caught:
        screening_rules(data)
    for word in words:
        assert word in str(caught.value)
