"""Card numbers: found where they stand, and nowhere else (R44)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.cards import holds_pan, luhn, masked

PAN = "4111111111111111"


@pytest.mark.parametrize(
    "text", [PAN, "4222222222222", "6304000000000000000"[:18] + "0", f"card:{PAN}", "5500 0000-0000 0004"]
)
def test_a_card_number_is_found(text: str) -> None:
    """13 to 19 digits, alone, in groups, or standing free in an id."""
    assert holds_pan(text) is luhn("".join(each for each in text if each.isdigit()))
    assert holds_pan(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "alice", "4111111111111112", "422222222222", f"{PAN}0000", "1" + PAN[1:], f"x{PAN}", f"{PAN}x",
        "de89370400440532013000", "00000000-4111-4111-8111-111111111111", "٤١١١١١١١١١١١١١١١",
    ],
)  # fmt: skip
def test_other_ids_pass(text: str) -> None:
    """A wrong check digit, length or first digit, or letters around it: no card number."""
    assert not holds_pan(text)


def test_masking_keeps_the_last_four_digits_and_all_other_text() -> None:
    """Each card number in a text is cut, other numbers stay."""
    text = f"a {PAN}, 4111-1111-1111-1111 and 4111111111111112"
    assert masked(text) == "a ****1111, ****1111 and 4111111111111112"


@example("2-2000011145677")
@given(st.text(alphabet="0123456789 -a", max_size=60))
def test_what_is_masked_holds_no_card_number(text: str) -> None:
    """Nothing that would be refused as an id is left."""
    assert not holds_pan(masked(text))


@given(st.integers(10**12, 10**18))
def test_one_wrong_digit_fails_the_luhn_check(number: int) -> None:
    """For every number just one last digit passes."""
    assert sum(luhn(f"{number}{digit}") for digit in range(10)) == 1
