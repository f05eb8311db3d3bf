"""Account commands: every one gets exactly one answer on accounts.events (R4, R5, R26)."""

from collections.abc import Sequence

from schemas.cards import holds_pan
from schemas.events import AccountAction, AccountCommand, AccountEvent
from schemas.keys import derive_id, partition_of
from schemas.money import exponent
from schemas.reasons import Reason
from streams import limits
from streams.books import (
    ACCOUNT_EVENTS,
    CLOSED,
    DEBIT_NORMAL,
    MERCHANT,
    NO_CREDITS,
    NO_DEBITS,
    NO_OVERDRAFT,
    AccountRow,
    CommandRow,
    LedgerTables,
    purse_of,
)
from streams.turn import Decided, Letter, Out, Received, Turn

OPEN_FLAGS = {"NO_OVERDRAFT": NO_OVERDRAFT, "DEBIT_NORMAL": DEBIT_NORMAL, "MERCHANT": MERCHANT}
FREEZE_FLAGS = {"NO_DEBITS": NO_DEBITS, "NO_CREDITS": NO_CREDITS}
_OPENED_WITH = NO_OVERDRAFT | DEBIT_NORMAL | MERCHANT
ID_BYTES_MOST = 255


def obey(batch: Sequence[Received], turn: Turn[LedgerTables]) -> Decided:
    """Carries out or refuses each command, and answers it.

    A command whose id was answered for the same account within the key window gets that answer
    again; with another body it is refused (AM05). Letters: `key-mismatch`, `wrong-partition`,
    `bad-account`, `pan-refused`.
    """
    decided = Decided()
    turn.tables.accounts.prefetch([received.value.account for received in batch])
    for received in batch:
        letter = _letter(received, turn)
        if letter is not None:
            decided.letters.append(letter)
            continue
        event = _answer(received.value, turn)
        decided.records.append(Out(ACCOUNT_EVENTS, event.account, event, turn.partition))
    return decided


def _letter(received: Received, turn: Turn[LedgerTables]) -> Letter | None:
    """Guard 0: what contradicts the contract."""
    command: AccountCommand = received.value
    account = command.account
    if received.key != account.encode():
        return Letter(
            received, "key-mismatch", "The record key must be the account's id; publish it again under that key."
        )
    if not 1 <= len(account.encode()) <= ID_BYTES_MOST:
        return Letter(received, "bad-account", "An account id has 1 to 255 bytes; publish the command with such an id.")
    if turn.rules.pan_guard and holds_pan(account):
        return Letter(received, "pan-refused", "The account id is a card number; publish a token in its place.")
    if partition_of(account, turn.partitions) != received.partition:
        message = "The record stands on another partition than its key hashes to; publish with murmur2_random."
        return Letter(received, "wrong-partition", message)
    return None


def _answer(command: AccountCommand, turn: Turn[LedgerTables]) -> AccountEvent:
    """The answer, kept under the command's id; the first time it is also carried out."""
    account, command_id = command.account, command.command_id
    if not 1 <= len(command_id.encode()) <= ID_BYTES_MOST:
        return AccountEvent(command_id, account, False, turn.at, Reason.BAD_FORM)
    key = f"{len(account)}:{account}{command_id}"
    fingerprint = _fingerprint(command)
    kept = turn.tables.commands.get(key)
    if kept is not None and kept.until > turn.at:
        if kept.fingerprint != fingerprint:
            return AccountEvent(command_id, account, False, turn.at, Reason.AM05)
        return AccountEvent(command_id, account, kept.accepted, kept.occurred_at, kept.reason)
    reason = _carry_out(command, turn.tables)
    row = CommandRow(fingerprint, reason is None, reason, turn.at, turn.at + turn.rules.key_window)
    turn.tables.commands.put(key, row)
    return AccountEvent(command_id, account, reason is None, turn.at, reason)


def _fingerprint(command: AccountCommand) -> str:
    """What the command wants, without its time."""
    most = (command.max_payment_minor, command.window_s, command.max_amount_minor, command.max_count)
    words = (command.command, command.currency, *command.flags)
    return derive_id(*[str(part) for part in (*words, *most)])


def _carry_out(command: AccountCommand, tables: LedgerTables) -> Reason | None:
    """Does what the command says, or says why not."""
    account = command.account
    if account.startswith("~"):
        return Reason.AG01
    row = tables.accounts.get(account)
    action = command.command
    if row is not None and row.flags & CLOSED:
        return Reason.AC04
    if action == AccountAction.OPEN:
        return _open(command, row, tables)
    if action == AccountAction.UNKNOWN:
        return Reason.BAD_FORM
    if row is None:
        return Reason.AC02
    if action == AccountAction.LIMIT:
        return Reason.BAD_FLAGS if command.flags else limits.change(command, row, tables)
    if action == AccountAction.CLOSE:
        return Reason.BAD_FLAGS if command.flags else _close(account, row, tables)
    bits = _bits(command.flags or tuple(FREEZE_FLAGS), FREEZE_FLAGS)
    if bits is None:
        return Reason.BAD_FLAGS
    flags = row.flags | bits if action == AccountAction.FREEZE else row.flags & ~bits
    tables.accounts.put(account, row._replace(flags=flags))
    return None


def _bits(flags: Sequence[str], known: dict[str, int]) -> int | None:
    """The bits of the flags; None where one is not known."""
    bits = 0
    for flag in flags:
        if flag not in known:
            return None
        bits |= known[flag]
    return bits


def _open(command: AccountCommand, row: AccountRow | None, tables: LedgerTables) -> Reason | None:
    """Opens the account, or adds a currency to it: with the same flags, or none."""
    currency = command.currency
    bits = _bits(command.flags, OPEN_FLAGS)
    if bits is None:
        return Reason.BAD_FLAGS
    if exponent(currency) is None:
        return Reason.AM11
    purse = [currency, 0, 0, 0, 0, 0]
    if row is None:
        tables.accounts.put(command.account, AccountRow(bits, [purse]))
        return None
    if purse_of(row, currency) is not None:
        return Reason.ACCOUNT_EXISTS
    if command.flags and bits != row.flags & _OPENED_WITH:
        return Reason.BAD_FLAGS
    tables.accounts.put(command.account, row._replace(purses=[*row.purses, purse]))
    return None


def _close(account: str, row: AccountRow, tables: LedgerTables) -> Reason | None:
    """Refused while a balance is not zero or anything is held (R5)."""
    for _, debits_pending, debits_posted, credits_pending, credits_posted, _ in row.purses:
        if debits_posted != credits_posted or debits_pending or credits_pending:
            return Reason.ACCOUNT_BUSY
    tables.accounts.put(account, row._replace(flags=row.flags | CLOSED))
    return None
