"""Lines of JSON or CSV made into records: fields as in the schemas, with a few ways to write them shorter.

Times are ISO 8601 with a zone, or µs since 1970; an amount is `amount_minor`, or `amount` as text with its
currency ("12.34"). Left out: ids are made up, `requested_at` is now, an intent is a TRANSFER whose
`payment_id` and `idempotency_key` are its `intent_id`.
"""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any, BinaryIO, NamedTuple
from uuid import uuid4

import orjson

from headrace.checks import Record, Refused, brief, check
from schemas import money
from schemas.aliases import normal_alias
from schemas.events import AccountAction, AccountCommand, AliasAction, AliasClaim, Intent, Kind

TO: dict[str, type[Record]] = {"intents": Intent, "accounts": AccountCommand, "aliases": AliasClaim}
LINE_BYTES = 1 << 20
"""A longer line is bad."""
BOM = b"\xef\xbb\xbf"

_NUMBERS = frozenset({"amount_minor", "max_payment_minor", "window_s", "max_amount_minor", "max_count"})
_TIMES = frozenset({"requested_at", "expires_at"})
_PLACES = frozenset({"latitude", "longitude"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DECIMAL = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,20})?")
Fields = dict[str, Any]


class Line(NamedTuple):
    """One line: its number, from 1, and its record or what is wrong with it; `end` is the byte behind it."""

    number: int
    record: Record | None
    refused: Refused | None
    end: int


def read_lines(
    source: BinaryIO,
    to: str,
    form: str,
    *,
    pan_guard: bool = True,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Line]:
    """The lines of `source`; blank ones are left out. `to` is a key of `TO`, `form` is "jsonl" or "csv".

    Raises Refused where CSV's heading is wrong, for then every line is.
    """
    kind = TO[to]
    rows = _json_rows(source) if form == "jsonl" else _csv_rows(source, kind)
    for number, found, end in rows:
        try:
            if isinstance(found, Refused):
                raise found
            record = _record(kind, found, now)
            check(record, pan_guard=pan_guard)
        except Refused as refused:
            yield Line(number, None, refused, end)
        else:
            yield Line(number, record, None, end)


Row = tuple[int, Fields | Refused, int]


def _whole_lines(source: BinaryIO) -> Iterator[tuple[int, bytes | None, int]]:
    """Line number, line (None: longer than LINE_BYTES), and the byte behind it."""
    number = end = 0
    while line := source.readline(LINE_BYTES + 1):
        number += 1
        end += len(line)
        whole: bytes | None = line
        while line and not line.endswith(b"\n") and len(line) > LINE_BYTES:
            whole = None
            line = source.readline(LINE_BYTES + 1)
            end += len(line)
        yield number, whole, end


def _json_rows(source: BinaryIO) -> Iterator[Row]:
    for number, line, end in _whole_lines(source):
        if line is None:
            yield number, _too_long(), end
            continue
        text = line.removeprefix(BOM).strip() if number == 1 else line.strip()
        if text:
            yield number, _json_fields(text), end


def _json_fields(text: bytes) -> Fields | Refused:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return Refused("line", f"is no JSON: {error.msg} at character {error.colno}", "write one JSON object on it")
    if not isinstance(found, dict):
        return Refused("line", f"is a JSON {type(found).__name__}", "write one JSON object on it")
    return found


def _csv_rows(source: BinaryIO, kind: type[Record]) -> Iterator[Row]:
    """Cells by the names in the heading; empty ones count as left out. A record does not go over a line's end."""
    heading: list[str] | None = None
    for number, line, end in _whole_lines(source):
        if line is None:
            yield number, _too_long(), end
            continue
        try:
            text = (line.removeprefix(BOM) if number == 1 else line).decode()
            cells = next(csv.reader([text], strict=True), [])
        except (UnicodeDecodeError, csv.Error) as error:
            yield (
                number,
                Refused("line", f"is no CSV: {error}", "write UTF-8, and quote cells with commas or quotes"),
                end,
            )
            continue
        if not any(cells):
            continue
        if heading is None:
            heading = _heading(cells, kind)
        elif len(cells) != len(heading):
            reason = f"has {len(cells)} cells, the heading has {len(heading)}"
            yield number, Refused("line", reason, "give each column a cell"), end
        else:
            yield number, _uncelled({name: cell for name, cell in zip(heading, cells, strict=True) if cell}), end


def _too_long() -> Refused:
    return Refused("line", f"is longer than {LINE_BYTES} bytes", "write one record on each line")


def _heading(cells: list[str], kind: type[Record]) -> list[str]:
    names = [cell.strip() for cell in cells]
    for name in names:
        _known(name, kind)
        if names.count(name) > 1:
            raise Refused(name, "stands twice in the heading", "keep one column of each name")
    return names


def _uncelled(cells: Mapping[str, str]) -> Fields | Refused:
    """Cells as JSON would have them: numbers, lists (blanks between the parts), objects."""
    found: Fields = dict(cells)
    try:
        for name, cell in cells.items():
            if name in _NUMBERS:
                found[name] = _number(name, cell, int)
            elif name in _PLACES:
                found[name] = _number(name, cell, float)
            elif name == "flags":
                found[name] = cell.split()
            elif name == "metadata":
                found[name] = orjson.loads(cell)
            elif name in _TIMES and cell.isdigit():
                found[name] = _number(name, cell, int)
    except orjson.JSONDecodeError as error:
        return Refused(
            "metadata", f"is no JSON: {error.msg} at character {error.colno}", 'write an object, such as {"order":"17"}'
        )
    except Refused as refused:
        return refused
    return found


def _number(name: str, cell: str, kind: type[int] | type[float]) -> float:
    try:
        return kind(cell if cell.isascii() and "_" not in cell else "?")
    except ValueError:  # also too many digits
        raise Refused(name, f"is {brief(cell)}", "write a plain number") from None


def _known(name: str, kind: type[Record]) -> None:
    names = [*kind._fields, *(["amount"] if kind is Intent else [])]
    if name not in names:
        near = get_close_matches(name, names, n=1, cutoff=0.4)
        way_out = f"did you mean {near[0]}?" if near else f"fields are {', '.join(names)}"
        raise Refused(name[:60] or "a nameless field", "is no field of the schema", way_out)


def _record(kind: type[Record], found: Fields, now: Callable[[], datetime]) -> Record:
    for name in found:
        _known(name, kind)
    fields = {name: value for name, value in found.items() if value is not None}
    for name in _TIMES & fields.keys():
        fields[name] = _micros(name, fields[name])
    if "requested_at" not in fields:
        fields["requested_at"] = (now() - _EPOCH) // timedelta(microseconds=1)
    if kind is Intent:
        return _intent(fields)
    if kind is AccountCommand:
        return _command(fields)
    return _claim(fields)


def _micros(name: str, value: Any) -> Any:
    """µs since 1970 of an ISO 8601 text; other things stay, to be checked."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Refused(
            name, f"is {brief(value)}", "write ISO 8601, such as 2026-11-21T09:00:00Z, or µs since 1970"
        ) from None
    if moment.tzinfo is None:
        raise Refused(name, f"is {value!r}, which has no zone", "add Z or an offset such as +01:00")
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _intent(fields: Fields) -> Intent:
    if "amount" in fields:
        fields["amount_minor"] = _minor(fields)
        del fields["amount"]
    intent_id = fields.setdefault("intent_id", str(uuid4()))
    fields.setdefault("payment_id", intent_id)
    fields.setdefault("idempotency_key", intent_id)
    fields.setdefault("kind", Kind.TRANSFER.value)
    if fields.get("creditor_alias"):
        fields.setdefault("creditor", "")
    fields["kind"] = _word(Kind, fields["kind"])
    return Intent(**_complete(Intent, fields))


def _minor(fields: Fields) -> int:
    amount, currency = fields["amount"], fields.get("currency")
    if "amount_minor" in fields:
        raise Refused("amount", "stands beside amount_minor", "give one of them")
    if not isinstance(amount, str):
        raise Refused("amount", f"is {brief(amount)}, no text", 'write it as text, "12.34", or give amount_minor')
    if not isinstance(currency, str) or money.exponent(currency) is None:
        raise Refused(
            "currency", f"is {brief(currency)}", "an amount needs an ISO 4217 code with a minor unit, such as EUR"
        )
    if not _DECIMAL.fullmatch(amount):
        raise Refused("amount", f"is {brief(amount)}", 'write digits and a point, such as "12.34"')
    try:
        return money.to_minor(amount, currency)
    except ValueError as error:
        raise Refused("amount", f"is {amount!r}", str(error)) from None


def _command(fields: Fields) -> AccountCommand:
    fields.setdefault("command_id", str(uuid4()))
    fields["command"] = _word(AccountAction, fields.get("command", AccountAction.OPEN.value))
    if isinstance(flags := fields.get("flags"), list):
        fields["flags"] = tuple(flags)
    return AccountCommand(**_complete(AccountCommand, fields))


def _claim(fields: Fields) -> AliasClaim:
    fields.setdefault("claim_id", str(uuid4()))
    fields["command"] = _word(AliasAction, fields.get("command", AliasAction.CLAIM.value))
    if isinstance(alias := fields.get("alias"), str):
        fields["alias"] = normal_alias(alias) or alias
    return AliasClaim(**_complete(AliasClaim, fields))


def _word(kind: type[Any], value: Any) -> Any:
    """The enum's member, or what was given, to be refused by `check`."""
    return kind[value] if isinstance(value, str) and value in kind.__members__ else value


def _complete(kind: type[Record], fields: Fields) -> Fields:
    for name in kind._fields:
        if name not in fields and name not in kind._field_defaults:
            raise Refused(name, "is missing", "every line needs it")
    return fields
