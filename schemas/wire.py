"""Avro's binary pieces, as the generated functions need them: varints, strings, blocks, each with its limit.

Source: the Avro 1.12 specification, "Binary encoding". Reading raises `Undecodable`, and IndexError where the
bytes end too early; writing raises TypeError, ValueError or IndexError, which the codec turns into `Unencodable`.
"""

import struct
from typing import Any, NoReturn

VALUE_MOST = 256 * 1024
"""Bytes of one value."""
STRING_MOST = 8 * 1024
"""Bytes of one string."""
ITEMS_MOST = 10_000
"""Items of one array."""
ENTRIES_MOST = 64
"""Entries of one map."""


class Undecodable(Exception):
    """These bytes are no record. `code` is kebab-case, `reason` a sentence; never the payload itself."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


def truncated() -> Undecodable:
    """A new one each time: an exception that is raised again keeps every traceback it ever had."""
    return Undecodable("truncated", "the value ends in the middle of a field")


# -- reading -----------------------------------------------------------------------------------------

STEPS = tuple(1 + (byte >> 1) if byte < 128 and not byte & 1 else 0 for byte in range(256))
"""By a string's first byte: bytes from there to its end; 0 where the length is long, negative or wrong."""
_FOUR = struct.Struct("<HHHH").unpack_from
_UNIQUE = list(range(1 << 14))
_PAIR = tuple(_UNIQUE[pair & 127 | pair >> 1 & 0x3F80] for pair in range(1 << 16))
"""By two varint bytes: their 14 bits."""


def more(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """The rest of a varint whose first byte says that it has more: (unsigned value, next position)."""
    value, shift = first & 127, 7
    while True:
        byte = data[pos]
        pos += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if value >> 64:
                raise Undecodable("bad-varint", "a number has more than 64 bits")
            return value, pos
        shift += 7
        if shift > 63:
            raise Undecodable("bad-varint", "a number has more than ten bytes")


def more_long(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """The rest of a long of two bytes or more: (value, next position)."""
    byte = data[pos]
    if byte < 128:
        raw = first & 127 | byte << 7
        return raw >> 1 ^ -(raw & 1), pos + 1
    last = data[pos + 1]
    if last < 128:
        raw = first & 127 | (byte & 127) << 7 | last << 14
        return raw >> 1 ^ -(raw & 1), pos + 2
    raw, pos = more(data, pos, first)
    return raw >> 1 ^ -(raw & 1), pos


def more_int(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """The rest of an int of two bytes or more: (value, next position)."""
    value, pos = more_long(data, pos, first)
    if not -0x80000000 <= value <= 0x7FFFFFFF:
        raise Undecodable("bad-int", f"{value} is beyond 32 bits")
    return value, pos


def micros(data: bytes, pos: int, size: int) -> tuple[int, int]:
    """A long that mostly has eight bytes, as times in µs have from 1978 on: (value, next position)."""
    if pos + 8 <= size:
        a, b, c, d = _FOUR(data, pos)
        if a & b & c & 0x8080 == 0x8080 and d & 0x8080 == 0x80:
            raw = _PAIR[a] | _PAIR[b] << 14 | _PAIR[c] << 28 | _PAIR[d] << 42
            return raw >> 1 ^ -(raw & 1), pos + 8
    first = data[pos]
    return more_long(data, pos + 1, first) if first > 127 else (first >> 1 ^ -(first & 1), pos + 1)


def string(data: bytes, pos: int, size: int) -> tuple[str, int]:
    """A string that `STEPS` has no step for: (text, next position)."""
    raw = data[pos]
    pos += 1
    if raw > 127:
        raw, pos = more(data, pos, raw)
    if raw & 1:
        raise Undecodable("negative-length", "a string has a negative length")
    if raw > 2 * STRING_MOST:
        raise Undecodable("string-too-long", f"a string has {raw >> 1} bytes; {STRING_MOST} are allowed")
    end = pos + (raw >> 1)
    if end > size:
        raise truncated()
    return data[pos:end].decode(), end


def branch(data: bytes, pos: int, first: int) -> tuple[int, int]:
    """An optional value's branch that is not written in the plain way: (0 for null or 2, next position)."""
    raw, pos = more(data, pos, first) if first > 127 else (first, pos)
    if raw not in {0, 2}:
        raise Undecodable("bad-union", f"a union has no branch {raw >> 1 ^ -(raw & 1)}")
    return raw, pos


def symbol(data: bytes, pos: int, name: str, symbols: tuple[Any, ...]) -> tuple[Any, int]:
    """A symbol that the table of first bytes does not have: (symbol, next position)."""
    raw = data[pos]
    pos += 1
    if raw > 127:
        raw, pos = more(data, pos, raw)
    if raw & 1 or raw >> 1 >= len(symbols):
        raise Undecodable("bad-enum", f"{name} has no symbol {raw >> 1 ^ -(raw & 1)}; it has {len(symbols)}")
    return symbols[raw >> 1], pos


def block(data: bytes, pos: int, first: int) -> tuple[int, int, int]:
    """A block's head that is not one even byte: (count, position of its end or 0 where not said, next position)."""
    raw, pos = more(data, pos, first) if first > 127 else (first, pos)
    if not raw & 1:
        return raw >> 1, 0, pos
    count, length = (raw + 1) >> 1, data[pos]
    pos += 1
    if length > 127:
        length, pos = more(data, pos, length)
    if length & 1:
        raise Undecodable("negative-length", "a block has a negative length in bytes")
    return count, pos + (length >> 1), pos


def too_many(count: int, most: int) -> NoReturn:
    """A collection over its limit."""
    raise Undecodable("too-many-items", f"a collection has {count} items or more; {most} are allowed")


def bad_block() -> NoReturn:
    """A block that says how many bytes it has, and has others."""
    raise Undecodable("bad-block", "a block does not have the length in bytes that it says")


def bad_boolean(byte: int) -> NoReturn:
    """Neither 0 nor 1."""
    raise Undecodable("bad-boolean", f"a boolean is 0 or 1, not {byte}")


# -- writing -----------------------------------------------------------------------------------------

PAIRS = tuple(bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14))
"""By 14 bits: two varint bytes that say there is more."""
VARINTS = tuple(bytes((n,)) if n < 128 else bytes((n & 127 | 128, n >> 7)) for n in range(1 << 14))
"""By 14 bits: a varint's last bytes."""
LONGS = VARINTS[::2]
"""By a number of 13 bits: a long."""
LOWS = PAIRS[::2]
"""By a number's lowest 13 bits: the first two bytes of a longer long."""


def unsigned(raw: int) -> bytes:
    """A varint of at most 64 bits."""
    out = b""
    while raw > 0x3FFF:
        out += PAIRS[raw & 0x3FFF]
        raw >>= 14
    return out + VARINTS[raw]


def long_bytes(value: int) -> bytes:
    """A long. Raises TypeError for anything but an int, ValueError beyond 64 bits."""
    if value.__class__ is not int:
        raise TypeError
    raw = value << 1 ^ value >> 63
    if raw < 0x10000000:
        if raw < 0x4000:
            return VARINTS[raw]
        return PAIRS[raw & 0x3FFF] + VARINTS[raw >> 14]
    if 0x40000000000 <= raw < 0x100000000000000:
        return PAIRS[raw & 0x3FFF] + PAIRS[raw >> 14 & 0x3FFF] + PAIRS[raw >> 28 & 0x3FFF] + VARINTS[raw >> 42]
    return unsigned(raw) if -(1 << 63) <= value < 1 << 63 else _beyond()


TIMES: dict[int, bytes] = {}
"""Times that were written lately: all records of a step have one."""
_TIMES_MOST = 64


def time_bytes(value: int) -> bytes:
    """A time that is not in `TIMES` yet. Raises as `long_bytes` does."""
    data = long_bytes(value)
    if len(TIMES) >= _TIMES_MOST:
        TIMES.clear()
    TIMES[value] = data
    return data


def int_bytes(value: int) -> bytes:
    """An int. Raises TypeError for anything but an int, ValueError beyond 32 bits."""
    if value.__class__ is int and not -0x80000000 <= value <= 0x7FFFFFFF:
        return _beyond()
    return long_bytes(value)


def _beyond() -> NoReturn:
    raise ValueError


def boolean_bytes(value: Any) -> bytes:
    """A boolean. Raises TypeError for anything but True and False."""
    if value is not True and value is not False:
        raise TypeError
    return b"\1" if value else b"\0"


LENGTHS = tuple(unsigned(2 * n) for n in range(STRING_MOST + 1))
"""By bytes of a string: its length as a varint; IndexError beyond the limit."""
OPTIONAL_LENGTHS = tuple(b"\2" + length for length in LENGTHS)
"""The same after the branch of an optional string."""


def count_bytes(items: Any, kinds: tuple[type, ...], most: int) -> bytes:
    """The head of a collection's only block. Raises TypeError for another kind of collection, ValueError if too long."""
    if type(items) not in kinds:
        raise TypeError
    count = len(items)
    if count > most:
        raise ValueError
    return VARINTS[count << 1] if count < 8192 else unsigned(count << 1)


TOOLS: dict[str, Any] = {
    "new": tuple.__new__,
    "STEPS": STEPS,
    "more_long": more_long,
    "more_int": more_int,
    "micros": micros,
    "string": string,
    "branch": branch,
    "symbol": symbol,
    "block": block,
    "too_many": too_many,
    "bad_block": bad_block,
    "bad_boolean": bad_boolean,
    "truncated": truncated,
    "unpack_double": struct.Struct("<d").unpack_from,
    "join": b"".join,
    "VARINTS": VARINTS,
    "PAIRS": PAIRS,
    "LONGS": LONGS,
    "LOWS": LOWS,
    "TIMES": TIMES,
    "time_bytes": time_bytes,
    "LENGTHS": LENGTHS,
    "OPTIONAL_LENGTHS": OPTIONAL_LENGTHS,
    "long_bytes": long_bytes,
    "int_bytes": int_bytes,
    "boolean_bytes": boolean_bytes,
    "count_bytes": count_bytes,
    "ARRAYS": (tuple, list),
    "MAPS": (dict,),
    "pack_double": struct.Struct("<d").pack,
}
"""What generated source may call, by name."""
