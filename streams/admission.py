"""Admission: what a stranger sent becomes an intent with a mark, or a dead letter.

It walks guards 0 to 3 and 6 of the staircase (R10). A mark ends nothing: the ledger answers. The
owners of aliases are decided here too (R24); `claim` answers on the claims' own partition and
`fold_alias` lets every worker know, both by one pure function of the record.
"""

from collections.abc import MutableMapping, Sequence
from hashlib import sha256
from typing import NamedTuple

from schemas.aliases import normal_alias
from schemas.cards import handle_holds_pan, holds_pan, masked
from schemas.events import AccountEvent, AliasAction, AliasClaim, Intent, Kind, Micros
from schemas.keys import partition_of
from schemas.money import MAX_MINOR, exponent
from schemas.reasons import Reason
from streams.rules import DAY, Rules
from streams.tables import Table, TableSpec, new
from streams.turn import Admitted, Alert, AliasOwner, Decided, Letter, Out, Received, Turn

ALIAS_REST = DAY
"""R24, µs. A constant, no setting: every worker folds claims, and all must come to the same owner."""
ID_BYTES = 255
_TRANSFER = Kind.TRANSFER  # an enum's member costs more to look up than a name
BUILT = (_TRANSFER, Kind.APPROVE, Kind.REJECT)
"""Kinds that are built; another one is refused with AG01."""

LETTERS = {
    "key-mismatch": "The record key is not the {key}: publish the record again with the {key} as its key.",
    "wrong-partition": "The record does not stand on the partition that its key hashes to: publish it again with "
    "the partitioner murmur2_random.",
    "bad-debtor": "The debtor is not 1 to 255 bytes long: publish the intent again with an account id.",
    "bad-idempotency-key": "The idempotency key is not 1 to 255 bytes long: publish the intent again with one.",
    "bad-account": "The account is not 1 to 255 bytes long: publish the claim again with an account id.",
    "pan-refused": "An id holds a card number: publish the record again with a token in its place.",
}
"""Codes of admission's dead letters, and what each says (R10 guard 0)."""


class BoundKey(NamedTuple):
    """An idempotency key in use: the fingerprint that it is bound to (R18), and until when (µs)."""

    fingerprint: str
    expires_at: int


TABLES: tuple[TableSpec, ...] = (
    TableSpec("idempotency", BoundKey, lambda row: int(row.expires_at)),
    # Never swept: a fold sweeps nothing, and both must decide alike.
    TableSpec("aliases", AliasOwner),
)


class AdmissionTables(NamedTuple):
    """Admission's tables, in the order of `TABLES`."""

    idempotency: Table[BoundKey]
    """By `key_digest` of (debtor, idempotency key)."""
    aliases: Table[AliasOwner]
    """By `owner_key`: the claims of this partition, as decided so far."""


def admit(batch: Sequence[Received], turn: Turn[AdmissionTables]) -> Decided:
    """Marks each intent as repeat, conflict, refused or none of these, in the order of the batch.

    `handed_on` holds an `Admitted` for every intent that passes guard 0, `letters` the others.
    Each intent handed on binds its idempotency key, whatever its mark (R19).
    """
    decided = Decided()
    keyed: list[tuple[Received, str]] = []
    for received in batch:
        code = _unfit(received, turn)
        if code is None:
            keyed.append((received, key_digest(received.value.debtor, received.value.idempotency_key)))
        else:
            decided.letters.append(Letter(received, code, LETTERS[code].format(key="debtor")))
    turn.tables.idempotency.prefetch([key for _, key in keyed])
    decided.handed_on = marked = [_mark(received, key, turn) for received, key in keyed]
    decided.alerts = [_alert(m.received) for m in marked if m.intent.metadata is not m.received.value.metadata]
    return decided


def key_digest(debtor: str, idempotency_key: str) -> str:
    """`keys.digest(debtor, idempotency_key)[:32]`, written out as it runs once per intent (R17)."""
    return sha256(f"{len(debtor)}:{debtor}{len(idempotency_key)}:{idempotency_key}".encode()).hexdigest()[:32]


def fingerprint_of(intent: Intent) -> str:
    """What makes two intents the same (R18), 32 hex digits.

    An absent alias counts as an empty one. The last two parts are `target_currency` and
    `final_capture`, which no intent has yet.
    """
    kind, payment, debtor, creditor = intent.kind, intent.payment_id, intent.debtor, intent.creditor
    alias, amount, currency = intent.creditor_alias or "", str(intent.amount_minor), intent.currency
    return sha256(
        f"{len(kind)}:{kind}{len(payment)}:{payment}{len(debtor)}:{debtor}{len(creditor)}:{creditor}"
        f"{len(alias)}:{alias}{len(amount)}:{amount}{len(currency)}:{currency}0:0:".encode()
    ).hexdigest()[:32]


def _fits(text: str | None) -> bool:
    """1 to 255 bytes of UTF-8."""
    return text is not None and (0 < len(text) < 64 or 0 < len(text.encode()) <= ID_BYTES)


def _unfit(received: Received, turn: Turn[AdmissionTables]) -> str | None:
    """Guard 0: the code of the dead letter, or None."""
    intent: Intent = received.value
    debtor = intent.debtor
    if received.key != debtor.encode():
        return "key-mismatch"
    if received.partition != partition_of(debtor, turn.partitions):
        return "wrong-partition"
    if not _fits(debtor):
        return "bad-debtor"
    if not _fits(intent.idempotency_key):
        return "bad-idempotency-key"
    if turn.rules.pan_guard and (holds_pan(debtor) or holds_pan(intent.creditor)):
        return "pan-refused"
    if intent.device_id and holds_pan(intent.device_id):
        return "pan-refused"
    return "pan-refused" if intent.creditor_alias and handle_holds_pan(intent.creditor_alias) else None


def _mark(received: Received, key: str, turn: Turn[AdmissionTables]) -> Admitted:
    """Guards 1, 2, 3 and 6: the lowest one that fails gives the mark."""
    intent: Intent = received.value
    fingerprint = fingerprint_of(intent)
    if intent.metadata:
        intent = _without_pans(intent)
    keys = turn.tables.idempotency
    bound = keys.get(key)
    if bound is not None and bound.expires_at > turn.at:
        same = bound.fingerprint == fingerprint
        return Admitted(received, intent, key, fingerprint, same, not same)
    keys.put(key, new(BoundKey, (fingerprint, turn.at + turn.rules.key_window)))
    refusal = _malformed(intent) or _too_late(intent, turn.at, turn.rules)
    version = None
    if refusal is None and intent.creditor_alias:
        intent = intent._replace(creditor_alias=normal_alias(intent.creditor_alias))
        if intent.kind == _TRANSFER:
            intent, version, refusal = _resolve(intent, turn)
    return new(Admitted, (received, intent, key, fingerprint, False, False, refusal, version))


def _malformed(intent: Intent) -> Reason | None:
    """Guard 2: kind, ids, amount, currency, debtor ≠ creditor."""
    if intent.kind not in BUILT:
        return Reason.AG01
    alias, creditor = intent.creditor_alias, intent.creditor
    if not (_fits(intent.intent_id) and _fits(intent.payment_id) and (_fits(creditor) or (alias and not creditor))):
        return Reason.BAD_FORM
    if alias and normal_alias(alias) is None:
        return Reason.BAD_FORM
    if intent.kind != _TRANSFER and not _fits(intent.decided_by):
        return Reason.BAD_FORM
    if _bad_surroundings(intent):
        return Reason.BAD_FORM
    if intent.debtor[0] == "~" or creditor[:1] == "~":
        return Reason.AG01
    if not 1 <= intent.amount_minor <= MAX_MINOR:
        return Reason.AM12 if intent.amount_minor else Reason.AM01
    if exponent(intent.currency) is None:
        return Reason.AM11
    return Reason.SAME_ACCOUNT if intent.debtor == creditor else None


def _bad_surroundings(intent: Intent) -> bool:
    """Whether a place is no place on Earth, or an optional id is too long."""
    latitude, longitude = intent.latitude, intent.longitude
    if latitude is not None or longitude is not None:
        if latitude is None or longitude is None:
            return True
        # False for NaN too.
        if not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0):
            return True
    device, channel, method = intent.device_id, intent.channel, intent.method
    if device and not _fits(device):
        return True
    return bool((channel and not _fits(channel)) or (method and not _fits(method)))


def _too_late(intent: Intent, at: Micros, rules: Rules) -> Reason | None:
    """Guard 3: the intent's own deadline, then its age."""
    if intent.expires_at is not None and intent.expires_at <= at:
        return Reason.TM01
    age = rules.max_intent_age_s
    return Reason.CH04 if age is not None and intent.requested_at < at - age * 1_000_000 else None


def _resolve(intent: Intent, turn: Turn[AdmissionTables]) -> tuple[Intent, int | None, Reason | None]:
    """Guard 6: the intent with the alias's owner as its creditor, the alias's version, or why not."""
    assert intent.creditor_alias is not None
    owner = turn.aliases.get(owner_key(intent.creditor_alias, partition_of(intent.creditor_alias, turn.partitions)))
    if owner is None or owner.account is None or intent.creditor not in ("", owner.account):
        return intent, None, Reason.BE23
    if turn.rules.pan_guard and holds_pan(owner.account):
        return intent, None, Reason.BE23
    refusal = Reason.SAME_ACCOUNT if owner.account == intent.debtor else None
    return intent._replace(creditor=owner.account), owner.version, refusal


def _without_pans(intent: Intent) -> Intent:
    """The intent with every PAN in its metadata masked (R44)."""
    metadata = intent.metadata or {}
    clean = {masked(name): masked(text) for name, text in metadata.items()}
    return intent if clean == metadata else intent._replace(metadata=clean)


def _alert(received: Received) -> Alert:
    where = f"{received.topic} partition {received.partition} offset {received.offset}"
    return Alert(
        "pan-masked", f"{where}: the metadata holds a card number; the topic keeps it, all we write has it masked"
    )


def owner_key(alias: str, partition: int) -> str:
    """The key of an alias's owner, in `Turn.aliases` and in the table `aliases`.

    The partition is the one that the claims stand on. Folding needs no partition count that way: a
    claim on a wrong partition is folded under a key that nobody reads.
    """
    return f"{partition}/{alias}"


class _Ruling(NamedTuple):
    """What becomes of a claim: a dead letter's code, or a reason of refusal, or neither; and the new owner."""

    alias: str
    code: str | None = None
    reason: Reason | None = None
    owner: AliasOwner | None = None
    """None: nothing changes."""


def _rule(owner: AliasOwner | None, received: Received) -> _Ruling:
    """Decides a claim from the alias's owner and the record alone: no step, no setting (R24).

    Time is the record's broker timestamp.
    """
    wanted: AliasClaim = received.value
    alias = normal_alias(wanted.alias)
    key = received.key
    if key is None or (key != wanted.alias.encode() and (alias is None or key != alias.encode())):
        return _Ruling("", "key-mismatch")
    if handle_holds_pan(wanted.alias):
        return _Ruling("", "pan-refused")
    if not _fits(wanted.account):
        return _Ruling("", "bad-account")
    if alias is None or key != alias.encode() or not _fits(wanted.claim_id):
        return _Ruling(wanted.alias, reason=Reason.BAD_FORM)
    if wanted.account[0] == "~":
        return _Ruling(alias, reason=Reason.AG01)
    if wanted.command == AliasAction.CLAIM:
        return _claimed(alias, owner, received)
    if wanted.command != AliasAction.RELEASE:
        return _Ruling(alias, reason=Reason.BAD_FORM)
    if owner is None or owner.account != wanted.account:
        return _Ruling(alias, reason=Reason.NOT_THE_OWNER)
    return _Ruling(alias, owner=AliasOwner(None, received.offset, received.timestamp))


def _claimed(alias: str, owner: AliasOwner | None, received: Received) -> _Ruling:
    """First wins; a freed alias rests; what one owns one may claim again."""
    account: str = received.value.account
    if owner is None:
        return _Ruling(alias, owner=AliasOwner(account, received.offset))
    if owner.account is not None:
        return _Ruling(alias, reason=None if owner.account == account else Reason.ALIAS_TAKEN)
    if received.timestamp < (owner.released_at or 0) + ALIAS_REST:
        return _Ruling(alias, reason=Reason.ALIAS_RESTING)
    return _Ruling(alias, owner=AliasOwner(account, received.offset))


def _rule_in(rows: Table[AliasOwner] | MutableMapping[str, AliasOwner], received: Received) -> tuple[str, _Ruling]:
    """The owner's key, and the ruling on the owner that `rows` know."""
    alias = normal_alias(received.value.alias) or ""
    key = owner_key(alias, received.partition)
    return key, _rule(rows.get(key), received)


def claim(batch: Sequence[Received], turn: Turn[AdmissionTables]) -> Decided:
    """Answers each claim or release of an alias: `records` holds one `AccountEvent` per answer."""
    decided = Decided()
    table = turn.tables.aliases
    for received in batch:
        wanted: AliasClaim = received.value
        key, ruling = _rule_in(table, received)
        code = ruling.code or _misplaced(received, turn)
        if ruling.owner is not None:
            table.put(key, ruling.owner)
        if code is not None:
            decided.letters.append(Letter(received, code, LETTERS[code].format(key="alias")))
            continue
        reason = ruling.reason
        answer = AccountEvent(wanted.claim_id, wanted.account, reason is None, turn.at, reason, ruling.alias)
        decided.records.append(Out("accounts.events", wanted.account, answer))
    return decided


def _misplaced(received: Received, turn: Turn[AdmissionTables]) -> str | None:
    """What keeps a claim from an answer but not from being folded, as a fold knows no settings.

    On a wrong partition it is folded where nobody reads; while card numbers are refused as accounts,
    an alias of such an account resolves to nobody (BE23).
    """
    assert received.key is not None, "a claim without a key is a dead letter before"
    if received.partition != partition_of(received.key.decode(), turn.partitions):
        return "wrong-partition"
    return "pan-refused" if turn.rules.pan_guard and holds_pan(received.value.account) else None


def fold_alias(rows: MutableMapping[str, AliasOwner], received: Received) -> None:
    """Applies one record of `accounts.aliases` to the owners that every worker keeps (R25).

    It comes to what `claim` answered. A record that is no claim changes nothing and never fails.
    """
    if not isinstance(received.value, AliasClaim):
        return
    key, ruling = _rule_in(rows, received)
    if ruling.owner is not None:
        rows[key] = ruling.owner
