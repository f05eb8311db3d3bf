"""Money: whole minor units, never a float, and not a cent is lost (R46, R47, R48)."""

import pytest
from babel.core import get_global
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import money

# CLDR counts the digits of cash in use, ISO 4217 list one those of the currency.
CASH_DIGITS = {"AFN", "ALL", "IQD", "IRR", "KPW", "LAK", "LBP", "MGA", "MMK", "RSD", "SOS", "SYP", "YER"}


def digits_in_babel(currency: str) -> int:
    """Decimals by CLDR."""
    fractions = get_global("currency_fractions")
    return int(fractions.get(currency, fractions["DEFAULT"])[0])


def test_exponents_are_those_that_babel_knows() -> None:
    """Every currency has its ISO 4217 decimals; the known differences are exactly these."""
    different = {each for each in money.currencies() if money.exponent(each) != digits_in_babel(each)}
    assert different == CASH_DIGITS


def test_every_currency_in_use_has_an_exponent() -> None:
    """Legal tender of today, by CLDR, is no unknown currency; what has no minor unit is."""
    territories = get_global("territory_currencies")
    tender = {code for rows in territories.values() for code, _, end, is_tender in rows if end is None and is_tender}
    assert {code for code in tender if money.exponent(code) is None} <= {"BGN", "ANG", "CUC", "HRK", "SLL", "ZWL"}
    assert [money.exponent(code) for code in ("XAU", "XDR", "XXX", "eur", "", "EURO", "BGN")] == [None] * 7


@pytest.mark.parametrize("amount", [12.34, 12, None, b"12.34", True])
def test_only_text_is_parsed(amount: object) -> None:
    """A float has lost its cents before it comes here."""
    with pytest.raises(TypeError, match="text"):
        money.to_minor(amount, "EUR")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("amount", "currency", "why"),
    [
        ("12.345", "EUR", "more decimals"),
        ("0.001", "EUR", "more decimals"),
        ("12.00000000000000000000000000000001", "EUR", "more decimals"),
        ("0.99999999999999999999999999999999999", "EUR", "more decimals"),
        ("1.5", "JPY", "more decimals"),
        ("1.2345", "KWD", "more decimals"),
        ("12.34", "XXX", "no ISO 4217 currency"),
        ("12.34", "eur", "no ISO 4217 currency"),
        *[(text, "EUR", "no decimal number") for text in ("", "abc", "NaN", "Infinity", "1e3", "1E-1000026", "1_000")],
        *[(text, "EUR", "no decimal number") for text in (" 12", "12\n", "1,50", "１２", ".5", "5.", "--1", "9" * 21)],
    ],
)
def test_what_is_no_amount_is_refused(amount: str, currency: str, why: str) -> None:
    """Nothing is rounded, guessed or read as another number."""
    with pytest.raises(ValueError, match=why):
        money.to_minor(amount, currency)


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [("12.34", "EUR", 1234), ("12.3", "EUR", 1230), ("12.3400", "EUR", 1234), ("-0.05", "EUR", -5), ("7", "JPY", 7),
     ("0.001", "BHD", 1), ("1.0001", "CLF", 10001), ("-0", "EUR", 0), ("9999999999999.99", "EUR", money.MAX_MINOR)],
)  # fmt: skip
def test_an_amount_becomes_its_minor_units(amount: str, currency: str, minor: int) -> None:
    """Decimals follow the currency."""
    assert money.to_minor(amount, currency) == minor


@settings(deadline=None)
@given(minor=st.integers(-(10**19), 10**19), currency=st.sampled_from(money.currencies()))
def test_what_is_formatted_parses_to_the_same(minor: int, currency: str) -> None:
    """No minor unit is lost on the way to text and back, up to what an Avro long holds."""
    text = money.format_minor(minor, currency)
    assert money.to_minor(text, currency) == minor
    assert len(text.partition(".")[2]) == money.exponent(currency)


def test_formatting_refuses_floats_and_unknown_currencies() -> None:
    """The way out is a door as well (R46)."""
    with pytest.raises(TypeError):
        money.format_minor(12.5, "EUR")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="XXX"):
        money.format_minor(12, "XXX")


def test_a_split_follows_the_largest_remainder() -> None:
    """The example of R47: 213.5, 61 and 30.5 become 214, 61 and 30; a tie goes to the first."""
    assert money.split(305, [70, 20, 10]) == [214, 61, 30]
    assert money.split(100, [1, 1, 1]) == [34, 33, 33]
    assert money.split(1, [0, 1, 1]) == [0, 1, 0]


WEIGHTS = st.lists(st.integers(0, 10**6), min_size=1, max_size=12).filter(any)


@settings(deadline=None)
@given(total=st.integers(0, money.MAX_MINOR), weights=WEIGHTS)
def test_a_split_gives_away_exactly_what_there_is(total: int, weights: list[int]) -> None:
    """The parts sum up to the total, each within one minor unit of its share; no weight, no part."""
    parts = money.split(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - total * weight) < sum(weights)
        assert weight or not part


@pytest.mark.parametrize(("total", "weights"), [(-1, [1]), (1, []), (1, [0, 0]), (1, [2, -1]), (1, [-1])])
def test_what_cannot_be_split_is_refused(total: int, weights: list[int]) -> None:
    """Negative totals and weights, or nobody to give to."""
    with pytest.raises(ValueError, match="can't split"):
        money.split(total, weights)


@pytest.mark.parametrize(
    ("amount", "bp", "fixed", "fee"),
    [
        (10_000, 275, 30, 305),  # 2.75 % + 0.30 of 100.00
        (10_000, 275, 0, 275),
        (10_000, 0, 30, 30),
        (18, 275, 0, 0),  # 0.495 cents
        (182, 275, 0, 5),  # 5.005
        (20, 250, 0, 1),  # exactly a half goes up
        (19, 250, 0, 0),
        (12, 275, 30, 12),  # never more than the credit
        (1, 10_000, 0, 1),
        (money.MAX_MINOR, 10_000, 30, money.MAX_MINOR),
        (0, 275, 0, 0),
    ],
)
def test_a_fee_is_rounded_half_up_and_at_most_the_amount(amount: int, bp: int, fixed: int, fee: int) -> None:
    """R47, in whole numbers only."""
    assert money.fee(amount, bp, fixed) == fee


@pytest.mark.parametrize("wrong", [(-1, 1, 1), (1, -1, 1), (1, 1, -1)])
def test_no_fee_is_negative(wrong: tuple[int, int, int]) -> None:
    """Nor is what it is taken from."""
    with pytest.raises(ValueError, match="may be negative"):
        money.fee(*wrong)
