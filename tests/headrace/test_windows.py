"""Clocks of zones, and the settlement file that is named."""

from datetime import time
from pathlib import Path

import pytest

from headrace.settings import SettingsError, load
from headrace.windows import clock
from streams.settlement_rules import SettlementRules


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No settings of this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HEADRACE_SETTLEMENT", raising=False)


def test_a_zones_clock_changes_with_summer_time():
    """17:00 in Berlin is 16:00 UTC in winter, 15:00 in summer; two changes a year."""
    found = clock("Europe/Berlin", time(17))
    assert {second for _, second in found} == {16 * 3600, 15 * 3600}
    assert found[0] == (0, 16 * 3600)
    assert len(found) == 1 + 2 * 25


def test_a_zone_far_from_utc_may_have_its_cut_off_on_another_date():
    """05:00 in Tokyo is the evening before; 22:00 in Honolulu the morning after."""
    assert clock("Asia/Tokyo", time(5)) == ((0, -4 * 3600),)
    assert clock("Pacific/Honolulu", time(22)) == ((0, 32 * 3600),)


def test_settlement_takes_the_file_that_is_named(monkeypatch):
    """HEADRACE_SETTLEMENT chooses fees and windows; the default is the file in the package."""
    assert load().rules().settlement == SettlementRules()
    Path("own.toml").write_text('version = "mine"\nevery_s = 3\n')
    monkeypatch.setenv("HEADRACE_SETTLEMENT", "own.toml")
    found = load().rules().settlement
    assert (found.version, found.every_s) == ("mine", 3)


def test_the_demonstrations_file_is_right(monkeypatch):
    """Short windows, and a fee for everybody."""
    import headrace

    monkeypatch.setenv("HEADRACE_SETTLEMENT", str(Path(headrace.__file__).parent / "settlement_demo.toml"))
    rules = load().rules().settlement
    assert 0 < rules.every_s <= 10
    assert rules.schedule_of("merchant-berlin-0001") is not None


@pytest.mark.parametrize("content", ["every_s = ", 'every_s = "often"\n', "evry_s = 3\n", 'zone = "Mars"\n', None])
def test_a_wrong_settlement_file_is_told(monkeypatch, content):
    """The file is named, and no default takes its place."""
    if content is not None:
        Path("own.toml").write_text(content)
    monkeypatch.setenv("HEADRACE_SETTLEMENT", "own.toml")
    with pytest.raises(SettingsError, match=r"the settlement file own\.toml"):
        load().rules()
