"""Aliases: one normal form for every spelling (R23)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import aliases
from schemas.aliases import normal_alias


@pytest.mark.parametrize(
    ("spelt", "normal"),
    [
        ("MSISDN:+49 (170) 123-45.67", "MSISDN:+491701234567"),
        ("msisdn:00491701234567", "MSISDN:+491701234567"),
        ("MSISDN:491701234567", "MSISDN:+491701234567"),
        ("Email: Ann.B+x@Example.ORG ", "EMAIL:ann.b+x@example.org"),
        ("IBAN:DE89 3704 0044 0532 0130 00", "IBAN:de89370400440532013000"),
        ("HANDLE:@Ann\t", "HANDLE:@ann"),
    ],
)
def test_every_spelling_has_one_normal_form(spelt: str, normal: str) -> None:
    """E.164 for numbers; lower case and no blanks for the rest."""
    assert normal_alias(spelt) == normal


@pytest.mark.parametrize(
    "alias",
    [
        "", "ann", "HANDLE:", "FAX:123", "EMAIL:ann", "EMAIL:a@b@c", "EMAIL:@b", "EMAIL:änn@b", "HANDLE:\u212a",
        "MSISDN:0170123", "MSISDN:+0170123456", "MSISDN:+1234567890123456", "MSISDN:++491701234567", "MSISDN:+12x4567",
        "IBAN:DE88370400440532013000", "IBAN:DE89", "HANDLE:" + "a" * 65, "EMAIL:a@" + "b" * 250,
    ],
)  # fmt: skip
def test_what_is_no_alias_has_no_normal_form(alias: str) -> None:
    """A wrong form, a wrong check digit, too long, or not ASCII: None."""
    assert normal_alias(alias) is None


def test_aliases_that_are_too_long_are_not_remembered() -> None:
    """A stranger who sends ever new aliases of 8 KiB can't fill the memory."""
    before = aliases.remembered.cache_info()
    assert normal_alias("HANDLE:" + "x" * 8192) is None
    assert aliases.remembered.cache_info() == before


@given(st.sampled_from(("MSISDN", "EMAIL", "IBAN", "HANDLE", "x")), st.text(max_size=40))
def test_a_normal_form_is_its_own(form: str, value: str) -> None:
    """Normalising again changes nothing, whatever the text, and never fails."""
    normal = normal_alias(f"{form}:{value}")
    assert normal is None or normal_alias(normal) == normal
