"""Money: `int` minor units beside an ISO 4217 code. Floats are refused at every door (R46).

Source of the exponents: ISO 4217, list one (active codes) of 2026; codes without a minor unit (XAU,
XDR, XXX, ...) are left out, so they have none here.
"""

import re
from collections.abc import Sequence
from operator import index

from schemas.events import Minor

MAX_MINOR = Minor(10**15 - 1)
"""The most one payment may move; safe as a JSON number (R48)."""

_EXPONENTS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW "
    "CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR "
    "ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV "
    "MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
_DECIMAL = re.compile(r"(-?)([0-9]{1,20})(?:\.([0-9]{1,40}))?")
"""ASCII digits only: no exponents, underscores or blanks, and nothing that has to be rounded."""

_EXPONENT_OF = {code: digits for digits, codes in _EXPONENTS.items() for code in codes.split()}


def exponent(currency: str) -> int | None:
    """Decimal digits of the minor unit; None where ISO 4217 has no such code or it has no minor unit."""
    return _EXPONENT_OF.get(currency)


def currencies() -> list[str]:
    """Every code that has a minor unit, sorted."""
    return sorted(_EXPONENT_OF)


def to_minor(amount: str, currency: str) -> Minor:
    """Minor units of a decimal text such as "12.34".

    Raises TypeError for anything but text (a float has lost its cents already), ValueError for an
    unknown currency, for what is no number, and for more decimals than the currency has.
    """
    if not isinstance(amount, str):
        raise TypeError(f"an amount is text such as '12.34', not the {type(amount).__name__} {amount!r}")
    digits = exponent(currency)
    if digits is None:
        raise ValueError(f"{currency!r} is no ISO 4217 currency with a minor unit")
    found = _DECIMAL.fullmatch(amount)
    if found is None:
        raise ValueError(f"{amount[:60]!r} is no decimal number of digits and a point")
    sign, whole, decimals = found[1], found[2], (found[3] or "").rstrip("0")
    if len(decimals) > digits:
        raise ValueError(f"{amount!r} has more decimals than {currency}, which has {digits}")
    return Minor(int(sign + whole + decimals.ljust(digits, "0")))


def format_minor(amount_minor: int, currency: str) -> str:
    """1234 minor units of EUR are "12.34". Raises TypeError for a float, ValueError for an unknown currency."""
    digits = exponent(currency)
    if digits is None:
        raise ValueError(f"{currency!r} is no ISO 4217 currency with a minor unit")
    text = f"{abs(index(amount_minor)):0{digits + 1}d}"
    sign = "-" if amount_minor < 0 else ""
    return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else sign + text


def fee(amount_minor: int, bp: int, fixed_minor: int = 0) -> Minor:
    """The fee of an amount: `bp` hundredths of a per cent, a half rounded up, and a fixed part; at most the amount (R47).

    Raises ValueError for negative input.
    """
    if min(amount_minor, bp, fixed_minor) < 0:
        raise ValueError(f"no fee of {amount_minor} by {bp} and {fixed_minor}: none may be negative")
    return Minor(min(amount_minor, (amount_minor * bp + 5_000) // 10_000 + fixed_minor))


def split(total_minor: int, weights: Sequence[int]) -> list[Minor]:
    """Parts of a total by weight that sum up to it exactly: largest remainder, a tie goes to the first (R47).

    Raises ValueError for negative input or weights that sum to zero.
    """
    whole = sum(weights)
    if total_minor < 0 or whole <= 0 or min(weights) < 0:
        raise ValueError(f"can't split {total_minor} by {list(weights)}")
    parts = [total_minor * weight // whole for weight in weights]
    remainders = [total_minor * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda n: (-remainders[n], n))
    for n in by_remainder[: total_minor - sum(parts)]:
        parts[n] += 1
    return [Minor(part) for part in parts]
