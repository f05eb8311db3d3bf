"""Admission: guards 0 to 3 and 6 of R10, idempotency (R17 to R19), aliases (R23), card numbers (R44)."""

from typing import Any, NamedTuple

import pytest
from builders import AT, PARTITIONS, a_turn, an_intent, memory, received
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Kind
from schemas.keys import digest, partition_of
from schemas.money import MAX_MINOR
from schemas.reasons import Reason
from streams.admission import (
    LETTERS,
    TABLES,
    AdmissionTables,
    admit,
    fingerprint_of,
    key_digest,
    owner_key,
)
from streams.rules import DAY, Rules
from streams.turn import Admitted, AliasOwner, Turn

PAN = "4111111111111111"
SHOP = "EMAIL:shop@example.org"


def turn_with(tables: AdmissionTables | None = None, **fields: Any) -> Turn[AdmissionTables]:
    return a_turn(tables or memory(AdmissionTables, TABLES), **fields)


def owned(alias: str = SHOP, account: str | None = "shop", version: int = 7) -> dict[str, AliasOwner]:
    return {owner_key(alias, partition_of(alias, PARTITIONS)): AliasOwner(account, version)}


def admitted(intent: Any, turn: Turn[AdmissionTables] | None = None) -> Admitted:
    decided = admit([received(intent)], turn or turn_with())
    assert not decided.letters, decided.letters
    (one,) = decided.handed_on
    return one


class Row(NamedTuple):
    """An intent, and the reason it must get."""

    reason: Reason
    fields: dict[str, Any]
    rules: Rules = Rules()


# Lowest guard first; within guard 2 in the order kind, ids, amount, currency, accounts.
REFUSALS = (
    Row(Reason.AG01, {"kind": Kind.UNKNOWN}),
    Row(Reason.AG01, {"kind": Kind.AUTHORISE}),
    Row(Reason.AG01, {"kind": Kind.DISPUTE_LOST}),
    Row(Reason.BAD_FORM, {"intent_id": ""}),
    Row(Reason.BAD_FORM, {"payment_id": "p" * 256, "idempotency_key": "k"}),
    Row(Reason.BAD_FORM, {"payment_id": "ü" * 128, "idempotency_key": "k"}),
    Row(Reason.BAD_FORM, {"creditor": ""}),
    Row(Reason.BAD_FORM, {"creditor_alias": "EMAIL:nobody"}),
    Row(Reason.BAD_FORM, {"creditor": "c" * 256, "creditor_alias": SHOP}),
    Row(Reason.BAD_FORM, {"kind": Kind.APPROVE}),
    Row(Reason.BAD_FORM, {"kind": Kind.REJECT, "decided_by": ""}),
    Row(Reason.BAD_FORM, {"latitude": float("nan"), "longitude": 0.0}),
    Row(Reason.BAD_FORM, {"latitude": 0.0, "longitude": float("inf")}),
    Row(Reason.BAD_FORM, {"latitude": 90.001, "longitude": 0.0}),
    Row(Reason.BAD_FORM, {"latitude": 0.0, "longitude": -180.001}),
    Row(Reason.BAD_FORM, {"latitude": 0.0}),
    Row(Reason.BAD_FORM, {"device_id": "d" * 256}),
    Row(Reason.AG01, {"creditor": "~fees/EUR/0-1"}),
    Row(Reason.AM01, {"amount_minor": 0}),
    Row(Reason.AM12, {"amount_minor": -1}),
    Row(Reason.AM12, {"amount_minor": MAX_MINOR + 1}),
    Row(Reason.AM11, {"currency": "XAU"}),
    Row(Reason.AM11, {"currency": ""}),
    Row(Reason.SAME_ACCOUNT, {"creditor": "alice"}),
    Row(Reason.TM01, {"expires_at": AT}),
    Row(Reason.CH04, {"requested_at": AT - 60_000_001}, Rules(max_intent_age_s=60)),
    Row(Reason.BE23, {"creditor": "", "creditor_alias": "EMAIL:no@where"}),
)


@pytest.mark.parametrize("row", REFUSALS, ids=lambda row: f"{row.reason}-{'-'.join(row.fields)}"[:60])
def test_each_guard_refuses_with_its_reason(row: Row) -> None:
    """One thing wrong gives the one reason for it, and the key is bound all the same (R10, R19)."""
    turn = turn_with(rules=row.rules)
    one = admitted(an_intent(**row.fields), turn)
    assert one.refusal == row.reason
    assert (one.repeats, one.conflicts) == (False, False)
    assert admitted(an_intent(**row.fields), turn).repeats


WRONGS: tuple[tuple[Reason, dict[str, Any]], ...] = (
    (Reason.AG01, {"kind": Kind.UNKNOWN}),
    (Reason.BAD_FORM, {"intent_id": ""}),
    (Reason.AM01, {"amount_minor": 0}),
    (Reason.AM11, {"currency": "XXX"}),
    (Reason.SAME_ACCOUNT, {"creditor": "alice"}),
    (Reason.TM01, {"expires_at": AT - 1}),
    (Reason.CH04, {"requested_at": AT - 60_000_001}),
    (Reason.BE23, {"creditor_alias": "EMAIL:no@where"}),
)


@pytest.mark.parametrize("first", range(len(WRONGS)))
def test_the_lowest_guard_that_fails_gives_the_reason(first: int) -> None:
    """With everything from one guard on wrong, the lowest of them speaks (R10)."""
    fields: dict[str, Any] = {}
    for _, wrong in WRONGS[first:]:
        fields |= wrong
    one = admitted(an_intent(**fields), turn_with(rules=Rules(max_intent_age_s=60)))
    assert one.refusal == WRONGS[first][0]


def test_every_reason_of_admission_has_a_row_that_reaches_it() -> None:
    """A new reason comes with the case that produces it."""
    import inspect

    from streams import admission

    source = "".join(map(inspect.getsource, (admission._malformed, admission._too_late, admission._resolve)))
    named = {each for each in Reason if f"Reason.{each.name}" in source}
    assert named == {row.reason for row in REFUSALS}


def test_a_good_intent_passes_unmarked() -> None:
    """Nothing wrong, no mark; what is handed on is the intent as it came, at the edges too."""
    edges = an_intent(
        payment_id="p" * 255,
        intent_id="i" * 255,
        idempotency_key="k" * 255,
        amount_minor=MAX_MINOR,
        latitude=-90.0,
        longitude=180.0,
        expires_at=AT + 1,
        requested_at=0,
        device_id="",
    )
    for intent in (an_intent(), edges, an_intent(kind=Kind.APPROVE, decided_by="ann")):
        assert admitted(intent) == Admitted(
            received(intent), intent, digest("alice", intent.idempotency_key)[:32], fingerprint_of(intent)
        )


LETTER_ROWS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("key-mismatch", {}, {"key": b"bob"}),
    ("key-mismatch", {}, {"key": None}),
    ("wrong-partition", {}, {"partition": (partition_of("alice", PARTITIONS) + 1) % PARTITIONS}),
    ("bad-debtor", {"debtor": ""}, {}),
    ("bad-debtor", {"debtor": "a" * 256}, {}),
    ("bad-idempotency-key", {"idempotency_key": ""}, {}),
    ("bad-idempotency-key", {"idempotency_key": "ü" * 128}, {}),
    ("pan-refused", {"debtor": PAN}, {}),
    ("pan-refused", {"creditor": "4111 1111-1111 1111"}, {}),
    ("pan-refused", {"creditor": f"card:{PAN}"}, {}),
    ("pan-refused", {"device_id": PAN}, {}),
    ("pan-refused", {"creditor": "", "creditor_alias": f"HANDLE:{PAN}"}, {}),
    ("pan-refused", {"creditor": "", "creditor_alias": PAN}, {}),
)


@pytest.mark.parametrize(("code", "fields", "record"), LETTER_ROWS)
def test_what_breaks_the_contract_is_a_dead_letter(code: str, fields: dict[str, Any], record: dict[str, Any]) -> None:
    """Guard 0 hands nothing on, binds no key, and its message never copies the payload."""
    turn = turn_with()
    wrong = received(an_intent(**fields), **record)
    decided = admit([wrong], turn)
    (letter,) = decided.letters
    assert (letter.received, letter.code) == (wrong, code)
    assert not decided.handed_on
    assert not turn.tables.idempotency.rows  # type: ignore[attr-defined]
    assert PAN not in letter.message


def test_every_dead_letter_code_has_a_row_that_reaches_it() -> None:
    """A new code comes with the case that produces it (`bad-account` is one of claims: test_claims.py)."""
    assert {code for code, _, _ in LETTER_ROWS} | {"bad-account"} == set(LETTERS)


def test_one_bad_record_leaves_the_rest_of_the_batch_alone() -> None:
    """The others are handed on in their order."""
    batch = [received(an_intent(f"p{n}"), n) for n in range(4)]
    batch[2] = batch[2]._replace(key=b"mallory")
    decided = admit(batch, turn_with())
    assert [one.received.offset for one in decided.handed_on] == [0, 1, 3]
    assert [letter.received.offset for letter in decided.letters] == [2]


def test_numbers_that_are_no_cards_pass() -> None:
    """Luhn, length, first digit and free standing decide, not digits as such (R44)."""
    for creditor in ("4111111111111112", "411111111111", "9111111111111111", f"acct{PAN}", f"1{PAN}", f"{PAN}0000"):
        assert not admit([received(an_intent(creditor=creditor))], turn_with()).letters, creditor
    assert not admit([received(an_intent(creditor="", creditor_alias="MSISDN:+4111111111111111"))], turn_with()).letters


def test_a_bank_with_numeric_accounts_switches_the_guard_off_for_accounts_only() -> None:
    """`pan_guard` off lets accounts pass, devices never."""
    rules = Rules(pan_guard=False)
    turn = a_turn(memory(AdmissionTables, TABLES), rules=rules)
    assert not admit([received(an_intent(debtor=PAN))], turn).letters
    assert admit([received(an_intent(device_id=PAN))], turn).letters


def test_a_card_number_in_metadata_is_masked_in_what_is_handed_on() -> None:
    """Names and values, grouped or not; the received record stays as it is for the dead letters (R44)."""
    metadata = {"note": f"card {PAN} or 4111 1111 1111 1111!", PAN: "x", "order": "4111111111111112"}
    one = admitted(an_intent(metadata=metadata))
    assert one.intent.metadata == {
        "note": "card ****1111 or ****1111!",
        "****1111": "x",
        "order": "4111111111111112",
    }
    assert one.received.value.metadata == metadata
    decided = admit([received(an_intent(metadata=metadata)), received(an_intent(metadata={"note": "ok"}))], turn_with())
    assert [alert.code for alert in decided.alerts] == ["pan-masked"]
    assert PAN not in decided.alerts[0].message


def test_the_same_intent_again_is_a_repeat_and_another_body_a_conflict() -> None:
    """Also within one batch; the first fingerprint stays bound (R17, R18)."""
    turn = turn_with()
    other = an_intent(amount_minor=1201)
    batch = [received(each, n) for n, each in enumerate([an_intent(), an_intent(), other, an_intent(), other])]
    marks = [(one.repeats, one.conflicts, one.refusal) for one in admit(batch, turn).handed_on]
    free, repeat, conflict = (False, False, None), (True, False, None), (False, True, None)
    assert marks == [free, repeat, conflict, repeat, conflict]


def test_a_repeat_is_found_before_anything_else_is_judged() -> None:
    """A repeat whose deadline has passed, or whose alias has gone, is a repeat still (R10)."""
    turn = turn_with(aliases=owned())
    intent = an_intent(creditor="", creditor_alias=SHOP, expires_at=AT + 1)
    assert admitted(intent, turn).refusal is None
    turn.at, turn.aliases = AT + 2, {}  # type: ignore[assignment]
    one = admitted(intent, turn)
    assert (one.repeats, one.refusal) == (True, None)


def test_a_key_is_free_again_after_its_window() -> None:
    """Judged by `at`: one µs before the end it is bound, at the end it is free; a repeat extends nothing (R21)."""
    turn = turn_with()
    admitted(an_intent(), turn)
    turn.at = AT + DAY - 1  # type: ignore[assignment]
    assert admitted(an_intent(), turn).repeats
    turn.at = AT + DAY  # type: ignore[assignment]
    assert not admitted(an_intent(amount_minor=5), turn).conflicts
    (row,) = turn.tables.idempotency.rows.values()  # type: ignore[attr-defined]
    assert TABLES[0].expires is not None
    assert TABLES[0].expires(row) == AT + 2 * DAY


def test_keys_of_two_debtors_do_not_meet() -> None:
    """The scope of a key is its debtor; lengths keep neighbours apart (R17)."""
    assert key_digest("alice", "k") == digest("alice", "k")[:32]
    assert key_digest("alice", "k") != key_digest("alic", "ek")
    turn = turn_with()
    admitted(an_intent(), turn)
    assert not admitted(an_intent(debtor="bob"), turn).conflicts


COUNTED = ("kind", "payment_id", "debtor", "creditor", "creditor_alias", "amount_minor", "currency")


@pytest.mark.parametrize("name", an_intent()._fields)
def test_the_fingerprint_takes_in_just_what_r18_names(name: str) -> None:
    """A change of a named field changes it, a change of another one does not."""
    changed = {"kind": Kind.APPROVE, "amount_minor": 1, "metadata": {"a": "b"}}.get(name, "77")
    changes = fingerprint_of(an_intent()._replace(**{name: changed})) != fingerprint_of(an_intent())
    assert changes is (name in COUNTED)


def test_the_fingerprint_is_the_digest_of_its_parts() -> None:
    """R18, with places for `target_currency` and `final_capture`."""
    parts = ("TRANSFER", "pay-1", "alice", "shop", "", 1200, "EUR", "", "")
    assert fingerprint_of(an_intent()) == digest(*parts)[:32]


def test_an_alias_becomes_its_owner() -> None:
    """Any spelling resolves; the normal form and the version go on (R23)."""
    for creditor in ("", "shop"):
        intent = an_intent(creditor=creditor, creditor_alias="email: Shop@Example.ORG")
        one = admitted(intent, turn_with(aliases=owned()))
        assert one.refusal is None
        assert (one.intent.creditor, one.intent.creditor_alias, one.alias_version) == ("shop", SHOP, 7)


def test_an_alias_that_leads_nowhere_is_refused() -> None:
    """Resting, another account than the one named, or a card number: BE23; oneself: same-account."""
    rows = (
        (Reason.BE23, "", owned(account=None)),
        (Reason.BE23, "other", owned()),
        (Reason.BE23, "", owned(account=PAN)),
        (Reason.SAME_ACCOUNT, "", owned(account="alice")),
    )
    for reason, creditor, aliases in rows:
        one = admitted(an_intent(creditor=creditor, creditor_alias=SHOP), turn_with(aliases=aliases))
        assert one.refusal == reason, (creditor, aliases)
        assert PAN not in one.intent.creditor


def test_a_known_payment_never_resolves_its_alias_again() -> None:
    """An APPROVE hands the alias on in its normal form, with no owner looked up (R23)."""
    intent = an_intent(kind=Kind.APPROVE, decided_by="ann", creditor="", creditor_alias="EMAIL:SHOP@example.org")
    one = admitted(intent, turn_with(aliases=owned(account="thief")))
    assert (one.intent.creditor, one.intent.creditor_alias) == ("", SHOP)
    assert (one.refusal, one.alias_version) == (None, None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 2)), max_size=12), st.integers(0, 12))
def test_marks_do_not_depend_on_how_batches_are_cut(wanted: list[tuple[str, int]], cut: int) -> None:
    """Two batches of one step say what one would."""
    records = [
        received(an_intent(payment, amount_minor=amount), offset) for offset, (payment, amount) in enumerate(wanted)
    ]
    turn = turn_with()
    cut_up = admit(records[:cut], turn).handed_on + admit(records[cut:], turn).handed_on
    assert cut_up == admit(records, turn_with()).handed_on
