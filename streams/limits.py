"""Limits (R26): the most that one payment may move, and what may move within a sliding window."""

from collections.abc import Sequence
from typing import Any

from schemas.events import AccountCommand
from schemas.money import MAX_MINOR
from schemas.reasons import Reason
from streams.books import LIMITED, AccountRow, LedgerTables, LimitRow, purse_of

WINDOWS_S = (3_600, 86_400, 2_592_000)
BUCKETS = 60


def limit_key(account: str, currency: str) -> str:
    """Where the limits of an account in a currency stand."""
    return f"{len(account)}:{account}{currency}"


def _span(window: Sequence[Any]) -> int:
    """Length of one bucket, µs."""
    return int(window[0]) * 1_000_000 // BUCKETS


def check(limits: LimitRow, amount_minor: int, at: int) -> Reason | None:
    """Guard 8: AM02 for one payment, AM14 for a window; None passes."""
    most = limits.max_payment_minor
    if most is not None and amount_minor > most:
        return Reason.AM02
    for window in limits.windows:
        _, most_minor, most_count, _, buckets = window
        oldest = at // _span(window) - BUCKETS
        moved = sum(bucket[1] for bucket in buckets if bucket[0] > oldest)
        count = sum(bucket[2] for bucket in buckets if bucket[0] > oldest)
        if most_minor is not None and moved + amount_minor > most_minor:
            return Reason.AM14
        if most_count is not None and count + 1 > most_count:
            return Reason.AM14
    return None


def count(limits: LimitRow, amount_minor: int, at: int) -> LimitRow:
    """The limits with one payment more in each window, and without what has left them."""
    windows = []
    for window in limits.windows:
        number = at // _span(window)
        buckets = [bucket for bucket in window[4] if bucket[0] > number - BUCKETS]
        if buckets and buckets[-1][0] == number:
            _, moved, payments = buckets.pop()
        else:
            moved = payments = 0
        windows.append([*window[:4], [*buckets, [number, moved + amount_minor, payments + 1]]])
    return limits._replace(windows=windows)


def uncount(tables: LedgerTables, key: str, amount_minor: int, booked: tuple[int, int]) -> None:
    """Gives back what a payment took: `booked` is when, and at which generation of the limits."""
    booked_at, generation = booked
    limits = tables.limits.get(key)
    if limits is None:
        return
    windows = []
    for window in limits.windows:
        number = booked_at // _span(window)
        counted = window[3] <= generation
        buckets = [
            [at, moved - amount_minor, payments - 1] if counted and at == number else [at, moved, payments]
            for at, moved, payments in window[4]
        ]
        windows.append([*window[:4], buckets])
    tables.limits.put(key, limits._replace(windows=windows))


def _well_formed(command: AccountCommand) -> bool:
    amounts = (command.max_payment_minor, command.max_amount_minor, command.max_count)
    if any(most is not None and not 0 <= most <= MAX_MINOR for most in amounts):
        return False
    if command.window_s is None:
        return command.max_amount_minor is None and command.max_count is None
    return command.window_s in WINDOWS_S


def change(command: AccountCommand, account: AccountRow, tables: LedgerTables) -> Reason | None:
    """Carries out LIMIT: what it names is set, a window without maxima and a LIMIT with nothing lift."""
    if not _well_formed(command):
        return Reason.BAD_FORM
    if purse_of(account, command.currency) is None:
        return Reason.AM03
    key = limit_key(command.account, command.currency)
    row = tables.limits.get(key) or LimitRow(None, 0, [])
    windows = list(row.windows)
    most, generation = row.max_payment_minor, row.generation
    if command.max_payment_minor is not None:
        most = command.max_payment_minor
    if command.window_s is not None:
        before = next((window for window in windows if window[0] == command.window_s), None)
        windows = [window for window in windows if window is not before]
        if command.max_amount_minor is not None or command.max_count is not None:
            generation += before is None
            kept = before[3:] if before else [generation, []]
            windows.append([command.window_s, command.max_amount_minor, command.max_count, *kept])
    if command.max_payment_minor is None and command.window_s is None:
        most, windows = None, []
    # The row stays, even without limits: its generation must never start again.
    tables.limits.put(key, LimitRow(most, generation, windows))
    _mark(command.account, account, tables)
    return None


def _mark(name: str, account: AccountRow, tables: LedgerTables) -> None:
    """Flags the account as LIMITED as long as any of its currencies is."""
    rows = [tables.limits.get(limit_key(name, purse[0])) for purse in account.purses]
    limited = any(row is not None and (row.max_payment_minor is not None or row.windows) for row in rows)
    flags = account.flags | LIMITED if limited else account.flags & ~LIMITED
    tables.accounts.put(name, account._replace(flags=flags))
