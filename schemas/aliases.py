"""Aliases: the names by which a payee can be named instead of his account (R23).

An alias is `<form>:<value>`. Its normal form is the one that is compared, stored and used as the
record key of `accounts.aliases`, so that every spelling of an alias lands on one partition.
Only ASCII is taken: the lower case of other letters differs between versions of Unicode.
"""

import re
from functools import lru_cache

MOST_BYTES = 255
_MSISDN = re.compile(r"\+[1-9][0-9]{6,14}")
_EMAIL = re.compile(r"[!-?A-~]{1,64}@[!-?A-~]{1,189}")
_HANDLE = re.compile(r"[!-~]{1,64}")
_IBAN = re.compile(r"[a-z]{2}[0-9]{2}[a-z0-9]{11,30}")
_BLANKS = str.maketrans("", "", " \t\u00a0")
_PHONE_MARKS = str.maketrans("", "", "-.()/")


def normal_alias(alias: str) -> str | None:
    """The normal form of `alias`, or None where it has none.

    MSISDN: E.164 with its plus sign; EMAIL, IBAN and HANDLE: lower case without blanks. An IBAN
    must pass its check digits (ISO 7064, mod 97-10).
    """
    return remembered(alias) if len(alias) <= MOST_BYTES else None


@lru_cache(maxsize=65_536)
def remembered(alias: str) -> str | None:
    """`normal_alias` for aliases of at most `MOST_BYTES` characters."""
    form, _, value = alias.translate(_BLANKS).partition(":")
    if not (form + value).isascii():
        return None
    form = form.upper()
    value = _phone(value) if form == "MSISDN" else value.lower()
    return f"{form}:{value}" if _well_formed(form, value) else None


def _phone(value: str) -> str:
    """Digits behind a plus sign; `00` is another way to write it, and an MSISDN may leave it out."""
    digits = value.translate(_PHONE_MARKS)
    return "+" + digits.removeprefix("+" if digits.startswith("+") else "00")


def _well_formed(form: str, value: str) -> bool:
    if form == "MSISDN":
        return _MSISDN.fullmatch(value) is not None
    if form == "EMAIL":
        return _EMAIL.fullmatch(value) is not None
    if form == "HANDLE":
        return _HANDLE.fullmatch(value) is not None
    return form == "IBAN" and _IBAN.fullmatch(value) is not None and _mod_97(value) == 1


def _mod_97(iban: str) -> int:
    """An IBAN's number modulo 97: the first four signs go last, a letter counts as two digits."""
    return int("".join([str(int(sign, 36)) for sign in iban[4:] + iban[:4]])) % 97
