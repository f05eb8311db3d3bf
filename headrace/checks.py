"""What a publisher makes sure of before a record leaves: types, lengths, amounts, names.

These are the mistakes that the pipeline would answer with a refusal or a dead letter (R10, guards 0 and 2 of
docs/rules.md; R23, R26, R44). Whether an account exists or has the money is for the pipeline to say.
"""

import types
import typing
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from schemas.aliases import normal_alias
from schemas.cards import handle_holds_pan, holds_pan
from schemas.events import AccountAction, AccountCommand, AliasClaim, Intent, Kind, Micros
from schemas.money import MAX_MINOR, exponent

Record = Intent | AccountCommand | AliasClaim
"""What strangers may publish."""

ID_BYTES = 255
TEXT_BYTES = 4_096
PARTS = 64
EARLIEST = Micros(946_684_800_000_000)
"""2000-01-01: an earlier time is in another unit than µs."""
LATEST = Micros(7_258_118_400_000_000)
"""2200-01-01."""
WINDOWS_S = (3_600, 86_400, 2_592_000)
OPEN_FLAGS = ("NO_OVERDRAFT", "DEBIT_NORMAL", "MERCHANT")
FREEZE_FLAGS = ("NO_DEBITS", "NO_CREDITS")


class Refused(Exception):
    """A record that is not sent: the field, the reason, and the way out."""

    def __init__(self, field: str, reason: str, way_out: str) -> None:
        super().__init__(f"{field} {reason}; {way_out}")
        self.field = field
        self.reason = reason
        self.way_out = way_out


def check(record: Record, *, pan_guard: bool = True) -> None:
    """Raises Refused at the first thing that is wrong. `pan_guard` False lets card numbers pass as accounts (R44)."""
    if not isinstance(record, Intent | AccountCommand | AliasClaim):
        raise Refused(
            "record", f"is a {type(record).__name__}", "publish an Intent, an AccountCommand or an AliasClaim"
        )
    for (name, is_right, wanted), value in zip(_TYPES[type(record)], record, strict=True):
        if not is_right(value):
            raise Refused(name, f"is {brief(value)}", f"it must be {wanted}")
    if isinstance(record, Intent):
        _check_intent(record)
    elif isinstance(record, AccountCommand):
        _check_command(record)
    else:
        _check_claim(record)
    _refuse_pans(record, pan_guard=pan_guard)


def brief(value: object) -> str:
    """A value as a message shows it: as Python writes it, at most 60 characters."""
    text = repr(value.value if isinstance(value, StrEnum) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < _bytes(value) <= ID_BYTES


def _bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:  # half of a pair, or bytes that were no UTF-8
        return TEXT_BYTES + 1


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _bytes(value) <= ID_BYTES


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_time(value: Any) -> bool:
    return _is_int(value) and EARLIEST <= value < LATEST


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_texts(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) <= PARTS and all(_is_text(part) for part in value)


def _is_map(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= PARTS
        and all(_is_text(k) and isinstance(v, str) and _bytes(v) <= TEXT_BYTES for k, v in value.items())
    )


Test = tuple[str, Callable[[Any], bool], str]
_BY_TYPE: dict[Any, tuple[Callable[[Any], bool], str]] = {
    str: (_is_text, f"text of at most {ID_BYTES} bytes of UTF-8"),
    int: (_is_int, "a whole number of 64 bits"),
    float: (_is_number, "a number"),
    Micros: (_is_time, "a time in µs since 1970, between 2000 and 2200"),
    tuple[str, ...]: (_is_texts, f"at most {PARTS} texts"),
    dict[str, str]: (_is_map, f"at most {PARTS} texts by name, of at most {TEXT_BYTES} bytes"),
}


def _test(name: str, kind: Any) -> Test:
    arms = typing.get_args(kind) if typing.get_origin(kind) in {types.UnionType, typing.Union} else (kind,)
    optional = types.NoneType in arms
    bare = next(arm for arm in arms if arm is not types.NoneType)
    if isinstance(bare, type) and issubclass(bare, StrEnum):
        allowed = frozenset(one.value for one in bare if one.value != "UNKNOWN")
        words = ", ".join(one.value for one in bare if one.value != "UNKNOWN")
        return name, lambda value: isinstance(value, str) and value in allowed, f"one of {words}"
    plain = bare if bare in _BY_TYPE else getattr(bare, "__supertype__", bare)
    is_right, wanted = _BY_TYPE[plain]
    if not optional:
        return name, is_right, wanted
    return name, lambda value: value is None or is_right(value), f"{wanted}, or left out"


_TYPES = {
    record: tuple(_test(name, kind) for name, kind in typing.get_type_hints(record).items())
    for record in (Intent, AccountCommand, AliasClaim)
}


def _ids(record: Record, *names: str) -> None:
    for name in names:
        if not _is_id(getattr(record, name)):
            raise Refused(name, "is empty", f"give it 1 to {ID_BYTES} bytes")


def _customer(name: str, account: str) -> None:
    if account.startswith("~"):
        raise Refused(name, f"is {account!r}", "accounts that start with ~ are the ledger's own; name a customer's")


def _money(amount_minor: int, currency: str) -> None:
    if exponent(currency) is None:
        raise Refused("currency", f"is {currency!r}", "give an ISO 4217 code with a minor unit, such as EUR")
    if not 1 <= amount_minor <= MAX_MINOR:
        raise Refused("amount_minor", f"is {amount_minor}", f"it must be 1 to {MAX_MINOR} minor units")


def _check_intent(intent: Intent) -> None:
    _ids(intent, "intent_id", "idempotency_key", "payment_id", "debtor")
    _customer("debtor", intent.debtor)
    _customer("creditor", intent.creditor)
    _money(intent.amount_minor, intent.currency)
    if intent.creditor_alias is not None and normal_alias(intent.creditor_alias) is None:
        raise Refused("creditor_alias", f"is {brief(intent.creditor_alias)}", _ALIAS_FORM)
    if not intent.creditor and not intent.creditor_alias:
        raise Refused("creditor", "is empty", "name the creditor's account, or a creditor_alias")
    if intent.creditor == intent.debtor:
        raise Refused("creditor", "is the debtor too", "a payment needs two accounts")
    if intent.kind in (Kind.APPROVE, Kind.REJECT) and not intent.decided_by:
        raise Refused("decided_by", "is missing", f"{intent.kind} needs the name of who decides")
    _check_place(intent)


_ALIAS_FORM = "write MSISDN:, EMAIL:, IBAN: or HANDLE: and a value of that form"


def _check_place(intent: Intent) -> None:
    latitude, longitude = intent.latitude, intent.longitude
    if latitude is None and longitude is None:
        return
    if latitude is None or longitude is None:
        missing = "latitude" if latitude is None else "longitude"
        raise Refused(missing, "is missing", "give latitude and longitude, or neither")
    if not -90.0 <= latitude <= 90.0:
        raise Refused("latitude", f"is {latitude}", "it must be -90 to 90 degrees")
    if not -180.0 <= longitude <= 180.0:
        raise Refused("longitude", f"is {longitude}", "it must be -180 to 180 degrees")


def _refuse_pans(record: Record, *, pan_guard: bool) -> None:
    for name, holds in _PAN_IN[type(record)].items():
        if (pan_guard or name not in _ACCOUNTS) and holds(getattr(record, name) or ""):
            raise Refused(name, "holds a card number", "publish a token in its place (R44)")


_ACCOUNTS = ("debtor", "creditor", "account")
_PAN_IN: dict[type[Record], dict[str, Callable[[str], bool]]] = {
    Intent: {"debtor": holds_pan, "creditor": holds_pan, "device_id": holds_pan, "creditor_alias": handle_holds_pan},
    AccountCommand: {"account": holds_pan},
    AliasClaim: {"account": holds_pan, "alias": handle_holds_pan},
}
"""Fields in which a card number makes a dead letter, and how it is found."""


def _check_command(command: AccountCommand) -> None:
    _ids(command, "command_id", "account")
    _customer("account", command.account)
    if exponent(command.currency) is None:
        raise Refused("currency", f"is {command.currency!r}", "give an ISO 4217 code with a minor unit, such as EUR")
    allowed: tuple[str, ...] = ()
    if command.command == AccountAction.OPEN:
        allowed = OPEN_FLAGS
    elif command.command in (AccountAction.FREEZE, AccountAction.UNFREEZE):
        allowed = FREEZE_FLAGS
    for flag in command.flags:
        if flag not in allowed:
            known = ", ".join(allowed) or "none"
            raise Refused("flags", f"hold {flag!r}", f"flags of {command.command} are: {known}")
    if command.window_s is not None and command.window_s not in WINDOWS_S:
        raise Refused("window_s", f"is {command.window_s}", f"it must be one of {', '.join(map(str, WINDOWS_S))}")
    for name in ("max_payment_minor", "max_amount_minor", "max_count"):
        value = getattr(command, name)
        if value is not None and not 0 <= value <= MAX_MINOR:
            raise Refused(name, f"is {value}", f"it must be 0 to {MAX_MINOR}")
    if command.window_s is None and (command.max_amount_minor, command.max_count) != (None, None):
        raise Refused("window_s", "is missing", "max_amount_minor and max_count need the window in which they count")


def _check_claim(claim: AliasClaim) -> None:
    _ids(claim, "claim_id", "alias", "account")
    _customer("account", claim.account)
    normal = normal_alias(claim.alias)
    if normal is None:
        raise Refused("alias", f"is {brief(claim.alias)}", _ALIAS_FORM)
    if normal != claim.alias:
        raise Refused("alias", f"is {brief(claim.alias)}", f"write it in its normal form, {normal}")
