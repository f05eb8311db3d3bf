"""Card numbers (PANs): found, so that they are refused or masked (R44).

A PAN is 13 to 19 digits that start with 2 to 6 and pass the Luhn check (ISO/IEC 7812-1).
"""

import re

_RUN = re.compile(r"(?<![0-9A-Za-z])[2-6][0-9]{12,18}(?![0-9A-Za-z])")
_GROUPED = re.compile(r"(?<![0-9A-Za-z])[2-6](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z])")
_SHORTEST = 13
_TWICE = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_SEPARATORS = str.maketrans("", "", " -")


def luhn(digits: str) -> bool:
    """Whether a string of ASCII digits passes the Luhn check."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _TWICE[ord(digit) - 48] if place & 1 else ord(digit) - 48
    return total % 10 == 0


def holds_pan(text: str) -> bool:
    """Whether an id is a PAN, also in groups, or has one standing free in it.

    Digits that touch a letter are no PAN, nor are the groups inside a UUID.
    """
    if len(text) < _SHORTEST:
        return False
    for run in _RUN.findall(text):
        if luhn(run):
            return True
    grouped = _GROUPED.fullmatch(text)
    return grouped is not None and luhn(text.translate(_SEPARATORS))


def handle_holds_pan(alias: str) -> bool:
    """Whether the value of a HANDLE holds a PAN; a phone number or an IBAN may look like one by chance."""
    form, _, value = alias.partition(":")
    return form.strip().upper() not in {"MSISDN", "EMAIL", "IBAN"} and holds_pan(value.strip() or form)


def masked(text: str) -> str:
    """`text` with every PAN in it cut to its last four digits: `****1111`."""
    return text if len(text) < _SHORTEST else _GROUPED.sub(_mask, _RUN.sub(_mask, text))


def _mask(found: re.Match[str]) -> str:
    digits = found[0].translate(_SEPARATORS)
    return f"****{digits[-4:]}" if luhn(digits) else found[0]
