"""What a merchant pays for a credit, booked together with it (R30, R47)."""

from collections.abc import Sequence

from schemas.events import EntryCode
from schemas.money import fee, split
from streams.books import CREDITS_POSTED, DEBITS_POSTED, ROOM_MOST, LedgerTables, Move, internal, purse_of
from streams.settlement_rules import OWN
from streams.turn import Turn


def fee_moves(merchant: str, amount_minor: int, currency: str, turn: Turn[LedgerTables]) -> tuple[Move, ...]:
    """The moves that take the fee of a credit from the merchant and give it to the parties of its schedule.

    Nothing where no schedule matches or the fee is zero; a party whose part is zero has no entry.
    """
    schedule = turn.rules.settlement.schedule_of(merchant)
    if schedule is None:
        return ()
    taken = fee(amount_minor, schedule.bp, schedule.fixed_minor.get(currency, 0))
    if not taken:
        return ()
    parts = split(taken, [weight for _, weight in schedule.split])
    return (
        (merchant, EntryCode.FEE, DEBITS_POSTED, taken, None, None),
        *(
            (_account(party, currency, turn), EntryCode.FEE, CREDITS_POSTED, part, merchant, None)
            for (party, _), part in zip(schedule.split, parts, strict=True)
            if part
        ),
    )


def lacks_room_for(fees: Sequence[Move], currency: str, turn: Turn[LedgerTables]) -> bool:
    """Whether a balance that a fee would lift has no room for more (R48: AM12)."""
    for account, _, place, minor, _, _ in fees:
        row = turn.tables.accounts.get(account)
        purse = None if row is None else purse_of(row, currency)
        if purse is not None and purse[place] + minor > ROOM_MOST:
            return True
    return False


def _account(party: str, currency: str, turn: Turn[LedgerTables]) -> str:
    role = "fees" if party == OWN else f"fees-{party}"
    return internal(role, currency, turn.partition, turn.partitions)
